"""How `make-c` writes: whole files and tars, whatever stops it, and what is said where it cannot."""

import errno
import io
import os
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from helpers.project import ROOT
from helpers.waiting import until
from PIL import Image

from apr_dali import cli
from apr_dali.data import corrupted_files
from apr_dali.data.corruption_sets import find_corruption_folders
from apr_dali.data.folders import open_set
from apr_dali.data.make_c import make_c, make_cifar_c
from apr_dali.errors import InputError
from apr_dali.runtime import files, lock

FEW = ("fog", "impulse_noise")
SIDE = 48


@pytest.fixture
def val(tmp_path, photos):
    """Five images in two classes, of which two differ in their extension alone."""
    for name, photo in zip(
        ("a/0.jpg", "a/0.png", "a/1 (2).jpg", "b/2.jpg", "b/ö.png"), [*photos, photos[0]], strict=True
    ):
        path = tmp_path / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[:200, :300]).save(path)
    return tmp_path / "val"


@pytest.fixture
def _two_in_a_tar(monkeypatch):
    monkeypatch.setattr(corrupted_files, "_IN_A_TAR", 2)


def contents(root) -> dict[str, bytes]:
    paths = [path for path in root.rglob("*") if path.suffix in (".JPEG", ".tar", ".idx", ".txt")]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def images_of(folder) -> list[tuple[str, int, bytes]]:
    """(key, label, image) of the samples of a folder's tars."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, component = member.name.partition(".")
                found.setdefault(key, {})[component] = archive.extractfile(member).read()
    return [(key, int(sample["cls"]), sample["jpg"]) for key, sample in found.items()]


# ---- tars ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_two_in_a_tar")
def test_tars_hold_the_same_files(val, tmp_path):
    plain = contents(make_c(val, tmp_path / "folders", FEW, SIDE, seed=3))
    made = make_c(val, tmp_path / "tars", FEW, SIDE, seed=3, image_format="webdataset")
    for name in FEW:
        for severity in range(1, 6):
            cell = f"{name}/{severity}"
            assert sorted(os.listdir(made / cell)) == [f"0000{n}.{e}" for n in range(3) for e in ("idx", "tar")]
            found = images_of(made / cell)
            assert [(key, label) for key, label, _ in found] == [
                *(("a_0", 0), ("a_0-2", 0), ("a_1_2", 0), ("b_2", 1), ("b", 1)),
            ]
            names = ("a/0.jpg", "a/0.png", "a/1 (2)", "b/2", "b/ö")
            assert [image for *_, image in found] == [plain[f"{cell}/{name}.JPEG"] for name in names]
            # The indices are those of these tars: otherwise others would be made, with a warning.
            assert len(open_set(made / cell, classes=("a", "b"))) == 5
    assert find_corruption_folders(made, ("a", "b"), SIDE).generated


def test_tars_of_several_processes_are_those_of_one(val, tmp_path):
    one = contents(make_c(val, tmp_path / "one", FEW[:1], SIDE, image_format="webdataset"))
    command = ["make-c", val, tmp_path / "two", "--corruptions", "fog", "--image-size", SIDE, "--format", "webdataset"]
    assert cli.main([*map(str, command), "--processes", "2"]) == 0
    assert contents(tmp_path / "two") == one
    assert len(one) == 1 + 5 * 2


@pytest.mark.parametrize(("classes", "side", "told"), [("a b c", SIDE, "1 missing: c"), ("a b", 49, "at least 49 per")])
def test_tars_that_do_not_fit_are_named(val, tmp_path, classes, side, told):
    made = make_c(val, tmp_path / "c", FEW[:1], SIDE, image_format="webdataset")
    with pytest.raises(InputError, match=told):
        find_corruption_folders(made, tuple(classes.split()), side)


@pytest.mark.usefixtures("_two_in_a_tar")
@pytest.mark.parametrize("image_format", corrupted_files.FORMATS)
def test_a_stopped_set_goes_on(val, tmp_path, monkeypatch, image_format):
    whole = contents(make_c(val, tmp_path / "whole", FEW, SIDE, image_format=image_format))
    real, encoded = corrupted_files.as_jpeg, []

    def stops(image):
        if len(encoded) == 31:
            raise KeyboardInterrupt
        encoded.append(1)
        return real(image)

    with monkeypatch.context() as patch:
        patch.setattr(corrupted_files, "as_jpeg", stops)
        with pytest.raises(KeyboardInterrupt):
            make_c(val, tmp_path / "c", FEW, SIDE, image_format=image_format)
    made = contents(tmp_path / "c")
    assert 20 < len(made) < len(whole)
    assert all(whole[name] == content for name, content in made.items()), "what is there is whole"
    with pytest.raises(InputError, match="is not finished: run the same"):
        find_corruption_folders(tmp_path / "c", ("a", "b"), SIDE)
    times = {name: (tmp_path / "c" / name).stat().st_mtime_ns for name in made if not name.endswith("txt")}
    make_c(val, tmp_path / "c", FEW, SIDE, image_format=image_format)
    assert contents(tmp_path / "c") == whole
    assert all((tmp_path / "c" / name).stat().st_mtime_ns == before for name, before in times.items())


def test_a_class_that_no_line_can_hold_is_refused_before_anything_is_written(val, tmp_path):
    (val / "b").rename(val / "b\nc")
    with pytest.raises(InputError, match=r"a line of classes\.txt cannot hold 'b\\nc'"):
        make_c(val, tmp_path / "c", FEW[:1], SIDE, image_format="webdataset")
    assert not (tmp_path / "c").exists()


def test_the_other_form_is_another_set(val, tmp_path):
    make_c(val, tmp_path / "c", FEW[:1], SIDE)
    with pytest.raises(InputError, match="was made with other settings"):
        make_c(val, tmp_path / "c", FEW[:1], SIDE, image_format="webdataset")


# ---- what stops it ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("image_format", corrupted_files.FORMATS)
def test_a_killed_command_goes_on(val, tmp_path, image_format):
    given = [val, tmp_path / "c", "--corruptions", *FEW, "--image-size", 224, "--format", image_format]
    command = [sys.executable, "-m", "apr_dali", "make-c", *map(str, given), "--processes", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    until(lambda: (tmp_path / "c" / "fog" / "2").is_dir() or process.poll() is not None)
    assert (tmp_path / "c" / "fog" / "2").is_dir()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert contents(tmp_path / "c") == contents(make_c(val, tmp_path / "whole", FEW, image_format=image_format))
    left = [name for _, _, names in os.walk(tmp_path / "c") for name in names if name.endswith(".tmp")]
    assert not left


def test_what_a_failed_machine_cut_off_is_written_anew(val, tmp_path):
    whole = contents(make_c(val, tmp_path / "c", FEW[:1], SIDE))
    for name, length in (("fog/2/a/0.jpg.JPEG", 0), ("fog/3/b/2.JPEG", 700)):
        os.truncate(tmp_path / "c" / name, length)
    assert contents(make_c(val, tmp_path / "c", FEW[:1], SIDE)) == whole


class Full(io.FileIO):
    """A file on a disk that is full after some bytes, over all files."""

    room = 0

    def write(self, content):
        Full.room -= len(content)
        if Full.room < 0:
            super().write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


@pytest.mark.parametrize("image_format", corrupted_files.FORMATS)
def test_a_full_disk_is_named_and_the_command_goes_on(val, tmp_path, monkeypatch, image_format, capsys):
    whole = contents(make_c(val, tmp_path / "whole", FEW, SIDE, image_format=image_format))
    monkeypatch.setattr(Full, "room", sum(map(len, whole.values())) // 2)
    given = [val, tmp_path / "c", "--corruptions", *FEW, "--image-size", SIDE, "--format", image_format]
    command = ["make-c", *map(str, given), "--processes", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(files, "open", Full, raising=False)
        assert cli.main(command) == 2
    told = capsys.readouterr().err
    assert f"error: {tmp_path}/c: No space left on device: make room and run the same command, which goes on" in told
    made = contents(tmp_path / "c")
    assert 3 < len(made) < len(whole)
    assert all(whole[name] == content for name, content in made.items())
    left = [name for _, _, names in os.walk(tmp_path / "c") for name in names if name.endswith(".tmp")]
    assert not left
    assert cli.main(command) == 0
    assert contents(tmp_path / "c") == whole


def test_a_full_disk_is_named_for_arrays(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(_made(tmp_path / "small" / "a") / "0.png")
    monkeypatch.setattr(Full, "room", 2000)
    monkeypatch.setattr(files, "open", Full, raising=False)
    with pytest.raises(InputError, match="c: No space left on device: make room"):
        make_cifar_c(tmp_path / "small", tmp_path / "c", FEW[:1])
    assert sorted(os.listdir(tmp_path / "c")) == [".apr_dali_make_c.json", "labels.npy"]


def _made(folder):
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("make", [make_c, make_cifar_c])
def test_a_target_that_cannot_be_written_is_named(val, tmp_path, monkeypatch, make):
    source = val
    if make is make_cifar_c:
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(_made(tmp_path / "small" / "a") / "0.png")
        source = tmp_path / "small"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/c: Not a directory: nothing can be written there; give another folder"):
        make(source, tmp_path / "file" / "c", FEW[:1])
    real = os.mkdir

    def read_only(path, *rest):
        if str(path).startswith(str(tmp_path / "disk")):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        real(path, *rest)

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(InputError, match="disk/c: Read-only file system: nothing can be written there"):
        make(source, tmp_path / "disk" / "c", FEW[:1])


def test_a_source_that_cannot_be_read_is_no_fault_of_the_target(val, tmp_path, monkeypatch):
    def closed(file, _):
        raise PermissionError(errno.EACCES, "Permission denied", file)

    monkeypatch.setattr(corrupted_files, "cropped", closed)
    with pytest.raises(PermissionError, match=r"a/0\.jpg"):
        make_c(val, tmp_path / "c", FEW[:1], SIDE)


def test_two_at_once_are_refused(val, tmp_path):
    make_c(val, tmp_path / "c", FEW[:1], SIDE)
    with (
        lock.hold(tmp_path / "c"),
        pytest.raises(InputError, match=r"process \d+ on .* writes to .*/c: wait for it to end"),
    ):
        make_c(val, tmp_path / "c", FEW[:1], SIDE)


# ---- what is no source -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["val/a", "c"], "files but no class folders"),
        (["nowhere", "c"], "nowhere is not there"),
        (["val", "c", "--corruptions", "mist"], "unknown corruption mist: expected some of gaussian_noise"),
        (["val", "c", "--image-size", "31"], "at least 32 for these corruptions, got 31"),
        (["val", "c", "--format", "zip"], "argument --format: invalid choice: 'zip'"),
        (["val", "c", "--cifar", "--format", "webdataset"], "--format webdataset has no effect with --cifar"),
        (["val", "val"], "is not empty and no set of make-c"),
    ],
)
@pytest.mark.usefixtures("val")
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys, given, told):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["make-c", *given, "--processes", "1"]) == 2
    assert told in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
