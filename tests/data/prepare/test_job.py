"""Targets: the same images and labels whatever the source and the format."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import archives
from helpers.archives import SOURCES, WNIDS, contents, encoded, expected
from helpers.folder_trees import files_in
from helpers.processes import ENVIRONMENT, PATIENCE
from PIL import Image

from apr_dali.data.folders import open_set
from apr_dali.data.prepare import count, job, journal
from apr_dali.data.prepare.count import Published
from apr_dali.data.prepare.job import Options, prepare
from apr_dali.errors import InputError

pytestmark = pytest.mark.usefixtures("miniature")

TARS = Options("webdataset", shards=3)


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_images_and_labels(tmp_path, kind, image_format):
    source = SOURCES[kind](tmp_path / "source")
    before = files_in(source)
    found = prepare(source, tmp_path / "out", Options(image_format))
    assert (found.images, found.classes) == ({"train": 12, "val": 6}, 3)
    assert (found.differences, found.odd) == ((), ())
    for split in ("train", "val"):
        assert contents(tmp_path / "out", split) == expected(split)
        assert open_set(tmp_path / "out", split).classes == WNIDS
    assert files_in(source) == before
    assert not (tmp_path / "out" / journal.STATE).exists()


def test_tars_are_shuffled_by_the_seed_and_have_their_indices(tmp_path):
    source = archives.official(tmp_path / "source")
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(source, tmp_path / name, Options("webdataset", shards=3, seed=seed))
        made[name] = files_in(tmp_path / name)
    assert made["a"] == made["b"]
    assert made["a"]["train/00000.tar"] != made["c"]["train/00000.tar"]
    # Each tar holds images of several classes, which are not next to each other.
    found = open_set(tmp_path / "a", "train")
    assert found.counts == (4, 4, 4)
    labels = np.array([label for _, label in found.read_labels()])
    assert (np.diff(labels) != 0).sum() > 4
    for tar, index in zip(found.tars, found.indices, strict=True):
        assert os.path.isfile(index)
        assert subprocess.run(["tar", "tf", tar], check=True, capture_output=True).stdout.count(b".cls") == 4
    # Those of the validation images are about as large.
    assert open_set(tmp_path / "a", "val").counts == (3, 3)


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
@pytest.mark.parametrize("kind", ["official", "hub"])
def test_processes_change_nothing(tmp_path, monkeypatch, kind, image_format):
    monkeypatch.setattr(job, "_ALONE", 0)
    source = SOURCES[kind](tmp_path / "source")
    for processes in (1, 2):
        prepare(source, tmp_path / str(processes), Options(image_format, shard_size=2000), processes)
    assert files_in(tmp_path / "1") == files_in(tmp_path / "2")


def test_little_is_copied_without_other_processes_or_torch(tmp_path):
    """Both take seconds to start, in which `tar` has packed a thousand images."""
    archives.class_folders(tmp_path / "source/train", archives.train_images())
    code = f"""
