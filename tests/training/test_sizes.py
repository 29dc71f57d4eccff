"""Sizes that grow with the epochs, against ffcv's formula, and the loader that follows them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from apr_dali.errors import InputError
from apr_dali.recipes import STANDARD, validation_view
from apr_dali.training.options import ImageNetOptions
from apr_dali.training.progressive import ProgressiveLoader
from apr_dali.training.sizes import Sizes

NAME = "--progressive"


def of_ffcv(epoch: int, start: int, end: int, least: int, most: int) -> int:
    """Its trainer's rule, of rn50_configs."""
    if epoch <= start:
        return least
    if epoch >= end:
        return most
    return int(np.round(np.interp([epoch], [start, end], [least, most])[0] / 32)) * 32


@pytest.mark.parametrize(
    ("start", "end", "least", "most"), [(65, 76, 160, 192), (34, 48, 128, 192), (0, 9, 96, 224), (1, 40, 64, 320)]
)
def test_sizes_are_ffcvs(start, end, least, most):
    sizes = Sizes.parse([f"{least}:{start}", f"{most}:{end}"], NAME)
    found = [sizes.at(epoch) for epoch in range(90)]
    assert found == [of_ffcv(epoch, start, end, least, most) for epoch in range(90)]
    assert all(type(size) is int for size in found)


def test_several_points():
    sizes = Sizes.parse(["64:0", "128:4", "96:5", "96:8"], NAME)
    assert [sizes.at(epoch) for epoch in range(10)] == [64, 64, 96, 128, 128, 96, 96, 96, 96, 96]
    assert Sizes((50,), (0,)).at(7) == 50


@pytest.mark.parametrize(
    ("points", "told"),
    [
        (["160"], "must be two or more of SIZE:EPOCH, such as 160:65 192:76, got 160"),
        (["160:0"], "must be two or more"),
        (["160:0", "x:3"], "must be two or more of SIZE:EPOCH"),
        (["160:0", "192:-1"], "must be two or more of SIZE:EPOCH"),
        (["160:0", "200:3"], "multiples of 32, got 200"),
        (["0:0", "32:3"], "multiples of 32, got 0"),
        (["160:4", "192:4"], "its epochs in their order, got 4 4"),
        (["160:4", "192:3"], "its epochs in their order, got 4 3"),
    ],
)
def test_points_that_cannot_be(points, told):
    with pytest.raises(InputError) as error:
        Sizes.parse(points, NAME)
    assert str(error.value).startswith(NAME)
    assert told in str(error.value)


# ---- options ---------------------------------------------------------------------------------------------------------


def options(**given) -> ImageNetOptions:
    return ImageNetOptions(data="x", **given)


def test_all_sizes_that_the_network_sees():
    assert options(image_size=50).all_sizes == (50, 50)
    growing = options(image_size=128, epochs=4, progressive=("64:0", "128:2"), val_size=160)
    assert [growing.sizes.at(epoch) for epoch in range(4)] == [64, 96, 128, 128]
    assert growing.all_sizes == (64, 96, 128, 160)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"progressive": ("128:0", "192:65")}, "--progressive ends at 192 pixels, --image-size is 224: give the same"),
        ({"progressive": ("128:0", "224:9"), "epochs": 9}, "reaches its last size in epoch 9, counted from 0, and"),
        ({"progressive": ("128:0",)}, "--progressive must be two or more of SIZE:EPOCH"),
        ({"val_size": 4}, "--val-size must be 0 or at least 8, got 4"),
        ({"val_crop": 1.2}, "--val-crop must be at most 1, got 1.2"),
    ],
)
def test_senseless_sizes_are_refused(given, told):
    with pytest.raises(InputError) as error:
        options(**given)
    assert told in str(error.value)


def test_validation_sees_what_it_saw_unless_it_is_told_otherwise():
    assert validation_view(vars(options())) == (224, STANDARD)
    assert validation_view({"image_size": 32}) == (32, STANDARD)
    size, scaling = validation_view(vars(options(val_size=256)))
    assert (size, scaling) == (256, STANDARD)
    size, scaling = validation_view(vars(options(val_crop=0.95)))
    # timm: floor(224 / 0.95).
    assert scaling.resized(400, 400, size) == (235, 235)


# ---- the loader ------------------------------------------------------------------------------------------------------

BATCH, COUNT = 3, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    root = tmp_path_factory.mktemp("images")
    for n in range(COUNT):
        (root / f"class{n % 2}").mkdir(exist_ok=True)
        Image.fromarray(photos[n % 4][: 80 + n, : 90 + n]).save(root / f"class{n % 2}" / f"{n:02d}.png")
    return root


@dataclass
class Run:
    """What a trainer knows of a run."""

    epoch: int = 0


SIZES = Sizes((32, 64), (0, 2))  # 32, 48 rounds to 64 or 32, 64


def make(folder, run: Run, sizes: Sizes = SIZES, **given) -> ProgressiveLoader:
    return ProgressiveLoader(
        folder, BATCH, "apr-p", sizes=sizes, run_epoch=lambda: run.epoch, threads=1, seed=1, **given
    )


def epoch_of(loader, run: Run) -> list[tuple]:
    batches = list(loader)
    run.epoch += 1
    return batches


def same(found: list[tuple], expected: list[tuple]) -> bool:
    return len(found) == len(expected) and all(
        all(map(torch.equal, *pair)) for pair in zip(found, expected, strict=True)
    )


def test_images_grow_between_epochs_and_each_comes_once(folder):
    run = Run()
    with make(folder, run, with_index=True) as loader:
        epochs = [epoch_of(loader, run) for _ in range(4)]
    for epoch, batches in enumerate(epochs):
        assert {images.shape[-1] for images, *_ in batches} == {SIZES.at(epoch)}
        assert sorted({int(number) for *_, index in batches for number in index}) == list(range(COUNT))
    orders = [[int(number) for *_, index in batches for number in index.unique()] for batches in epochs]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("stop", range(3 * COUNT // BATCH))
def test_a_run_that_goes_on_anywhere_has_the_batches_that_would_have_come(folder, stop):
    """As `Trainer` takes them: it ends the epoch after the loader has."""
    per_epoch = COUNT // BATCH
    run, expected = Run(), []
    with make(folder, run) as loader:
        for _ in range(3):
            expected += epoch_of(loader, run)
    run = Run()
    with make(folder, run) as loader:
        for _ in range(stop // per_epoch):
            epoch_of(loader, run)
        ongoing = iter(loader) if stop % per_epoch else None
        for _ in range(stop % per_epoch):
            next(ongoing)
        state = json.loads(json.dumps(loader.state_dict()))
    with make(folder, run) as again:
        again.load_state_dict(state)
        found = []
        while run.epoch < 3:
            found += epoch_of(again, run)
    assert same(found, expected[stop:])


def test_a_state_of_other_sizes_is_refused_within_an_epoch(folder):
    run = Run()
    with make(folder, run) as loader:
        next(iter(loader))
        within = loader.state_dict()
    with make(folder, run, Sizes((64,), (0,))) as other, pytest.raises(InputError, match="image_size 32, now 64"):
        other.load_state_dict(within)


def test_a_loader_is_resized_between_epochs_alone(folder):
    with make(folder, Run()) as loader:
        assert loader.image_size == 32
        ongoing = iter(loader)
        next(ongoing)
        with pytest.raises(InputError, match="this one has given 1 batches"):
            loader.resize(64)
        loader.resize(32)
        list(ongoing)
        loader.resize(64)
        assert loader.image_size == 64
        with pytest.raises(InputError, match="image_size must be at least 1"):
            loader.resize(0)
