"""What covers the image with gray: checkerboard_cutout and lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.c_bar.common import generator_within, grid, share
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters

_GRAY = 128
_MOST_FIELDS = 41  # along a side of the board: 4 sides of an image over fields of a tenth of its side


def _draw_board(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    angle = random.uniform(0, 2 * np.pi)
    field = random.uniform(0.1, 0.25) * min(height, width)
    # As many as the smallest fields need, row by row of the board that this one has.
    covered = generator_within(random).uniform(0, 1, _MOST_FIELDS**2)
    return {"angle": np.asarray(angle), "field": np.asarray(field), "covered": covered}


def _checkerboard(image: Image, draws: Draws, strength: Parameters) -> Image:
    """The board has 4 shorter sides a side and repeats beyond, which a square image never sees."""
    angle, field = draws["angle"], draws["field"]
    count = int(4 * min(image.shape[:2]) // field)
    covered = draws["covered"][: count**2].reshape(count, count) < share(strength, 1)
    rows, columns = grid(*image.shape[:2])
    y = (np.cos(angle) * rows + np.sin(angle) * columns) / field
    x = (-np.sin(angle) * rows + np.cos(angle) * columns) / field
    dark = (y % 2).astype(int) == (x % 2).astype(int)
    # Truncated towards 0, as the reference has it: fields at 0 reach to both sides.
    hidden = dark & covered[y.astype(int) % count, x.astype(int) % count]
    return np.where(hidden[..., None], np.uint8(_GRAY), image)


def _draw_lines(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:
    angle, variation = random.uniform(0, 2 * np.pi), random.uniform(0.1, 1)
    count = int(share(strength, 1) * min(height, width))
    lines = generator_within(random).uniform(0, 1, (count, 3))
    return {"angle": np.asarray(angle), "variation": np.asarray(variation), "lines": lines}


def _lines(image: Image, draws: Draws, strength: Parameters) -> Image:  # noqa: ARG001
    """Antialiased lines through random points, each a shorter side long both ways."""
    from skimage.draw import line_aa

    height, width = image.shape[:2]
    out = image.copy()
    for down, right, turned in draws["lines"]:
        angle = draws["angle"] + 2 * np.pi * draws["variation"] * (turned - 0.5)
        y, x = height * down, width * right
        along, across = np.cos(angle) * min(height, width), np.sin(angle) * min(height, width)
        rows, columns, cover = line_aa(int(y - along), int(x - across), int(y + along), int(x + across))
        inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
        rows, columns, cover = rows[inside], columns[inside], cover[inside, None]
        out[rows, columns] = (1 - cover) * out[rows, columns] + cover * _GRAY
    return out


CHECKERBOARD = Corruption("checkerboard_cutout", _draw_board, _checkerboard)
LINES = Corruption("lines", _draw_lines, _lines)
