"""`apr-dali eval corruption`: error by corruption and severity on ImageNet-C's folders, CIFAR-C's arrays or digits."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np

from apr_dali.commands.clean import labelled
from apr_dali.data.arrays import is_digits, load_set
from apr_dali.data.corruption_sets import find_corruption_folders, open_corruption_arrays
from apr_dali.data.small_corruptions import CORRUPTIONS as DIGITS_CORRUPTIONS
from apr_dali.errors import InputError
from apr_dali.eval.class_names import is_imagenet
from apr_dali.eval.corruption import CELLS, CORRUPTIONS, SEVERITIES, CorruptionTable
from apr_dali.eval.datasets import numbered, outputs_by_name
from apr_dali.eval.passes import Source, evaluate_each, together
from apr_dali.eval.pictures import corruption_picture
from apr_dali.eval.report import averaged_text
from apr_dali.eval.session import Session, table
from apr_dali.runtime.distributed import on_main

_NAMES = {
    "imagenet-c": "ImageNet-C",
    "generated": "generated set (not the published ImageNet-C)",
    "cifar-10-c": "CIFAR-10-C",
    "cifar-100-c": "CIFAR-100-C",
    "digits": "corrupted digits (made here, no published set)",
}
_CIFAR = {"cifar10": "cifar-10-c", "cifar100": "cifar-100-c"}


def corruption(session: Session, data: str, clean: str | None) -> tuple[dict[str, Any], str]:
    """Measure every corruption below `data`, and the images of `clean`: the record and its text."""
    session = session.of_several([data] if clean is None else [data, clean])
    cells, kind, name = corruption_cells(session, data)
    sources = [*cells, labelled(session, clean)] if clean is not None else cells
    session.check(sources[0])
    state = session.state("corruption")
    results = evaluate_each(session.model, sources, session.group.device, state, session.amp)
    names = list(dict.fromkeys(source.name.partition("/")[0] for source in cells))
    # The order of the paper's tables, then the others by name.
    names.sort(key=lambda name: (CORRUPTIONS.index(name) if name in CORRUPTIONS else len(CORRUPTIONS), name))
    errors = {
        name: tuple(1 - results[cell.name].top1 for cell in cells if cell.name.startswith(f"{name}/")) for name in names
    }
    of_clean = results["clean"] if clean is not None else None
    found = CorruptionTable(
        errors,
        cells[0].images,
        1 - of_clean.top1 if of_clean else None,
        kind,
        of_clean.images if of_clean else 0,
    )
    about = {"data": data, "set": together(sources), "name": name, "classes": len(session.network.classes)}
    result = {**about, **found.as_json()}
    if _is_arrays(data):
        result["labels"] = numbered(session.network.classes, "labels.npy has no names: its label")
    picture = corruption_picture(errors, f"{name}, {found.images:,} images a cell")
    return session.finish("corruption", result, {"errors": picture}, state), corruption_text(result)


def corruption_text(result: dict[str, Any]) -> str:
    """The table of errors in percent and the means below it."""
    normalised = result.get("ce", result.get("generated_ce"))
    rows = [
        (
            name,
            *(f"{100 * error:.1f}" for error in row),
            f"{100 * sum(row) / len(row):.1f}",
            *([f"{normalised[name]:.1f}" if name in normalised else "–"] if normalised else []),
        )
        for name, row in result["errors"].items()
    ]
    severities = len(next(iter(result["errors"].values())))
    text = table(
        ("error in percent", *map(str, range(1, severities + 1)), "mean", *(["CE"] if normalised else [])), rows
    )
    about = f"{result['name']}: {result['classes']:,} classes, {result['images']:,} images a cell"
    return f"{about}\n{text}\n" + "\n".join(summary_lines(result))


def summary_lines(result: dict[str, Any]) -> list[str]:
    """The means of a corruption result, a line each, and what is missing for the others."""
    lines = [f"mean error over {averaged_text(result)}: {100 * result['mean_error']:.2f} %"]
    if result["clean_error"] is not None:
        lines.append(f"clean error {100 * result['clean_error']:.2f} % on {result['clean_images']:,} images")
    for key, text in (
        ("mce", "mCE"),
        ("relative_mce", "relative mCE"),
        ("generated_mce", "generated set: AlexNet-normalised error, not comparable with published mCE,"),
        ("generated_relative_mce", "generated set: relative, not comparable with published relative mCE,"),
    ):
        if key in result:
            lines.append(f"{text} {result[key]:.2f} %")
    if "labels" in result:
        lines.append(result["labels"])
    missing = [name for name in CORRUPTIONS if name not in result["errors"]]
    if missing and result["kind"] != "digits":
        lines.append(f"no mean over the whole benchmark: {', '.join(missing)} missing")
    return lines


def corruption_cells(session: Session, data: str) -> tuple[list[Source], str, str]:
    """The cells of a set, each corruption's severities in their order, its kind and its name."""
    if session.takes_small(data) and is_digits(data):
        return _digits(session), "digits", _NAMES["digits"]
    return _arrays(session, data) if _is_arrays(data) else _folders(session, data)


