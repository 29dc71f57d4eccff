"""Memory for results, used again once nobody holds the result that was in it.

A batch of 64 images of 224² in two views is 77 MB. The system gives fresh memory of that size zeroed and page by page,
and takes it back at once when it is freed: for every batch that would cost about as much as a quarter of APR-P.
"""

from __future__ import annotations

import weakref
from collections import deque
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# What the allocator keeps for itself: below it there is nothing to gain.
_LEAST = 1 << 20
# Of APR-S one result, of APR-P as many of one and of two views as a loader that lets go of them at once may have.
_KEPT = 4


class _Block(np.ndarray):
    """Memory of its own. Of a type of its own, since a view holds the last array of its type in the row of bases:
    the one that was given out, and is watched, rather than the block below it."""


class Pool:
    """Arrays of uninitialized memory; that of the last `kept` arrays which nobody holds any more is used again."""

    def __init__(self, kept: int = _KEPT) -> None:
        # Its methods are atomic: arrays die on any thread.
        self._free: deque[_Block] = deque(maxlen=kept)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A C-contiguous array like that of `np.empty`. Its memory is its own, and its views', until the last dies."""
        kind = np.dtype(dtype)
        size = prod(shape) * kind.itemsize
        if size < _LEAST:
            return np.empty(shape, kind)
        block = self._take(size)
        array: NDArray[Any] = np.ndarray(shape, kind, buffer=block)
        weakref.finalize(array, self._free.append, block).atexit = False
        return array

    def _take(self, size: int) -> _Block:
        for _ in range(len(self._free)):
            try:
                block = self._free.popleft()
            except IndexError:  # another thread was quicker
                break
            if block.nbytes == size:
                return block
            self._free.append(block)
        return _Block(size, np.uint8)
