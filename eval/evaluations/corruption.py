"""Error by corruption and severity on folders of ImageNet-C or C-bar, arrays of CIFAR-C or C-bar, or digits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apr_dali.data.arrays import SIDE, is_digits, load_set
from apr_dali.data.corruption_sets import find_corruption_folders, open_corruption_arrays
from apr_dali.data.small_corruptions import CORRUPTIONS as DIGITS_CORRUPTIONS
from apr_dali.errors import InputError
from apr_dali.eval.class_names import is_imagenet
from apr_dali.eval.clean import CleanResult
from apr_dali.eval.corruption import (
    C_BARS,
    CELLS,
    CORRUPTIONS,
    SEVERITIES,
    CorruptionTable,
    averaged_text,
    c_bar_names,
    c_bar_text,
    computed_text,
    made_text,
)
from apr_dali.eval.datasets import numbered, outputs_by_name
from apr_dali.eval.page import Section, Table, percent, spaced, tenths
from apr_dali.eval.passes import Source, evaluate_each, together
from apr_dali.eval.pictures import corruption_picture
from apr_dali.eval.published_numbers import PUBLISHED
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject, session_of
from apr_dali.eval.shared_pass import put_shared
from apr_dali.runtime.distributed import on_main
from apr_dali.runtime.text_table import table

if TYPE_CHECKING:
    from typing_extensions import Unpack

_NAMES = {
    "imagenet-c": "ImageNet-C",
    "generated": "generated set (not the published ImageNet-C)",
    "cifar-10-c": "CIFAR-10-C",
    "cifar-100-c": "CIFAR-100-C",
    "imagenet-c-bar": "ImageNet-C-bar",
    "cifar-10-c-bar": "CIFAR-10-C-bar",
    "digits": "corrupted digits (made here, no published set)",
}
_CIFAR = {"cifar10": "cifar-10-c", "cifar100": "cifar-100-c"}


@dataclass(frozen=True)
class Corruption(Result):
    """Errors under the corruptions of `data`.

    set: 16 hex digits of what the images are. name: the set's, in words. classes: of the network. table: the errors,
    and what follows from them. labels: what was assumed of labels without names; None where they have names.
    computed: of images made on the fly: seed, version, form, parameter_set, geometry, of_images; None for others.
    """

    data: str
    set: str
    name: str
    classes: int
    table: CorruptionTable
    labels: str | None = None
    computed: dict[str, Any] | None = None

    evaluation = "corruption"

    @property
    def mean_error(self) -> float:
        """Over the corruptions `table.averaged`, 0..1."""
        return float(self.table.summary()["mean_error"])

    @property
    def mce(self) -> float | None:
        """The mean corruption error of ImageNet-C in percent; None for other sets, or where corruptions are missing."""
        return self.table.summary().get("mce")

    def as_json(self) -> dict[str, Any]:
        about = {"data": self.data, "set": self.set, "name": self.name, "classes": self.classes}
        more = {"labels": self.labels, "computed": self.computed}
        return {**about, **self.table.as_json(), **{key: value for key, value in more.items() if value is not None}}

    def text(self) -> str:
        return _text(self.as_json())


def evaluate_corruption(
    model: Subject, data: str | Path, *, clean: str | Path | None = None, **options: Unpack[Options]
) -> Corruption:
    """The error under every corruption and severity of a set.

    Args:
        model, options: as for `evaluate_clean`.
        data: folders of ImageNet-C or C-bar, .npy files of CIFAR-C or C-bar, or the word digits for digits that are
            corrupted now.
        clean: the clean images, for the relative mCE; None to leave them out.

    Raises:
        InputError: for a set that is not whole, or a network that does not fit it.
    """
    with session_of(model, options) as session:
        return _measure(session, str(data), None if clean is None else str(clean))


def _measure(session: Session, data: str, clean: str | None) -> Corruption:
    session = session.of_several([data] if clean is None else [data, clean])
    cells, kind, name = corruption_cells(session, data)
    own = [] if clean is None else [session.labeled(clean)]
    sources = [*cells, *own]
    session.check(sources[0])
    state = session.state("corruption")
    for source in own:
        put_shared(session, source, state)
    results = evaluate_each(session.model, sources, session.group.device, state, session.amp)
    found = corruption_table(cells, results, kind)
    classes = session.network.classes
    labels = numbered(classes, "labels.npy has no names: its label") if _is_arrays(data) else None
    result = Corruption(data, together(sources), name, len(classes), found, labels)
    return result.finished(session, pictures_of(result), state)


def corruption_table(cells: list[Source], results: Mapping[str, CleanResult], kind: str) -> CorruptionTable:
    """The table of what was measured on `cells`, each corruption's severities in their order, and on the set `clean`,
    where that is among `results`."""
    clean = results.get("clean")
    severities = dict.fromkeys(int(cell.name.partition("/")[2]) for cell in cells)
    return CorruptionTable(
        _errors(cells, results),
        cells[0].images,
        1 - clean.top1 if clean else None,
        kind,
        clean.images if clean else 0,
        tuple(severities),
    )


def pictures_of(result: Corruption) -> dict[str, bytes]:
    """The colored table of the errors."""
    found = result.table
    title = f"{result.name}, {found.images:,} images per cell"
    return {"errors": corruption_picture(found.errors, title, found.severities)}


def _errors(cells: list[Source], results: Mapping[str, CleanResult]) -> dict[str, tuple[float, ...]]:
    """The errors by severity, in the order of the paper's tables, then the others by name."""
    names = list(dict.fromkeys(cell.name.partition("/")[0] for cell in cells))
    names.sort(key=lambda name: (CORRUPTIONS.index(name) if name in CORRUPTIONS else len(CORRUPTIONS), name))
    return {
        name: tuple(1 - results[cell.name].top1 for cell in cells if cell.name.startswith(f"{name}/")) for name in names
    }


