"""How well a network's scores tell other sets from its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from apr_dali.data.image_list import is_image_list
from apr_dali.errors import InputError, check_choice
from apr_dali.eval.bootstrap import share_interval
from apr_dali.eval.class_lists import IMAGENET_O
from apr_dali.eval.ood import ood_metrics, oscr
from apr_dali.eval.ood_draws import ood_intervals
from apr_dali.eval.ood_kinds import DEFAULT, KINDS, REACT, checked_scores, searched
from apr_dali.eval.ood_page import columns_of
from apr_dali.eval.ood_request import FIT_IMAGES, IMAGENET_O_NAME, Asked
from apr_dali.eval.ood_scoring import Preparation, Scores, found_parameters, prepared_alone, scored
from apr_dali.eval.ood_search import Found, chosen_parameters
from apr_dali.eval.ood_sources import (
    FAR,
    MEAN,
    NEAR,
    checked_sets,
    fit_source,
    in_source,
    in_source_of_some,
    out_source,
    shifted_source,
)
from apr_dali.eval.openood import openood_metrics
from apr_dali.eval.passes import ClassSlice, Source, together
from apr_dali.eval.pictures import score_picture
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject, session_of
from apr_dali.eval.state import State
from apr_dali.runtime.text_table import table

if TYPE_CHECKING:
    from typing_extensions import Unpack

IN_200 = "ImageNet's validation images of the 200 classes"
PUBLISHED_IMAGES = {
    "svhn": 26_032,
    **dict.fromkeys(("lsun_resize", "imagenet_resize", "lsun_fix", "imagenet_fix", "cifar_10", "cifar_100"), 10_000),
    "cifar10": 10_000,
    "cifar100": 10_000,
    "imagenet_o": 2000,
    IN_200: 10_000,
}
"""How many each published set has, by its name in lower case."""
Rates = dict[str, dict[str, float]]
"""By set, `mean`, `nearood` and `farood`: measures, 0..1."""


@dataclass(frozen=True)
class Ood(Result):
    """How well scores tell the images of `data` from those of other sets.

    set: 16 hex digits of what all images are. sets: the others' places by name. images, set_images: how many.
    notes: of sets that are called as published ones and are not, and of scores that were left out. scores: by score,
    by set and their `mean`, the measures of `apr_dali.eval.ood.ood_metrics`, 0..1. accuracy: on `data`.
    evaluation: its name, `imagenet-o` where it is of ImageNet-O's 200 classes alone, `openood` on OpenOOD's lists.
    groups: of sets that are near or far, `near` or `far`; each score then has the means `nearood` and `farood`, too,
    and each row the measures of OPENOOD there. full_spectrum: the same as `scores`, where the images of `shifted`,
    places by name, count as in-distribution, too; full_spectrum_accuracy: on all of these. parameters: of the scores.
    intervals: of `scores`, `accuracy` and their like, in the same places; see `apr_dali.eval.bootstrap`. fit: what some
    were fitted to: `data`, `images`. validation: the images of the network's classes that ReAct was fitted to and that
    parameters were searched on, likewise. search: likewise, the others that they were searched on; and in `found` by
    score the best `parameters`, their `auroc` on both sets and the number of `candidates`.
    """

    data: str
    set: str
    sets: dict[str, str]
    images: int
    set_images: dict[str, int]
    notes: list[str]
    scores: dict[str, Rates]
    accuracy: float
    evaluation: str = "ood"
    groups: dict[str, str] = field(default_factory=dict)
    shifted: dict[str, str] = field(default_factory=dict)
    full_spectrum: dict[str, Rates] = field(default_factory=dict)
    full_spectrum_accuracy: float | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    intervals: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        keys = ("data", "set", "sets", "images", "set_images", "notes", "scores", "accuracy", "parameters")
        more = ("intervals", "groups", "shifted", "full_spectrum", "full_spectrum_accuracy")
        found = {key: getattr(self, key) for key in (*more, "fit", "validation", "search")}
        return {**{key: getattr(self, key) for key in keys}, **{key: value for key, value in found.items() if value}}

    def text(self) -> str:
        columns = columns_of(self.groups)
        texts = []
        for title, scores in (("", self.scores), (" (full spectrum)", self.full_spectrum)):
            for score, sets in scores.items():
                rows = [(name, *(f"{100 * row[key]:.2f}" for key in columns)) for name, row in sets.items()]
                texts.append(table((f"{score}{title}, percent", *columns), rows))
        return "\n\n".join(texts + ["\n".join(self.notes)] * bool(self.notes))


def evaluate_ood(
    model: Subject,
    data: str | Path,
    *,
    ood: Mapping[str, str | Path] | None = None,
    near: Mapping[str, str | Path] | None = None,
    far: Mapping[str, str | Path] | None = None,
    shifted: Mapping[str, str | Path] | None = None,
    scores: Sequence[str] | None = None,
    fit_data: str | Path | None = None,
    fit_images: int | None = None,
    val_data: str | Path | None = None,
    ood_val: str | Path | None = None,
    search_parameters: bool = False,
    list_root: str | Path | None = None,
    imagenet_o: bool = False,
    evaluation: str = "ood",
    **options: Unpack[Options],
) -> Ood:
    """AUROC and its like of telling other sets from the network's own, by several scores in one pass over each set.

    Args:
        model, options: as for `evaluate_clean`.
        data: in-distribution images; or a list of them, see `apr_dali.data.image_list`.
        ood: by name, sets that the network does not know: folders, image lists; for a network of 32×32 images SVHN's
            .mat file, CIFAR's folder, and the words digits and photographs.
        near, far: such sets, of which means are taken apart and OpenOOD's measures; for a network of 32×32 images,
            larger ones are scaled as OpenOOD does.
        shifted: other images of the network's classes: with them the full spectrum is measured, too.
        scores: of `apr_dali.eval.ood_kinds.KINDS`, or all; None for the three that need no library.
        fit_data: training images of the network, for scores that are fitted. fit_images: so many of them at the most;
            None for FIT_IMAGES.
        val_data: validation images of the network's classes: ReAct is fitted to them then, as OpenOOD does.
        ood_val: validation images of others; as `data`, `val_data` and `ood_val` may be lists.
        search_parameters: take the parameters of scores that tell `val_data` from `ood_val` best, see
            `apr_dali.eval.ood_search`; without it OpenOOD's default ones.
        list_root: the folder that the paths in image lists are below; None to look for it.
        imagenet_o: score with the 200 classes of ImageNet-O alone, as its paper does.
        evaluation: what the result and its files are called, ood or openood; with `imagenet_o` imagenet-o.

    Raises:
        InputError: for a set or a network that does not fit, or a score that cannot be computed.
    """
    check_choice("evaluation", evaluation, ("ood", "openood"))
    asked = Asked(
        data=str(data),
        ood=checked_sets(ood or {}),
        near=checked_sets(near or {}),
        far=checked_sets(far or {}),
        shifted=checked_sets(shifted or {}),
        scores=checked_scores(scores, fit_data, imagenet_o, val_data),
        fit_data=_text(fit_data),
        fit_images=fit_images,
        val_data=_text(val_data),
        ood_val=_text(ood_val),
        search=search_parameters,
        list_root=_text(list_root),
        evaluation=IMAGENET_O_NAME if imagenet_o else evaluation,
    )
    with session_of(model, options) as session:
        return _measure(session, asked)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _measure(session: Session, asked: Asked) -> Ood:
    session = session.of_several(asked.places)
    model = _model(session, asked)
    sources, preparation = _sources(session, asked), _preparation(session, asked)
    images = session.check(sources[0], model, len(IMAGENET_O) if asked.imagenet_o else None)
    state = _state(session, asked, preparation)
    with prepared_alone(session, state, preparation):
        found = scored(session, model, sources, state, asked.scores, images, preparation)
        values = {source.name: scores for source, scores in zip(sources, found, strict=True)}
        result, picture = _result(asked, sources, preparation, values, found_parameters(state))
        return result.finished(session, {"scores": picture}, state)


def _result(
    asked: Asked, sources: Sequence[Source], preparation: Preparation, values: dict[str, Scores], best: Found
) -> tuple[Ood, bytes]:
    """What follows from the scores of each source by its name, and their picture. best: the parameters found."""
    finite, notes = _finite(asked.scores, values)
    own = values.pop(sources[0].name)
    outside, shifted = ({name: values[name] for name in names} for names in (asked.others, asked.shifted))
    rates = {score: _rates(score, own, outside, asked.groups) for score in finite}
    wide = _joined([own, *shifted.values()])
    counts = {source.name: source.images for source in sources}
    result = Ood(
        data=asked.data,
        set=together(sources),
        sets=asked.others,
        images=len(own["right"]),
        set_images={name: counts[name] for name in asked.others},
        notes=[*_unlike_published(asked, counts), *_validation_notes(asked, preparation), *notes],
        scores=rates,
        accuracy=float(np.mean(own["right"])),
        evaluation=asked.evaluation,
        groups=asked.groups,
        shifted=asked.shifted,
        full_spectrum={score: _rates(score, wide, outside, asked.groups) for score in finite if shifted},
        full_spectrum_accuracy=float(np.mean(wide["right"])) if shifted else None,
        parameters=_parameters(finite, best),
        intervals=_intervals(finite, own, wide if shifted else None, outside, asked.groups),
        fit=_counted(asked.fit_data, preparation.training),
        validation=_counted(asked.val_data, preparation.validation),
        search={**_counted(asked.ood_val, preparation.others), "found": best} if asked.search else {},
    )
    return result, _picture(finite[0], own, outside)


def _model(session: Session, asked: Asked) -> nn.Module:
    if not asked.imagenet_o:
        return session.model
    return ClassSlice(session.model, session.network.indices(IMAGENET_O)).to(session.group.device)


def _parameters(names: Sequence[str], found: Found) -> dict[str, str]:
    """In words, of those that have any."""
    return {name: KINDS[name].says(of) for name, of in chosen_parameters(names, found).items() if KINDS[name].text}


def _picture(score: str, own: Scores, outside: Mapping[str, Scores]) -> bytes:
    return score_picture(np.array(own[score]), {name: np.array(found[score]) for name, found in outside.items()}, score)


def _sources(session: Session, asked: Asked) -> list[Source]:
    """The network's own images, the other sets and the shifted ones."""
    root = asked.list_root
    if asked.imagenet_o:
        inside = in_source_of_some(session, asked.data, IMAGENET_O)
    else:
        inside = in_source(session, asked.data, root)
    outside = [out_source(session, name, path, root, name in asked.groups) for name, path in asked.others.items()]
    shifted = [shifted_source(session, name, path, root) for name, path in asked.shifted.items()]
    return [inside, *outside, *shifted]


