"""The pictures of a run."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from apr_dali.recipes import CIFAR, IMAGENET
from apr_dali.training import plots
from apr_dali.training.options import ImageNetOptions


@pytest.mark.parametrize("aug", ["none", "apr-p", "apr-s", "apr-sp"])
@pytest.mark.parametrize("recipe", [IMAGENET, CIFAR], ids=["imagenet", "cifar"])
def test_samples_show_what_the_recipe_does(crops, aug, recipe):
    import apr_dali
    from apr_dali import spectral
    from apr_dali.draws import SingleDraws

    images = crops(3, 32, 32)
    columns = plots.sample_columns(images, ImageNetOptions(data="d", aug=aug), recipe)
    expected = images
    assert np.array_equal(columns[0][1], images)
    assert len(columns) == {"none": 1, "apr-s": 2, "apr-p": 3, "apr-sp": 4}[aug]
    if "s" in aug.removeprefix("apr-"):
        expected = apr_dali.single(images, SingleDraws.sample(3, 32, 32, 0), backend="reference")
        assert np.abs(columns[1][1].astype(int) - expected).max() <= 1
        expected = columns[1][1]
    if aug in ("apr-p", "apr-sp"):
        partner, mixed = columns[-2][1], columns[-1][1]
        assert np.array_equal(partner, expected[[1, 2, 0]])
        mean, std = (np.reshape(v, (3, 1, 1)) for v in (recipe.mean, recipe.std))
        if not recipe.pair_after_normalise:
            mean, std = np.zeros_like(mean), np.ones_like(std)
        normal = [(spectral.to_planes(x) / 255 - mean) / std for x in (expected, partner)]
        levels = 255 * (spectral.recombine(*normal) * std + mean)
        assert np.abs(np.moveaxis(levels, 1, -1).clip(0, 255) - mixed).max() <= 0.51


@pytest.mark.parametrize(
    ("aug", "titles", "settings"),
    [
        ("hybrid++-ps", ["hybrid++-s", "hybrid++-p"], "60% of batches changed"),
        ("vipaug", ["vipaug-g", "partner: gives the amplitude", "APR-P: own phase (mixed view)"], "axes chw, 50% of"),
        ("afa+prime", ["prime", "afa"], ""),
        ("fda", ["fda"], ""),
        ("randconv", ["randconv"], "50% of batches changed"),
        ("apr-sp", None, "overflow wrap, axes chw, 50% of batches mixed"),
        ("apr-s", None, "overflow wrap, axes chw"),
    ],
)
def test_samples_show_each_step_and_the_settings_that_it_has(crops, aug, titles, settings):
    options, images = ImageNetOptions(data="d", aug=aug), crops(5, 48, 48)
    columns = plots.sample_columns(images, options, IMAGENET)
    if titles is not None:
        assert [title for title, _, _ in columns[1:]] == titles
    for seed in range(6):  # no coin leaves all of them as they are
        *_, before, last = plots.sample_columns(images, replace(options, seed=seed), IMAGENET)
        assert (last[1] != before[1]).any()
    said = ", ".join(plots._settings(options, IMAGENET))
    assert said.startswith(settings)
    assert bool(said) == bool(settings)


def test_pictures_are_written_as_they_are_named(tmp_path, crops):
    row = {"train_loss": 2.0, "val_loss": 2.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
    step = {"kind": "step", "epoch": 1, "step": 2, "global_step": 2, "train_loss": 2.0, "lr": 0.1}
    plots.draw_curves(tmp_path / "c.png", [step], views=1)
    plots.draw_curves(tmp_path / "c.png", [step, {"kind": "epoch", "epoch": 1, "global_step": 4, **row}], views=2)
    plots.draw_samples(
        tmp_path / "s.png", crops(2, 16, 16), ["a", "b"], ImageNetOptions(data="d", aug="apr-sp"), IMAGENET
    )
    assert sorted(os.listdir(tmp_path)) == ["c.png", "s.png"]
    for name in ("c.png", "s.png"):
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG"
            assert np.asarray(image.convert("L")).std() > 10


def test_curves_have_the_averaged_weights_where_there_are_any(tmp_path, monkeypatch):
    made, new_figure = [], plots.new_figure
    monkeypatch.setattr(plots, "new_figure", lambda *size: made.append(new_figure(*size)) or made[-1])
    row = {"kind": "epoch", "train_loss": 2.0, "val_loss": 2.0, "top1": 0.5, "top5": 1.0, "lr": 0.1}
    rows = [{**row, "epoch": n, "global_step": 4 * n} for n in (1, 2, 3)]
    plots.draw_curves(tmp_path / "c.png", rows, views=1)
    # An average that began in the third epoch.
    rows[2]["ema_top1"] = 0.75
    plots.draw_curves(tmp_path / "c.png", rows, views=1)
    shown = [{line.get_label(): line.get_xydata().tolist() for line in figure.axes[1].get_lines()} for figure in made]
    assert [list(lines) for lines in shown] == [["top-1", "top-5"], ["top-1", "top-5", "top-1, averaged"]]
    assert shown[1]["top-1, averaged"] == [[3, 75.0]]


@pytest.mark.parametrize("name", ["$\\frac$", "a$b$c^", "\udcff\udcfe", "a\x00b\nc", "犬" * 300, ""])
def test_samples_show_any_name_of_a_class(tmp_path, crops, name):
    plots.draw_samples(tmp_path / "s.png", crops(2, 16, 16), [name, "b"], ImageNetOptions(data="d"), IMAGENET)
    assert os.listdir(tmp_path) == ["s.png"]


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (300, 20)])
def test_center_crop(size):
    image = Image.new("RGB", size)
    image.putpixel((size[0] // 2, size[1] // 2), (255, 255, 255))
    crop = plots.center_crop(image, 24)
    assert crop.shape == (24, 24, 3)
    assert crop.dtype == np.uint8
    assert crop[10:14, 10:14].max() > 60, "the middle of the photograph is in the middle"
    assert crop[:8].max() == 0