def _text(result: dict[str, Any]) -> str:
    """The table of errors in percent and the means below it."""
    normalized = result.get("ce", result.get("generated_ce"))
    rows = [
        (
            name,
            *(f"{100 * error:.1f}" for error in row),
            f"{100 * sum(row) / len(row):.1f}",
            *([f"{normalized[name]:.1f}" if name in normalized else "–"] if normalized else []),
        )
        for name, row in result["errors"].items()
    ]
    severities = map(str, result["severities"])
    text = table(("error in percent", *severities, "mean", *(["CE"] if normalized else [])), rows)
    about = f"{result['name']}: {result['classes']:,} classes, {result['images']:,} images per cell"
    return f"{about}\n{text}\n" + "\n".join(_summary_lines(result))


def _summary_lines(result: dict[str, Any]) -> list[str]:
    """The means of a corruption result, a line each, and what is missing for the others."""
    lines = [f"mean error over {averaged_text(result)}: {100 * result['mean_error']:.2f} %"]
    if c_bar := c_bar_text(result):
        lines.append(f"mean error over {c_bar}: {100 * result['c_bar_error']:.2f} %")
    if "computed" in result:
        lines.append(computed_text(result))
    if result["clean_error"] is not None:
        lines.append(f"clean error {100 * result['clean_error']:.2f} % on {result['clean_images']:,} images")
    made = made_text(result)
    for key, text in (
        ("mce", "mCE"),
        ("relative_mce", "relative mCE"),
        ("generated_mce", f"{made}: AlexNet-normalized error, not comparable with published mCE,"),
        ("generated_relative_mce", f"{made}: relative, not comparable with published relative mCE,"),
    ):
        if key in result:
            lines.append(f"{text} {result[key]:.2f} %")
    if "labels" in result:
        lines.append(result["labels"])
    missing = [name for name in CORRUPTIONS if name not in result["errors"]]
    others_alone = result["kind"] == "digits" or c_bar_names(result["averaged"]) == tuple(result["averaged"])
    if missing and not others_alone:
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
    network = session.network
    if not network.takes_small:
        raise InputError(
            f"{data} has images of {SIDE}×{SIDE}, and {network.name} takes {network.image_size}×{network.image_size}: "
            "give ImageNet-C's folders, or a network for small images"
        )
    classes = len(network.classes)
    arrays = open_corruption_arrays(data, classes)
    sources = [
        session.feeding.array(f"{name}/{severity}", arrays.severity(name, severity), arrays.labels)
        for name in arrays.images
        for severity in SEVERITIES
    ]
    # The published ones have as many images of each class, and labels of their own classes.
    kind = _kind_of(_CIFAR.get(session.network.kind, "own"), arrays.images)
    of_each = CELLS.get(kind, 0) // classes
    if arrays.generated or not (np.bincount(arrays.labels, minlength=classes) == of_each).all():
        kind = "own"
    return sources, kind, _NAMES.get(kind) or _own_name(data, arrays.generated)


