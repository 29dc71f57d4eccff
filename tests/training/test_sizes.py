"""Sizes that grow with the epochs, against ffcv's formula, and the options that ask for them."""

from __future__ import annotations

import numpy as np
import pytest

from apr_dali.errors import InputError
from apr_dali.recipes import STANDARD, validation_view
from apr_dali.training.options import ImageNetOptions
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