def _preparation(session: Session, asked: Asked) -> Preparation:
    """The images that scores are fitted to, and those that parameters are searched on."""
    root, limit = asked.list_root, FIT_IMAGES if asked.fit_images is None else asked.fit_images
    return Preparation(
        None if asked.fit_data is None else fit_source(session, asked.fit_data, limit, root),
        None if asked.val_data is None else in_source(session, asked.val_data, root, "validation"),
        None if asked.ood_val is None else out_source(session, "others", asked.ood_val, root, bool(asked.groups)),
    )


def _state(session: Session, asked: Asked, preparation: Preparation) -> State:
    name, classes = asked.evaluation, IMAGENET_O if asked.imagenet_o else None
    if asked.scores == DEFAULT:
        return session.state(name, classes=classes)
    scores = {score: (KINDS[score].says(), KINDS[score].sweep if asked.search else {}) for score in asked.scores}
    keys = {part: None if source is None else source.key for part, source in vars(preparation).items()}
    return session.state(name, classes=classes, scores=scores, prepared=keys)


def _counted(data: str | None, source: Source | None) -> dict[str, Any]:
    return {} if source is None else {"data": data, "images": source.images}


def _validation_notes(asked: Asked, preparation: Preparation) -> list[str]:
    """Sentences on what validation images were for."""
    notes = []
    if preparation.validation is not None:
        own = f"{preparation.validation.images:,} images of {asked.val_data}"
        if REACT in asked.scores:
            notes.append(f"{REACT}: the percentile is that of {own}")
        if preparation.others is not None:
            others = f"{preparation.others.images:,} of {asked.ood_val}"
            notes.append(
                f"Parameters of {', '.join(searched(asked.scores))}: searched for, those of the greatest AUROC of "
                f"{own} against {others}"
            )
    return notes


