"""Pictures of what a network makes of frequencies: heat maps, bands, swaps, templates. PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.bands import BandFilter, banded
from apr_dali.eval.analyses.fourier import HeatMap
from apr_dali.eval.analyses.templates import NAMES, Contrasts
from apr_dali.eval.pictures import fitted
from apr_dali.runtime.figures import new_figure, png_of

# Everyone can distinguish both: one rises in lightness, the other has orange and purple about white.
_RISING, _ABOUT_ZERO = "viridis", "PuOr"
_LOSS = 7.0  # nats, the end of the scale: guessing among 1,000 classes has 6.9
_PANEL = 2.6  # inches


def heatmap_picture(maps: Mapping[str, HeatMap], note: str = "") -> bytes:
    """Error and loss of one network, or of two side by side and the second's less the first's; by their names.

    note: what the labels are where they are not the true ones.

    The colors mean the same in every picture, so that two can be compared.
    """
    found = list(maps.values())
    columns = len(maps) + (len(maps) == 2)
    figure = new_figure(5 * columns, 8.2)
    rows = figure.subplots(2, columns, squeeze=False)
    title = f"noise of L2 norm ε = {found[0].epsilon:g} per channel, {found[0].images:,} images"
    figure.suptitle("\n".join([title, *([fitted(note, 4.6, 9)] if note else [])]), fontsize=9 if note else 10)
    for row, values, unit, most in (
        (rows[0], [100 * one.error for one in found], "error (%)", 100.0),
        (rows[1], [one.loss for one in found], "loss (nats)", _LOSS),
    ):
        for axes, name, one in zip(row, maps, values, strict=False):
            _map(figure, axes, one, found[0], (0, most), _RISING, unit)
            axes.set_title(fitted(name, 3.6, 8), fontsize=8)
        if len(maps) == 2:
            less = values[1] - values[0]
            _map(figure, row[2], less, found[0], (-most / 2, most / 2), _ABOUT_ZERO, unit.replace("%", "points"))
            row[2].set_title("right less left", fontsize=8)
    return png_of(figure)


def _map(
    figure: Any,
    axes: Any,
    values: NDArray[Any],
    of: HeatMap,
    limits: tuple[float, float],
    colors: str,
    unit: str,
) -> None:
    extent = (of.kx[0] - 0.5, of.kx[-1] + 0.5, of.ky[-1] + 0.5, of.ky[0] - 0.5)
    image = axes.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], extent=extent)
    axes.set_xlabel("horizontal frequency (cycles/image)", fontsize=8)
    axes.set_ylabel("vertical frequency (cycles/image)", fontsize=8)
    axes.tick_params(labelsize=7)
    # An arrow at the end of the bar where something lies beyond it.
    below, above = values.min() < limits[0], values.max() > limits[1]
    beyond = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above), "neither")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, extend=beyond)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def bands_picture(
    accuracies: NDArray[np.float64],
    seen: NDArray[np.float64],
    bands: Sequence[str],
    radii: Sequence[float],
    title: str,
) -> bytes:
    """The table of accuracies over amplitude (rows) and phase (columns), and what one image becomes in each cell.

    accuracies: 0..1, (B, B). seen: images of any range, (B, B, H, W, 3); each is stretched to its own.
    """
    count = len(bands)
    figure = new_figure(13, 6.6)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.15])
    figure.suptitle(f"{title}; bands meet at {radii[0]:g} and {radii[1]:g} cycles/pixel", fontsize=10)
    axes = left.subplots()
    image = axes.imshow(100 * accuracies, cmap=_RISING, vmin=0, vmax=100)
    for (y, x), value in np.ndenumerate(100 * accuracies):
        axes.text(x, y, f"{value:.1f}", ha="center", va="center", color="black" if value > 60 else "white")
    axes.set(xlabel="band of the phase", ylabel="band of the amplitude")
    axes.set_xticks(range(count), bands)
    axes.set_yticks(range(count), bands)
    left.colorbar(image, ax=axes, shrink=0.7, label="test accuracy (%)")
    grid = right.subplots(count, count)
    for (y, x), panel in np.ndenumerate(grid):
        panel.imshow(stretched(seen[y, x]))
        panel.set(xticks=[], yticks=[])
        if y == count - 1:
            panel.set_xlabel(bands[x])
        if x == 0:
            panel.set_ylabel(bands[y])
    right.suptitle("a photograph through each filter, stretched to its own range", fontsize=9)
    right.supxlabel("band of the phase", fontsize=10)
    right.supylabel("band of the amplitude", fontsize=10)
    return png_of(figure)


def through_filters(photograph: NDArray[np.uint8], filters: Sequence[BandFilter]) -> NDArray[np.float64]:
    """A photograph (H, W, 3), 0..255, as each of the B·B filters shows it: (B, B, H, W, 3) of any range."""
    image = np.moveaxis(photograph, -1, 0) / 255
    seen = np.stack([np.moveaxis(banded(image, one), 0, -1) for one in filters])
    side = math.isqrt(len(filters))
    return seen.reshape(side, side, *photograph.shape)


def labels_picture(rows: Sequence[Mapping[str, Any]], title: str, corrupted: str) -> bytes:
    """Accuracy, and below it the AUROC of each set that a network does not know, over the weight λ of a row.

    rows: `weight`, `clean_error`, `corrupted_error`, 0..1 or None, and `auroc`: by score, by set, 0..1; the first score
    is shown. corrupted: what the corrupted images are called.
    """
    weights = [row["weight"] for row in rows]
    scores = rows[0]["auroc"]
    figure = new_figure(5.2, 6.4 if scores else 3.8)
    panels = figure.subplots(1 + bool(scores), 1, squeeze=False, sharex=True)[:, 0]
    for key, name, marker in (("clean_error", "clean", "o-"), ("corrupted_error", corrupted, "s-")):
        if rows[0][key] is not None:
            panels[0].plot(weights, [100 * (1 - row[key]) for row in rows], marker, label=fitted(name, 3.5, 8))
    panels[0].set_ylabel("accuracy (%)")
    for score in list(scores)[:1]:
        for n, name in enumerate(scores[score], 2):
            values = [100 * row["auroc"][score][name] for row in rows]
            panels[1].plot(weights, values, "^-", color=f"C{n}", label=fitted(name, 3.5, 8))
        panels[1].set_ylabel(f"AUROC by {score} (%)")
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[-1].set(xlabel="λ: weight of the phase's label", xlim=(-0.02, 1.02))
    figure.suptitle(fitted(title, 4.8, 9), fontsize=9)
    return png_of(figure)


def stretched(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """An image of any range in 0..1: its middle 98 % of values, the rest cut off."""
    low, high = np.percentile(image, [1, 99])
    return np.clip((image - low) / max(high - low, 1e-9), 0, 1)


@dataclass(frozen=True, eq=False)
class Panel:
    """An image (H, W, 3) in 0..1, its title, what the network calls it, and its probability, 0..1."""

    title: str
    image: NDArray[np.floating]
    answer: str
    share: float


def swap_picture(rows: Sequence[Sequence[Panel]]) -> bytes:
    """One row per pair: the two images and their mixes, with the network's answer below each; values cut to 0..1."""
    columns = max(len(row) for row in rows)
    figure = new_figure((_PANEL + 0.1) * columns, 3.3 * len(rows))
    for panels, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes, panel in zip(panels, row, strict=True):
            axes.imshow(panel.image)
            axes.set(xticks=[], yticks=[])
            axes.set_title(fitted(panel.title, _PANEL, 8), fontsize=8)
            axes.set_xlabel(fitted(f"→ {panel.answer} ({panel.share:.0%})", _PANEL, 9), fontsize=9)
    return png_of(figure)


