"""What the reference makes of photographs.

reference_cells.npz holds, for each cell of KINDS × NAMES × severities, the SHA-256 of the whole result and a piece of
it. Made by running hendrycks/robustness (make_imagenet_c.py, make_cifar_c.py, make_tinyimagenet_c.py), truncated to
uint8 as it saves, with NumPy 2.4, SciPy 1.17, scikit-image 0.26, OpenCV 5.0, Pillow 13 and ImageMagick 6.9.11; changed
only in what newer libraries ask for, and in the side length where it is written into the code.

c_bar_cells.npz holds the same of C_BAR_KINDS and the corruptions of ImageNet-C-bar and CIFAR-10-C-bar. Made by running
facebookresearch/augmentation-corruption (imagenet_c_bar/corrupt.py) with NumPy 2.4, SciPy 1.17 and scikit-image 0.26.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

KINDS = {
    "chelsea": ("imagenet", 224),
    "china": ("imagenet", 224),
    "astronaut": ("cifar", 32),
    "coffee": ("tiny-imagenet", 64),
}
"""Photograph → the parameter set and the side in pixels."""

C_BAR_KINDS = {"chelsea": ("imagenet", 224), "astronaut": ("cifar", 32), "coffee": ("imagenet", 45)}
"""The same for C-bar; of the last one, whose side is odd, the two corruptions whose steps then are others."""

SHOWN = (slice(-32, None), slice(0, 32))
"""The piece that is kept: at an edge, where the rules for what lies outside show."""


@cache
def photograph(name: str, side: int) -> np.ndarray:
    """One of KINDS as uint8 (side, side, 3): the shorter side to 8/7 of `side`, then the middle."""
    pixels = load_sample_image("china.jpg") if name == "china" else getattr(data, name)()
    image = Image.fromarray(pixels)
    shorter = side * 8 // 7
    width, height = (int(length * shorter / min(image.size)) for length in image.size)
    resized = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
    top, left = round((height - side) / 2), round((width - side) / 2)
    out = np.ascontiguousarray(resized[top : top + side, left : left + side])
    out.flags.writeable = False
    return out


def seed_of(image: str, name: str, severity: int) -> int:
    """Of NumPy's legacy generator, before the cell was made; of `default_rng` for impulse_noise."""
    return zlib.crc32(f"{image}/{name}/{severity}".encode())


@cache
def _cells() -> dict[str, tuple[np.ndarray, bytes]]:
    cells = {}
    for name in ("reference_cells.npz", "c_bar_cells.npz"):
        with np.load(Path(__file__).with_name(name)) as file:
            kept = zip(file["keys"], file["crops"], file["digests"], strict=True)
            cells |= {str(key): (crop, digest.tobytes()) for key, crop, digest in kept}
    return cells


def piece_of(image: str, name: str, severity: int) -> np.ndarray:
    """The piece SHOWN of the reference's result."""
    return _cells()[f"{image}/{name}/{severity}"][0]


def is_the_reference(got: np.ndarray, image: str, name: str, severity: int) -> bool:
    """Whether the whole result is the reference's, bit for bit."""
    return hashlib.sha256(got.tobytes()).digest() == _cells()[f"{image}/{name}/{severity}"][1]
