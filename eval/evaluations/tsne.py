"""High-frequency amplitudes of clean, corrupted and out-of-distribution images, and what tells them apart."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.arrays import is_small_set, load_set, open_images
from apr_dali.data.image_file import open_image
from apr_dali.data.listing import images_below
from apr_dali.data.sample import tiles
from apr_dali.data.sampling import evenly
from apr_dali.data.small_corruptions import CORRUPTIONS, Images
from apr_dali.errors import InputError
from apr_dali.eval.analyses import separability
from apr_dali.eval.result import Result
from apr_dali.runtime.text_table import table

SHOWN = ("gaussian noise", "blur", "jpeg")
CLEAN, TILES = "clean", "photographs"
DIGIT_SIZE = 32


@dataclass(frozen=True)
class Tsne(Result):
    """Sets of images by their high-frequency amplitudes.

    images: of each set, how many. frequencies: how many amplitudes of each. auroc: of a linear probe that tells a set
    from the clean one, 0..1. points: of each set, t-SNE's (N, 2).
    """

    images: dict[str, int]
    frequencies: int
    auroc: dict[str, float]
    points: dict[str, NDArray[np.float64]]

    evaluation = "tsne"

    def as_json(self) -> dict[str, Any]:
        about = {key: getattr(self, key) for key in ("images", "frequencies", "auroc")}
        return {**about, "points": {name: place.tolist() for name, place in self.points.items()}}

    def text(self) -> str:
        return table((f"against {CLEAN}", "AUROC"), [(name, f"{auroc:.3f}") for name, auroc in self.auroc.items()])


def analyze_tsne(
    data: str | Path | None = None,
    *,
    corrupted: Mapping[str, str | Path] | None = None,
    ood: Mapping[str, str | Path] | None = None,
    size: int = DIGIT_SIZE,
    limit: int = 200,
    cut: float = 0.25,
    seed: int = 0,
) -> Tsne:
    """t-SNE of high-frequency amplitudes, and how well a linear probe tells sets from the clean one; of no network.

    Args:
        data: clean images: a folder, or SVHN or CIFAR; None for the digits.
        corrupted: corrupted ones by name; None for those that are made of the clean ones.
        ood: others by name; None for the built-in photographs.
        size: the middle size × size pixels are looked at, not scaled.
        limit: images of a set.
        cut: in cycles per pixel. seed: of folds and t-SNE.

    Returns:
        A result whose picture is `map`; it is in no file.

    Raises:
        InputError: for a set with too few or too small images, or a name that is taken.
    """
    sets = _sets(data, corrupted, ood, size, limit)
    for name, images in sets.items():
        if len(images) < separability.FEWEST:
            raise InputError(f"{name} has {len(images)} images: a probe needs {separability.FEWEST} or more")
    features = {name: separability.high_frequencies(images, cut) for name, images in sets.items()}
    clean = features[CLEAN]
    aurocs = {
        # The n-th image of a corrupted set is, as a rule, the n-th clean one.
        name: separability.probe(clean, rows, seed, np.r_[: len(clean), : len(rows)])
        for name, rows in features.items()
        if name != CLEAN
    }
    embedded = separability.embed(np.concatenate(list(features.values())), seed)
    ends = np.cumsum([len(rows) for rows in features.values()])
    points = dict(zip(features, np.split(embedded, ends[:-1]), strict=True))
    picture = separability.tsne_picture(points, aurocs, cut)
    counts = {name: len(rows) for name, rows in features.items()}
    return Tsne(counts, clean.shape[1], aurocs, points, pictures={"map": picture})


def _sets(
    data: str | Path | None,
    corrupted: Mapping[str, str | Path] | None,
    ood: Mapping[str, str | Path] | None,
    size: int,
    limit: int,
) -> dict[str, Images]:
    """Name → uint8 (N, size, size, 3); the clean ones first."""
    if data is None and size != DIGIT_SIZE:
        raise InputError(f"--size changes nothing for the digits, which have {DIGIT_SIZE}×{DIGIT_SIZE}: give --data")
    given = [*(corrupted or {}).items(), *(ood or {}).items()]
    taken = {CLEAN, TILES, *(SHOWN if corrupted is None else ())}
    for name, path in given:
        if name in taken:
            raise InputError(f"{name}={path}: another set is called {name}; give each a name of its own")
        taken.add(name)
    if data is None:
        digits = load_set("digits", "val").images
        clean = digits[evenly(len(digits), limit)]
    else:
        clean = _read(str(data), size, limit)
    sets = {CLEAN: clean}
    if corrupted is None:
        sets |= {name: CORRUPTIONS[name][0](clean, CORRUPTIONS[name][1][1]) for name in SHOWN}
    sets |= {name: _read(str(path), size, limit) for name, path in given}
    if ood is None:
        sets[TILES] = tiles(size, limit)
    return sets


def _read(path: str, size: int, limit: int) -> Images:
    """The middle of at most `limit` images, evenly taken and not scaled: that would change what is looked at."""
    if is_small_set(path):
        images, _ = open_images(path)
        chosen = images[evenly(len(images), limit)]
        if size > chosen.shape[1]:
            raise InputError(f"{path} has images of {chosen.shape[1]}×{chosen.shape[2]} pixels, --size is {size}")
        start = (chosen.shape[1] - size) // 2
        return chosen[:, start : start + size, start : start + size]
    files = images_below(path) if os.path.isdir(path) else []
    if not files:
        raise InputError(f"{path} holds no image")
    found = []
    for n in evenly(len(files), limit):
        image = open_image(files[n])
        if min(image.size) < size:
            raise InputError(f"{files[n]} has {image.size[0]}×{image.size[1]} pixels, --size is {size}")
        left, top = ((side - size) // 2 for side in image.size)
        found.append(np.asarray(image.crop((left, top, left + size, top + size))))
    return np.stack(found)
