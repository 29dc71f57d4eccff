"""The pictures of a table's page: those of its evaluations, and those that are drawn over all of its runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from apr_dali.bands import BANDS, RADII, BandFilter
from apr_dali.data.sample import photograph
from apr_dali.eval.analyses.frequency_pictures import bands_picture, labels_picture, through_filters
from apr_dali.reproduce.methods import LAMBDAS, band_name, lambda_name
from apr_dali.reproduce.plan import Plan
from apr_dali.reproduce.results import Outcome, pictures
from apr_dali.training.plots import center_crop

Picture = tuple[str, bytes]
"""Its caption, and PNG."""
_PHOTOGRAPH, _SIDE = "cat", 128


def plots(plan: Plan, known: Mapping[str, Outcome]) -> list[Picture]:
    """What a plan's runs have drawn, and what can be drawn over them."""
    found = []
    for outcome in known.values():
        caption = f"Error and loss under noise: {outcome.run.place}, {outcome.run.method}, seed {outcome.run.seed}"
        found += [(caption, png) for png in pictures(outcome, plan, "heatmap").values()]
    for place in dict.fromkeys(outcome.run.place for outcome in known.values()):
        here = [outcome for outcome in known.values() if outcome.run.place == place]
        for draw in (_bands, _labels):
            found += draw(place, plan, here)
    return found


def _results(method: str, known: Sequence[Outcome], needed: Sequence[str]) -> list[dict[str, Any]]:
    """Of each seed of a method that has all the evaluations `needed`, their results."""
    return [dict(one.results) for one in known if one.run.method == method and set(needed) <= set(one.results)]


def _bands(place: str, plan: Plan, known: Sequence[Outcome]) -> list[Picture]:
    """Fig. 4, where all of its sixteen numbers are there."""
    each = [[_results(band_name(a, p), known, ["clean"]) for p in BANDS] for a in BANDS]
    if not all(seeds for row in each for seeds in row):
        return []
    values = np.array([[statistics.fmean(one["clean"]["top1"] for one in seeds) for seeds in row] for row in each])
    outside = plan.asked.follow.outside
    filters = [BandFilter(a, p, RADII, 0 if p == "full" else outside) for a in BANDS for p in BANDS]
    seen = through_filters(center_crop(photograph(_PHOTOGRAPH), _SIDE), filters)
    return [(f"Test accuracy by the bands: {place}", bands_picture(values, seen, BANDS, RADII, place))]


def _labels(place: str, plan: Plan, known: Sequence[Outcome]) -> list[Picture]:
    """Fig. 9, of the weights whose numbers are there, from two on."""
    score = plan.asked.follow.score
    rows = []
    for weight in LAMBDAS:
        seeds = _results(lambda_name(weight), known, ["corruption", "ood"])
        if seeds:
            rows.append({"weight": weight, **_mean_of(seeds, score)})
    if len(rows) < 2:
        return []
    return [(f"Accuracy and AUROC over λ: {place}", labels_picture(rows, place, "corrupted"))]


def _mean_of(seeds: Sequence[dict[str, Any]], score: str) -> dict[str, Any]:
    """The means over the seeds, of the sets that all of them were measured on."""
    found = [one["ood"]["scores"][score] for one in seeds]
    names = [name for name in found[0] if name != "mean" and all(name in one for one in found)]
    return {
        "clean_error": statistics.fmean(one["corruption"]["clean_error"] for one in seeds),
        "corrupted_error": statistics.fmean(one["corruption"]["mean_error"] for one in seeds),
        "auroc": {score: {name: statistics.fmean(one[name]["auroc"] for one in found) for name in names}},
    }
