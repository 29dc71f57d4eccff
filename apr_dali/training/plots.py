"""The pictures of a run: curves.png, how it went, and samples.png, what it trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import apr_dali
from apr_dali.augmentations import find, sample_and_apply
from apr_dali.augmentations.plan import Plan
from apr_dali.augmentations.record import COINS
from apr_dali.bands import BandFilter, banded
from apr_dali.draws import PairDraws, SingleDraws
from apr_dali.pillow_ops import gray_levels
from apr_dali.recipes import AprRecipe, uses_pair, uses_single
from apr_dali.runtime.checkpoint import write_of_run
from apr_dali.runtime.figures import new_figure, png_of
from apr_dali.training.options import CifarOptions, TrainingOptions

CURVES, SAMPLES = "curves.png", "samples.png"
SHOWN = 6
"""Photographs in samples.png."""
_INCHES = 2.3  # of one sample
_DPI = 110
_NAME_LENGTH = 40


def draw_curves(path: Path, rows: Sequence[dict[str, Any]], views: int) -> None:
    """Loss, accuracy and learning rate over the epochs; `rows` are those of metrics.jsonl, the loss sums `views`."""
    epochs = [row for row in rows if row["kind"] == "epoch"]
    steps = [row for row in rows if row["kind"] == "step"]
    figure = new_figure(13, 3.8)
    loss, accuracy, rate = figure.subplots(1, 3)
    x = [row["epoch"] for row in epochs]
    if epochs:
        # A step's place between two epochs, by the steps of a finished one.
        length = epochs[-1]["global_step"] / epochs[-1]["epoch"]
        along = [row["global_step"] / length for row in steps]
        loss.plot(along, [row["train_loss"] for row in steps], color="C0", alpha=0.25, linewidth=1)
        rate.plot(along, [row["lr"] for row in steps], color="C2")
    trained = "training" if views == 1 else f"training, sum of {views} views"
    loss.plot(x, [row["train_loss"] for row in epochs], "o-", color="C0", markersize=3, label=trained)
    loss.plot(x, [row["val_loss"] for row in epochs], "o-", color="C1", markersize=3, label="validation")
    for key, label in (("top1", "top-1"), ("top5", "top-5"), ("ema_top1", "top-1, averaged")):
        found = [row for row in epochs if key in row]
        if found or key != "ema_top1":
            reached = [100 * row[key] for row in found]
            accuracy.plot([row["epoch"] for row in found], reached, "o-", markersize=3, label=label)
    for axes, title in ((loss, "loss"), (accuracy, "validation accuracy (%)"), (rate, "learning rate")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    # A little more than 0..100, for curves that lie on the border.
    accuracy.set_ylim(-2, 102)
    rate.set_ylim(bottom=0)
    loss.legend()
    accuracy.legend()
    write_of_run(path, png_of(figure, _DPI))


def draw_samples(
    path: Path, images: NDArray[np.uint8], names: Sequence[str], options: TrainingOptions, recipe: AprRecipe
) -> None:
    """What the recipe makes of some photographs, a row each: the crop, then a column a step.

    images: uint8 (N, S, S, 3), 0..255, plain crops; names: their classes. As in training, APR-P mixes what APR-S
    gave. The draws are seeded, and coins of whole batches are set to mix.
    """
    if options.in_chans == 1:
        images = gray_levels(images)
    columns = sample_columns(images, options, recipe)
    figure = new_figure(_INCHES * len(columns) + 0.6, (_INCHES + 0.25) * len(images) + 0.9)
    grid = figure.subplots(len(images), len(columns), squeeze=False)
    for column, (title, pictures, captions) in enumerate(columns):
        for row, axes in enumerate(grid[:, column]):
            axes.imshow(pictures[row])
            axes.set(xticks=[], yticks=[])
            # Names of classes are the user's: they may hold bytes that are no text.
            caption = _drawable(names[row]) if column == 0 else captions[row]
            axes.set_xlabel(caption, fontsize=7)
        grid[0, column].set_title(title, fontsize=9)
    settings = ", ".join(_settings(options, recipe))
    figure.suptitle(f"--aug {options.aug}" + (f"\n{settings}" if settings else ""), fontsize=10)
    write_of_run(path, png_of(figure, _DPI))


def _settings(options: TrainingOptions, recipe: AprRecipe) -> list[str]:
    """Those that the augmentation has, in words."""
    single, pair, plan = uses_single(options.aug), uses_pair(options.aug), options.aug_plan
    told = [f"overflow {recipe.overflow}"] if single else []
    told += [f"axes {recipe.axes}"] if single or pair else []
    if pair:
        told.append(f"{recipe.pair_probability:.0%} of batches mixed")
    elif plan is not None and plan.coin is not None:
        told.append(f"{plan.coin:.0%} of batches changed")
    return told


def sample_columns(
    images: NDArray[np.uint8], options: TrainingOptions, recipe: AprRecipe
) -> list[tuple[str, NDArray[np.uint8], list[str]]]:
    """The columns of samples.png: title, images uint8 (N, S, S, 3), a caption an image."""
    count, height, width = images.shape[:3]
    blank = [""] * count
    clean = " (clean view)" if uses_pair(options.aug) else ""
    columns = [("training photograph" + ("" if uses_single(options.aug) else clean), images, blank)]
    if uses_single(options.aug):
        single = SingleDraws.sample(count, height, width, options.seed)
        images = apr_dali.single(images, single, overflow=recipe.overflow, axes=recipe.axes)
        columns.append((f"APR-S{clean}", images, [_describe(single, n) for n in range(count)]))
    if options.aug_plan is not None:
        for name, changed in _changed(images, options.aug_plan, options.seed):
            columns.append((name, changed, blank))
        images = columns[-1][1]
    if uses_pair(options.aug):
        # The next image in the row of photographs is the partner: every picture then shows a mix of two.
        draws = PairDraws(np.roll(np.arange(count), -1), mix=True)
        columns.append(("partner: gives the amplitude", images[draws.partner], blank))
        images = _pair(images, draws, recipe)
        columns.append(("APR-P: own phase (mixed view)", images, blank))
    if isinstance(options, CifarOptions) and options.spectrum:
        shown = _banded(images, BandFilter.parse(options.spectrum, options.radii))
        columns.append((f"seen: {options.spectrum.replace(',', ', ')}", shown, blank))
    return columns


def _changed(images: NDArray[np.uint8], plan: Plan, seed: int) -> list[tuple[str, NDArray[np.uint8]]]:
    """What each step of a method but APR-P makes of the images, in gray levels: those of all views one after another,
    and of their result those of single views. Coins of batches are set to change them."""

    def by(name: str, given: NDArray[np.uint8]) -> NDArray[np.uint8]:
        coin: dict[str, Any] = {"coin": (0.0,) * COINS} if find(name).coin else {}
        changed: NDArray[np.uint8] = sample_and_apply(name, given, seed, dataset=plan.dataset, **coin)
        return changed

    columns = []
    for name in plan.levels:
        images = by(name, images)
        columns.append((name, images))
    return columns + [(name, by(name, images)) for name in dict.fromkeys(filter(None, plan.changes))]


def _pair(images: NDArray[np.uint8], draws: PairDraws, recipe: AprRecipe) -> NDArray[np.uint8]:
    """APR-P where the recipe has it, shown in gray levels: values outside 0..255, which the network sees, are cut."""
    mean, std = np.array(recipe.mean), np.array(recipe.std)
    if not recipe.pair_after_normalise:
        mean, std = np.zeros(3), np.ones(3)
    mixed = apr_dali.pair(images, draws.partner, draws.mix, in_scale=1 / (255 * std), in_bias=-mean / std)
    levels = 255 * (np.moveaxis(mixed, 1, -1) * std + mean)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _banded(images: NDArray[np.uint8], spectrum: BandFilter) -> NDArray[np.uint8]:
    """What the network sees of images, each stretched to 0..255: most spectra leave little of their range."""
    seen = np.moveaxis(banded(np.moveaxis(images, -1, 1) / 255, spectrum), 1, -1)
    low, high = (np.percentile(seen, percent, axis=(1, 2, 3), keepdims=True) for percent in (1, 99))
    return np.clip(np.rint(255 * (seen - low) / np.maximum(high - low, 1e-9)), 0, 255).astype(np.uint8)


def _drawable(name: str) -> str:
    shown = name.encode(errors="replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in shown)[:_NAME_LENGTH]


def _describe(draws: SingleDraws, n: int) -> str:
    phase, amplitude = draws.describe(n)
    return f"phase: {phase}\namplitude: {amplitude}" if draws.mix[n] else phase


def center_crop(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The middle of an RGB image: uint8 (size, size, 3), its shorter side scaled to 8/7 of `size`."""
    scale = size * 8 / 7 / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = ((side - size) // 2 for side in scaled.size)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))
