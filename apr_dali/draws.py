"""Every random choice of APR as data, and how uniform numbers become choices.

The operators are pure functions of (images, draws). A draw comes from a seeded generator (`sample`) or from
uniform numbers that someone else drew (`from_uniform`): a DALI graph draws them with its own operators, and the
same numbers give the same choices everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.errors import check_share, check_whole
from apr_dali.runtime.deprecation import renamed

# The order is part of the format of a draw: an operation is its index in this list.
OPERATIONS = (
    "autocontrast",
    "equalize",
    "posterize",
    "rotate",
    "solarize",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
UNIFORMS_PER_IMAGE = 8
"""Columns: first operation, its level, its sign, stop, second operation, its level, its sign, direction."""

_LEVEL_LOW, _LEVEL_HIGH = 0.1, 3.0
_POSTERIZE, _ROTATE, _SOLARIZE, _SHEAR_X, _SHEAR_Y = range(2, 7)
# Parameters of each operation before its value goes in: the identity for the last four, which are affine.
_UNCHANGED = np.array([[0.0] * 6] * _SHEAR_X + [[1.0, 0, 0, 0, 1, 0]] * 4)


@cache
def rotation_tables() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """cos and sin of whole degrees 0..359, negated and rounded to 15 decimals as Pillow's `rotate` does."""
    angles = [-math.radians(float(degree)) for degree in range(360)]
    return (
        np.array([round(math.cos(angle), 15) for angle in angles]),
        np.array([round(math.sin(angle), 15) for angle in angles]),
    )


def rotation(degrees: NDArray[np.integer], height: int, width: int) -> NDArray[np.float64]:
    """The affine coefficients, float64 (N, 6), with which Pillow rotates an image by whole degrees, int (N,)."""
    cos, sin = (table[np.asarray(degrees) % 360] for table in rotation_tables())
    x, y = width / 2, height / 2
    shift_x = cos * -x + sin * -y + x
    shift_y = -sin * -x + cos * -y + y
    return np.stack([cos, sin, shift_x, -sin, cos, shift_y], axis=-1)


@dataclass(frozen=True)
class SingleDraws:
    """The choices of APR-S for a batch of N images of one size.

    operation: uint8 (N, 2), the two operations, as indices into OPERATIONS.
    parameters: float64 (N, 2, 6). For an affine operation the coefficients a..f of Pillow's `Image.AFFINE`
        (output pixel (x, y) shows input (ax + by + c, dx + ey + f)); for posterize the number of bits kept and
        for solarize the threshold in column 0; else 0.
    mix: bool (N,). False: the result is the first operation's. True: the second operation is applied to that
        result too, and the two are recombined.
    amplitude_of_second: bool (N,). True: amplitude of the second, phase of the first. False: the other way round.
    """

    operation: NDArray[np.uint8]
    parameters: NDArray[np.float64]
    mix: NDArray[np.bool_]
    amplitude_of_second: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.mix)
        shapes: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
            "operation": (self.operation, (n, 2)),
            "parameters": (self.parameters, (n, 2, 6)),
            "mix": (self.mix, (n,)),
            "amplitude_of_second": (self.amplitude_of_second, (n,)),
        }
        for name, (array, shape) in shapes.items():
            if array.shape != shape:
                raise ValueError(f"SingleDraws.{name} must have the shape {shape}, got {array.shape}")
        if n and self.operation.max() >= len(OPERATIONS):
            raise ValueError(f"operation must be in 0..{len(OPERATIONS) - 1}, got {self.operation.max()}")

    def __len__(self) -> int:
        return len(self.mix)

    def describe(self, n: int) -> tuple[str, str]:
        """What gives image n its phase and its amplitude, in words; twice the same where nothing is recombined."""
        first, second = (OPERATIONS[index].replace("_", " ") for index in self.operation[n])
        if not self.mix[n]:
            return first, first
        both = f"{first} + {second}"
        return (first, both) if self.amplitude_of_second[n] else (both, first)

    @classmethod
    def sample(cls, batch: int, height: int, width: int, seed: int | np.random.Generator | None = None) -> SingleDraws:
        """Draw for `batch` images of height × width; `seed` is a number or a generator to draw from."""
        check_whole("batch", batch, 0)
        check_whole("height", height, 1)
        check_whole("width", width, 1)
        uniform = np.random.default_rng(seed).random((batch, UNIFORMS_PER_IMAGE))
        return cls.from_uniform(uniform, height, width)

    @classmethod
    def from_uniform(cls, uniform: NDArray[np.floating], height: int, width: int) -> SingleDraws:
        """Decode uniform numbers in [0, 1), floating (N, 8), columns as UNIFORMS_PER_IMAGE says.

        The distributions are the published ones (AugMix's `op(image, 3)`): level l ~ U(0.1, 3); posterize to
        4 - ⌊0.4 l⌋ bits, rotate by ±⌊3 l⌋ degrees, solarize at 256 - ⌊25.6 l⌋, shear by ±0.03 l, translate by
        ±⌊l·S/30⌋ pixels where S is the image's extent along the axis; stop after one operation with p = 0.5.
        """
        u = np.asarray(uniform, dtype=np.float64)
        if u.ndim != 2 or u.shape[1] != UNIFORMS_PER_IMAGE:
            raise ValueError(f"uniform must have the shape (N, {UNIFORMS_PER_IMAGE}), got {u.shape}")
        which, level_u, sign_u = u[:, 0::4], u[:, 1::4], u[:, 2::4]
        # A float32 uniform may round up to 1.0: the last operation then, not one past it.
        operation = np.minimum(which * len(OPERATIONS), len(OPERATIONS) - 1).astype(np.uint8)
        level = _LEVEL_LOW + (_LEVEL_HIGH - _LEVEL_LOW) * level_u
        sign = np.where(sign_u > 0.5, -1.0, 1.0)
        parameters = _parameters(operation, level, sign, height, width)
        return cls(operation, parameters, mix=u[:, 3] <= 0.5, amplitude_of_second=u[:, 7] <= 0.5)


