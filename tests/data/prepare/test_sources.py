"""What a source is taken for, where its classes come from, and what is said of those that are damaged."""

import gzip
import re
import shutil
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers import archives
from helpers.archives import WNIDS, encoded, val_classes
from helpers.tar_files import pack
from PIL import Image

from apr_dali.data.arrays import ArraySet
from apr_dali.data.prepare import small
from apr_dali.data.prepare.sources import open_source
from apr_dali.data.tars import Components
from apr_dali.errors import InputError


def refused(source: Path, told: str, **options: object) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        open_source(source, **options)


def labels(source: Path, split: str = "val", **options: object) -> dict[str, str]:
    """The class of each image by its name."""
    found = open_source(source, **options)
    return {item.name: found.classes[item.label] for item in found.splits[split]}


RIGHT = {f"ILSVRC2012_val_{n + 1:08d}.JPEG": wnid for n, wnid in enumerate(val_classes())}

# ---- which kind ------------------------------------------------------------------------------------------------------


def test_what_is_no_set(tmp_path):
    refused(tmp_path / "none", "none is not there")
    refused(tmp_path, "is no known set: expected ILSVRC2012_img_train.tar")
    (tmp_path / "a.rar").touch()
    refused(tmp_path / "a.rar", "is no known set")


def test_two_sets_in_a_folder(tmp_path):
    archives.official(tmp_path)
    archives.hub(tmp_path)
    refused(tmp_path, "holds ILSVRC2012's archives and parquet files: give one of them")


def test_one_archive_by_itself(tmp_path):
    train = archives.official_train(tmp_path / "ILSVRC2012_img_train.tar")
    found = open_source(train)
    assert (found.classes, {split: len(items) for split, items in found.splits.items()}) == (WNIDS, {"train": 12})
    # By its content, whatever it is called.
    other = train.rename(tmp_path / "imagenet.tar")
    assert open_source(other).splits == {"train": [item._replace(store=str(other)) for item in found.splits["train"]]}
    (first,) = open_source(other).read(open_source(other).splits["train"][:1])
    assert first == archives.train_images()[WNIDS[0]][f"{WNIDS[0]}_0.JPEG"]


