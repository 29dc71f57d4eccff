"""The augmentations beside APR at work on photographs: one column a method, as a picture and as a page."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from apr_dali.augmentations import find, sample_and_apply
from apr_dali.augmentations.plan import trainable
from apr_dali.augmentations.registry import COMBINATIONS, PARALLEL
from apr_dali.errors import check_choice
from apr_dali.eval.analyses.gallery import Pixels
from apr_dali.eval.page import Section, html
from apr_dali.functional import pair
from apr_dali.runtime.figures import new_figure, png_of
from apr_dali.spectral import to_levels

_MOST = 40
"""Seeds that are tried for one whose coins change something."""
_DPI = 100
_INCHES = 1.6


def shown() -> tuple[str, ...]:
    """Names of what a gallery can show: one image of each."""
    return tuple(name for name in trainable() if name not in PARALLEL)


def changed(images: Pixels, name: str, seed: int, dataset: str = "imagenet") -> Pixels:
    """What one of `shown()` makes of photographs, uint8 (N, H, W, 3) to the same.

    By the first seed from `seed` on whose draws change all images, if there is one: many methods have a coin. Values
    outside 0..255, which a network sees, are cut.
    """
    check_choice("--aug", name, shown())
    found = images
    for stage in COMBINATIONS.get(name, (name,)):
        found = _by_stage(found, stage, seed, dataset)
    return found


def _by_stage(images: Pixels, name: str, seed: int, dataset: str) -> Pixels:
    if name == "apr-p":
        neighbor = np.roll(np.arange(len(images)), 1)
        return to_levels(np.moveaxis(pair(images, neighbor), 1, -1), "clamp")
    overflow = "clamp" if find(name).takes == "planes" else None
    for tried in range(seed, seed + _MOST):
        found: Pixels = sample_and_apply(name, images, tried, dataset=dataset, overflow=overflow)
        if (found != images).any(axis=(1, 2, 3)).all():
            break
    return found


def methods_picture(images: Pixels, names: Sequence[str], columns: dict[str, Pixels]) -> bytes:
    """A line a photograph, a column a method, the photograph first; PNG."""
    shown = {"photograph": images, **columns}
    figure = new_figure(_INCHES * len(shown), (_INCHES + 0.1) * len(images) + 0.3)
    grid = figure.subplots(len(images), len(shown), squeeze=False)
    for column, (title, pictures) in enumerate(shown.items()):
        for row, axes in enumerate(grid[:, column]):
            axes.imshow(pictures[row])
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.set_xlabel(names[row], fontsize=7)
        grid[0, column].set_title(title, fontsize=8)
    picture = io.BytesIO(png_of(figure, _DPI))
    small = io.BytesIO()
    Image.open(picture).convert("RGB").save(small, "PNG", optimize=True)
    return small.getvalue()


def methods_page(images: Pixels, names: Sequence[str], columns: dict[str, Pixels]) -> str:
    """The same, a section a method with its paper and formula, as one HTML file without scripts."""
    sections = []
    for name, pictures in columns.items():
        told = tuple(map(_told, COMBINATIONS.get(name, (name,))))
        picture = methods_picture(images, names, {name: pictures})
        sections.append(Section(name, told, pictures=((f"photographs, and by {name}", picture),)))
    return html("Augmentations at work", sections)


def _told(stage: str) -> str:
    if stage == "apr-p":
        return "apr-p: each keeps its phase and takes the amplitude of the one above it"
    record = find(stage)
    return f"{stage}: {record.paper}. {record.equation}"
