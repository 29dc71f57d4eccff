"""The registry and what every record says; bad input by its name."""

import re
import subprocess
import sys
from dataclasses import replace

import methods
import numpy as np
import pytest
import torch

from apr_dali.augmentations import (
    COMBINATIONS,
    NAMES,
    PARALLEL,
    apply,
    find,
    register,
    registry,
    sample_and_apply,
    stages,
)
from apr_dali.errors import InputError


@pytest.mark.parametrize("name", NAMES)
def test_every_record_is_whole(name):
    record = find(name)
    assert record.name == name
    assert all((record.paper, record.equation, record.source))
    for recipe in record.recipes:
        draws = record.sample(2, 8, 10, 0, dataset=recipe.dataset)
        assert isinstance(draws, record.draws)
        assert (len(draws), draws.height, draws.width, draws.channels) == (2, 8, 10, 3)
        assert (recipe.views > 1) == (recipe.objective != "cross-entropy")
    for dataset in ("cifar10", "cifar100", "imagenet"):
        assert record.recipe(dataset) in record.recipes
    with pytest.raises(InputError, match="dataset must be one of cifar10, cifar100, imagenet"):
        record.sample(2, 8, 8, 0, dataset="imagnet")


def test_the_page_shows_the_methods():
    assert methods.PAGE.read_text() == methods.page(), "docs/augmentations.md is old: run python docs/methods.py"
    for name in NAMES:
        assert f"| `{name}` |" in methods.table()
    for name in (*COMBINATIONS, *PARALLEL):
        assert f"`{name}`" in methods.PAGE.read_text()


def test_the_pages_functions_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", methods.PAGE.read_text(), re.S)
    (code,) = (block for block in blocks if "sample_and_apply" in block)
    images = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3), np.uint8)
    names = {"images": images}
    exec(code, names)
    assert names["images"].shape == images.shape
    assert (names["images"] != images).any()
    assert "CVPR 2024" in capsys.readouterr().out


def test_stages_are_names():
    assert stages("afa") == ("afa",)
    assert stages("vipaug") == ("vipaug-g", "apr-p")
    for parts in (*COMBINATIONS.values(), *PARALLEL.values()):
        for part in parts:
            assert part in (*NAMES, "apr-p")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("afaa", "no augmentation is named 'afaa'.*afa"),
        ("hybrid-ps", "stages hybrid-s and hybrid-p"),
        ("afa+prime", "views"),
    ],
)
def test_names_that_are_none(name, message):
    with pytest.raises(InputError, match=message):
        find(name)


def test_an_augmentation_from_elsewhere_is_found_and_keeps_its_name(monkeypatch):
    monkeypatch.setattr(registry, "_added", {})
    mine = replace(find("afa"), name="mine")
    assert register(mine) is mine
    assert register(mine) is mine  # a module that is imported twice
    assert find("mine") is mine
    for other in (replace(mine), find("afa"), replace(mine, name="hybrid-ps"), replace(mine, name="apr-p")):
        with pytest.raises(InputError, match="already"):
            register(other)


def test_a_record_without_recipes_is_none():
    with pytest.raises(InputError, match="recipe"):
        replace(find("afa"), recipes=())
    with pytest.raises(InputError, match="takes must be one of planes, levels"):
        replace(find("afa"), takes="pixels")


IMAGES = np.zeros((2, 6, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "draws", "options", "message"),
    [
        (IMAGES, ("prime", 2, 6, 8), {}, "afa takes AfaDraws, got PrimeDraws"),
        (IMAGES, ("afa", 3, 6, 8), {}, "2 images of 6 × 8 and 3 channels, got those for 3 of 6 × 8 and 3"),
        (IMAGES, ("afa", 2, 8, 6), {}, "got those for 2 of 8 × 6"),
        (IMAGES[..., :1], ("afa", 2, 6, 8), {}, "1 channels"),
        (IMAGES, ("afa", 2, 6, 8), {"overflow": "round"}, "overflow must be one of"),
        (IMAGES, ("afa", 2, 6, 8), {"backend": "numpy"}, "must be one of auto, native, cupy, torch, reference"),
        (IMAGES, ("afa", 2, 6, 8), {"backend": "cupy"}, "cannot run afa: it is for images on a CUDA device, got cpu"),
        (IMAGES.transpose(0, 3, 1, 2) / 255.0, ("afa", 2, 6, 8), {"overflow": "wrap"}, "no effect on floating images"),
        (
            np.full((2, 3, 6, 8), 7.0),
            ("afa", 2, 6, 8),
            {},
            "in 0..1, before they are normalized; got values from 7 to 7",
        ),
        (torch.rand(2, 3, 6, 8, requires_grad=True), ("afa", 2, 6, 8), {}, "not differentiable"),
    ],
)
def test_what_does_not_fit_is_refused(images, draws, options, message):
    name, *sizes = draws
    with pytest.raises(InputError, match=message):
        apply("afa", images, find(name).sample(*sizes, 0), **options)