import sys
from concurrent import futures
from apr_dali.data.prepare.job import Options, prepare
futures.ProcessPoolExecutor.submit = None
prepare({str(tmp_path / "source")!r}, {str(tmp_path / "out")!r}, Options("webdataset", shards=3), processes=2)
print([name for name in ("torch", "torchvision", "scipy", "pyarrow") if name in sys.modules])
"""
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, timeout=PATIENCE, check=True, stdout=-1)
    assert told.stdout == b"[]\n"
    assert contents(tmp_path / "out", "train") == expected("train")


def test_shards_of_a_size(tmp_path):
    source = archives.official(tmp_path / "source")
    total = sum(len(content) for content in expected("train"))
    prepare(source, tmp_path / "out", Options("webdataset", shard_size=total // 3))
    assert open_set(tmp_path / "out", "train").counts == (3, 3, 3, 3)


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_a_target_that_holds_something_else(tmp_path, monkeypatch):
    source = archives.official(tmp_path / "source")
    monkeypatch.setattr(job, "open_source", lambda *_: pytest.fail("looked through"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(InputError, match="is not empty and nothing that prepare began: give a new folder"):
        prepare(source, tmp_path / "out", Options())
    with pytest.raises(InputError, match="is a file: give a folder"):
        prepare(source, tmp_path / "out/mine.txt", Options())
    assert os.listdir(tmp_path / "out") == ["mine.txt"]


@pytest.mark.parametrize("given", [("s3://bucket/set", "out"), ("source", "gs://bucket/out")])
def test_addresses_are_no_paths(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archives.hub(tmp_path / "source")
    with pytest.raises(InputError, match=r"//bucket/.* is an address: expected a path on this machine"):
        prepare(*given, Options())
    assert os.listdir(tmp_path) == ["source"]


def test_a_new_disk_is_empty(tmp_path):
    source = archives.hub(tmp_path / "source")
    (tmp_path / "out/lost+found").mkdir(parents=True)
    (tmp_path / "out/.DS_Store").touch()
    assert prepare(source, tmp_path / "out", Options()).images == {"train": 12, "val": 6}


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
def test_classes_without_an_image_are_told_where_folders_lose_them(tmp_path, image_format):
    rows = [(None, archives.encoded(label), label) for label in (0, 1, 4)]
    archives.parquet(tmp_path / "source/train-0.parquet", rows)
    archives.parquet(tmp_path / "source/val-0.parquet", rows[:2])
    told = prepare(tmp_path / "source", tmp_path / "out", Options(image_format)).differences
    lost = "train: 2 of 5 classes have no image (2, 3): class folders number the others anew, --format webdataset keeps"
    assert told == ((f"{lost} the labels",) if image_format == "folder" else ())
    assert set(contents(tmp_path / "out", "train").values()) == ({0, 1, 2} if told else {0, 1, 4})


@pytest.mark.parametrize("place", ["file/out", "link", "link/out"])
def test_a_target_where_nothing_can_be_written(tmp_path, place):
    source = archives.official(tmp_path / "source")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere/at/all")
    with pytest.raises(InputError, match=r"(file|link).*: .*: nothing can be written there; give another folder"):
        prepare(source, tmp_path / place, Options())


@pytest.mark.parametrize("place", ["train/out", "train/n01440764/out", "val/out"])
def test_a_target_among_the_images(tmp_path, place):
    """A stopped run could not go on: its target would be a class."""
    source = archives.kaggle(tmp_path) / "ILSVRC/Data/CLS-LOC"
    with pytest.raises(InputError, match=r"out lies in .*CLS-LOC/(train|val)/, which images are read from"):
        prepare(source, source / place, Options())
    assert prepare(source, source / "out", Options()).classes == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (Options(), "format was webdataset, is folder"),
        (Options("webdataset", shards=2), "shards was 3, is 2"),
        (Options("webdataset", shards=3, seed=1), "seed was 0, is 1"),
        (Options("webdataset", shards=3, max_side=10), "max-side was None, is 10; quality was None, is 90"),
    ],
)
def test_a_target_of_other_settings(tmp_path, options, told):
    source = archives.official(tmp_path / "source")
    prepare(source, tmp_path / "out", TARS)
    with pytest.raises(InputError, match=told):
        prepare(source, tmp_path / "out", options)


def test_a_target_of_another_source(tmp_path):
    prepare(archives.official(tmp_path / "source"), tmp_path / "out", TARS)
    archives.official_train(tmp_path / "source/ILSVRC2012_img_train.tar", per_class=5)
    with pytest.raises(InputError, match="another source"):
        prepare(tmp_path / "source", tmp_path / "out", TARS)


def test_a_disk_that_is_too_small_is_said_before_work(tmp_path, monkeypatch):
    source = archives.official(tmp_path / "source")
    monkeypatch.setattr(job.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 5000))
    with pytest.raises(InputError, match=r"0.016 MB are to be written, and the disk has 0.005 MB free: make room"):
        prepare(source, tmp_path / "out", Options())
    assert not (tmp_path / "out/train").exists()
    # What it advises to do: nothing is there yet that is made otherwise.
    assert prepare(source, tmp_path / "out", Options(max_side=20)).images == {"train": 12, "val": 6}


# ---- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
def test_large_images_are_made_smaller_and_others_left(tmp_path, image_format):
    sizes = {"a.jpg": (40, 20), "b.jpg": (400, 200), "c.png": (120, 160), "d.jpg": (50, 50)}
    files = {
        name: encoded(n, *size, form="PNG" if name.endswith("png") else "JPEG", quality=97)
        for n, (name, size) in enumerate(sizes.items())
    }
    archives.class_folders(tmp_path / "source/train", {"x": files, "y": {"e.jpg": encoded(9)}})
    prepare(tmp_path / "source", tmp_path / "out", Options(image_format, max_side=50))
    made = contents(tmp_path / "out", "train")
    assert {files["a.jpg"], files["d.jpg"], encoded(9)} <= made.keys()
    opened = [Image.open(io.BytesIO(content)) for content in made]
    others = sorted((image.size, image.format) for image in opened if image.size not in ((40, 20), (50, 50), (24, 16)))
    assert others == [((38, 50), "PNG"), ((50, 25), "JPEG")]


def test_odd_files_are_kept_and_named(tmp_path):
    exif = encoded(5, exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\x01\x01\x0f\0\x02\xff\xff\xff\xff\0\0\0\x08")
    odd = {
        "a.JPEG": encoded(1, form="PNG"),
        "b.JPEG": encoded(2, mode="CMYK"),
        "c.JPEG": encoded(3)[:-40],
        "d.JPEG": b"",
        "e.JPEG": exif,
        "f.JPEG": encoded(6),
        "g\n.JPEG": b"",
    }
    archives.class_folders(tmp_path / "source/train", {"x": odd, "y": {"g.jpg": encoded(9)}})
    for n, options in enumerate((Options(), Options("webdataset"))):
        found = prepare(tmp_path / "source", tmp_path / f"out{n}", options)
        told = {
            "a": "PNG under a name with .JPEG",
            "b": "CMYK",
            "c": "cannot be decoded: truncated: no end marker",
            "d": "cannot be decoded: empty file",
            "e": "broken EXIF data",
            "g" if n else r"g\n": "cannot be decoded: empty file",
        }
        # Where it lies now: in another class there may be a file of the same name.
        place = "train/00000.tar/{}" if n else "train/x/{}.JPEG"
        assert dict(found.odd) == {place.format(name): what for name, what in told.items()}
        assert contents(tmp_path / f"out{n}", "train").keys() == {*odd.values(), encoded(9)}
        assert (tmp_path / f"out{n}/odd_files.txt").read_text().count("\n") == 6


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
def test_class_folders_of_any_name(tmp_path, image_format):
    names = ("a\nb", " c", os.fsdecode(b"\xff"))
    archives.class_folders(tmp_path / "source/train", {name: {"1.jpg": encoded(n)} for n, name in enumerate(names)})
    prepare(tmp_path / "source", tmp_path / "out", Options(image_format))
    found = open_set(tmp_path / "out", "train")
    label = {
        content: found.classes[number].strip("012_") for content, number in contents(tmp_path / "out", "train").items()
    }
    assert label == {encoded(0): "a b", encoded(1): "c", encoded(2): "\ufffd"}


def test_a_broken_image_is_named_once_and_in_the_same_words(tmp_path):
    """Some of Pillow's hold an address in memory, which is another one every time."""
    files = {"a.jpg": b"text", "b.jpg": encoded(1, 90, 60)[:2000], "c.jpg": encoded(2, form="GIF"), "d.jpg": encoded(3)}
    files["e.png"] = b"\x89PNG\r\n\x1a\n" + b"IEND"
    archives.class_folders(tmp_path / "source/train", {"x": files})
    found = prepare(tmp_path / "source", tmp_path / "out", Options(max_side=20))
    told = dict(found.odd)
    assert len(told) == len(found.odd) == 4
    assert [told[f"train/x/{name}.jpg"].partition(":")[0] for name in "abc"] == ["cannot be decoded"] * 3
    assert told["train/x/e.png"].endswith("larger than 20 pixels: not an image, though it starts like one")
    assert {files[name] for name in ("a.jpg", "b.jpg", "c.jpg", "e.png")} < contents(tmp_path / "out", "train").keys()


