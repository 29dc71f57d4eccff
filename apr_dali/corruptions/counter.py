"""Random numbers that depend on (seed, image, corruption, severity) and on nothing else.

Philox is counter-based: any number of the stream is computed without those before it, so that an image has the same
draws in every batch, on every thread and every rank. The stream is that of `np.random.Philox` (4 × 64 bit, 10 rounds;
bit generators are stable across NumPy's versions, its distributions are not), with

    key = (seed, crc32("<corruption>/<severity>"))
    counter = (block, field, image, 0); NumPy counts the first block as 1

where a field is one call for numbers. A block is 8 words of 32 bits, the lower half of a 64-bit number first, and

    uniform in 0..1 = (word + 0.5) / 2^32, never 0 or 1
    integer of n = ⌊word · n / 2^32⌋
    permutation = the order of uniforms
    two normal = sqrt(-2 ln u) · (cos 2πv, sin 2πv) with u, v the uniforms of two words that follow each other
"""

from __future__ import annotations

import zlib
from math import prod

import numpy as np
from numpy.typing import NDArray

Size = int | tuple[int, ...]
_WORD = 2.0**-32


def stream_of(name: str, severity: int) -> int:
    """The second number of the key."""
    return zlib.crc32(f"{name}/{severity}".encode())


class CounterRandom:
    """The numbers for one image, by methods named as those of `np.random.RandomState`; float64 or int64."""

    def __init__(self, seed: int, image: int, name: str, severity: int) -> None:
        self._key = np.array([seed, stream_of(name, severity)], np.uint64)
        self._image = image
        self._field = 0

    def words(self, count: int) -> NDArray[np.uint32]:
        """The first `count` words of the next field."""
        counter = np.array([0, self._field, self._image, 0], np.uint64)
        self._field += 1
        raw = np.random.Philox(key=self._key, counter=counter).random_raw((count + 1) // 2)
        return raw.astype("<u8").view("<u4")[:count].astype(np.uint32)

    def random(self, size: Size) -> NDArray[np.float64]:
        """Uniform in 0..1, neither 0 nor 1."""
        return _uniform(self.words(_count(size))).reshape(size)

    def uniform(
        self, low: float | NDArray[np.float64], high: float | NDArray[np.float64], size: Size = ()
    ) -> NDArray[np.float64]:
        """Uniform in low..high, which may be arrays that broadcast to `size`."""
        return low + (high - low) * self.random(size)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """0..count - 1 in any order: that of as many uniform numbers."""
        return np.argsort(self.random(count), kind="stable")

    def randint(self, low: int, high: int, size: Size = ()) -> NDArray[np.int64]:
        """Whole numbers in low..high - 1."""
        words = self.words(_count(size)).astype(np.uint64)
        return (low + (words * np.uint64(high - low) >> np.uint64(32)).astype(np.int64)).reshape(size)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Size = ()) -> NDArray[np.float64]:
        """Normal with mean `loc` and standard deviation `scale`, by Box and Muller."""
        count = _count(size)
        u, v = _uniform(self.words(count + count % 2)).reshape(-1, 2).T
        radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * v
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
        return loc + scale * pairs.reshape(-1)[:count].reshape(size)


def _uniform(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    return (words.astype(np.float64) + 0.5) * _WORD


def _count(size: Size) -> int:
    return size if isinstance(size, int) else prod(size)
