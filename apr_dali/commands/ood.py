"""`apr-dali eval ood`: how well a network's scores tell other sets from its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from apr_dali.commands.clean import labelled
from apr_dali.data.arrays import DIGITS, SIDE, open_images
from apr_dali.data.folders import EXTENSIONS, ImageSet, images_below, listing
from apr_dali.data.sample import tiles
from apr_dali.errors import InputError
from apr_dali.eval.class_lists import IMAGENET_O
from apr_dali.eval.datasets import select
from apr_dali.eval.ood import SCORES, ood_metrics, oscr
from apr_dali.eval.passes import ClassSlice, Source, collect, counted, is_right, progress, together
from apr_dali.eval.pictures import score_picture
from apr_dali.eval.session import Session, table
from apr_dali.eval.state import State
from apr_dali.runtime.distributed import on_main

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
METRICS = ("auroc", "aupr_in", "aupr_out", "fpr95", "detection_accuracy", "oscr")


def ood(session: Session, data: str, sets: list[str], imagenet_o: bool) -> tuple[dict[str, Any], str]:
    """Score `data` and each NAME=PATH of `sets`: the record and its text."""
    paths = parse_sets(sets)
    session = session.of_several([data, *paths.values()])
    model: nn.Module = session.model
    name = "imagenet-o" if imagenet_o else "ood"
    if imagenet_o:
        model = ClassSlice(model, session.network.indices(IMAGENET_O)).to(session.group.device)
    inside = _in_source(session, data, imagenet_o)
    sources = [inside, *(out_source(session, *item) for item in paths.items())]
    session.check(inside, model, len(IMAGENET_O) if imagenet_o else None)
    state = session.state(name, classes=IMAGENET_O if imagenet_o else None)
    own, *others = scored(session, model, sources, state)
    outside = dict(zip(paths, others, strict=True))
    table_of = {score: {key: _row(score, own, outside[key]) for key in paths} for score in SCORES}
    for rows in table_of.values():
        rows["mean"] = {key: float(np.mean([row[key] for row in rows.values()])) for key in METRICS}
    counts = {key: source.images for key, source in zip(paths, sources[1:], strict=True)}
    result = {
        "data": data,
        "set": together(sources),
        "sets": paths,
        "images": len(own["right"]),
        "set_images": counts,
        "notes": _unlike_published({**({IN_200: inside.images} if imagenet_o else {}), **counts}),
        "scores": table_of,
    }
    shown = next(iter(SCORES))
    picture = score_picture(np.array(own[shown]), {key: np.array(outside[key][shown]) for key in paths}, shown)
    return session.finish(name, result, {"scores": picture}, state), ood_text(result)


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


def parse_sets(sets: list[str]) -> dict[str, str]:
    """The paths of `NAME=PATH` by name; InputError for a bad one, or one that is not there."""
    found: dict[str, str] = {}
    for item in sets:
        name, equals, path = item.partition("=")
        if not (equals and name and path) or name in found or name in ("in-distribution", "mean"):
            raise InputError(f"--ood expects NAME=PATH, each name once, got {item!r}")
        if not os.path.exists(path) and path not in (DIGITS, PHOTOGRAPHS):
            raise InputError(f"--ood {item}: {path} is not there")
        found[name] = path
    return found


def ood_text(result: dict[str, Any]) -> str:
    """One table a score, in percent, and what is to know of the sets."""
    texts = []
    for score, sets in result["scores"].items():
        rows = [(name, *(f"{100 * row[key]:.2f}" for key in METRICS)) for name, row in sets.items()]
        texts.append(table((f"{score}, percent", *METRICS), rows))
    return "\n\n".join(texts + ["\n".join(result["notes"])] * bool(result["notes"]))


def _row(score: str, inside: dict[str, Any], outside: dict[str, Any]) -> dict[str, float]:
    return {
        **ood_metrics(inside[score], outside[score]),
        "oscr": oscr(inside[score], inside["right"], outside[score]),
    }


def _in_source(session: Session, data: str, imagenet_o: bool) -> Source:
    if not imagenet_o:
        return labelled(session, data, "in-distribution")
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
        if session.network.image_size != SIDE:
            raise InputError(f"--ood {name}={path}: its tiles of {SIDE}×{SIDE} pixels are for networks of small images")
        images = tiles(SIDE, _TILES)
        return session.feeding.array(name, images, np.zeros(len(images), np.int64))
    if session.takes_small(path):
        images, labels = open_images(path)
        return session.feeding.array(name, images, labels * 0)
    # It needs no class folders.
    flat = os.path.isdir(path) and any(file.lower().endswith(EXTENSIONS) for file in listing(path)[0])
    return session.feeding.folder(name, _unlabelled(path) if flat else path)


def _unlabelled(path: str) -> ImageSet:
    """All images below a folder, of one class."""
    files = tuple(images_below(os.path.abspath(path)))
    return ImageSet(files, np.zeros(len(files), np.int64), ("image",))