def _finite(names: Sequence[str], values: Mapping[str, Scores]) -> tuple[list[str], list[str]]:
    """The scores that are finite numbers for every image, and a sentence for each other one."""
    kept, notes = [], []
    for score in names:
        broken = {name: int((~np.isfinite(found[score])).sum()) for name, found in values.items()}
        if bad := next((name for name, count in broken.items() if count), None):
            notes.append(f"{score}: left out, it is no finite number for {broken[bad]} images of {bad}")
        else:
            kept.append(score)
    if not kept:
        raise InputError("no score is left: " + "; ".join(notes))
    return kept, notes


def _joined(parts: Sequence[Scores]) -> Scores:
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _rates(score: str, own: Scores, outside: Mapping[str, Scores], groups: Mapping[str, str]) -> Rates:
    """The measures of each set, and their means over all, and over those that are near and far."""
    rows = {name: _row(score, own, found, bool(groups)) for name, found in outside.items()}
    means = {
        title: {key: float(np.mean([rows[name][key] for name in names])) for key in rows[names[0]]}
        for title, names in _means(rows, groups).items()
    }
    return {**rows, **means}


def _intervals(
    scores: Sequence[str], own: Scores, wide: Scores | None, outside: Mapping[str, Scores], groups: Mapping[str, str]
) -> dict[str, Any]:
    """Of all that is measured, in the places that it has in the result. wide: all images of the full spectrum."""
    means = _means(outside, groups)
    found: dict[str, Any] = {}
    for place, accuracy, inside in (
        ("scores", "accuracy", own),
        ("full_spectrum", "full_spectrum_accuracy", wide),
    ):
        if inside is None:
            continue
        found[place] = {
            score: ood_intervals(
                inside[score],
                inside["right"],
                {name: other[score] for name, other in outside.items()},
                means,
                as_openood=bool(groups),
            )
            for score in scores
        }
        found[accuracy] = share_interval(float(np.mean(inside["right"])), len(inside["right"]))
    return found


