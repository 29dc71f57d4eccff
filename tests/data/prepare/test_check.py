"""Images in archives, decoded where they lie: the bad ones are named."""

import subprocess
import zipfile

import pytest
from helpers import archives
from helpers.archives import WNIDS, encoded
from helpers.tar_files import pack

from apr_dali.cli import main
from apr_dali.data.prepare.check import check_source


@pytest.mark.parametrize("make", [archives.official, archives.kaggle, archives.hub], ids=lambda make: make.__name__)
@pytest.mark.parametrize("processes", [1, 2])
def test_whole_archives(tmp_path, capsys, make, processes):
    assert main(["check-data", str(make(tmp_path / "s")), "--processes", str(processes)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["class", "train", "bad", "val", "bad"]
    assert [line.split() for line in table[1:]] == [[name, "4", "0", "2", "0"] for name in WNIDS] + [
        ["total", "12", "0", "6", "0"]
    ]


@pytest.mark.parametrize("kind", [".tar", ".zip", ".tgz", ".parquet"])
def test_broken_images_in_archives(tmp_path, kind):
    whole, broken = encoded(1), encoded(2)[:-30]
    source = tmp_path / f"train{kind}"
    files = {"train/a/1.jpg": whole, "train/a/2.jpg": broken, "train/b/2.jpg": whole, "train/b/3.jpg": b"text"}
    if kind == ".zip":
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif kind == ".parquet":
        archives.parquet(source, [(name, content, int(name[6] == "b")) for name, content in files.items()], names="ab")
    elif kind == ".tgz":
        for name, content in files.items():
            archives.class_folders(tmp_path, {name.rpartition("/")[0]: {name.rpartition("/")[2]: content}})
        subprocess.run(["tar", "czf", source, "-C", tmp_path, "train"], check=True)
    else:
        members = [(f"{n}.jpg", content) for n, content in enumerate(files.values())]
        labels = [(f"{n}.cls", b"%d" % (n // 2)) for n in range(4)]
        pack(source, [*members, *labels])
        (tmp_path / "classes.txt").write_text("a\nb\n")
    found = check_source(source, 1)
    names = ("1.jpg", "3.jpg") if kind == ".tar" else ("2.jpg", "3.jpg")
    assert tuple(sorted(found.bad)) == (
        (f"{source}/a/{names[0]}", "truncated: no end marker"),
        (f"{source}/b/{names[1]}", "not an image: it starts with b'text'"),
    )
    assert found.table(80).splitlines()[-1].split() == ["total", "2", "2"]


def test_archives_beside_class_folders_are_not_meant(tmp_path, capsys):
    images = {name: {"1.jpg": encoded(1)} for name in "ab"}
    archives.class_folders(tmp_path, images)
    archives.parquet(tmp_path / "table.parquet", [("a.jpg", encoded(1), 0)])
    (tmp_path / "other.zip").write_bytes(b"")
    assert main(["check-data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", "2", "0"]


def test_a_file_list_of_an_archive(tmp_path, capsys):
    source = archives.hub(tmp_path / "s")
    assert main(["check-data", str(source), "--write-file-list", str(tmp_path / "list.txt")]) == 2
    assert "--write-file-list has no effect" in capsys.readouterr().err
    assert not (tmp_path / "list.txt").exists()


def test_a_truncated_archive(tmp_path, capsys):
    source = archives.official(tmp_path)
    path = source / "ILSVRC2012_img_train.tar"
    path.write_bytes(path.read_bytes()[:5000])
    assert main(["check-data", str(source)]) == 2
    assert f"{path} is truncated, or no tar: it ends at byte 5000" in capsys.readouterr().err