# ---- counts ----------------------------------------------------------------------------------------------------------


def test_what_differs_from_the_published_set_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        count, "IMAGENET", Published("ILSVRC2012", 3, {"train": 13, "val": 6}, {"train": (1, 4), "val": (2, 2)})
    )
    source = tmp_path / "source"
    archives.official(source)
    with monkeypatch.context() as patch:
        patch.setattr(count, "IMAGENET", Published("ILSVRC2012", 4, {"train": 12, "val": 6}, count.IMAGENET.per_class))
        assert prepare(source, tmp_path / "c", Options()).differences == ("ILSVRC2012 has 4 classes, got 3",)
    assert prepare(source, tmp_path / "a", Options()).differences == (
        "train: ILSVRC2012 has 13 images, got 12, 1 fewer",
    )
    # The devkit says how many each class has.
    (source / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    archives.devkit(source, per_class=5)
    told = prepare(source, tmp_path / "b", Options()).differences
    assert told[1] == "train: n01440764 has 4, not 5, n01443537 has 4, not 5, n02124075 has 4, not 5"


def test_files_that_vanish_from_the_target_are_named(tmp_path):
    source = archives.official(tmp_path / "source")
    prepare(source, tmp_path / "out", Options())
    next((tmp_path / "out/train").rglob("*.JPEG")).unlink()
    (told,) = prepare(source, tmp_path / "out", Options()).differences
    assert told == f"train: 12 images were read, and {tmp_path}/out/train holds 11"
