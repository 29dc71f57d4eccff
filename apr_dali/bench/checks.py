"""Whether a row's images are right, looked at before any is timed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import apr_dali
from apr_dali import pillow_ops, spectral
from apr_dali.bench import published_code
from apr_dali.bench.feeds import has_clean_view, open_feed, recipe_of, views_of
from apr_dali.bench.images import Places, photographs, small_images
from apr_dali.bench.rows import DYNAMIC, METHODS, Row
from apr_dali.data.image_file import open_image
from apr_dali.draws import SingleDraws
from apr_dali.errors import InputError
from apr_dali.pipelines import stages
from apr_dali.recipes import AprRecipe
from apr_dali.transforms import AprSingle

_FEW = 4
_PAIR_TOLERANCE = 1e-4
"""Relative to the largest value: float32 transforms of 150,000 values, twice."""
_LEVELS = 1
"""Gray levels of APR-S: a float32 transform beside a border of rounding."""
_LEVEL_ERROR = 0.02
"""Gray levels: float32 normalization of 0..255, there and back."""


class WrongOutputError(InputError):
    """A row's images are not what they should be."""


def check_row(row: Row, places: Places, threads: int | None) -> None:
    """Raise WrongOutputError unless the first batch of `row` and its APR operators are right."""
    feed = open_feed(row, places, threads)
    images, targets = next(feed.batches)
    check_batch(row, images, targets, feed.classes)
    if row.method in ("apr-p", "apr-sp"):
        views = images.cpu().double().numpy().reshape(-1, 2, *images.shape[1:])
        check_pair(row.name, views[:, 0], views[:, 1], recipe_of(row))
    if row.method in ("apr-s", "apr-sp"):
        before = _crops(row, places)
        draws, after = run_single(row, before)
        check_single(row.name, before, draws, after)


def check_batch(row: Row, images: Tensor, targets: Tensor, classes: int) -> None:
    """Raise WrongOutputError unless a batch has the shape, type and values that `row` must give."""
    rows = views_of(row) * row.batch_size
    _expect(row.name, "images", f"float32 {(rows, 3, row.size, row.size)}", f"{_type(images)} {tuple(images.shape)}")
    soft = row.aug in ("mixup", "cutmix")
    kind = f"float32 {(rows, classes)}" if soft else f"int64 {(rows,)}"
    _expect(row.name, "targets", kind, f"{_type(targets)} {tuple(targets.shape)}")
    if soft and not torch.allclose(targets.sum(1), torch.ones_like(targets[:, 0])):
        raise WrongOutputError(f"{row.name}: soft targets must sum to 1 in each row")
    if not soft and not (targets.min() >= 0 and targets.max() < classes):
        raise WrongOutputError(f"{row.name}: targets must be in 0..{classes - 1}")
    if not torch.isfinite(images).all():
        raise WrongOutputError(f"{row.name}: some values are not finite")
    _check_levels(row, images)


def _check_levels(row: Row, images: Tensor) -> None:
    """Before normalization the images were gray levels, but for those that APR-P or MixUp made of several."""
    recipe = recipe_of(row)
    mean, std = (torch.tensor(value, device=images.device).view(3, 1, 1) for value in (recipe.mean, recipe.std))
    if row.method in ("apr-p", "apr-sp"):
        images = images[::2]  # APR-P leaves the clean views as they are, and does not clip the mixed ones
    if row.aug in METHODS:
        if not has_clean_view(row):
            return
        images = images[:: views_of(row)]
    levels = 255 * (images * std + mean)
    low, high = float(levels.min()), float(levels.max())
    if low < -_LEVEL_ERROR or high > 255 + _LEVEL_ERROR:
        raise WrongOutputError(f"{row.name}: gray levels must be in 0..255, got {low:.2f} to {high:.2f}")
    if row.aug != "mixup" and float((levels - levels.round()).abs().max()) > _LEVEL_ERROR:
        raise WrongOutputError(f"{row.name}: normalized images must come from whole gray levels, and do not")
    if float(levels.std(0).mean()) < 1:
        raise WrongOutputError(f"{row.name}: the images of a batch are all alike")


