"""`apr-dali eval corruption`: error by corruption and severity on ImageNet-C's folders or CIFAR-C's arrays."""

from __future__ import annotations

import os
from typing import Any

from apr_dali.commands.clean import labelled
from apr_dali.commands.session import Session, table
from apr_dali.commands.sources import numbered
from apr_dali.data.corruption_sets import find_corruption_folders, open_corruption_arrays
from apr_dali.data.folders import open_set
from apr_dali.eval.corruption import CORRUPTIONS, SEVERITIES, CorruptionTable
from apr_dali.eval.passes import Source, evaluate_each
from apr_dali.eval.pictures import corruption_picture
from apr_dali.training.distributed import on_main


def corruption(session: Session, data: str, clean: str | None) -> tuple[dict[str, Any], str]:
    """Measure every corruption below `data`, and the images of `clean`: the record and its text."""
    sources, kind = _arrays(session, data) if _is_arrays(data) else _folders(session, data)
    if clean is not None:
        sources.append(labelled(session, clean))
    session.check(sources[0])
    state = session.state("corruption", data=os.path.abspath(data))
    results = evaluate_each(session.model, sources, session.group.device, state, session.amp)
    names = list(dict.fromkeys(source.name.partition("/")[0] for source in sources if "/" in source.name))
    # The order of the paper's tables, then the others by name.
    names.sort(key=lambda name: (CORRUPTIONS.index(name) if name in CORRUPTIONS else len(CORRUPTIONS), name))
    errors = {name: tuple(1 - results[f"{name}/{severity}"].top1 for severity in SEVERITIES) for name in names}
    found = CorruptionTable(
        errors,
        results[sources[0].name].images,
        1 - results["clean"].top1 if clean is not None else None,
        kind,
    )
    result = {"data": data, **found.as_json()}
    if kind == "cifar-c":
        result["labels"] = numbered(session.network.classes, "labels.npy has no names: its label")
    picture = corruption_picture(errors, LABELS[kind])
    return session.finish("corruption", result, {"errors": picture}), corruption_text(result)


LABELS = {
    "imagenet-c": "ImageNet-C",
    "generated": "generated set (not the published ImageNet-C)",
    "cifar-c": "CIFAR-C",
}


def corruption_text(result: dict[str, Any]) -> str:
    """The table of errors in percent and the means below it."""
    rows = [
        (name, *(f"{100 * error:.1f}" for error in row), f"{100 * sum(row) / len(row):.1f}")
        for name, row in result["errors"].items()
    ]
    text = table(("error in percent", *map(str, SEVERITIES), "mean"), rows)
    return f"{LABELS[result['kind']]}, {result['images']} images a cell\n{text}\n" + "\n".join(summary_lines(result))


def summary_lines(result: dict[str, Any]) -> list[str]:
    """The means of a corruption result, a line each, and what is missing for the others."""
    lines = [f"mean error {100 * result['mean_error']:.2f} %"]
    if result["clean_error"] is not None:
        lines.append(f"clean error {100 * result['clean_error']:.2f} %")
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
    if missing:
        lines.append(f"no mean over the whole benchmark: {', '.join(missing)} missing")
    return lines


def _is_arrays(data: str) -> bool:
    return os.path.isfile(os.path.join(data, "labels.npy"))


def _arrays(session: Session, data: str) -> tuple[list[Source], str]:
    arrays = open_corruption_arrays(data, len(session.network.classes))
    sources = [
        session.feeding.array(f"{name}/{severity}", arrays.severity(name, severity), arrays.labels)
        for name in arrays.images
        for severity in SEVERITIES
    ]
    return sources, "cifar-c"


def _folders(session: Session, data: str) -> tuple[list[Source], str]:
    classes, size = session.network.classes, session.network.image_size
    found = on_main(session.group, lambda: find_corruption_folders(data, classes, size))
    # Listing millions of files for the progress bar alone would take minutes: all cells have about as many.
    first = next(iter(found.folders.values()))[0]
    count = on_main(session.group, lambda: len(open_set(first, classes=classes)))
    sources = [
        session.feeding.folder(f"{name}/{severity}", folder, classes, as_it_is=True, images=count)
        for name, folders in found.folders.items()
        for severity, folder in zip(SEVERITIES, folders, strict=True)
    ]
    return sources, "generated" if found.generated else "imagenet-c"
