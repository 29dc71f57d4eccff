"""Whether a set has the images that were published: in all, and of each class."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.class_names import some
from apr_dali.data.kinds import kind_of
from apr_dali.data.listing import images_below, listing
from apr_dali.data.tar_index import read_index

_WNID = re.compile(r"n\d{8}")
_NAMED = 5


@dataclass(frozen=True)
class Published:
    """The counts of a published set.

    name: in words. classes: how many. images: of each split. per_class: the fewest and the most of a class, of each.
    """

    name: str
    classes: int
    images: dict[str, int]
    per_class: dict[str, tuple[int, int]]


IMAGENET = Published("ILSVRC2012", 1000, {"train": 1_281_167, "val": 50_000}, {"train": (732, 1300), "val": (50, 50)})
CIFAR = {
    "cifar10": Published(
        "CIFAR-10", 10, {"train": 50_000, "val": 10_000}, {"train": (5000, 5000), "val": (1000, 1000)}
    ),
    "cifar100": Published("CIFAR-100", 100, {"train": 50_000, "val": 10_000}, {"train": (500, 500), "val": (100, 100)}),
}


def published_for(classes: Sequence[str], official: bool = False) -> Published | None:
    """The published set that these are the classes of, if any. official: they were read from ILSVRC2012's files."""
    if official or (len(classes) == IMAGENET.classes and all(map(_WNID.fullmatch, classes))):
        return IMAGENET
    return CIFAR.get(kind_of(classes))


def differences(
    split: str,
    counts: NDArray[np.int64],
    classes: Sequence[str],
    published: Published,
    per_class: Sequence[int] = (),
) -> list[str]:
    """What differs from the published set, in words; nothing where all is as it should be.

    counts: int64 (classes,), images of each. per_class: how many each must have, where that is known by class.
    """
    found = []
    if len(classes) != published.classes:
        found.append(f"{published.name} has {published.classes} classes, got {len(classes)}")
    expected, total = published.images[split], int(counts.sum())
    if total != expected:
        more = "more" if total > expected else "fewer"
        found.append(f"{split}: {published.name} has {expected} images, got {total}, {abs(total - expected)} {more}")
    low, high = published.per_class[split]
    wanted = [(n, n) for n in per_class] if per_class else [(low, high)] * len(classes)
    odd = [
        f"{name} has {count}, not {least if least == most else f'{least} to {most}'}"
        for name, count, (least, most) in zip(classes, counts.tolist(), wanted, strict=True)
        if not least <= count <= most
    ]
    if odd:
        more = f" and {len(odd) - _NAMED} classes more" if len(odd) > _NAMED else ""
        found.append(f"{split}: {', '.join(odd[:_NAMED])}{more}")
    return found


def without_images(split: str, counts: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """Which classes have no image, in words: without their folders, those behind them get other labels."""
    empty = [name for name, number in zip(classes, counts.tolist(), strict=True) if not number]
    if not empty:
        return []
    return [
        f"{split}: {len(empty)} of {len(classes)} classes have no image ({some(empty)}): class folders number the "
        "others anew, --format webdataset keeps the labels"
    ]


def written(folder: Path, tars: bool) -> int:
    """How many images a split that was written holds, by its listings or indices."""
    if tars:
        members = (read_index(str(path)) for path in sorted(folder.glob("*.idx")))
        return sum(len(found) for found in members) // 2  # an image and a label each
    return sum(len(images_below(os.path.join(folder, name))) for name in listing(str(folder))[1])