def templates_picture(
    image: NDArray[np.floating], templates: NDArray[np.floating], found: Contrasts, frequency: tuple[int, int]
) -> bytes:
    """An image (H, W), its four templates (4, H, W) with their contrasts, and the phase that these make."""
    figure = new_figure(15.5, 3.6)
    panels = figure.subplots(1, 6, width_ratios=[1, 1, 1, 1, 1, 1.1])
    panels[0].imshow(image, cmap="gray", vmin=0, vmax=1)
    panels[0].set_title("image", fontsize=10)
    values = (found.real_plus, found.real_minus, found.imaginary_plus, found.imaginary_minus)
    for axes, template, name, value in zip(panels[1:5], templates, NAMES, values, strict=True):
        axes.imshow(template, cmap="cividis", vmin=0, vmax=1)
        axes.set_title(f"template {name}", fontsize=10)
        axes.set_xlabel(f"contrast {value:.1f}", fontsize=9)
    for axes in panels[:5]:
        axes.set(xticks=[], yticks=[])
    _phase_arrow(panels[5], found)
    figure.suptitle(f"k = ({frequency[0]}, {frequency[1]}) cycles/image, down and across", fontsize=11)
    return png_of(figure)


def _phase_arrow(axes: Any, found: Contrasts) -> None:
    """The complex number that the contrasts make, in its plane."""
    axes.annotate("", (found.real, found.imaginary), (0, 0), arrowprops={"arrowstyle": "->", "color": "C0", "lw": 2})
    reach = 1.15 * max(abs(found.real), abs(found.imaginary), 1e-9)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axes.set_box_aspect(1)
    axes.axhline(0, color="0.8", linewidth=1, zorder=0)
    axes.axvline(0, color="0.8", linewidth=1, zorder=0)
    axes.set_xlabel("R+ − R− (gray levels in 0..1, summed)", fontsize=8)
    axes.set_ylabel("I+ − I−", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_title(f"phase {np.degrees(found.phase):.1f}°, amplitude {found.amplitude:.1f}", fontsize=9)