@pytest.mark.parametrize("place", ["", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_kaggle_at_every_level(tmp_path, place):
    archives.kaggle(tmp_path)
    assert labels(tmp_path / place) == RIGHT
    assert len(labels(tmp_path / place, "train")) == 12


def test_splits_by_names_of_folders(tmp_path):
    images = archives.train_images()
    archives.class_folders(tmp_path / "train", images)
    archives.class_folders(
        tmp_path / "validation", {name: dict(list(files.items())[:1]) for name, files in images.items()}
    )
    found = open_source(tmp_path)
    assert {split: len(items) for split, items in found.splits.items()} == {"train": 12, "val": 3}


def test_names_of_files_that_say_no_split(tmp_path):
    archives.hub(tmp_path)
    (tmp_path / "data/train-00000-of-00002.parquet").rename(tmp_path / "data/0.parquet")
    refused(tmp_path, "0.parquet: its name says neither train nor validation, which those beside it do")
    for path in (tmp_path / "data").glob("[tv]*.parquet"):
        path.unlink()
    assert set(open_source(tmp_path).splits) == {"train"}


def test_options_without_effect(tmp_path):
    refused(archives.hub(tmp_path / "h"), "--val-labels has no effect on parquet files", val_labels="x")
    refused(archives.hub(tmp_path / "i"), "--tar-image and --tar-label have no effect", components=Components("png"))
    archives.official_train(tmp_path / "ILSVRC2012_img_train.tar")
    refused(tmp_path / "ILSVRC2012_img_train.tar", "--val-labels has no effect without", val_labels="x")
    archives.class_folders(tmp_path / "f/train", archives.train_images())
    refused(tmp_path / "f", "--val-labels has no effect: the validation images lie in class folders", val_labels="x")


# ---- the validation images' classes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_the_devkit_numbers_classes_its_own_way(tmp_path, packed):
    archives.official_val(tmp_path / "ILSVRC2012_img_val.tar")
    archives.devkit(tmp_path, packed=packed)
    assert labels(tmp_path) == RIGHT
    assert labels(tmp_path / "ILSVRC2012_img_val.tar") == RIGHT
    # By its content, whatever it is called.
    (tmp_path / "ILSVRC2012_img_val.tar").rename(tmp_path / "val.tar")
    assert labels(tmp_path / "val.tar") == RIGHT


LISTS = {
    "one class per line": lambda _, wnid: wnid,
    "an image and its class": lambda name, wnid: f"{name} {wnid}",
    "valprep.sh": lambda name, wnid: f"mv {name} {wnid}/",
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists(tmp_path, kind):
    archives.official_val(tmp_path / "ILSVRC2012_img_val.tar")
    lines = [LISTS[kind](name, wnid) for name, wnid in RIGHT.items()]
    head = ["#!/bin/bash", *(f"mkdir -p {wnid}" for wnid in WNIDS)] if kind == "valprep.sh" else []
    (tmp_path / "list.txt").write_text("\n".join(head + lines) + "\n")
    assert labels(tmp_path, val_labels=tmp_path / "list.txt") == RIGHT


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("\n".join("213213"), "numbers alone do not say which class is meant: give the devkit"),
        ("\n".join(f"{name} 1" for name in RIGHT), "numbers alone do not say"),
        ("\n".join(val_classes()[:5]), "list.txt is for 5 images: most classes have 2, others n02124075 1"),
        ("\n".join(val_classes()[:3]), "is for 3 images, and"),
        ("cat\ndog\n", "expected a class such as n01440764 on each line"),
        ("", "expected a class such as n01440764 on each line, or an image and its class, got 'nothing'"),
        (
            "\n".join(f"x_{n:08d}.JPEG {wnid}" for n, wnid in enumerate(val_classes())),
            "has no class for ILSVRC2012_val",
        ),
    ],
)
def test_lists_that_are_none(tmp_path, content, told):
    archives.official_val(tmp_path / "ILSVRC2012_img_val.tar")
    (tmp_path / "list.txt").write_text(content)
    refused(tmp_path, told, val_labels=tmp_path / "list.txt")


def test_no_truth(tmp_path):
    archives.official_val(tmp_path / "ILSVRC2012_img_val.tar")
    refused(tmp_path, "put ILSVRC2012_devkit_t12.tar.gz beside it, or give --val-labels")
    refused(tmp_path, "--val-labels nowhere is not there", val_labels="nowhere")


def test_a_devkit_of_another_year(tmp_path):
    archives.official_val(tmp_path / "ILSVRC2012_img_val.tar")
    other = archives.devkit(tmp_path, year=2010)
    refused(tmp_path, f"{other} is the devkit of another year or task")
    refused(tmp_path, "expected meta.mat and ILSVRC2012_validation_ground_truth.txt in it, got", val_labels=other)
    # Its files under this year's names.
    unpacked = archives.devkit(tmp_path / "x", year=2010, packed=False)
    (unpacked / "data/ILSVRC2010_validation_ground_truth.txt").rename(
        unpacked / "data/ILSVRC2012_validation_ground_truth.txt"
    )
    refused(tmp_path, "meta.mat has no ILSVRC2012_ID but ILSVRC2010_ID, WNID", val_labels=unpacked)


def test_a_devkit_that_is_cut_off(tmp_path):
    archives.official_val(tmp_path / "ILSVRC2012_img_val.tar")
    path = archives.devkit(tmp_path)
    path.write_bytes(path.read_bytes()[:-60])
    refused(tmp_path, f"{path}, which ends at byte {path.stat().st_size}, cannot be read (Compressed file ended")


def test_a_devkit_for_more_images(tmp_path):
    archives.official_val(tmp_path / "ILSVRC2012_img_val.tar")
    archives.devkit(tmp_path, count=9)
    refused(tmp_path, "ILSVRC2012_devkit_t12.tar.gz is for 9 images, and")


def test_training_images_of_other_classes(tmp_path):
    archives.official(tmp_path)
    inner = tmp_path / "inner.tar"
    pack(inner, [("a.JPEG", encoded(1))])
    pack(tmp_path / "ILSVRC2012_img_train.tar", [(f"{name}.tar", inner.read_bytes()) for name in WNIDS[:2]])
    refused(tmp_path, "has 3 classes and", val_labels=tmp_path / "ILSVRC2012_devkit_t12.tar.gz")


# ---- damaged archives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, -1])
@pytest.mark.parametrize("name", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
def test_a_truncated_archive_is_named_with_the_byte_where_it_ends(tmp_path, name, number):
    path = archives.official(tmp_path) / name
    with tarfile.open(path) as archive:
        cut = archive.getmembers()[number]
    size, reaches = cut.offset_data + cut.size // 3, cut.offset_data + cut.size
    with open(path, "r+b") as file:
        file.truncate(size)
    told = f"in the middle of {cut.name}, which reaches to byte {reaches}; fetch the rest"
    refused(tmp_path, f"{path} is truncated, or no tar: it ends at byte {size}, {told}")


@pytest.mark.parametrize("behind", [0, 100, -5])
def test_an_archive_that_ends_between_files(tmp_path, behind):
    path = archives.official(tmp_path) / "ILSVRC2012_img_val.tar"
    with tarfile.open(path) as archive:
        member = archive.getmembers()[2]
    size = member.offset + behind
    with open(path, "r+b") as file:
        file.truncate(size)
    refused(tmp_path, f"it ends at byte {size}, in the middle of")


def test_an_archive_with_other_bytes_in_it(tmp_path):
    path = archives.official(tmp_path) / "ILSVRC2012_img_val.tar"
    with tarfile.open(path) as archive:
        at = archive.getmembers()[2].offset
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"x" * 512)
    refused(tmp_path, f"{path} is damaged: what stands at byte {at} is neither a file nor the end")


def test_archives_of_something_else(tmp_path):
    train, val = tmp_path / "ILSVRC2012_img_train.tar", tmp_path / "ILSVRC2012_img_val.tar"
    pack(train, [("a.JPEG", encoded(1))])
    refused(tmp_path, "expected a tar of one .tar a class, got a.JPEG in it")
    archives.official_train(train)
    pack(val, [("README", b"")])
    archives.devkit(tmp_path)
    refused(tmp_path, "expected images in it, got none")


def test_archives_under_other_names(tmp_path):
    archives.official_train(tmp_path / "a.tar")
    archives.official_val(tmp_path / "b.tar")
    told = (
        "a.tar is one of ILSVRC2012's archives by what is in it: give it by itself, or call them ILSVRC2012_img_train"
    )
    refused(tmp_path, told)
    assert len(open_source(tmp_path / "a.tar").splits["train"]) == 12


def test_compressed_archives(tmp_path):
    name = "ILSVRC2012_img_train.tar"
    plain = archives.official_train(tmp_path / "plain.tar").read_bytes()
    for folder, file in (("a", name), ("b", f"{name}.gz"), ("c", "mine.tar.gz")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(gzip.compress(plain))
    refused(tmp_path / "a", f"{name} is compressed, whatever its name says: uncompress it first")
    (tmp_path / "b/ILSVRC2012_img_val.tar.gz").touch()
    refused(tmp_path / "b", f"{name}.gz is compressed: ILSVRC2012's archives are read as plain .tar")
    refused(
        tmp_path / "c", "but n02124075.tar, n01443537.tar, n01440764.tar: unpack it, and give the folder, or uncompr"
    )


def test_tars_of_a_class_each(tmp_path):
    for wnid, files in archives.train_images().items():
        pack(tmp_path / "train" / f"{wnid}.tar", files.items())
    refused(
        tmp_path, "has no label (cls), only jpeg; name the components (--tar-image, --tar-label), or unpack tars of a"
    )


def test_a_tar_of_validation_samples_alone(tmp_path):
    """Their keys are the names in ILSVRC2012's archive."""
    archives.timm_shards(tmp_path)
    found = open_source(tmp_path / "imagenet1k-validation-00.tar")
    assert (found.told, len(found.splits["val"])) == ("WebDataset's tars", 6)


def test_two_folders_of_a_split(tmp_path):
    archives.class_folders(tmp_path / "train", archives.train_images())
    archives.class_folders(tmp_path / "valid", archives.train_images())
    (tmp_path / "val").symlink_to("valid")
    assert open_source(tmp_path).splits.keys() == {"train", "val"}
    (tmp_path / "val").unlink()
    archives.class_folders(tmp_path / "val", archives.train_images())
    refused(tmp_path, "are both for val: move one of them elsewhere")


def test_tars_in_two_folders_of_a_split(tmp_path):
    tars = archives.timm_shards(tmp_path / "tars")
    (tars / "imagenet1k-train-0001.tar").unlink()
    for folder in ("train", "val", "valid"):
        shutil.copytree(tars, tmp_path / "set" / folder)
    refused(tmp_path / "set", "are both for val: move one of them elsewhere")


# ---- parquet files ---------------------------------------------------------------------------------------------------


def test_names_of_classes(tmp_path):
    rows = [(None, encoded(n, form="PNG"), n % 3) for n in range(6)]
    path = archives.parquet(tmp_path / "train-0.parquet", rows, names=("tench", "goldfish", "cat"))
    found = open_source(path)
    assert found.classes == ("tench", "goldfish", "cat")
    assert [item.name for item in found.splits["train"]][:2] == ["train-0_000000.png", "train-0_000001.png"]
    assert list(found.read(found.splits["train"])) == [content for _, content, _ in rows]
    # In any order, too.
    assert list(found.read(found.splits["train"][::-2])) == [content for _, content, _ in rows[::-2]]
    assert open_source(archives.parquet(tmp_path / "b/train.parquet", rows)).classes == ("0", "1", "2")


def test_parquet_without_the_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for n, table in enumerate(({"text": ["a"], "label": [1]}, {"image": [b"a"], "label": [1]})):
        path = tmp_path / f"{n}/train.parquet"
        path.parent.mkdir()
        pq.write_table(pa.table(table), path)
        refused(
            path, "lacks the columns of a set of images: expected image, of bytes and path, and label, whole numbers"
        )
    refused(tmp_path / "0/train.parquet", "got text: string, label: int64")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": "a.jpg"}], kind)
    pq.write_table(pa.table({"image": images, "label": [0]}), path)
    refused(path, "row 0 has no bytes of an image: save the set with them")
    # Without the counts that say so it is found when it is read.
    pq.write_table(pa.table({"image": images, "label": [0]}), path, write_statistics=False)
    found = open_source(path)
    with pytest.raises(InputError, match="row 0 has no bytes of an image"):
        list(found.read(found.splits["train"]))
    pq.write_table(pa.table({"image": images, "label": pa.array([None], pa.int64())}), path)
    refused(path, "row 0 has no label")


@pytest.mark.parametrize("whole", [{"bytes": None, "path": "a.jpg"}, None])
def test_a_row_of_many_without_an_image(tmp_path, whole):
    """Not after hours of writing those before it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": encoded(n), "path": f"{n}.jpg"} for n in range(9)]
    images[7] = whole
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": [0] * 9})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=4)
    refused(tmp_path, "train.parquet: row 7 has no bytes of an image")


def test_a_list_of_two_minds(tmp_path):
    archives.official_val(tmp_path / "ILSVRC2012_img_val.tar")
    lines = [f"{name} {wnid}" for name, wnid in RIGHT.items()]
    (tmp_path / "list.txt").write_text("\r\n".join([*lines, lines[0], ""]))
    assert labels(tmp_path, val_labels=tmp_path / "list.txt") == RIGHT
    (tmp_path / "list.txt").write_text("\n".join([*lines, f"ILSVRC2012_val_00000001.JPEG {WNIDS[2]}"]))
    refused(tmp_path, "two classes, n01440764 and n02124075", val_labels=tmp_path / "list.txt")
    table = [f"{Path(name).stem},{wnid} 1 2 3 4" for name, wnid in [*RIGHT.items(), ("ILSVRC2012_val_00000001", "n1")]]
    (tmp_path / "LOC_val_solution.csv").write_text("\r\n".join(["ImageId,PredictionString", *table]))
    refused(tmp_path, "LOC_val_solution.csv gives ILSVRC2012_val_00000001 two classes, n01440764 and n1")


def test_a_link_that_leads_nowhere(tmp_path):
    archives.class_folders(tmp_path / "train", archives.train_images())
    (tmp_path / "train" / WNIDS[0] / "dead.JPEG").symlink_to("nowhere")
    refused(tmp_path, "dead.JPEG cannot be read (No such file or directory): repair or remove it")


def test_labels_that_are_no_class(tmp_path):
    path = archives.parquet(tmp_path / "train.parquet", [("a.jpg", encoded(1), 0), ("b.jpg", encoded(2), -1)])
    refused(path, "row 1 has the label -1: expected 0..0")
    # So many names would take up all of the memory.
    path = archives.parquet(tmp_path / "train.parquet", [("a.jpg", encoded(1), 0), ("b.jpg", encoded(2), 10**12)])
    refused(path, "row 1 has the label 1000000000000: expected 0..999999")
    archives.parquet(tmp_path / "b/train.parquet", [("a.jpg", encoded(1), 0), ("b.jpg", encoded(2), 1)])
    archives.parquet(tmp_path / "b/validation.parquet", [("a.jpg", encoded(1), 7)])
    refused(tmp_path / "b", "row 0 has the label 7: expected 0..1")
    refused(archives.parquet(tmp_path / "a/test.parquet", [("a.jpg", encoded(1), -1)]), "test files alone")


def test_truncated_parquet(tmp_path):
    path = archives.hub(tmp_path) / "data/train-00001-of-00002.parquet"
    size = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:size])
    refused(tmp_path, f"{path} is truncated or no parquet file: it ends at byte {size}")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    source = archives.hub(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(source, "parquet files need pyarrow: pip install")


# ---- WebDataset's tars -----------------------------------------------------------------------------------------------


def test_samples_without_an_image_or_a_label_are_left_out(tmp_path):
    image = encoded(1)
    members = [("a.jpg", image), ("a.cls", b"1"), ("b.jpg", image), ("c.cls", b"0"), ("d.jpg", image), ("d.cls", b"x")]
    pack(tmp_path / "train-0.tar", [*members, ("e.jpeg", image), ("e.cls", b"0")])
    found = open_source(tmp_path)
    assert [(item.label, item.name) for item in found.splits["train"]] == [(1, "a.jpg"), (0, "e.jpeg")]
    assert found.classes == ("0", "1")
    assert [name.rpartition("/")[2] for name, _ in found.left_out] == ["b", "c", "d"]
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert open_source(tmp_path).classes == ("cat", "dog")


def test_labels_of_tars_that_training_images_lack(tmp_path):
    pack(tmp_path / "train-0.tar", [("a.jpg", encoded(1)), ("a.cls", b"1")])
    pack(tmp_path / "val-0.tar", [("b.jpg", encoded(1)), ("b.cls", b"7")])
    refused(tmp_path, "b.jpg has the label 7, and the training images 0..1: put a classes.txt beside the tars")
    (tmp_path / "classes.txt").write_text("\n".join("abcdefgh"))
    assert open_source(tmp_path).classes == tuple("abcdefgh")


def test_components(tmp_path):
    members = [("a.0.png", encoded(1)), ("a.1.png", encoded(2)), ("a.id", b"0")]
    pack(tmp_path / "train-0.tar", members)
    refused(tmp_path, "has several images: 0.png, 1.png; say which one to take (--tar-image")
    refused(tmp_path, "no sample of its tars has an image and a label", components=Components("1.png"))
    found = open_source(tmp_path, components=Components("1.png", "id"))
    assert list(found.read(found.splits["train"])) == [encoded(2)]


def test_a_truncated_tar(tmp_path):
    path = archives.timm_shards(tmp_path) / "imagenet1k-train-0001.tar"
    path.write_bytes(path.read_bytes()[:3000])
    refused(tmp_path, f"{path} is truncated, or no tar: it ends at byte 3000")


# ---- CIFAR -----------------------------------------------------------------------------------------------------------


def test_cifar(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-batches-py").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    names = tuple("abcdefghij")
    monkeypatch.setattr(small, "load_set", lambda *_: ArraySet(pixels, np.array([3, 1, 1, 9]), names))
    small._load.cache_clear()
    found = open_source(tmp_path)
    assert found.classes == names
    assert [item.label for item in found.splits["val"]] == [3, 1, 1, 9]
    made = [np.asarray(Image.open(BytesIO(content))) for content in found.read(found.splits["train"][::-1])]
    assert (np.stack(made) == pixels[::-1]).all()
    small._load.cache_clear()
