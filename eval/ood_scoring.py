"""Passes that score sets of images: what is fitted and searched for first, then every set once for all scores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from apr_dali.eval.head import Head, find_head
from apr_dali.eval.inference_only import refuse_inference_only
from apr_dali.eval.kept_passes import KeptPass, KeptPasses
from apr_dali.eval.ood_fits import Fit, Fits
from apr_dali.eval.ood_kinds import DEFAULT, KINDS, REACT
from apr_dali.eval.ood_scores import Makings, score_functions
from apr_dali.eval.ood_search import Found, chosen_parameters, functions_to_keep, search
from apr_dali.eval.outputs import Function, collect, is_right
from apr_dali.eval.passes import Source, counted, progress
from apr_dali.eval.session import Session
from apr_dali.eval.state import State
from apr_dali.runtime import lock
from apr_dali.runtime.distributed import on_main

Scores = dict[str, list[float]]
"""Of a set: the scores of its images by name, and which are `right`."""
_SEARCH = "the search for parameters"


@dataclass(frozen=True)
class Preparation:
    """The images that scores need before others are scored; None for none.

    training: labeled, that scores are fitted to. validation: of the network's classes, for ReAct and the search.
    others: that the network does not know; with them the parameters are searched for.
    """

    training: Source | None = None
    validation: Source | None = None
    others: Source | None = None


def scored(
    session: Session,
    model: nn.Module,
    sources: Sequence[Source],
    state: State,
    names: Sequence[str] = DEFAULT,
    images: Tensor | None = None,
    preparation: Preparation | None = None,
) -> list[Scores]:
    """The scores `names` of the images of each source; those that `state` has are not computed again.

    What is prepared is kept beside the state, as long as it is `prepared_alone`.

    Args:
        model: the session's, or a part of its classes.
        sources: the network's own images, labeled, are the first.
        images: a batch as the model takes it, on its device, for scores of features.
        preparation: for scores that are fitted, or whose parameters are searched for.
    """
    missing = [source for source in sources if source.key not in state]
    if session.passes is not None and tuple(names) == DEFAULT and model is session.model and sources[0] in missing:
        state.put(sources[0].key, session.passes.of(sources[0]).scores)
        del missing[0]
    if missing:
        functions, head = _prepared(session, model, state, names, images, preparation or Preparation())
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


def found_parameters(state: State) -> Found:
    """What the search of `scored` found; empty without one."""
    found: Found = state.get(_SEARCH) if _SEARCH in state else {}
    return found


@contextmanager
def prepared_alone(session: Session, state: State, preparation: Preparation) -> Iterator[None]:
    """While entered, what is prepared beside `state` is this command's; it is gone when the block comes to its end.

    Entered by all processes together. Raises InputError where another command prepares the same in the same folder.
    """
    if preparation == Preparation():
        yield
        return
    path, group = state.beside("lock"), session.group
    with ExitStack() as stack:
        on_main(group, lambda: stack.enter_context(lock.hold(path.parent, path.name)))
        yield
        on_main(group, lambda: shutil.rmtree(_features_of(state), ignore_errors=True))


def _features_of(state: State) -> Path:
    """The folder of the passes over the images of a `Preparation`, which go with `state`."""
    return state.beside("features")


def _prepared(
    session: Session,
    model: nn.Module,
    state: State,
    names: Sequence[str],
    images: Tensor | None,
    preparation: Preparation,
) -> tuple[dict[str, Function], Head | None]:
    """The functions of a batch that give the scores, and the layer whose inputs are the features, for those of them."""
    head = _head(session, model, names, images)
    passes = KeptPasses(session, model, head, _features_of(state))
    makings = Makings(model, session.network.std, head)
    to_keep = {} if preparation.others is None else functions_to_keep(names, makings)
    training = None if preparation.training is None else passes.of(preparation.training, _LABELS)
    others = None if _SEARCH in state else preparation.others
    inside = None
    if preparation.validation is not None and (others is not None or REACT in names):
        inside = passes.of(preparation.validation, {**_LABELS, **to_keep})
    makings = replace(makings, fits=Fits(_fit(training), _fit(inside)))
    if others is not None:
        assert inside is not None
        outside = passes.of(others, to_keep)
        # By one process: all must take the same parameters.
        state.put(_SEARCH, on_main(session.group, lambda: search(names, makings, inside, outside)))
    return score_functions(makings, chosen_parameters(names, found_parameters(state))), head


def _head(session: Session, model: nn.Module, names: Sequence[str], images: Tensor | None) -> Head | None:
    """The last layer, where a score is of features; InputError where the network cannot give what one needs."""
    for name in names:
        if KINDS[name].features or KINDS[name].gradients:
            needs = "layers" if KINDS[name].features else "gradients"
            refuse_inference_only(session.model, session.network.name, f"{name} needs {needs}")
    if not any(KINDS[name].features for name in names):
        return None
    assert images is not None
    # As in the pass: images may be of 16 bits.
    with torch.autocast(session.group.device.type, session.amp or torch.bfloat16, enabled=session.amp is not None):
        return find_head(model, images, session.network.name)


_LABELS: dict[str, Function] = {"labels": lambda batch: batch.targets}


def _fit(found: KeptPass | None) -> Fit | None:
    return None if found is None else Fit(found.features, found.values["labels"])
