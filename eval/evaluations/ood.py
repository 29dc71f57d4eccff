"""How well a network's scores tell other sets from its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from apr_dali.data.arrays import DIGITS, SIDE, open_images
from apr_dali.data.folders import ImageSet
from apr_dali.data.listing import EXTENSIONS, images_below, listing
from apr_dali.data.sample import tiles
from apr_dali.errors import InputError
from apr_dali.eval.class_lists import IMAGENET_O
from apr_dali.eval.datasets import select
from apr_dali.eval.ood import SCORES, ood_metrics, oscr
from apr_dali.eval.page import Section, Table, percent
from apr_dali.eval.passes import ClassSlice, Source, collect, counted, is_right, progress, together
from apr_dali.eval.pictures import score_picture
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject, session_of
from apr_dali.eval.state import State
from apr_dali.runtime.distributed import on_main
from apr_dali.runtime.text_table import table

if TYPE_CHECKING:
    from typing_extensions import Unpack

PHOTOGRAPHS = "photographs"
_TILES = 400  # of them
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
TAKEN = ("in-distribution", "mean")
METRICS = ("auroc", "aupr_in", "aupr_out", "fpr95", "detection_accuracy", "oscr")


@dataclass(frozen=True)
class Ood(Result):
    """How well scores tell the images of `data` from those of other sets.

    set: 16 hex digits of what all images are. sets: the others' places by name. images, set_images: how many.
    notes: of sets that are called as published ones and are not. scores: by score, by set and their `mean`, METRICS,
    0..1. imagenet_o: whether of ImageNet-O's 200 classes alone.
    """

    data: str
    set: str
    sets: dict[str, str]
    images: int
    set_images: dict[str, int]
    notes: list[str]
    scores: dict[str, dict[str, dict[str, float]]]
    imagenet_o: bool = False

    @property
    def evaluation(self) -> str:
        return "imagenet-o" if self.imagenet_o else "ood"

    def as_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("data", "set", "sets", "images", "set_images", "notes", "scores")}

    def text(self) -> str:
        texts = []
        for score, sets in self.scores.items():
            rows = [(name, *(f"{100 * row[key]:.2f}" for key in METRICS)) for name, row in sets.items()]
            texts.append(table((f"{score}, percent", *METRICS), rows))
        return "\n\n".join(texts + ["\n".join(self.notes)] * bool(self.notes))


def evaluate_ood(
    model: Subject,
    data: str | Path,
    *,
    ood: Mapping[str, str | Path],
    imagenet_o: bool = False,
    **options: Unpack[Options],
) -> Ood:
    """AUROC and its like of telling other sets from the network's own, for each of SCORES.

    Args:
        model, options: as for `evaluate_clean`.
        data: in-distribution images.
        ood: by name, sets that the network does not know: folders; for a network of 32×32 images SVHN's .mat file,
            CIFAR's folder, and the words digits and photographs.
        imagenet_o: score with the 200 classes of ImageNet-O alone, as its paper does.

    Raises:
        InputError: for a set or a network that does not fit.
    """
    sets = checked_sets(ood)
    if not sets:
        raise InputError("ood names no set: expected at least one that the network does not know")
    with session_of(model, options) as session:
        return _measure(session, str(data), sets, imagenet_o)


def _measure(session: Session, data: str, sets: dict[str, str], imagenet_o: bool) -> Ood:
    session = session.of_several([data, *sets.values()])
    model: nn.Module = session.model
    if imagenet_o:
        model = ClassSlice(model, session.network.indices(IMAGENET_O)).to(session.group.device)
    inside = _in_source(session, data, imagenet_o)
    sources = [inside, *(out_source(session, *item) for item in sets.items())]
    session.check(inside, model, len(IMAGENET_O) if imagenet_o else None)
    state = session.state("imagenet-o" if imagenet_o else "ood", classes=IMAGENET_O if imagenet_o else None)
    own, *others = scored(session, model, sources, state)
    outside = dict(zip(sets, others, strict=True))
    counts = {key: source.images for key, source in zip(sets, sources[1:], strict=True)}
    notes = _unlike_published({**({IN_200: inside.images} if imagenet_o else {}), **counts})
    scores = {score: _rows(score, own, outside) for score in SCORES}
    result = Ood(data, together(sources), sets, len(own["right"]), counts, notes, scores, imagenet_o)
    shown = next(iter(SCORES))
    picture = score_picture(np.array(own[shown]), {key: np.array(outside[key][shown]) for key in sets}, shown)
    return result.finished(session, {"scores": picture}, state)


def _rows(score: str, own: dict[str, Any], outside: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The metrics of each set, and their `mean`."""
    rows = {key: _row(score, own, found) for key, found in outside.items()}
    return {**rows, "mean": {key: float(np.mean([row[key] for row in rows.values()])) for key in METRICS}}


def _unlike_published(counts: dict[str, int]) -> list[str]:
    """A sentence for each set that is called as a published one and has another number of images."""
    usual = {name: PUBLISHED_IMAGES.get(name, PUBLISHED_IMAGES.get(name.lower().replace("-", "_"))) for name in counts}
    return [
        f"{name}: {counts[name]:,} images where the published set has {count:,}, so not that set"
        for name, count in usual.items()
        if count not in (None, counts[name])
    ]