def test_operations_need_levels_of_three_channels():
    draws = find("hybrid-s").sample(2, 6, 8, 0)
    with pytest.raises(InputError, match=r"uint8 images \(N, H, W, 3\), before the conversion to float; got float32"):
        apply("hybrid-s", np.zeros((2, 3, 6, 8), np.float32), draws)
    with pytest.raises(InputError, match="3 channels"):
        apply("hybrid-s", IMAGES[..., :1], draws)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("afa", {"mean": 0}, "mean must be a positive number"),
        ("afa", {"strength": 3}, "afa has no such setting.*strength"),
        ("amplitude-mix", {"alpha": 2}, "alpha must be in 0..1"),
        ("amplitude-mix", {"ratio": -1}, "ratio must be in 0..1"),
        ("fda", {"beta": (0.1, 0.6)}, "beta must be two numbers in 0..0.5"),
        ("fda", {"beta": (0.2, 0.1)}, "the smaller first"),
        ("hybrid-p", {"kernel": 4}, "kernel must be odd"),
        ("hybrid-p", {"sigma": 0}, "sigma must be a positive number"),
        ("hybrid-p", {"p": 2}, "p must be in 0..1"),
        ("hybrid++-s", {"plus": 1.5}, "plus must be one of"),
        ("vipaug-g", {"vital": -1}, "vital must be a number of at least 0"),
        ("spectral-gains", {"p": {"amplitud": 1}}, "a part in p must be one of amplitude, phase, mask, gaussian"),
        ("spectral-gains", {"dropped": (0.5, 2)}, "dropped must be two numbers"),
        ("prime", {"cuts": (1, 5)}, "cuts must be two numbers in 2"),
        ("prime", {"cuts": (5, 5)}, "two different numbers"),
        ("prime", {"chains": 0}, "chains must be at least 1"),
        ("randconv", {"sizes": (2,)}, "sizes must be odd, got 2"),
        ("randconv", {"std": 0}, "std must be positive"),
    ],
)
def test_settings_that_are_none_are_refused(name, settings, message):
    with pytest.raises(InputError, match=message):
        find(name).sample(4, 8, 8, 0, **settings)


@pytest.mark.parametrize("sizes", [(-1, 8, 8), (2, 0, 8), (2, 8, 0), (2, 8, 2.5)])
@pytest.mark.parametrize("name", NAMES)
def test_sizes_that_no_batch_has_are_refused(name, sizes):
    with pytest.raises(InputError, match="must be"):
        find(name).sample(*sizes, 0)


@pytest.mark.parametrize("name", NAMES)
def test_draws_of_wrong_shapes_are_refused(name):
    """Every array of every kind of draws is looked at."""
    draws = find(name).sample(4, 8, 8, 0)
    for field in draws.__dataclass_fields__:
        value = getattr(draws, field)
        if isinstance(value, np.ndarray) and field != "noisy":
            with pytest.raises(ValueError, match="must"):
                replace(draws, **{field: value[..., None]})


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("amplitude-mix", "share", 1.5),
        ("amplitude-mix", "share", np.nan),
        ("fda", "reach", -1),
        ("afa", "strength", -1.0),
        ("vipaug-g", "noisy", 20),
        ("spectral-gains", "sigma", 0.0),
        ("spectral-gains", "gain", -1.0),
        ("prime", "depth", 0),
        ("prime", "depth", 4),
        ("prime", "operation", 3),
        ("prime", "weight", 2.0),
    ],
)
def test_draws_of_values_that_there_are_not_are_refused(name, field, value):
    draws = find(name).sample(20, 8, 8, 0)
    values = getattr(draws, field).copy()
    values.reshape(-1)[-1] = value
    with pytest.raises(InputError, match=rf"{field} must be in"):
        replace(draws, **{field: values})


def test_names_are_known_without_torch():
    code = "import sys; from apr_dali import augmentations; print('torch' in sys.modules, 'afa' in augmentations.NAMES)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_images_of_every_kind_are_asked_for_their_sizes():
    floats = sample_and_apply("afa", np.full((2, 1, 5, 7), 0.5, np.float32), 0)
    assert floats.shape == (2, 1, 5, 7)
    levels = sample_and_apply("afa", np.full((2, 5, 7, 1), 128, np.uint8), 0)
    assert levels.shape == (2, 5, 7, 1)
    np.testing.assert_allclose(levels[..., 0] / 255, floats[:, 0], atol=0.01)
