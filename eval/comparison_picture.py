"""A plot of several networks: their errors on clean images against those on corrupted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apr_dali.eval.bootstrap import Interval, error_interval
from apr_dali.eval.corruption import averaged_text
from apr_dali.eval.pictures import legend_name
from apr_dali.eval.report import Report
from apr_dali.runtime.figures import new_figure, png_of


@dataclass(frozen=True)
class Point:
    """A network `name`: its errors, 0..1, with their intervals. set: what the images are. about: these in words."""

    name: str
    set: tuple[str, str]
    about: str
    clean: float
    corrupted: float
    clean_ends: Interval
    corrupted_ends: Interval


def point_of(name: str, report: Report) -> Point | None:
    """The point of a report; None where it has not both errors with their intervals."""
    found = report["evaluations"]
    clean, corrupted = found.get("clean", {}), found.get("corruption", {})
    if not all("intervals" in result for result in (clean, corrupted)):
        return None
    about = f"{clean['images']:,} clean ones; {corrupted['name']}, mean over {averaged_text(corrupted)}"
    return Point(
        name,
        (clean["set"], corrupted["set"]),
        about,
        1 - clean["top1"],
        corrupted["mean_error"],
        error_interval(clean["intervals"]["top1"]),
        corrupted["intervals"]["mean_error"],
    )


def comparison_picture(points: Sequence[Point]) -> bytes:
    """The points with their names and intervals, as PNG."""
    figure = new_figure(6.4, 4.8 + 0.22 * len(points))
    axes = figure.subplots()
    handles = []
    for number, point in enumerate(points):
        x, y = 100 * point.clean, 100 * point.corrupted
        color = f"C{number % 10}"
        marker = "osD^v<>PX*"[number // 10 % 10]
        # A drawn interval need not hold the number itself where there are few images.
        arms = [
            np.maximum(0, [[value - 100 * ends[0]], [100 * ends[1] - value]])
            for value, ends in ((x, point.clean_ends), (y, point.corrupted_ends))
        ]
        style = {"fmt": marker, "color": color, "capsize": 2, "linewidth": 1}
        handles.append(axes.errorbar(x, y, arms[1], arms[0], **style).lines[0])
    axes.set(xlabel="clean error, percent", ylabel="corrupted error, percent")
    axes.grid(alpha=0.3)
    # Below the axes: names of runs are long, and would lie on the points.
    names = [legend_name(point.name) for point in points]
    columns = 1 if max(map(len, names)) > 30 else 2
    figure.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8)
    return png_of(figure)