def scored(session: Session, model: nn.Module, sources: list[Source], state: State) -> list[dict[str, list[float]]]:
    """Of each source the scores of its images by name, and which are `right`; `state` keeps them."""
    with progress([source for source in sources if source.key not in state]) as bar:
        for source in sources:
            if source.key not in state:
                bar.set_description(source.name)
                with source.open() as batches:
                    values = collect(model, counted(batches, bar), _FUNCTIONS, session.group.device, session.amp)
                state.put(source.key, {key: value.tolist() for key, value in values.items()})
    return [state.get(source.key) for source in sources]


def _of_logits(score: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, _: score(logits)


_FUNCTIONS = {**{name: _of_logits(score) for name, score in SCORES.items()}, "right": is_right}


def checked_sets(sets: Mapping[str, str | Path]) -> dict[str, str]:
    """The places of sets by name; InputError for a name that results have already, or a place that is not there."""
    for name, path in sets.items():
        if name in TAKEN:
            raise InputError(f"a set cannot be called {name}: results have that name; give {path} another")
        if not os.path.exists(path) and str(path) not in (DIGITS, PHOTOGRAPHS):
            raise InputError(f"{name}={path}: {path} is not there")
    return {name: str(path) for name, path in sets.items()}


def _row(score: str, inside: dict[str, Any], outside: dict[str, Any]) -> dict[str, float]:
    return {
        **ood_metrics(inside[score], outside[score]),
        "oscr": oscr(inside[score], inside["right"], outside[score]),
    }


def _in_source(session: Session, data: str, imagenet_o: bool) -> Source:
    if not imagenet_o:
        return session.labeled(data, "in-distribution")
    listing = on_main(session.group, lambda: _list_classes(data, session.output / "imagenet-o.files.txt"))
    return session.feeding.folder("in-distribution", str(listing), classes=IMAGENET_O)


def _list_classes(data: str, path: Path) -> Path:
    """A file list of the images in `data` that belong to the 200 classes, written to `path`."""
    wanted = set(IMAGENET_O)
    missing = sorted(wanted - {entry.name for entry in os.scandir(data)})
    if missing:
        raise InputError(f"{data} lacks {len(missing)} of ImageNet-O's 200 classes: {', '.join(missing[:5])}")
    depth = len(Path(data).absolute().parts)
    select(
        data, path, lambda files: [n for n, file in enumerate(files) if Path(file).parts[depth] in wanted], IMAGENET_O
    )
    return path


def out_source(session: Session, name: str, path: str) -> Source:
    """The images of a set that the network does not know, whose labels mean nothing."""
    if path == PHOTOGRAPHS and not os.path.exists(path):
        if not session.network.takes_small:
            raise InputError(f"{name}={path}: its tiles of {SIDE}×{SIDE} pixels are for networks of small images")
        images = tiles(SIDE, _TILES)
        return session.feeding.array(name, images, np.zeros(len(images), np.int64))
    if session.takes_small(path):
        images, labels = open_images(path)
        return session.feeding.array(name, images, labels * 0)
    # It needs no class folders.
    flat = os.path.isdir(path) and any(file.lower().endswith(EXTENSIONS) for file in listing(path)[0])
    return session.feeding.folder(name, _unlabeled(path) if flat else path)


def _unlabeled(path: str) -> ImageSet:
    """All images below a folder, of one class."""
    files = tuple(images_below(os.path.abspath(path)))
    return ImageSet(files, np.zeros(len(files), np.int64), ("image",))


# ---- on the page of a benchmark --------------------------------------------------------------------------------------


def summary_of(name: str) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """What gives the numbers that matter, with their units, of the evaluation `name`."""

    def found(result: Mapping[str, Any]) -> dict[str, str]:
        sets = f"{result['images']:,} images against {_counted(result['set_images'])}"
        return {
            f"{name} {title}, {score}, {sets}": percent(rows["mean"][key])
            for score, rows in result["scores"].items()
            for key, title in (("auroc", "AUROC"), ("aupr_out", "AUPR-out"))
        }

    return found


def section(result: Mapping[str, Any]) -> Section:
    """The part of the page."""
    keys = ("auroc", "aupr_in", "aupr_out", "fpr95", "detection_accuracy", "oscr")
    titles = ("AUROC", "AUPR in", "AUPR out", "FPR at 95 % TPR", "detection accuracy", "OSCR")
    tables = tuple(
        Table(
            (f"{score}, percent", *titles),
            tuple((name, *(f"{100 * row[key]:.2f}" for key in keys)) for name, row in rows.items()),
        )
        for score, rows in result["scores"].items()
    )
    note = "In-distribution is the positive class. The APR paper names max-softmax, its released code takes max-logit."
    counts = f"{result['images']:,} in-distribution images, against {_counted(result['set_images'])} images."
    return Section("Out of distribution", (counts, *result["notes"], note), tables)


def _counted(images: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in images.items())


def section_of_imagenet_o(result: Mapping[str, Any]) -> Section:
    """The part of the page about ImageNet-O."""
    found = section(result)
    more = "Logits of ImageNet-O's 200 classes alone; in-distribution: the validation images of the same classes."
    return replace(found, title="ImageNet-O", notes=(*found.notes, more))
