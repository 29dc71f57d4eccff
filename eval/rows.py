"""Rows of numbers of every image in float16 on the disk: features and logits, which memory need not hold."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.errors import InputError
from apr_dali.runtime.distributed import Group, gather, on_main

CHUNK = 512
"""Rows that are read at once."""
STEM = "rows"
"""Of the files that `rows_in` makes."""
_SUFFIX = ".rows"


class Rows:
    """A row of float16 for each image, in the files of several processes one after the other."""

    def __init__(self, stem: Path, counts: Sequence[int] = (), width: int = 0) -> None:
        """The files are STEM.RANK.f16. counts: the rows of each. width: numbers of a row."""
        self._stem = stem
        self.counts, self.width = list(counts), width

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._stem.parent

    def __len__(self) -> int:
        return sum(self.counts)

    def chunks(self, size: int = CHUNK) -> Iterator[NDArray[np.float32]]:
        """All rows in their order, (up to `size`, width) at once, mapped from the disk only for as long."""
        for rank, count in enumerate(self.counts):
            for start in range(0, count, size):
                shape = (min(size, count - start), self.width)
                offset = 2 * start * self.width
                yield np.memmap(self._part(rank), np.float16, "r", offset, shape).astype(np.float32)

    def are_whole(self) -> bool:
        """Whether each file is there, with all of its rows."""
        sizes = [(self._part(rank), 2 * count * self.width) for rank, count in enumerate(self.counts)]
        return all(path.is_file() and path.stat().st_size == size for path, size in sizes)

    def _part(self, rank: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}.{rank}.f16")


class RowsWriter(Rows):
    """Rows that are being written.

    Each process appends the rows of its own part of a set, all of them `finish`, and then all can read all rows. On
    several machines the folder must be one that all of them see.
    """

    def __init__(self, stem: Path, group: Group) -> None:
        """The folder of the files must be there."""
        super().__init__(stem)
        self._group = group
        self._file = open(self._part(group.rank), "wb")  # noqa: SIM115 - closed by finish
        self._pending: tuple[Tensor, Any] | None = None
        self._count, self._sound = 0, True

    def append(self, rows: Tensor) -> None:
        """Keep rows (N, width) of any floating type, on any device."""
        half = rows.detach().half().flatten(1)
        self.width = half.shape[1]
        self._count += len(half)
        if half.device.type == "cpu":
            self._write(half)
            return
        # The copy runs beside the next batch's forward pass; it is written when that has been started.
        ready = torch.empty(half.shape, dtype=half.dtype, pin_memory=True).copy_(half, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._flush()
        self._pending = (ready, event)

    def finish(self, name: str) -> None:
        """End the part of this process; by all of them together. name: what the rows are, for people.

        Raises InputError where a value is beyond float16.
        """
        self._flush()
        self._file.close()
        found = gather(self._group, (self._count, self.width, self._sound))
        self.counts = [count for count, _, _ in found]
        self.width = max(width for _, width, _ in found)
        if not all(sound for _, _, sound in found):
            raise InputError(f"{name} has values that are not finite in float16, whose greatest is 65504")

    def remove(self) -> None:
        """Delete this process's file."""
        self._file.close()
        self._part(self._group.rank).unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._pending is not None:
            ready, event = self._pending
            event.synchronize()
            self._write(ready)
            self._pending = None

    def _write(self, half: Tensor) -> None:
        values = half.numpy()
        self._sound = self._sound and bool(np.isfinite(values).all())
        self._file.write(np.ascontiguousarray(values).data)


@contextmanager
def rows_in(folder: Path, name: str, group: Group) -> Iterator[RowsWriter]:
    """Rows that are on the disk for as long as the block lasts, on all processes together.

    They are alone in a folder below `folder`; the block may give that another name, and it then stays. What a command
    that was killed has left is removed.
    """
    held: list[int] = []
    own = Path(on_main(group, lambda: _own_folder(folder, name, held)))
    rows = RowsWriter(own / STEM, group)
    try:
        yield rows
        # Another process may still read this one's.
        if dist.is_initialized():
            dist.barrier()
    finally:
        rows.remove()
        if group.main:
            shutil.rmtree(own, ignore_errors=True)
        for descriptor in held:
            os.close(descriptor)


def _own_folder(folder: Path, name: str, held: list[int]) -> str:
    """A folder of a name that no other command has; `held` gets what is open for as long as it is in use."""
    for left in folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError), _opened(left) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where a living process has it
            shutil.rmtree(left, ignore_errors=True)
    while True:
        own = tempfile.mkdtemp(prefix=f"{name}-", suffix=_SUFFIX, dir=folder)
        descriptor = os.open(own, os.O_RDONLY)
        with suppress(OSError):  # a file system without such locks keeps what is left
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Before it was locked, another command may have taken it for what is left.
        if os.path.isdir(own):
            held.append(descriptor)
            return own
        os.close(descriptor)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
