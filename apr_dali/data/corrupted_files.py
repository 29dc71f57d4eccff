"""Writing the corrupted images of a set like ImageNet-C: JPEG files in class folders, or tars of samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions import CorruptionDraws
from apr_dali.data.class_names import format_classes
from apr_dali.data.corruption_sets import SEVERITIES
from apr_dali.data.imagenet_c import as_jpeg, cropped
from apr_dali.data.tar_index import Member, format_index
from apr_dali.data.tar_writer import Sample, write_samples
from apr_dali.errors import InputError
from apr_dali.kernels.corruptions import corrupt
from apr_dali.runtime.files import write_whole

FORMATS = ("folder", "webdataset")
_TOGETHER = 16  # images that are corrupted at once, so that a corruption is prepared for all
_IN_A_TAR = 1000
_END = b"\xff\xd9"  # of every JPEG file

Cell = tuple[str, int]
"""A corruption and a severity."""


@dataclass(frozen=True)
class Job:
    """What is written. image_format: of FORMATS."""

    target: str
    corruptions: tuple[str, ...]
    image_size: int
    seed: int
    image_format: str

    @property
    def at_once(self) -> int:
        """Images of a `Batch`: each is decoded once for all corruptions."""
        return _TOGETHER if self.image_format == "folder" else _IN_A_TAR

    def folder(self, cell: Cell) -> str:
        """Where the images of a cell lie."""
        return os.path.join(self.target, cell[0], str(cell[1]))


@dataclass(frozen=True)
class Batch:
    """Some of the images: the number of the first, their files and labels, and their names in each cell.

    names: of files below the cell's folder, or keys of samples.
    """

    first: int
    files: tuple[str, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]


def write_batch(job: Job, batch: Batch) -> str | None:
    """Write what is missing of some images' corruptions; the reason why that cannot be done, or None.

    Each file is whole or not there. Raises OSError where it cannot be written.
    """
    missing = _missing_files if job.image_format == "folder" else _missing_tar
    cells = [(corruption, severity) for corruption in job.corruptions for severity in range(1, SEVERITIES + 1)]
    waiting = {cell: paths for cell in cells if (paths := missing(job, batch, cell))}
    if not waiting:
        return None
    try:
        images = np.stack([cropped(file, job.image_size) for file in batch.files])
    except InputError as error:
        return f"{error}: remove it"
    for cell, paths in waiting.items():
        for folder in {os.path.dirname(path) for path in paths.values()}:
            os.makedirs(folder, exist_ok=True)
        made = _corrupted(job, batch, images, cell)
        if job.image_format == "folder":
            _write_files(made, paths)
        else:
            _write_tar(made, batch, paths[0])
    return None


def _corrupted(job: Job, batch: Batch, images: NDArray[np.uint8], cell: Cell) -> Iterator[NDArray[np.uint8]]:
    """The images of a cell, one after the other."""
    height, width = images.shape[1:3]
    for start in range(0, len(images), _TOGETHER):
        some = images[start : start + _TOGETHER]
        draws = CorruptionDraws.sample(*cell, len(some), height, width, job.seed, batch.first + start)
        yield from corrupt(some, *cell, draws, threads=1)


def _missing_files(job: Job, batch: Batch, cell: Cell) -> dict[int, str]:
    """The paths of the files that are not there, by the place of the image in the batch."""
    folder = job.folder(cell)
    paths = {place: os.path.join(folder, name) for place, name in enumerate(batch.names)}
    return {place: path for place, path in paths.items() if not _is_whole(path)}


def _is_whole(path: str) -> bool:
    # Files are not waited for: of one that was written when the machine failed the end may be missing.
    try:
        with open(path, "rb") as file:
            file.seek(-len(_END), os.SEEK_END)
            return file.read() == _END
    except OSError:
        return False


def _write_files(made: Iterator[NDArray[np.uint8]], paths: dict[int, str]) -> None:
    for place, image in enumerate(made):
        if place in paths:
            write_whole(paths[place], as_jpeg(image), alone=True, synced=False)


def _missing_tar(job: Job, batch: Batch, cell: Cell) -> dict[int, str]:
    """The path of the tar, if it or its index is not there."""
    path = os.path.join(job.folder(cell), f"{batch.first // _IN_A_TAR:05d}.tar")
    return {} if os.path.isfile(path) and os.path.isfile(_index_of(path)) else {0: path}


def _index_of(tar: str) -> str:
    return tar.removesuffix(".tar") + ".idx"


def _write_tar(made: Iterator[NDArray[np.uint8]], batch: Batch, path: str) -> None:
    samples = (
        Sample(key, "jpg", as_jpeg(image), label)
        for key, image, label in zip(batch.names, made, batch.labels, strict=True)
    )
    members: list[Member] = []
    write_whole(path, lambda file: members.extend(write_samples(file, samples)), alone=True)
    # After its tar: an index that is older is not used.
    write_whole(_index_of(path), format_index(members), alone=True)


def write_classes(job: Job, classes: Sequence[str]) -> None:
    """The names of the classes beside each corruption's tars. Raises InputError for one that no line can hold."""
    for corruption in job.corruptions:
        folder = Path(job.target, corruption)
        folder.mkdir(exist_ok=True)
        write_whole(folder / "classes.txt", format_classes(classes), alone=True)
