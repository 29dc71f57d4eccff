"""Passes that score sets of images: what is fitted first, then every set once, whatever the number of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from apr_dali.eval.head import Head, find_head
from apr_dali.eval.inference_only import refuse_inference_only
from apr_dali.eval.ood_fits import Fit
from apr_dali.eval.ood_scores import DEFAULT, KINDS, score_functions
from apr_dali.eval.outputs import Batch, Function, collect, is_right
from apr_dali.eval.passes import Source, counted, progress
from apr_dali.eval.rows import rows_in
from apr_dali.eval.session import Session
from apr_dali.eval.state import State

Scores = dict[str, list[float]]
"""Of a set: the scores of its images by name, and which are `right`."""


def scored(
    session: Session,
    model: nn.Module,
    sources: Sequence[Source],
    state: State,
    names: Sequence[str] = DEFAULT,
    images: Tensor | None = None,
    fit: Source | None = None,
) -> list[Scores]:
    """The scores `names` of the images of each source; those that `state` has are not computed again.

    Args:
        model: the session's, or a part of its classes.
        sources: the network's own images, labeled, are the first.
        images: a batch as the model takes it, on its device, for scores of features.
        fit: images for scores that are fitted.
    """
    missing = [source for source in sources if source.key not in state]
    if session.passes is not None and tuple(names) == DEFAULT and model is session.model and sources[0] in missing:
        state.put(sources[0].key, session.passes.of(sources[0]).scores)
        del missing[0]
    if missing:
        functions, head = _prepared(session, model, names, images, fit)
        with progress(missing) as bar:
            for source in missing:
                bar.set_description(source.name)
                with source.open() as batches:
                    values = collect(
                        model,
                        counted(batches, bar),
                        {**functions, "right": is_right},
                        session.group.device,
                        session.amp,
                        head=head,
                    )
                state.put(source.key, {key: value.tolist() for key, value in values.items()})
    found: list[Any] = [state.get(source.key) for source in sources]
    return found


def _prepared(
    session: Session, model: nn.Module, names: Sequence[str], images: Tensor | None, fit: Source | None
) -> tuple[dict[str, Function], Head | None]:
    """The functions of a batch that give the scores, and the layer whose inputs are the features, if one of them asks.

    The features that are fitted to are on the disk for as long.
    """
    std, head = session.network.std, None
    for name in names:
        if KINDS[name].features or KINDS[name].gradients:
            needs = "layers" if KINDS[name].features else "gradients"
            refuse_inference_only(session.model, session.network.name, f"{name} needs {needs}")
    if any(KINDS[name].features for name in names):
        assert images is not None
        # As in the pass: images may be of 16 bits.
        with torch.autocast(session.group.device.type, session.amp or torch.bfloat16, enabled=session.amp is not None):
            head = find_head(model, images, session.network.name)
    if fit is None:
        return score_functions(names, model, std, head, None), head
    with rows_in(session.output, "fit-features", session.group) as rows:
        with progress([fit]) as bar, fit.open() as batches:
            bar.set_description("features to fit to")
            found = collect(
                model,
                counted(batches, bar),
                {"labels": lambda batch: batch.targets},
                session.group.device,
                session.amp,
                head=head,
                rows={"the features": (_features, rows)},
            )
        return score_functions(names, model, std, head, Fit(rows, found["labels"])), head


def _features(batch: Batch) -> Tensor:
    assert batch.features is not None
    return batch.features
