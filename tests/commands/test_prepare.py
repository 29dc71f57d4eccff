"""`apr-dali prepare`: what it prints, its exit status, and a trainer on what it writes."""

import re

import pytest
from helpers import archives
from helpers.archives import MINIATURE, encoded

from apr_dali.cli import main
from apr_dali.commands.prepare import size
from apr_dali.data.folders import open_set
from apr_dali.data.prepare import count


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """ImageNet as if the miniatures were all of it."""
    monkeypatch.setattr(count, "IMAGENET", MINIATURE)


def test_what_it_prints(tmp_path, capsys):
    source, out = archives.official(tmp_path / "s"), tmp_path / "o"
    for _ in range(2):
        assert main(["prepare", str(source), str(out), "--processes", "1"]) == 0
        assert capsys.readouterr().out == (
            f"{out}: 12 images for train and 6 images for val, 3 classes, "
            "from ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar\n"
        )


def test_differences_are_bad_news(tmp_path, capsys):
    archives.official_train(tmp_path / "ILSVRC2012_img_train.tar", per_class=3)
    assert main(["prepare", str(tmp_path), str(tmp_path / "o"), "--processes", "1"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "differs: train: ILSVRC2012 has 12 images, got 9, 3 fewer"
    assert out[-1].startswith(f"{tmp_path}/o: 9 images for train, 3 classes")


def test_many_odd_files(tmp_path, capsys):
    files = {f"{n:02d}.JPEG": encoded(n, form="PNG") for n in range(23)}
    archives.class_folders(tmp_path / "s/train", {"a": files, "b": {"x.jpg": encoded(99)}})
    assert main(["prepare", str(tmp_path / "s"), str(tmp_path / "o"), "--processes", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "train/a/00.JPEG: PNG under a name with .JPEG"
    assert out[20] == "and 3 more, see odd_files.txt"
    assert len((tmp_path / "o/odd_files.txt").read_text().splitlines()) == 23


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--shards", "3"], "--shards has no effect without --format webdataset"),
        (["--shard-size", "1GB"], "--shard-size has no effect without --format webdataset"),
        (["--seed", "1"], "--seed has no effect without --format webdataset"),
        (["--format", "webdataset", "--shards", "3", "--shard-size", "1GB"], "both say how large a tar is"),
        (["--quality", "80"], "--quality has no effect without --max-side"),
        (["--max-side", "5", "--quality", "101"], "quality must be at most 100, got 101"),
        (["--shard-size", "many"], "must be a size such as 256MB, got 'many'"),
        ([], "nowhere is not there"),
    ],
)
def test_wrong_options(tmp_path, capsys, given, told):
    assert main(["prepare", str(tmp_path / "nowhere"), str(tmp_path / "o"), *given]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert told in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("text", "number"), [("256MB", 256_000_000), ("1g", 10**9), ("1.5 KB", 1500), ("77", 77), ("3B", 3)]
)
def test_sizes(text, number):
    assert size(text) == number


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
def test_a_trainer_reads_what_it_writes(tmp_path, capsys, image_format):
    """The miniatures of the hub, whose largest images are made smaller, in two epochs of a loader."""
    pytest.importorskip("nvidia.dali")
    from apr_dali import ImageNetLoader

    source, out = archives.hub(tmp_path / "s"), tmp_path / "o"
    command = ["prepare", str(source), str(out), "--format", image_format, "--max-side", "20", "--processes", "1"]
    assert main(command) == 0
    assert main(["check-data", str(out), "--processes", "1"]) == 0
    assert re.search(r"^total +12 +0 +6 +0$", capsys.readouterr().out, re.M)
    for split, training, images in (("train", True, 12), ("val", False, 6)):
        with ImageNetLoader(out / split, batch_size=3, image_size=16, train=training, device="cpu") as loader:
            for _ in range(2):
                labels = [label for _, targets in loader for label in targets.tolist()]
                assert sorted(labels) == sorted([0, 1, 2] * (images // 3))
    assert open_set(out, "train").classes == archives.WNIDS
