"""Where train_imagenet.py takes its images from, and data that is spoilt."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.imagenet_runs import CLASSES, SMALL, TRAINING, VALIDATION
from helpers.run_files import rows_of
from helpers.tar_files import folder_of
from helpers.tolerances import PRINTED

from apr_dali.data.folders import open_set
from apr_dali.runtime.distributed import Group
from apr_dali.training.command_line import parse
from apr_dali.training.options import ImageNetOptions

pytestmark = pytest.mark.slow


def test_several_training_folders_and_a_validation_folder(tree, train, tmp_path):
    more = tmp_path / "more"
    for name in CLASSES:
        (more / name).mkdir(parents=True)
        (more / name / "x.jpg").symlink_to(tree / "val" / name / "0.jpg")
    options = ["--epochs", 1, "--data", tree, "--train", more, tree, "--val", tree / "train"]
    status, told, errors = train(*options, "--output", "run")
    assert status == 0, errors
    count = len(CLASSES) * TRAINING
    assert f"{2 * count + 3} training images, {count} for validation, in run" in told
    assert f" on {count} validation images\n" in told


@pytest.mark.parametrize("given", [["--data", "DATA"], ["--train", "DATA", "--val", "DATA/val"]])
def test_a_validation_set_that_lacks_a_class(given, copy, train):
    """Labels stay those of the training set: the right ones, as the whole set's result shows."""
    given = [text.replace("DATA", str(copy)) for text in given]
    assert train(*given, "--epochs", 1, "--output", "whole")[0] == 0
    shutil.move(copy / "val" / CLASSES[0], copy / "lacking" / CLASSES[0])
    status, _, errors = train(*given, "--output", "run")
    assert (status, Path("run").exists()) == (2, False)
    assert f"1 missing: {CLASSES[0]}); of a validation set that is meant to lack some: --allow-missing" in errors
    status, _, errors = train(*given, "--epochs", 1, "--allow-missing-classes", "--output", "run")
    assert status == 0, errors
    told = train("--eval-only", "run/latest.pt", "--data", copy, "--val", copy / "lacking")[1]
    assert " on 3 images" in told
    whole, some = (rows_of(Path(folder))[-1]["val_loss"] for folder in ("whole", "run"))
    assert float(re.search("loss (.*?) ", told)[1]) == pytest.approx(3 * whole - 2 * some, abs=PRINTED)
    (copy / "val" / "zebra").symlink_to(copy / "val" / CLASSES[1])
    status, _, errors = train(*given, "--allow-missing-classes", "--output", "other")
    assert status == 2
    assert "1 extra: zebra" in errors
    assert "--allow-missing" not in errors


def test_file_list_in_place_of_the_folder(tree, train):
    from apr_dali.data.file_list import FileList, write_file_list

    entries = sorted(str(path.relative_to(tree)) for path in tree.rglob("*.jpg"))[1:]
    write_file_list("list.txt", FileList(str(tree), CLASSES, ("train", "val"), tuple(entries)))
    status, told, errors = train("--data", "list.txt", "--epochs", 1, "--output", "run")
    assert status == 0, errors
    assert f"{len(CLASSES) * TRAINING - 1} training images, {len(CLASSES) * VALIDATION} for validation" in told


@pytest.mark.usefixtures("pictures")
def test_tars_in_place_of_the_folder(tree, train):
    """With two images and a description a sample, one of which is broken."""
    for split in ("train", "val"):
        members = []
        for number, path in enumerate(sorted(tree.glob(f"{split}/*/*.jpg"))):
            content = path.read_bytes()[: -300 if (split, number) == ("train", 7) else None]
            label = str(CLASSES.index(path.parent.name)).encode()
            members += [
                (f"{number}.{ext}", content) for ext, content in (("cls", label), ("json", b"{}"), ("x.jpg", content))
            ]
            members.append((f"{number}.mask.png", b"no image at all"))
        folder_of(Path("tars") / split, members, classes="\n".join(CLASSES))
    options = ["--data", "tars", "--epochs", 1, "--output", "run"]
    for given, told in (
        ([], "the sample 0 of .*/train/0.tar has several images: x.jpg, mask.png; .*--tar-image"),
        (["--tar-image", "x.jpg"], "1 of 57 images cannot be read:\n.*/train/0.tar/7: truncated"),
    ):
        status, _, errors = train(*options, *given)
        assert status == 2
        assert re.search(told, errors), errors
    with pytest.warns(UserWarning, match=r"left out .*/train/0\.tar/7, which cannot be decoded"):
        status, told, errors = train(*options, "--tar-image", "x.jpg", "--on-error", "skip")
    assert status == 0, errors
    assert f"{len(CLASSES) * TRAINING} training images, {len(CLASSES) * VALIDATION} for validation" in told
    assert "1 images were left out" in told
    assert Path("run/samples.png").is_file()


