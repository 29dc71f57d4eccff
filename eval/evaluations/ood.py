"""How well a network's scores tell other sets from its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from apr_dali.data.arrays import cifar_at, is_digits
from apr_dali.data.image_list import is_image_list
from apr_dali.errors import InputError, check_choice, check_whole
from apr_dali.eval.bootstrap import share_interval
from apr_dali.eval.class_lists import IMAGENET_O
from apr_dali.eval.ood import ood_metrics, oscr
from apr_dali.eval.ood_draws import ood_intervals
from apr_dali.eval.ood_page import columns_of
from apr_dali.eval.ood_scores import DEFAULT, KINDS, checked_scores
from apr_dali.eval.ood_scoring import Scores, scored
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
FIT_IMAGES = 50_000
IMAGENET_O_NAME = "imagenet-o"
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
    were fitted to: `data`, `images`.
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
    fit: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        keys = ("data", "set", "sets", "images", "set_images", "notes", "scores", "accuracy", "parameters")
        more = ("intervals", "groups", "shifted", "full_spectrum", "full_spectrum_accuracy", "fit")
        found = {key: getattr(self, key) for key in more}
        return {**{key: getattr(self, key) for key in keys}, **{key: value for key, value in found.items() if value}}

    def text(self) -> str:
        columns = columns_of(self.groups)
        texts = []
        for title, scores in (("", self.scores), (" (full spectrum)", self.full_spectrum)):
            for score, sets in scores.items():
                rows = [(name, *(f"{100 * row[key]:.2f}" for key in columns)) for name, row in sets.items()]
                texts.append(table((f"{score}{title}, percent", *columns), rows))
        return "\n\n".join(texts + ["\n".join(self.notes)] * bool(self.notes))


@dataclass(frozen=True)
class Asked:
    """What `evaluate_ood` is asked for: places of sets by name, see there."""

    data: str
    ood: dict[str, str]
    near: dict[str, str]
    far: dict[str, str]
    shifted: dict[str, str]
    scores: tuple[str, ...]
    fit_data: str | None
    fit_images: int
    list_root: str | None
    evaluation: str

    @property
    def imagenet_o(self) -> bool:
        """Whether of ImageNet-O's 200 classes alone."""
        return self.evaluation == IMAGENET_O_NAME

    @property
    def others(self) -> dict[str, str]:
        """All sets that the network does not know."""
        return {**self.ood, **self.near, **self.far}

    @property
    def places(self) -> list[str]:
        """Where all images are."""
        fit = [] if self.fit_data is None else [self.fit_data]
        return [self.data, *self.others.values(), *self.shifted.values(), *fit]

    @property
    def groups(self) -> dict[str, str]:
        """Which of them are near or far."""
        return {**dict.fromkeys(self.near, "near"), **dict.fromkeys(self.far, "far")}


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
        scores: of `apr_dali.eval.ood_scores.KINDS`, or all; None for the three that need no library.
        fit_data: training images of the network, for scores that are fitted. fit_images: so many of them at the most;
            None for FIT_IMAGES.
        list_root: the folder that the paths in image lists are below; None to look for it.
        imagenet_o: score with the 200 classes of ImageNet-O alone, as its paper does.
        evaluation: what the result and its files are called, ood or openood; with `imagenet_o` imagenet-o.

    Raises:
        InputError: for a set or a network that does not fit, or a score that cannot be computed.
    """
    plain, close, distant, moved = (checked_sets(sets or {}) for sets in (ood, near, far, shifted))
    _check_names([*plain, *close, *distant], moved)
    if imagenet_o and moved:
        raise InputError("--imagenet-o has no full spectrum: leave out the shifted sets")
    check_choice("evaluation", evaluation, ("ood", "openood"))
    given = None if fit_data is None else str(fit_data)
    chosen = checked_scores(scores, given, imagenet_o)
    limit = _fit_limit(str(data), given, fit_images)
    root = None if list_root is None else str(list_root)
    title = IMAGENET_O_NAME if imagenet_o else evaluation
    asked = Asked(str(data), plain, close, distant, moved, chosen, given, limit, root, title)
    if root is not None and not any(map(is_image_list, asked.places)):
        raise InputError(f"--list-root {root} changes nothing: no set is an image list; leave it out")
    with session_of(model, options) as session:
        return _measure(session, asked)


def _check_names(unknown: Sequence[str], shifted: Iterable[str]) -> None:
    """Raise InputError unless there is a set that the network does not know, and each has a name of its own."""
    names = [*unknown, *shifted]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two sets are called {twice[0]}: give each a name of its own")
    if not unknown:
        raise InputError("ood names no set: expected at least one that the network does not know")


def _fit_limit(data: str, fit_data: str | None, fit_images: int | None) -> int:
    """How many images scores are fitted to at the most."""
    if fit_data is None:
        if fit_images is not None:
            raise InputError("--fit-images changes nothing where no score is fitted: leave it out, or give --fit-data")
    elif os.path.abspath(fit_data) == os.path.abspath(data) and not (is_digits(data) or cifar_at(data)):
        # Digits and CIFAR have a training split of their own.
        raise InputError(f"--fit-data {fit_data} are the images that are to be told from others: give training images")
    limit = FIT_IMAGES if fit_images is None else fit_images
    check_whole("fit_images", limit, 1)
    return limit


def _measure(session: Session, asked: Asked) -> Ood:
    session = session.of_several(asked.places)
    model: nn.Module = session.model
    if asked.imagenet_o:
        model = ClassSlice(model, session.network.indices(IMAGENET_O)).to(session.group.device)
    sources, fit = _sources(session, asked)
    images = session.check(sources[0], model, len(IMAGENET_O) if asked.imagenet_o else None)
    state = _state(session, asked, fit)
    found = scored(session, model, sources, state, asked.scores, images, fit)
    values = {source.name: scores for source, scores in zip(sources, found, strict=True)}
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
        notes=[*_unlike_published(asked, counts), *notes],
        scores=rates,
        accuracy=float(np.mean(own["right"])),
        evaluation=asked.evaluation,
        groups=asked.groups,
        shifted=asked.shifted,
        full_spectrum={score: _rates(score, wide, outside, asked.groups) for score in finite if shifted},
        full_spectrum_accuracy=float(np.mean(wide["right"])) if shifted else None,
        parameters={score: KINDS[score].parameters for score in finite if KINDS[score].parameters},
        intervals=_intervals(finite, own, wide if shifted else None, outside, asked.groups),
        fit=None if fit is None else {"data": asked.fit_data, "images": fit.images},
    )
    shown = finite[0]
    picture = score_picture(np.array(own[shown]), {name: np.array(outside[name][shown]) for name in outside}, shown)
    return result.finished(session, {"scores": picture}, state)


def _sources(session: Session, asked: Asked) -> tuple[list[Source], Source | None]:
    """The network's own images, the other sets and the shifted ones; and what scores are fitted to."""
    root = asked.list_root
    if asked.imagenet_o:
        inside = in_source_of_some(session, asked.data, IMAGENET_O)
    else:
        inside = in_source(session, asked.data, root)
    outside = [out_source(session, name, path, root, name in asked.groups) for name, path in asked.others.items()]
    shifted = [shifted_source(session, name, path, root) for name, path in asked.shifted.items()]
    fit = None if asked.fit_data is None else fit_source(session, asked.fit_data, asked.fit_images, root)
    return [inside, *outside, *shifted], fit


def _state(session: Session, asked: Asked, fit: Source | None) -> State:
    name, classes = asked.evaluation, IMAGENET_O if asked.imagenet_o else None
    if asked.scores == DEFAULT:
        return session.state(name, classes=classes)
    parameters = {score: KINDS[score].parameters for score in asked.scores}
    return session.state(name, classes=classes, scores=parameters, fit=None if fit is None else fit.key)


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
    for prefix, inside in (("", own), ("full_spectrum", wide)):
        if inside is None:
            continue
        found[prefix or "scores"] = {
            score: ood_intervals(
                inside[score],
                inside["right"],
                {name: other[score] for name, other in outside.items()},
                means,
                as_openood=bool(groups),
            )
            for score in scores
        }
        right = inside["right"]
        found[f"{prefix}_accuracy".lstrip("_")] = share_interval(float(np.mean(right)), len(right))
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
