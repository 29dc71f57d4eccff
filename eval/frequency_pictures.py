"""Pictures of what a network makes of frequencies: heat maps, bands, swaps, templates. PNG bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.eval.fourier import HeatMap
from apr_dali.eval.pictures import new_figure, png_of

# Both are told apart by everyone: one rises in lightness, the other has orange and purple about white.
_RISING, _ABOUT_ZERO = "viridis", "PuOr"


def heatmap_picture(maps: Mapping[str, HeatMap]) -> bytes:
    """Error and loss of one network, or of two side by side and the second's less the first's; by their names."""
    found = list(maps.values())
    columns = len(maps) + (len(maps) == 2)
    figure = new_figure(4.2 * columns, 7.4)
    rows = figure.subplots(2, columns, squeeze=False)
    for row, values, unit in (
        (rows[0], [100 * one.error for one in found], "error (%)"),
        (rows[1], [one.loss for one in found], "loss (nats)"),
    ):
        limits = float(np.min(values)), float(np.max(values))
        for axes, name, one in zip(row, maps, values, strict=False):
            _map(figure, axes, one, found[0], limits, _RISING, unit)
            axes.set_title(textwrap.fill(name, 46), fontsize=8)
        if len(maps) == 2:
            less = values[1] - values[0]
            greatest = max(float(np.abs(less).max()), 1e-9)
            _map(figure, row[2], less, found[0], (-greatest, greatest), _ABOUT_ZERO, unit.replace("%", "points"))
            row[2].set_title("right less left", fontsize=8)
    return png_of(figure)


def _map(
    figure: Any,
    axes: Any,
    values: NDArray[Any],
    of: HeatMap,
    limits: tuple[float, float],
    colours: str,
    unit: str,
) -> None:
    extent = (of.kx[0] - 0.5, of.kx[-1] + 0.5, of.ky[-1] + 0.5, of.ky[0] - 0.5)
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], extent=extent)
    axes.set_xlabel("horizontal frequency (cycles/image)", fontsize=8)
    axes.set_ylabel("vertical frequency (cycles/image)", fontsize=8)
    axes.tick_params(labelsize=7)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