def _folders(session: Session, data: str) -> tuple[list[Source], str, str]:
    """The cells, their kind and their name."""
    classes, size, components = session.network.classes, session.network.image_size, session.feeding.components
    found = on_main(session.group, lambda: find_corruption_folders(data, classes, size, components))
    sources = [
        session.feeding.folder(f"{name}/{severity}", folder, classes, as_it_is=True)
        for name, folders in found.folders.items()
        for severity, folder in zip(SEVERITIES, folders, strict=True)
    ]
    count = _same_count(data, sources)
    kind = "generated" if found.generated else _kind_of("imagenet-c", found.folders)
    if count == CELLS.get(kind) and is_imagenet(classes):
        return sources, kind, _NAMES[kind]
    return sources, "own", _own_name(data, found.generated)


def _kind_of(kind: str, names: Collection[str]) -> str:
    """The kind of a set with these corruptions, which has no other than C-bar's, or is `kind`."""
    if c_bar_names(names) != tuple(names):
        return kind
    bar = f"{kind}-bar"
    return bar if set(names) <= set(C_BARS.get(_NAMES.get(bar, ""), ())) else "own"


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


# ---- on the page of a benchmark --------------------------------------------------------------------------------------


_CORRUPTION_KEYS = {
    "mce": "mCE",
    "relative_mce": "relative mCE",
    "generated_mce": "generated set: AlexNet-normalized error (not mCE of ImageNet-C)",
    "generated_relative_mce": "generated set: relative error (not relative mCE of ImageNet-C)",
}


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that matter, with their units."""
    counts = f"{result['classes']:,} classes, {result['images']:,} images per cell"
    found = {f"{result['name']} ({counts}): mean error over {averaged_text(result)}": percent(result["mean_error"])}
    if c_bar := c_bar_text(result):
        found[f"mean error over {c_bar}"] = percent(result["c_bar_error"])
    # mCE and its like are in percent already.
    labels = {key: label.replace("generated set", made_text(result)) for key, label in _CORRUPTION_KEYS.items()}
    found.update({label: f"{result[key]:.2f} %" for key, label in labels.items() if key in result})
    return found


def section(result: Mapping[str, Any]) -> Section:
    """The part of the page."""
    rows = tuple(
        (spaced(name), *(f"{100 * error:.1f}" for error in row), f"{100 * sum(row) / len(row):.1f}")
        for name, row in result["errors"].items()
    )
    notes = {
        "generated": "Made by apr-dali make-c: a generated set. Its corruptions are ImageNet-C's, given the "
        "draws; the published set has other draws, so that its numbers differ by chance.",
        "imagenet-c": "ImageNet-C's images, center crop without resizing.",
        "cifar-10-c": "Published files; errors are not normalized.",
        "cifar-100-c": "Published files; errors are not normalized.",
        "imagenet-c-bar": "ImageNet-C-bar's images, center crop without resizing; errors are not normalized.",
        "cifar-10-c-bar": "Published files; errors are not normalized.",
        "digits": "scikit-learn's digits, corrupted in ways of our own: there is no published set of them.",
        "own": "Neither ImageNet-C nor CIFAR-C as published: none of its numbers is comparable with a published one.",
    }
    about = f"{result['name']}: {result['classes']:,} classes, {result['images']:,} images per cell; {result['data']}."
    mean = f"Mean error over {averaged_text(result)}: {percent(result['mean_error'])}."
    if c_bar := c_bar_text(result):
        mean += f" Over {c_bar}: {percent(result['c_bar_error'])}."
    titles = ("error in percent", *map(str, result["severities"]), "mean")
    note = _sentence(computed_text(result)) if "computed" in result else notes[result["kind"]]
    return Section("Corruptions", (about, note, mean), _ce_tables(result), pictured=(Table(titles, rows),))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _ce_tables(result: Mapping[str, Any]) -> tuple[Table, ...]:
    """Corruption errors, beside published ones where they are ImageNet-C's."""
    own = result.get("ce", result.get("generated_ce"))
    if own is None:
        return ()
    beside = [entry for entry in PUBLISHED if entry.ce] if "ce" in result else []
    rows = [
        (spaced(name), f"{own[name]:.1f}", *(str(entry.ce[CORRUPTIONS.index(name)]) for entry in beside))
        for name in CORRUPTIONS
        if name in own
    ]
    if "mce" in result:
        rows.append(("mCE", f"{result['mce']:.1f}", *(tenths(entry.imagenet_c) for entry in beside)))
    name = "CE, AlexNet = 100" if beside else "AlexNet-normalized error, not CE of ImageNet-C"
    return (Table((name, "this network", *(entry.method for entry in beside)), tuple(rows)),)