def test_sample_is_written_unless_something_else_is_there(train, monkeypatch):
    from apr_dali.data import sample

    written = []
    monkeypatch.setattr(sample, "write_sample", written.append)
    status, _, errors = train("--data", "sample")
    assert (status, written) == (2, ["sample"])
    assert "sample is not there" in errors
    Path("sample").mkdir()
    assert train("--data", "sample")[0] == 2
    assert written == ["sample"]


def test_sources_with_weights(tree, trainer, tmp_path):
    (tmp_path / "more").mkdir()
    for name in (path.name for path in (tree / "train").iterdir()):
        (tmp_path / "more" / name).symlink_to(tree / "val" / name)
    given = ["--data", str(tree), *map(str, SMALL), "--train", str(tmp_path / "more"), "--train-weights", "1", "3"]
    options, group = parse(ImageNetOptions, "", given), Group(0, 1, 0, torch.device("cpu"))
    part, _ = trainer.datasets.open_parts(options, group)
    first = len(open_set(tree / "train"))
    assert part.sources == (first, len(part) - first)
    weights = trainer.datasets.sampler(options, part)
    np.testing.assert_allclose([weights[:first].sum(), weights[first:].sum()], [1, 3])


# ---- spoilt data -----------------------------------------------------------------------------------------------------


def spoil(name: str, data: Path) -> None:
    """Make one thing wrong in the folder `data`."""
    image = data / "train" / "chelsea" / "3.jpg"
    content = image.read_bytes()
    if name == "empty class":
        for path in (data / "val" / "coffee").iterdir():
            path.unlink()
    elif name == "classes differ":
        (data / "val" / "coffee").rename(data / "val" / "tea")
    else:
        image.unlink()
        image.write_bytes({"truncated": content[: len(content) // 2], "no image": b"<html>", "empty": b""}[name])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("empty class", "coffee"),
        ("classes differ", "tea"),
        ("truncated", "train/chelsea/3.jpg: truncated"),
        ("no image", "train/chelsea/3.jpg: not an image"),
        ("empty", "train/chelsea/3.jpg: empty file"),
    ],
)
def test_spoilt_data(wrong, told, copy, train):
    spoil(wrong, copy)
    status, _, errors = train("--data", copy, "--output", "run")
    assert status == 2
    assert errors.startswith("error: ")
    assert told in errors
    assert not Path("run").exists()


def test_an_image_that_breaks_in_mid_epoch_is_named(copy, train):
    """The quick look sees both ends of a file; what is wrong between them shows when its batch comes."""
    image = copy / "train" / "chelsea" / "3.jpg"
    content = bytearray(image.read_bytes())
    image.unlink()
    content[2:-2] = bytes(len(content) - 4)
    image.write_bytes(content)
    for given, told in (
        (["--check", "off"], f"the image {image} cannot be decoded"),
        (["--check", "full"], f"{image}: "),
    ):
        status, _, errors = train("--data", copy, "--output", f"run{given[1]}", "--epochs", 1, *given)
        assert status == 2
        assert told in errors
    with pytest.warns(UserWarning, match=f"left out {image}"):
        status, told, errors = train("--data", copy, "--output", "runskip", "--epochs", 1, "--on-error", "skip")
    assert status == 0, errors
    assert "1 images were left out because they cannot be decoded" in told
