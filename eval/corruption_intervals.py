"""Intervals of a corruption table's numbers: the same images are drawn under every corruption and severity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.eval.bootstrap import mean_intervals, share_interval
from apr_dali.eval.corruption import ALEXNET, CORRUPTIONS, CorruptionTable


def intervals_of(found: CorruptionTable, wrong: Mapping[str, Sequence[NDArray[np.bool_]]]) -> dict[str, Any]:
    """The intervals of `found`, as its `intervals` has them.

    Args:
        wrong: for each corruption, at each severity bool (N,), whether an image was wrong; all are of the same images
            in the same order, as the sets have them.
    """
    rows = {name: np.mean(np.stack(cells), 0) for name, cells in wrong.items()}
    numbers = found.summary()
    means = {"mean_error": _mean(rows, found.averaged)}
    if "c_bar_error" in numbers:
        means["c_bar_error"] = _mean(rows, found.c_bar)
    for key in numbers:
        if key.removeprefix("generated_").removeprefix("listed_") == "mce":
            means[key] = np.mean([100 * rows[name] / ALEXNET[name] for name in CORRUPTIONS], 0)
    ends = mean_intervals(np.stack([*rows.values(), *means.values()], 1))
    intervals: dict[str, Any] = {"errors": dict(zip(rows, ends[: len(rows)], strict=True))}
    intervals.update(zip(means, ends[len(rows) :], strict=True))
    if found.clean_error is not None:
        intervals["clean_error"] = share_interval(found.clean_error, found.clean_images)
    return intervals


def _mean(rows: Mapping[str, NDArray[np.float64]], names: Sequence[str]) -> NDArray[np.float64]:
    return np.mean([rows[name] for name in names], 0)
