"""Pictures of evaluations: tables of errors, reliability diagrams, histograms of scores. PNG bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.eval.calibration import Reliability
from apr_dali.runtime.figures import new_figure, png_of

ERRORS = "plasma_r"
_SURE = 1 - 2**-53
_EM = 0.62  # the mean width of a letter, of its size: somewhat more than that of prose


def corruption_picture(errors: Mapping[str, Sequence[float]], title: str, severities: Sequence[int]) -> bytes:
    """Error rates, 0..1, as a colored table: one row per corruption, one column per severity, and their mean."""
    rows = np.array([[*row, np.mean(row)] for row in errors.values()]) * 100
    figure = new_figure(6.4, 1.2 + 0.3 * len(rows))
    axes = figure.subplots()
    # Its lightness falls evenly to the end: among great errors too, ten points are seen.
    axes.imshow(rows, cmap=ERRORS, vmin=0, vmax=100, aspect="auto")
    for (y, x), value in np.ndenumerate(rows):
        axes.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=8, color="white" if value > 40 else "black")
    first, *others = severities
    axes.set_xticks(range(len(severities) + 1), [f"severity {first}", *map(str, others), "mean"])
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in errors])
    axes.axvline(len(severities) - 0.5, color="white", linewidth=3)
    axes.tick_params(length=0)
    # Of the figure, which is wider than its axes: names of sets are long.
    figure.suptitle(fitted(f"{title}: error in percent", 5.8, 10), fontsize=10)
    return png_of(figure)


def reliability_picture(diagrams: Mapping[str, Reliability]) -> bytes:
    """Reliability diagrams side by side: accuracy over confidence, and below how many images have which confidence."""
    figure = new_figure(3.6 * len(diagrams), 4.4)
    grid = figure.subplots(2, len(diagrams), squeeze=False, sharex=True, height_ratios=[3, 1])
    for column, (title, diagram) in enumerate(diagrams.items()):
        bins = len(diagram.count)
        centers = (np.arange(bins) + 0.5) / bins
        upper, lower = grid[:, column]
        upper.bar(centers, np.nan_to_num(diagram.accuracy), 1 / bins, edgecolor="white", label="accuracy")
        upper.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="as often right as it says")
        upper.plot(diagram.confidence, diagram.accuracy, "o", color="C3", markersize=3, label="mean confidence")
        upper.set(title=title, ylim=(0, 1), ylabel="accuracy" if column == 0 else "")
        lower.bar(centers, diagram.count / diagram.count.sum(), 1 / bins, color="C7", edgecolor="white")
        lower.set(xlim=(0, 1), xlabel="confidence", ylabel="share of images" if column == 0 else "")
    grid[0, 0].legend(fontsize=7, loc="upper left")
    return png_of(figure)


def score_picture(inside: NDArray[Any], outside: Mapping[str, NDArray[Any]], score: str) -> bytes:
    """Histograms of a score: in-distribution in one color, each other set in a panel of its own. Shares of the set.

    Scores that are probabilities are shown as log-odds: those of a good network all but touch 1.
    """
    if all((values >= 0).all() and (values <= 1).all() for values in (inside, *outside.values())):
        inside, outside = _log_odds(inside), {name: _log_odds(values) for name, values in outside.items()}
        score = f"{score} p, as log₁₀ p / (1 − p)"
    figure = new_figure(6.4, 0.6 + 1.4 * len(outside))
    edges = np.histogram_bin_edges(np.concatenate([inside, *outside.values()]), 40)
    for axes, (name, scores) in zip(
        figure.subplots(len(outside), 1, squeeze=False, sharex=True)[:, 0], outside.items(), strict=True
    ):
        for values, label, color in ((inside, "in-distribution", "C0"), (scores, legend_name(name), "C1")):
            weights = np.full(len(values), 1 / len(values))
            axes.hist(values, edges, weights=weights, color=color, alpha=0.6, label=label)
        axes.legend(fontsize=8)
        axes.set_ylabel("share")
    axes.set_xlabel(score)
    return png_of(figure)


def _log_odds(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    held = np.clip(probabilities.astype(np.float64), 1 - _SURE, _SURE)
    return np.log10(held) - np.log10(1 - held)


def fitted(text: str, inches: float, points: float) -> str:
    """`text` on as many lines as it takes to be no wider than `inches` in letters of that size; nothing is cut off."""
    width = max(1, int(72 * inches / (_EM * points)))
    return "\n".join(textwrap.fill(line, width) for line in text.split("\n"))


def legend_name(name: str) -> str:
    """`name` as a label that legends show: matplotlib leaves out those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name
