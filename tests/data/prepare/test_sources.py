"""What a source is taken for, where ImageNet's classes come from, and what is said of damaged archives."""

import gzip
import shutil
import tarfile
from pathlib import Path

import pytest
from helpers import archives
from helpers.archives import WNIDS, encoded, val_classes
from helpers.sources import labels, refused
from helpers.tar_files import pack

from apr_dali.data.prepare.sources import open_source
from apr_dali.data.tars import Components

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


def test_a_link_that_leads_nowhere(tmp_path):
    archives.class_folders(tmp_path / "train", archives.train_images())
    (tmp_path / "train" / WNIDS[0] / "dead.JPEG").symlink_to("nowhere")
    refused(tmp_path, "dead.JPEG cannot be read (No such file or directory): repair or remove it")


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
