"""A validation set under ImageNet-C's corruptions, computed while a network runs over it.

Images are decoded a chunk at a time, and all corruptions and severities have them from memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apr_dali import __version__
from apr_dali.corruptions import CORRUPTIONS, CorruptionDraws, set_for
from apr_dali.corruptions.draws import LEAST_SIDE
from apr_dali.data.arrays import SIDE, open_small
from apr_dali.data.fingerprint import CONTENTS, identity, identity_of_arrays
from apr_dali.data.folders import ImageSet, open_files
from apr_dali.data.imagenet_c import QUALITY, check_cells, cropped, enlarged, through_jpeg
from apr_dali.data.sampling import evenly
from apr_dali.errors import InputError, check_whole
from apr_dali.eval.corruption import SEVERITIES
from apr_dali.eval.datasets import Feeding, outputs_by_name
from apr_dali.eval.passes import Batches, Source
from apr_dali.eval.session import Session
from apr_dali.kernels.corruptions import corrupt
from apr_dali.runtime import cpus
from apr_dali.runtime.distributed import on_main

_CHUNK = 2**29  # bytes of decoded images that a process keeps

Cell = tuple[str, int]
"""A corruption and a severity."""


@dataclass(frozen=True)
class Computed:
    """What is computed of a validation set.

    corruptions: names, see `apr_dali.corruptions.find`. severities: of 1 to 5. limit: how many images, evenly taken
    from the set, the same for everyone; None for all. seed: of the draws, which are those of `CorruptionDraws.sample`
    for the number of an image in the sorted set. in_memory: without the JPEG file that the published images went
    through.
    """

    corruptions: tuple[str, ...] = CORRUPTIONS
    severities: tuple[int, ...] = SEVERITIES
    limit: int | None = None
    seed: int = 0
    in_memory: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None:
            check_whole("limit", self.limit, 1)
        self.check(LEAST_SIDE, set_for(self.corruptions))

    def check(self, side: int, parameter_set: str) -> None:
        """Raise InputError for a cell that cannot be computed on images of `side`."""
        check_cells(self.corruptions, self.severities, side, self.seed, parameter_set)


@dataclass(frozen=True, eq=False)
class Clean:
    """The images before they are corrupted.

    read: of some numbers in the set, uint8 (N, S, S, 3). numbers: of those that are taken, int64 (N,); labels: theirs,
    of the network's outputs. of: how many the set has. identity: of the set. small: whether it is one of 32×32 images,
    as CIFAR-C is made of, which were never JPEG files.
    """

    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]
    of: int
    identity: str
    small: bool

    @property
    def parameter_set(self) -> str:
        """Whose severities the images get."""
        return "cifar" if self.small else "imagenet"

    def taking(self, limit: int | None) -> Clean:
        """So many of the images, as far apart as can be; None for all."""
        if limit is None:
            return self
        chosen = evenly(len(self.numbers), limit)
        return replace(self, numbers=self.numbers[chosen], labels=self.labels[chosen])


def open_clean(session: Session, data: str) -> Clean:
    """The images of `data` with the network's classes, cut to its size as `apr-dali make-c` cuts them.

    A set of 32×32 images is taken as it is. Raises InputError for other classes, or tars.
    """
    network = session.network
    if session.takes_small(data):
        found = open_small(data)
        labels = outputs_by_name(network.classes, found.classes, data)[found.labels]
        known = on_main(session.group, lambda: identity_of_arrays(found.images, labels))
        return Clean(lambda numbers: found.images[numbers], np.arange(len(found)), labels, len(found), known, True)

    def find() -> tuple[ImageSet, str]:
        files = open_files(data, "an evaluation on the fly", classes=network.classes)
        return files, identity(files)

    # One process asks the file system, however many there are.
    return clean_files(session.feeding, *on_main(session.group, find))


def clean_files(feeding: Feeding, files: ImageSet, known: str) -> Clean:
    """The images of files that are found already, with the network's labels. known: their identity."""
    threads = _threads(feeding)

    def read(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        crop = partial(_cropped, size=feeding.network.image_size)
        with ThreadPoolExecutor(threads) as pool:
            return np.stack(list(pool.map(crop, [files.files[number] for number in numbers])))

    return Clean(read, np.arange(len(files)), files.labels, len(files), known, False)


def _cropped(file: str, size: int) -> NDArray[np.uint8]:
    try:
        return cropped(file, size)
    except InputError as error:
        raise InputError(f"{error}: remove it, or let `apr-dali check-data` write a file list without it") from error


def _threads(feeding: Feeding) -> int:
    return feeding.threads or cpus.share()


def told(image_size: int, clean: Clean, computed: Computed) -> dict[str, Any]:
    """What a record says of how the images were made."""
    middle = f"{image_size}×{image_size}"
    scaled = f"shorter side scaled to {enlarged(image_size)} (bilinear), then the middle {middle}, as make-c does"
    in_files = not (computed.in_memory or clean.small)
    return {
        "seed": computed.seed,
        "version": __version__,
        "form": f"JPEG, quality {QUALITY}, 4:2:0" if in_files else "in memory",
        "parameter_set": clean.parameter_set,
        "geometry": f"{SIDE}×{SIDE} as they are" if clean.small else scaled,
        "of_images": clean.of,
    }


def computed_cells(feeding: Feeding, clean: Clean, computed: Computed) -> list[tuple[Source, list[Source]]]:
    """The cells, each with its parts. The first parts of all cells have the same images, and so on."""
    maker = _Maker(feeding, clean, computed)
    count, side = len(clean.numbers), feeding.network.image_size
    together = max(1, _CHUNK // (3 * side * side)) * feeding.group.world
    chunks = [slice(start, min(start + together, count)) for start in range(0, count, together)]
    cells = [(name, severity) for name in computed.corruptions for severity in computed.severities]
    return [(maker.source(cell, slice(0, count)), [maker.source(cell, chunk) for chunk in chunks]) for cell in cells]


class _Maker:
    """Makes the images of cells; keeps those of the last chunk decoded."""

    def __init__(self, feeding: Feeding, clean: Clean, computed: Computed) -> None:
        self._feeding, self._clean, self._computed = feeding, clean, computed
        self._threads = _threads(feeding)
        about = told(feeding.network.image_size, clean, computed)
        del about["version"]  # results of another version have another file
        facts = repr((clean.identity[:CONTENTS], clean.numbers.tolist(), about))
        self._known = hashlib.sha256(facts.encode()).hexdigest()[:CONTENTS] + clean.identity[CONTENTS:]
        self._decoded = lru_cache(maxsize=1)(self._decode)

    def source(self, cell: Cell, chunk: slice) -> Source:
        """The images of one cell and chunk."""
        name, severity = cell
        whole = chunk == slice(0, len(self._clean.numbers))
        part = "" if whole else f", images {chunk.start + 1:,} to {chunk.stop:,}"
        count = chunk.stop - chunk.start
        return Source(f"{name}/{severity}{part}", count, lambda: self._open(cell, chunk), lambda: self._known)

    def _decode(self, start: int, stop: int) -> NDArray[np.uint8]:
        return self._clean.read(self._clean.numbers[start:stop])

    @contextmanager
    def _open(self, cell: Cell, chunk: slice) -> Iterator[Batches]:
        parts = [
            slice(chunk.start + p.start, chunk.start + p.stop) for p in self._feeding.parts(chunk.stop - chunk.start)
        ]
        # While the network runs over one batch, a thread of its own has others make the next.
        with ThreadPoolExecutor(1) as ahead:
            if not parts:
                yield []
                return
            first = parts[0].start
            pixels = self._decoded(first, parts[-1].stop)
            yield _one_ahead(ahead, partial(self._batch, cell, pixels, first), parts)

    def _batch(self, cell: Cell, pixels: NDArray[np.uint8], first: int, part: slice) -> tuple[Tensor, Tensor]:
        """The images `part` of a cell, whose clean pixels are in `pixels` from the image `first` on."""
        side, kind = pixels.shape[1], self._clean.parameter_set
        numbers = self._clean.numbers[part]
        draws = CorruptionDraws.of_images(*cell, numbers, side, side, self._computed.seed, kind)
        images = corrupt(pixels[part.start - first : part.stop - first], *cell, draws, threads=self._threads)
        if not (self._computed.in_memory or self._clean.small):
            images = through_jpeg(images, self._threads)
        return self._feeding.normalized(images), torch.from_numpy(self._clean.labels[part])


def _one_ahead(
    pool: ThreadPoolExecutor, make: Callable[[slice], tuple[Tensor, Tensor]], parts: Sequence[slice]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What `make` gives for each of `parts`; the next one is made meanwhile."""
    waiting: deque[Future[tuple[Tensor, Tensor]]] = deque()
    for part in parts:
        waiting.append(pool.submit(make, part))
        if len(waiting) > 1:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
