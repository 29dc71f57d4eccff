"""The random choices of a corruption for a batch of images, as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apr_dali.corruptions.counter import CounterRandom
from apr_dali.corruptions.record import Draws
from apr_dali.corruptions.registry import find
from apr_dali.errors import InputError, check_whole

LEAST_SIDE = 32
"""Pixels a side that an image must have at least, as in the reference's smallest set."""


@dataclass(frozen=True, eq=False)
class CorruptionDraws:
    """The draws of one corruption and severity for N images of one size; made by `sample`, `of_images`,
    `from_reference` or `join`.

    name, severity: which corruption, and how much of it, 1 to 5.
    height, width: of the images, at least 32.
    parameter_set: "imagenet", "cifar" or "tiny-imagenet": whose severities.
    seed: of sampled draws; those of image k depend on (seed, numbers[k], name, severity) alone and are computed when
        they are asked for. None where the draws are `given`.
    numbers: uint64 (N,), of the images.
    given: the draws of each image, where they are not sampled.

    `draws[k]` is a dict of arrays, as the corruption's `draw` gives it.
    """

    name: str
    severity: int
    height: int
    width: int
    parameter_set: str
    seed: int | None
    numbers: NDArray[np.uint64]
    given: tuple[Draws, ...] = ()

    def __post_init__(self) -> None:
        find(self.name, self.severity, self.parameter_set)
        check_whole("height", self.height, 0, 2**24 - 1)
        check_whole("width", self.width, 0, 2**24 - 1)
        if self.seed is not None:
            check_whole("seed", self.seed, 0, 2**64 - 1)
        if min(self.height, self.width) < LEAST_SIDE:
            raise InputError(f"images must have at least 32 pixels per side, got {self.height} × {self.width}")

    @classmethod
    def sample(
        cls,
        name: str,
        severity: int,
        n: int,
        height: int,
        width: int,
        seed: int,
        first: int = 0,
        parameter_set: str = "imagenet",
    ) -> CorruptionDraws:
        """Draws for the n images numbered `first`, first + 1, ...; seed in 0..2^64 - 1.

        A batch may be cut anywhere: image k has the same draws in every batch, on every thread and every rank.
        """
        check_whole("n", n, 0, 2**31 - 1)
        check_whole("first", first, 0, 2**63 - 1)
        numbers = np.uint64(first) + np.arange(n, dtype=np.uint64)
        return cls(name, severity, height, width, parameter_set, seed, numbers)

    @classmethod
    def of_images(
        cls,
        name: str,
        severity: int,
        numbers: ArrayLike,
        height: int,
        width: int,
        seed: int,
        parameter_set: str = "imagenet",
    ) -> CorruptionDraws:
        """Draws for the images of these numbers, int (N,), from 0 on in any order: those that `sample` gives them."""
        array = np.asarray(numbers)
        if array.ndim != 1 or array.dtype.kind not in "iu" or (array.size and array.min() < 0):
            shown = np.array2string(array, threshold=5)
            raise InputError(f"numbers must be whole numbers (N,) from 0 on, got {shown}")
        return cls(name, severity, height, width, parameter_set, seed, array.astype(np.uint64))

    @classmethod
    def from_reference(
        cls,
        name: str,
        severity: int,
        height: int,
        width: int,
        random: np.random.RandomState | np.random.Generator,
        parameter_set: str = "imagenet",
    ) -> CorruptionDraws:
        """Draws for one image in the reference's order.

        random: what the reference draws from: a `RandomState`, or the `Generator` of scikit-image for impulse_noise.
            It is moved on as the reference moves it. shot_noise draws by the image's values: it keeps a copy of the
            state, draws from it when it is applied, and leaves `random` where it was.
        """
        record, parameters = find(name, severity, parameter_set)
        expected = np.random.Generator if name == "impulse_noise" else np.random.RandomState
        if not isinstance(random, expected):
            raise InputError(f"{name} draws from a np.random.{expected.__name__}, got {type(random).__name__}")
        none = cls(name, severity, height, width, parameter_set, None, np.empty(0, np.uint64))  # refuses sizes
        return none._with((record.draw(random, height, width, parameters),))

    @classmethod
    def join(cls, parts: Sequence[CorruptionDraws]) -> CorruptionDraws:
        """The draws of several batches of the same corruption, severity and size, as those of one batch."""
        if not parts:
            raise InputError("expected the draws of at least one batch, got none")
        kinds = {part._kind for part in parts}
        if len(kinds) > 1:
            raise InputError(f"expected draws of one kind, got {' and '.join(map(str, sorted(kinds)))}")
        return parts[0]._with(tuple(draws for part in parts for draws in part))

    def _with(self, given: tuple[Draws, ...]) -> CorruptionDraws:
        return replace(self, seed=None, numbers=np.arange(len(given), dtype=np.uint64), given=given)

    @property
    def _kind(self) -> tuple[str, int, int, int, str]:
        return self.name, self.severity, self.height, self.width, self.parameter_set

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, k: int) -> Draws:
        if not 0 <= k < len(self):
            raise IndexError(f"there are draws for {len(self)} images, got the index {k}")
        if self.seed is None:
            return self.given[k]
        record, parameters = find(self.name, self.severity, self.parameter_set)
        random = CounterRandom(self.seed, int(self.numbers[k]), self.name, self.severity)
        return record.draw(random, self.height, self.width, parameters)

    def __iter__(self) -> Iterator[Draws]:
        return (self[k] for k in range(len(self)))
