"""How well a network's scores tell other sets from its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from apr_dali.data.image_list import is_image_list
from apr_dali.errors import InputError, check_choice, check_whole
from apr_dali.eval.class_lists import IMAGENET_O
from apr_dali.eval.ood import ood_metrics, oscr
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
from apr_dali.eval.page import Section, Table, percent
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
METRICS = {
    "auroc": "AUROC",
    "aupr_in": "AUPR in",
    "aupr_out": "AUPR out",
    "fpr95": "FPR at 95 % TPR",
    "detection_accuracy": "detection accuracy",
    "oscr": "OSCR",
}
OPENOOD = {
    "auroc": "AUROC",
    "openood_aupr_in": "AUPR in",
    "openood_aupr_out": "AUPR out",
    "openood_fpr95": "FPR at 95 % TPR",
    "oscr": "OSCR",
}
"""What tables show of sets that are near or far: OpenOOD's measures."""

Rates = dict[str, dict[str, float]]
"""By set, `mean`, `nearood` and `farood`: measures, 0..1."""


@dataclass(frozen=True)
class Ood(Result):
    """How well scores tell the images of `data` from those of other sets.

    set: 16 hex digits of what all images are. sets: the others' places by name. images, set_images: how many.
    notes: of sets that are called as published ones and are not, and of scores that were left out. scores: by score,
    by set and their `mean`, METRICS, 0..1. accuracy: on `data`. name: the evaluation's, `imagenet-o` where it is of
    ImageNet-O's 200 classes alone, `openood` on OpenOOD's lists.
    groups: of sets that are near or far, `near` or `far`; each score then has the means `nearood` and `farood`, too,
    and each row OPENOOD. full_spectrum: the same as `scores`, where the images of `shifted`, places by name, count as
    in-distribution, too; full_spectrum_accuracy: on all of these. parameters: of the scores. fit: what some were fitted
    to: `data`, `images`.
    """

    data: str
    set: str
    sets: dict[str, str]
    images: int
    set_images: dict[str, int]
    notes: list[str]
    scores: dict[str, Rates]
    accuracy: float
    name: str = "ood"
    groups: dict[str, str] = field(default_factory=dict)
    shifted: dict[str, str] = field(default_factory=dict)
    full_spectrum: dict[str, Rates] = field(default_factory=dict)
    full_spectrum_accuracy: float | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    fit: dict[str, Any] | None = None

    @property
    def evaluation(self) -> str:
        return self.name

    def as_json(self) -> dict[str, Any]:
        keys = ("data", "set", "sets", "images", "set_images", "notes", "scores", "accuracy", "parameters")
        more = ("groups", "shifted", "full_spectrum", "full_spectrum_accuracy", "fit")
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


