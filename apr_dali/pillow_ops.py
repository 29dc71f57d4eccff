"""The nine operations of APR-S on uint8 arrays, bit for bit as Pillow computes them: the definition of truth.

Each operation is either a table of 256 entries per channel (autocontrast, equalize, posterize, solarize) or one
affine warp with bilinear interpolation (rotate, shear, translate). Images are uint8 (H, W, C), 0..255. A slow,
readable twin of every fast implementation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apr_dali import spectral
from apr_dali.draws import OPERATIONS, SingleDraws

TABLE_OPERATIONS = ("autocontrast", "equalize", "posterize", "solarize")

Image = NDArray[np.uint8]
_IDENTITY = np.arange(256, dtype=np.uint8)


def apply(image: Image, operation: str, parameters: NDArray[np.float64]) -> Image:
    """One operation by name on one image; `parameters` is a row of `SingleDraws.parameters`."""
    if operation not in OPERATIONS:
        raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}, got {operation!r}")
    if operation not in TABLE_OPERATIONS:
        return affine(image, parameters)
    tables = [table(image[..., c], operation, parameters[0]) for c in range(image.shape[-1])]
    return np.stack([entries[image[..., c]] for c, entries in enumerate(tables)], axis=-1)


def table(channel: Image, operation: str, parameter: float) -> Image:
    """The 256 entries, uint8, by which a table operation maps one channel (H, W)."""
    if operation == "autocontrast":
        return autocontrast_table(channel)
    if operation == "equalize":
        return equalize_table(channel)
    if operation == "posterize":
        return _IDENTITY & np.uint8(256 - 2 ** (8 - int(parameter)))
    return np.where(parameter > _IDENTITY, _IDENTITY, 255 - _IDENTITY)


def autocontrast_table(channel: Image) -> Image:
    """Stretch the darkest and brightest level present to 0 and 255 (ImageOps.autocontrast, cutoff 0)."""
    low, high = int(channel.min()), int(channel.max())
    if high <= low:
        return _IDENTITY
    scale = 255.0 / (high - low)
    # Two roundings, product then sum, as in Pillow's Python code: a fused multiply-add differs.
    stretched = np.arange(256) * scale + -low * scale
    return np.clip(np.trunc(stretched), 0, 255).astype(np.uint8)


def equalize_table(channel: Image) -> Image:
    """Flatten the histogram in whole steps (ImageOps.equalize)."""
    histogram = np.bincount(channel.reshape(-1), minlength=256)
    present = histogram[histogram > 0]
    step = int(present.sum() - present[-1]) // 255
    if len(present) <= 1 or step == 0:
        return _IDENTITY
    below = np.concatenate([[0], np.cumsum(histogram)[:-1]])
    return np.minimum((step // 2 + below) // step, 255).astype(np.uint8)


def affine(image: Image, matrix: NDArray[np.float64]) -> Image:
    """Pillow's affine transform with bilinear interpolation, black outside (its Geometry.c).

    Output pixel (x, y) shows the input at matrix · (x + ½, y + ½, 1) - ½. All in float64; the result is
    truncated to uint8. Neighbors outside are those at the border: the bottom row counts twice.
    """
    height, width = image.shape[:2]
    a, b, c, d, e, f = (float(value) for value in matrix)
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    source_x, source_y = a * x + b * y + c, d * x + e * y + f
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    source_x, source_y = source_x - 0.5, source_y - 0.5
    left, top = np.floor(source_x).astype(np.int64), np.floor(source_y).astype(np.int64)
    dx, dy = (source_x - left)[..., None], (source_y - top)[..., None]

    def at(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float64]:
        return image[row.clip(0, height - 1), column.clip(0, width - 1)].astype(np.float64)

    upper, lower = at(top, left), at(top + 1, left)
    upper = upper + (at(top, left + 1) - upper) * dx
    lower = lower + (at(top + 1, left + 1) - lower) * dx
    value = upper + (lower - upper) * dy
    return np.where(inside[..., None], np.trunc(value), 0).astype(np.uint8)


def two_views(image: Image, draws: SingleDraws, n: int) -> tuple[Image, Image | None]:
    """Image n, uint8 (H, W, C), after its first operation, and after its second one on top; None if it is not mixed."""
    names = [OPERATIONS[index] for index in draws.operation[n]]
    first = apply(image, names[0], draws.parameters[n, 0])
    return first, apply(first, names[1], draws.parameters[n, 1]) if draws.mix[n] else None


def single(images: Image, draws: SingleDraws, overflow: str = "wrap", axes: str = "chw") -> Image:
    """APR-S of a batch uint8 (N, H, W, C) in float64; the arguments are those of `apr_dali.single`."""
    out = np.empty_like(images)
    for n, image in enumerate(images):
        out[n], second = two_views(image, draws, n)
        if second is None:
            continue
        views = np.moveaxis(np.stack([out[n], second]), -1, -3)
        giver = int(draws.amplitude_of_second[n])
        mixed = spectral.recombine(views[1 - giver], views[giver], axes)
        out[n] = np.moveaxis(spectral.to_levels(mixed, overflow), -3, -1)
    return out


def gray_levels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (N, H, W, 3) whose three channels are the gray levels that Pillow makes of them."""
    red, green, blue = np.moveaxis(images.astype(np.uint32), -1, 0)
    gray = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=-1)