def _means(names: Iterable[str], groups: Mapping[str, str]) -> dict[str, list[str]]:
    """The sets that each mean is over."""
    members = {MEAN: list(names)}
    for title, group in ((NEAR, "near"), (FAR, "far")):
        if of := [name for name in members[MEAN] if groups.get(name) == group]:
            members[title] = of
    return members


def _row(score: str, own: Scores, other: Scores, as_openood: bool) -> dict[str, float]:
    inside, outside = own[score], other[score]
    row = {**ood_metrics(inside, outside), "oscr": oscr(inside, own["right"], outside)}
    return {**row, **openood_metrics(inside, outside)} if as_openood else row


def _unlike_published(asked: Asked, counts: Mapping[str, int]) -> list[str]:
    """A sentence for each set that is called as a published one and has another number of images.

    Lists are parts of such sets by design.
    """
    named = {name: counts[name] for name, path in asked.others.items() if not is_image_list(path)}
    if asked.imagenet_o:
        named = {IN_200: counts["in-distribution"], **named}
    usual = {name: PUBLISHED_IMAGES.get(name, PUBLISHED_IMAGES.get(name.lower().replace("-", "_"))) for name in named}
    return [
        f"{name}: {named[name]:,} images where the published set has {count:,}, so not that set"
        for name, count in usual.items()
        if count not in (None, named[name])
    ]