def _parameters(
    operation: NDArray[np.uint8],
    level: NDArray[np.float64],
    sign: NDArray[np.float64],
    height: int,
    width: int,
) -> NDArray[np.float64]:
    # One row an operation, in the order of OPERATIONS: the full range that level 10 would give, and the column
    # of the parameters that its value goes to.
    full_range = np.array([0, 0, 4, 30, 256, 0.3, 0.3, width / 3, height / 3]).take(operation)
    column = np.array([0, 0, 0, 0, 0, 1, 3, 2, 5]).take(operation)
    magnitude = level * full_range / 10
    shear = (operation == _SHEAR_X) | (operation == _SHEAR_Y)
    np.floor(magnitude, out=magnitude, where=~shear)
    value = sign * magnitude
    np.subtract(4, magnitude, out=value, where=operation == _POSTERIZE)
    np.subtract(256, magnitude, out=value, where=operation == _SOLARIZE)
    out = _UNCHANGED.take(operation, axis=0)
    # By flat positions: put_along_axis takes longer than all of the above.
    flat = out.reshape(-1)
    flat[np.arange(0, out.size, 6) + column.reshape(-1)] = value.reshape(-1)
    turned = operation == _ROTATE
    out[turned] = rotation(value[turned].astype(np.int64), height, width)
    out[operation < _POSTERIZE] = 0
    return out


@dataclass(frozen=True)
class PairDraws:
    """The choices of APR-P for a batch of N images.

    partner: int64 (N,), the image that gives its amplitude to each image. A permutation as published, but any
        index in 0..N-1 is allowed.
    mix: one coin per batch; False leaves the batch as it is.
    """

    partner: NDArray[np.int64]
    mix: bool

    def __post_init__(self) -> None:
        if self.partner.ndim != 1:
            raise ValueError(f"PairDraws.partner must have the shape (N,), got {self.partner.shape}")
        check_partner(self.partner, len(self.partner))

    def __len__(self) -> int:
        return len(self.partner)

    @classmethod
    @renamed("probability", "p")
    def sample(
        cls,
        batch: int,
        height: int = 0,  # noqa: ARG003 - one signature for both kinds of draws
        width: int = 0,  # noqa: ARG003
        seed: int | np.random.Generator | None = None,
        p: float = 0.5,
    ) -> PairDraws:
        """Draw one permutation and, with the share `p` of heads, one coin for `batch` images.

        height and width change nothing here.
        """
        check_whole("batch", batch, 0)
        check_share("p", p)
        generator = np.random.default_rng(seed)
        mix = bool(generator.random() < p)
        return cls(generator.permutation(batch), mix)


def check_partner(partner: NDArray[np.integer], batch: int) -> None:
    """Raise unless `partner`, integers (N,), holds N = `batch` numbers in 0..N-1."""
    if partner.dtype.kind not in "iu":
        raise TypeError(f"partner must hold integers, got dtype {partner.dtype}")
    if partner.shape != (batch,):
        raise ValueError(f"partner must have the shape ({batch},), got {partner.shape}")
    bad = np.flatnonzero((partner < 0) | (partner >= batch))
    if len(bad):
        raise ValueError(f"partner must be in 0..{batch - 1}, got {partner[bad[0]]} at index {bad[0]}")


SEEDS = 2**63 - 1
"""The greatest seed."""