def check_pair(name: str, clean: NDArray[np.float64], mixed: NDArray[np.float64], recipe: AprRecipe) -> None:
    """Raise WrongOutputError unless `mixed` is `clean` with its amplitudes permuted, normalized (N, 3, H, W) both.

    Whose amplitude an image has is read from its own, so that nothing needs to be known of the draws. A few images
    are looked at, those with the most color: in gray ones most of the spectrum over channels is 0, and has no phase.
    """
    if not recipe.pair_after_normalise:
        mean, std = (np.array(value).reshape(3, 1, 1) for value in (recipe.mean, recipe.std))
        clean, mixed = clean * std + mean, mixed * std + mean
    color = np.abs(clean - clean.mean(1, keepdims=True)).mean((1, 2, 3))
    chosen = np.argsort(color)[-_FEW:]
    amplitudes = np.stack([spectral.amplitude(image)[:, :8, :8] for image in clean])
    partners = []
    for n in chosen:
        apart = np.abs(amplitudes - spectral.amplitude(mixed[n])[:, :8, :8]).mean((1, 2, 3))
        partners.append(int(apart.argmin()))
        expected = spectral.recombine(clean[n], clean[partners[-1]])
        error = float(np.abs(mixed[n] - expected).max() / np.abs(expected).max())
        if not error < _PAIR_TOLERANCE:
            raise WrongOutputError(
                f"{name}: the mixed view of image {n} differs from the reference by {error:.1e} of its largest value"
            )
    if len(set(partners)) < len(partners) or partners == list(chosen):
        raise WrongOutputError(f"{name}: the amplitudes are not those of other images, one each: {partners}")


def check_single(name: str, before: NDArray[np.uint8], draws: SingleDraws, after: NDArray[np.uint8]) -> None:
    """Raise WrongOutputError unless `after` is APR-S of `before`, uint8 (N, H, W, 3), with these draws."""
    expected = pillow_ops.single(before, draws)
    if after.shape != expected.shape or after.dtype != np.uint8:
        raise WrongOutputError(f"{name}: APR-S must give uint8 {expected.shape}, got {after.dtype} {after.shape}")
    apart = np.abs(after.astype(int) - expected)
    # Values wrap around: 255 and 0 are neighbors.
    worst = int(np.minimum(apart, 256 - apart).max(initial=0))
    if worst > _LEVELS:
        raise WrongOutputError(f"{name}: APR-S differs from the reference by {worst} gray levels")


def run_single(row: Row, images: NDArray[np.uint8]) -> tuple[SingleDraws, NDArray[np.uint8]]:
    """APR-S of uint8 (N, S, S, 3) by the way of `row`: what was drawn, and what came out."""
    recipe, device = recipe_of(row), "gpu" if row.on_gpu else "cpu"
    if row.way.startswith("dali") and row.kind != DYNAMIC:
        return stages.run_single(images, recipe, device, 0 if row.on_gpu else None)
    height, width = images.shape[1:3]
    draws = SingleDraws.sample(len(images), height, width, seed=1)
    if row.kind == DYNAMIC:
        from apr_dali.pipelines import dynamic  # of newer versions of DALI

        given = dynamic.ndd.as_batch(images, layout="HWC", device=device)
        changed = dynamic.apr_single(given, draws=draws, overflow=recipe.overflow, axes=recipe.axes)
        return draws, changed.torch().cpu().numpy()
    if row.published:
        return draws, np.stack([published_code.single(image, draws, n) for n, image in enumerate(images)])
    if row.way == "torch-gpu":
        return draws, apr_dali.single(torch.from_numpy(images).cuda(), draws).cpu().numpy()
    single = AprSingle(seed=0)
    made = [single.make_params([]) for _ in images]
    after = [single.transform(Image.fromarray(image), params) for image, params in zip(images, made, strict=True)]
    each = [SingleDraws.sample(1, height, width, params["seed"]) for params in made]
    return _joined(each), np.stack([np.asarray(image) for image in after])


def _joined(draws: list[SingleDraws]) -> SingleDraws:
    names = ("operation", "parameters", "mix", "amplitude_of_second")
    return SingleDraws(*(np.concatenate([getattr(one, name) for one in draws]) for name in names))


def _crops(row: Row, places: Places) -> NDArray[np.uint8]:
    """A few images of the row's own, uint8 (N, S, S, 3); enough that some are mixed and some are not."""
    if row.size == 32:
        return small_images(places.small).images[: 2 * _FEW]
    crops = []
    for file in photographs(places.folder).files[: 2 * _FEW]:
        crops.append(np.asarray(open_image(file).resize((row.size, row.size))))
    return np.stack(crops)


def _expect(name: str, what: str, expected: str, got: str) -> None:
    if expected != got:
        raise WrongOutputError(f"{name}: {what} must be {expected}, got {got}")


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
