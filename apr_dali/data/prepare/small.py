"""CIFAR's archives as a source: PNG files of its images."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image

from apr_dali.data.arrays import ArraySet, load_set
from apr_dali.data.folders import SPLITS
from apr_dali.data.prepare.catalogue import Item, Source


def open_cifar(dataset: str, directory: Path) -> Source:
    """The images of "cifar10" or "cifar100" in, or at, `directory`."""
    sets = {split: _load(dataset, str(directory), split) for split in SPLITS}
    found = {
        split: [
            Item(label, f"{split}_{row:05d}.png", split, row, images.images[row].nbytes)
            for row, label in enumerate(images.labels.tolist())
        ]
        for split, images in sets.items()
    }
    return Source(dataset, sets["train"].classes, found, partial(_read, dataset, str(directory)))


@lru_cache(maxsize=2)
def _load(dataset: str, directory: str, split: str) -> ArraySet:
    return load_set(dataset, split, directory)


def _read(dataset: str, directory: str, items: Sequence[Item]) -> Iterator[bytes]:
    for item in items:
        encoded = io.BytesIO()
        Image.fromarray(_load(dataset, directory, item.store).images[item.at]).save(encoded, "PNG")
        yield encoded.getvalue()