def _digits(session: Session) -> list[Source]:
    """The test images of the digits under each of `small_corruptions`, made now."""
    digits = load_set("digits", "val")
    labels = outputs_by_name(session.network.classes, digits.classes, "digits")[digits.labels]
    return [
        session.feeding.array(f"{name}/{severity}", corrupt(digits.images, strength), labels)
        for name, (corrupt, strengths) in DIGITS_CORRUPTIONS.items()
        for severity, strength in enumerate(strengths, 1)
    ]


def _is_arrays(data: str) -> bool:
    return os.path.isfile(os.path.join(data, "labels.npy"))


def _arrays(session: Session, data: str) -> tuple[list[Source], str, str]:
    """The cells, their kind and their name."""
    classes = len(session.network.classes)
    arrays = open_corruption_arrays(data, classes)
    sources = [
        session.feeding.array(f"{name}/{severity}", arrays.severity(name, severity), arrays.labels)
        for name in arrays.images
        for severity in SEVERITIES
    ]
    # The published ones have as many images of each class, and labels of their own classes.
    kind = _CIFAR.get(session.network.kind, "own")
    of_each = CELLS.get(kind, 0) // classes
    if arrays.generated or not (np.bincount(arrays.labels, minlength=classes) == of_each).all():
        kind = "own"
    return sources, kind, _NAMES.get(kind) or _own_name(data, arrays.generated)


def _folders(session: Session, data: str) -> tuple[list[Source], str, str]:
    """The cells, their kind and their name."""
    classes, size = session.network.classes, session.network.image_size
    found = on_main(session.group, lambda: find_corruption_folders(data, classes, size))
    sources = [
        session.feeding.folder(f"{name}/{severity}", folder, classes, as_it_is=True)
        for name, folders in found.folders.items()
        for severity, folder in zip(SEVERITIES, folders, strict=True)
    ]
    count = _same_count(data, sources)
    kind = "generated" if found.generated else "imagenet-c"
    if count == CELLS[kind] and is_imagenet(classes):
        return sources, kind, _NAMES[kind]
    return sources, "own", _own_name(data, found.generated)


def _same_count(data: str, cells: list[Source]) -> int:
    """How many images each cell has; InputError where one has another number than the others."""
    counts = Counter(cell.images for cell in cells)
    usual = counts.most_common(1)[0][0]
    others = [f"{cell.name} {cell.images:,}" for cell in cells if cell.images != usual]
    if others:
        raise InputError(
            f"{data}: {counts[usual]} of {len(cells)} cells have {usual:,} images, the others not: "
            f"{', '.join(others[:5])}{' …' if len(others) > 5 else ''}; a corruption and severity that is not whole "
            "has another error: complete it, or move the corruption elsewhere"
        )
    return usual


def _own_name(data: str, generated: bool) -> str:
    return f"own set {os.path.basename(os.path.abspath(data))}{', made by apr-dali make-c' if generated else ''}"
