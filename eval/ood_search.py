"""The search for the parameters of scores on validation sets, as OpenOOD v1.5 makes it.

Each candidate of a score's sweep is measured by the AUROC of telling one validation set of images of the network's
classes from one of others; the first one with the greatest AUROC is taken. Neither set is evaluated.

Source: https://github.com/Jingkang50/OpenOOD, `hyperparam_search` in `openood/evaluation_api/evaluator.py`. There each
candidate is a pass over both sets. Here one pass over each gives all: the candidates of logits and gradients are scored
in it, those of features on the float16 rows that it keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from apr_dali.eval.kept_passes import KeptPass
from apr_dali.eval.ood import auroc
from apr_dali.eval.ood_kinds import KINDS, Parameters, searched
from apr_dali.eval.ood_scores import Makings, Scorer, columns_of, scorer_of
from apr_dali.eval.outputs import Function
from apr_dali.eval.rows import Rows

Found = dict[str, dict[str, Any]]
"""By score: its `parameters`, their `auroc` on the validation sets, 0..1, and how many `candidates` there were."""


def functions_to_keep(names: Collection[str], makings: Makings) -> dict[str, Function]:
    """What a pass over a validation set must give for `search`, beside the features: (N, candidates) of each score."""
    of_batches = [name for name in searched(names) if not KINDS[name].features]
    return {name: columns_of(makings, name, KINDS[name].candidates) for name in of_batches}


def search(names: Collection[str], makings: Makings, inside: KeptPass, outside: KeptPass) -> Found:
    """The best candidate of each of `names` that has a sweep.

    A candidate is left out where it cannot be had: with more neighbors than fitted images, with no dimension beyond
    the principal ones, or where a score is no finite number. A score of which none is left is not in the result.

    Args:
        inside, outside: the passes over the validation sets, of the network's classes and of others, with the values
            of `functions_to_keep`.
    """
    found = {}
    for name in searched(names):
        candidates = _possible(name, makings)
        if not candidates:
            continue
        if KINDS[name].features:
            scorer = scorer_of(makings, name, candidates)
            own, other = (_of_rows(scorer, one.features, makings) for one in (inside, outside))
        else:
            own, other = inside.values[name], outside.values[name]
        if best := _best(candidates, own, other):
            found[name] = best
    return found


def chosen_parameters(names: Collection[str], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Parameters]:
    """The parameters of each of `names`: those that were found, or the default ones."""
    return {name: found[name]["parameters"] if name in found else KINDS[name].default for name in names}


def _possible(name: str, makings: Makings) -> list[Parameters]:
    candidates, head, fit = KINDS[name].candidates, makings.head, makings.fits.training
    if name == "knn":
        assert fit is not None
        return [one for one in candidates if one["neighbors"] <= len(fit.labels)]
    if name == "vim":
        assert head is not None
        return [one for one in candidates if one["dimensions"] < head.width]
    return candidates


def _of_rows(scorer: Scorer, rows: Rows, makings: Makings) -> NDArray[np.float64]:
    assert makings.head is not None
    device = makings.head.weight.device
    parts = [scorer(torch.from_numpy(chunk).to(device)).double().cpu().numpy() for chunk in rows.chunks()]
    return np.concatenate(parts)


def _best(
    candidates: list[Parameters], own: NDArray[np.floating], other: NDArray[np.floating]
) -> dict[str, Any] | None:
    """The first of the candidates, whose scores are the columns, with the greatest AUROC; None without a finite one."""
    finite = np.isfinite(own).all(0) & np.isfinite(other).all(0)
    rates = {n: auroc(own[:, n], other[:, n]) for n in np.flatnonzero(finite).tolist()}
    if not rates:
        return None
    best = max(rates, key=rates.__getitem__)  # the first of equal ones
    return {"parameters": dict(candidates[best]), "auroc": rates[best], "candidates": len(candidates)}