def columns_of(groups: Mapping[str, str]) -> dict[str, str]:
    """The measures that a table shows, with their titles."""
    return OPENOOD if groups else METRICS


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
    name: str

    @property
    def imagenet_o(self) -> bool:
        """Whether of ImageNet-O's 200 classes alone."""
        return self.name == IMAGENET_O_NAME

    @property
    def others(self) -> dict[str, str]:
        """All sets that the network does not know."""
        return {**self.ood, **self.near, **self.far}

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
    fit_images: int = FIT_IMAGES,
    list_root: str | Path | None = None,
    imagenet_o: bool = False,
    name: str = "ood",
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
        fit_data: training images of the network, for scores that are fitted. fit_images: so many of them at the most.
        list_root: the folder that the paths in image lists are below; None to look for it.
        imagenet_o: score with the 200 classes of ImageNet-O alone, as its paper does.
        name: what the result and its files are called, ood or openood; with `imagenet_o` imagenet-o.

    Raises:
        InputError: for a set or a network that does not fit, or a score that cannot be computed.
    """
    plain, close, distant, moved = (checked_sets(sets or {}) for sets in (ood, near, far, shifted))
    names = [*plain, *close, *distant, *moved]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two sets are called {twice[0]}: give each a name of its own")
    if not (plain or close or distant):
        raise InputError("ood names no set: expected at least one that the network does not know")
    if imagenet_o and moved:
        raise InputError("--imagenet-o has no full spectrum: leave out the shifted sets")
    check_choice("name", name, ("ood", "openood"))
    check_whole("fit_images", fit_images, 1)
    chosen = checked_scores(scores, fit_data, imagenet_o)
    given = None if fit_data is None else str(fit_data)
    if given is not None and os.path.abspath(given) == os.path.abspath(data):
        raise InputError(f"--fit-data {given} are the images that are to be told from others: give training images")
    root = None if list_root is None else str(list_root)
    title = IMAGENET_O_NAME if imagenet_o else name
    asked = Asked(str(data), plain, close, distant, moved, chosen, given, fit_images, root, title)
    with session_of(model, options) as session:
        return _measure(session, asked)


def _measure(session: Session, asked: Asked) -> Ood:
    given = [asked.data, *asked.others.values(), *asked.shifted.values()]
    session = session.of_several(given if asked.fit_data is None else [*given, asked.fit_data])
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
        name=asked.name,
        groups=asked.groups,
        shifted=asked.shifted,
        full_spectrum={score: _rates(score, wide, outside, asked.groups) for score in finite if shifted},
        full_spectrum_accuracy=float(np.mean(wide["right"])) if shifted else None,
        parameters={score: KINDS[score].parameters for score in finite if KINDS[score].parameters},
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
    name, classes = asked.name, IMAGENET_O if asked.imagenet_o else None
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
    members = {MEAN: list(rows)}
    for title, group in ((NEAR, "near"), (FAR, "far")):
        if of := [name for name in rows if groups.get(name) == group]:
            members[title] = of
    means = {
        title: {key: float(np.mean([rows[name][key] for name in names])) for key in rows[names[0]]}
        for title, names in members.items()
    }
    return {**rows, **means}


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


# ---- on the page of a benchmark --------------------------------------------------------------------------------------


def summary_of(name: str) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """What gives the numbers that matter, with their units, of the evaluation `name`."""

    def found(result: Mapping[str, Any]) -> dict[str, str]:
        sets = f"{result['images']:,} images against {_counted(result['set_images'])}"
        means = [(mean, f"{mean} ", "auroc", "AUROC") for mean in (NEAR, FAR)]
        if not result.get("groups"):
            means = [(MEAN, "", key, title) for key, title in (("auroc", "AUROC"), ("aupr_out", "AUPR-out"))]
        return {
            f"{name} {what}{title}, {score}, {sets}": percent(rows[mean][key])
            for score, rows in result["scores"].items()
            for mean, what, key, title in means
            if mean in rows
        }

    return found


def section(result: Mapping[str, Any]) -> Section:
    """The part of the page."""
    groups = result.get("groups", {})
    columns = columns_of(groups)
    parameters = result.get("parameters", {})
    tables = tuple(
        Table(
            (f"{score}{title}, percent", *columns.values()),
            tuple((name, *(f"{100 * row[key]:.2f}" for key in columns)) for name, row in rows.items()),
        )
        for title, scores in (("", result["scores"]), (", full spectrum", result.get("full_spectrum", {})))
        for score, rows in scores.items()
    )
    notes = [f"{result['images']:,} in-distribution images, against {_counted(result['set_images'])} images."]
    notes += result["notes"]
    if groups:
        notes.append(
            "Measures are OpenOOD v1.5's: FPR is the share of in-distribution images taken for others where 95 % of "
            f"the others are found; {NEAR} and {FAR} are means over the near and the far sets."
        )
    else:
        notes.append(
            "In-distribution is the positive class. The APR paper names max-softmax, its released code takes max-logit."
        )
    if result.get("shifted"):
        notes.append(f"Full spectrum: the images of {', '.join(result['shifted'])} count as in-distribution, too.")
    if parameters:
        notes.append("Parameters: " + "; ".join(f"{score}: {text}" for score, text in parameters.items()) + ".")
    if fit := result.get("fit"):
        notes.append(f"Fitted to {fit['images']:,} images of {fit['data']}.")
    return Section("Out of distribution", tuple(notes), tables)


def _counted(images: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in images.items())


def section_of_openood(result: Mapping[str, Any]) -> Section:
    """The part of the page about OpenOOD's sets."""
    return replace(section(result), title="OpenOOD v1.5")


def section_of_imagenet_o(result: Mapping[str, Any]) -> Section:
    """The part of the page about ImageNet-O."""
    found = section(result)
    more = "Logits of ImageNet-O's 200 classes alone; in-distribution: the validation images of the same classes."
    return replace(found, title="ImageNet-O", notes=(*found.notes, more))
