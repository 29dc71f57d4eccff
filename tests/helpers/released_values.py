"""What the released codes of the augmentations make of photographs, and the random choices behind it.

released_values.npz was made by running MediaBrain-SJTU/FACT (a877cc8), YanchaoYang/FDA (b9a0cdf),
MKYucel/hybrid_augment (4759a53), nis-research/afa-augment (7dcf705), excitedkid/vipaug (e48a021),
amodas/PRIME-augmentations (0290f6b), wildphoton/RandConv (861a231) and lightly-ai/lightly (e8d317f) on the CPU with
NumPy 2.4, torch 2.10 and Pillow 13: in float64, but for HybridAugment, which asks for float32. Changed only in what
newer libraries ask for; random numbers were written down as they were drawn. Of floating results (..., H, W) it has the
PIECE, in float32.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from helpers.reference_cells import photograph

PIECE = (..., slice(-16, None), slice(0, 16))


@cache
def _values() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name("released_values.npz")) as file:
        return {key: file[key] for key in file.files}


def names() -> tuple[str, ...]:
    """The augmentations that it has."""
    return tuple(dict.fromkeys(key.split("/")[0] for key in _values()))


def released(case: str) -> dict[str, np.ndarray]:
    """The arrays of a case, such as "prime/cifar10", by their names."""
    return {key.removeprefix(f"{case}/"): value for key, value in _values().items() if key.startswith(f"{case}/")}


def crop(photo: str, side: int, height: int, width: int, top: int = 0, left: int = 0) -> np.ndarray:
    """A piece of a photograph of side × side pixels, uint8 (height, width, 3)."""
    return photograph(photo, side)[top : top + height, left : left + width]


def coffee_and_china(height: int, width: int) -> np.ndarray:
    """Two photographs, uint8 (2, height, width, 3)."""
    return np.stack([crop("coffee", 64, height, width), crop("china", 224, height, width, 60, 80)])
