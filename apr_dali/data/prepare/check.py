"""Checking the images in archives before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from apr_dali.data.check import Bad, Checked, why_undecodable
from apr_dali.data.folders import ImageSet
from apr_dali.data.prepare.catalogue import Item
from apr_dali.data.prepare.sources import open_source
from apr_dali.data.tars import DEFAULT, Components
from apr_dali.runtime.pool import process_map

_CHUNK = 512
"""Images that a process takes at a time."""

Read = Callable[[Sequence[Item]], Iterator[bytes]]


def check_source(path: str | Path, processes: int, components: Components = DEFAULT) -> Checked:
    """Decode every image of a source of `prepare`; what `prepare` would leave out is bad, too.

    Images are called by their archive, class and name. Raises InputError as `open_source` does.
    """
    with process_map(processes, "decoding") as mapped:
        source = open_source(path, components=components, mapped=mapped)
        bad, splits = list(source.left_out), []
        for split, items in source.splits.items():
            told = tuple(_told(item, source.classes) for item in items)
            labels = np.fromiter((item.label for item in items), np.int64, len(items))
            splits.append((split, ImageSet(told, labels, source.classes)))
            parts = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
            names = [told[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
            # What can only be read from its beginning on is read once.
            spread = map if source.sequential else mapped
            with tqdm(total=len(items), desc=f"decoding {split}", unit=" images", disable=None) as bar:
                for found, part in zip(spread(partial(_bad, source.read), parts, names), parts, strict=True):
                    bad += found
                    bar.update(len(part))
    return Checked(str(path), tuple(splits), tuple(bad), (0,) * len(splits))


def _bad(read: Read, items: Sequence[Item], names: Sequence[str]) -> list[Bad]:
    contents = zip(names, read(items), strict=True)
    return [(name, reason) for name, content in contents if (reason := why_undecodable(content)) is not None]


def _told(item: Item, classes: Sequence[str]) -> str:
    is_file = item.at == 0 and item.store.endswith(item.name)
    return item.store if is_file else f"{item.store}/{classes[item.label]}/{item.name}"
