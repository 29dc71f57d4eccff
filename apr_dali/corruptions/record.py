"""What one corruption is: how it draws, what it does to an image, and what the native operators need to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
Draws: TypeAlias = Mapping[str, NDArray[Any]]
Parameters: TypeAlias = Any
"""The severity's entry in parameters.py: a number or a tuple of numbers."""
Constants: TypeAlias = Sequence[NDArray[np.float64]]
"""What a native operator needs to know."""


def draw_nothing(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    """The draws of a corruption that leaves nothing to chance."""
    return {}


def numbers(parameters: Parameters, height: int, width: int) -> Constants:  # noqa: ARG001
    """The constants of a native operator that needs the severity's numbers and nothing else."""
    return [np.atleast_1d(np.asarray(parameters, np.float64))]


def as_drawn(image: Image, draws: Draws, parameters: Parameters) -> Draws:  # noqa: ARG001
    """The draws of a corruption whose draws do not depend on the image."""
    return draws


@dataclass(frozen=True)
class Corruption:
    """One corruption of one image.

    name: as in the published sets.
    draw: (random, height, width, parameters) → the random choices for one image, in the reference's order. `random` is
        a `np.random.RandomState` (a `Generator` for impulse_noise) or a `CounterRandom`, whose methods have the same
        names. One call of `random` for each entry, in the order of the entries: the native operators count on it.
    apply: (image, resolved draws, parameters) → image. uint8 (H, W, 3), 0..255, truncated as by the
        reference. Changes neither its image nor its draws.
    constants: (parameters, height, width) → float64 arrays that the native operator gets.
    resolve: (image, draws, parameters) → draws that do not depend on the image, where the reference draws from a
        distribution that does.
    native: whether there is a native operator for it.
    """

    name: str
    draw: Callable[[Any, int, int, Parameters], dict[str, NDArray[Any]]]
    apply: Callable[[Image, Draws, Parameters], Image]
    constants: Callable[[Parameters, int, int], Constants] = numbers
    resolve: Callable[[Image, Draws, Parameters], Draws] = as_drawn
    native: bool = False


def to_bytes(unit: NDArray[np.floating]) -> Image:
    """A floating image in 0..1 as uint8: clipped, times 255 in its own precision, truncated."""
    return (np.clip(unit, 0, 1) * 255).astype(np.uint8)


def fused_sum(terms: Sequence[tuple[NDArray[np.float32], float | np.float32]]) -> NDArray[np.float32]:
    """Σ values · weight in float32 as OpenCV's vectors have it: from the second on product and sum rounded together."""
    (values, weight), *rest = terms
    total = values * np.float32(weight)
    for values, weight in rest:
        total = (values.astype(np.float64) * np.float64(np.float32(weight)) + total).astype(np.float32)
    return total
