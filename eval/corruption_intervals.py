"""Intervals of a corruption table's numbers: the same images are drawn under every corruption and severity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.eval.bootstrap import Counts, Floats, draws_of, ends_of, mean_draws
from apr_dali.eval.calibration_draws import CalibrationDraws
from apr_dali.eval.corruption import ALEXNET, ALEXNET_CLEAN, CORRUPTIONS, CorruptionTable
from apr_dali.eval.recorded import Images

Cells = Mapping[str, Sequence[Images]]
Rows = dict[str, Floats]
"""By corruption, numbers (…, severities)."""


def intervals_of(found: CorruptionTable, cells: Cells, clean: NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """The intervals of `found`, as its `intervals` has them.

    Args:
        cells: for each corruption the images at each severity; all are the same images in the same order, as the sets
            have them.
        clean: bool (N,), which clean images were right; in the same order, where they are as many.
    """
    wrong = {name: np.stack([~images.right for images in row], 1).astype(np.float64) for name, row in cells.items()}
    errors = _split(wrong, mean_draws(np.concatenate([*wrong.values()], 1)))
    draws = {"errors": errors, **_calibration_draws(found, cells)}
    intervals = _of_rows(draws)
    for key, rows in draws.items():
        intervals[{"errors": "mean_error"}.get(key, f"mean_{key}")] = ends_of(_mean(rows, found.averaged))
    numbers = found.summary()
    if "c_bar_error" in numbers:
        intervals["c_bar_error"] = ends_of(_mean(errors, found.c_bar))
    if clean is not None:
        cleaned = mean_draws(~clean[:, None])[:, 0]
        intervals["clean_error"] = ends_of(cleaned)
    for key in numbers:
        plain = key.removeprefix("generated_").removeprefix("listed_")
        if plain == "ce":
            intervals[key] = {name: ends_of(_ce(errors, name)) for name in numbers[key]}
        elif plain == "mce":
            intervals[key] = ends_of(np.mean([_ce(errors, name) for name in CORRUPTIONS], 0))
        elif plain == "relative_mce":
            intervals[key] = ends_of(100 * np.mean([_relative(errors, name, cleaned) for name in CORRUPTIONS], 0))
    return intervals


def _ce(errors: Rows, name: str) -> Floats:
    return 100 * errors[name].mean(1) / ALEXNET[name]


def _relative(errors: Rows, name: str, clean: Floats) -> Floats:
    return (errors[name].mean(1) - clean) / (ALEXNET[name] - ALEXNET_CLEAN)


def _calibration_draws(found: CorruptionTable, cells: Cells) -> dict[str, Rows]:
    """The calibration errors of each draw, as far as the table has them."""
    measures = [CalibrationDraws(images.confidence, images.right) for row in cells.values() for images in row]
    of = {"ece": CalibrationDraws.ece, **({"rms": CalibrationDraws.rms} if found.rms else {})}

    def statistic(counts: Counts) -> Floats:
        return np.stack([measure(one, counts) for measure in of.values() for one in measures], 1)

    drawn = draws_of(found.images, statistic)
    return {key: _split(cells, part) for key, part in zip(of, np.split(drawn, len(of), 1), strict=True)}


def _split(cells: Mapping[str, Any], drawn: Floats) -> Rows:
    """Numbers (R, cells) by corruption, (R, severities)."""
    return dict(zip(cells, np.split(drawn, len(cells), 1), strict=True))


def _of_rows(draws: Mapping[str, Rows]) -> dict[str, Any]:
    """The intervals of rows: of their means, and by severity."""
    means = {key: {name: ends_of(row.mean(1)) for name, row in rows.items()} for key, rows in draws.items()}
    return {
        **means,
        "by_severity": {
            key: {name: [ends_of(cell) for cell in row.T] for name, row in rows.items()} for key, rows in draws.items()
        },
    }


def _mean(rows: Rows, names: Iterable[str]) -> Floats:
    return np.mean([rows[name].mean(1) for name in names], 0)
