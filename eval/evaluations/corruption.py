"""Error by corruption and severity on folders of ImageNet-C or C-bar, arrays of CIFAR-C or C-bar, or digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr_dali.data.image_ids import read_image_ids
from apr_dali.errors import check_choice
from apr_dali.eval.corruption import (
    CORRUPTIONS,
    CorruptionTable,
    averaged_text,
    c_bar_names,
    c_bar_text,
    computed_text,
    made_text,
    other_set,
)
from apr_dali.eval.corruption_intervals import intervals_of
from apr_dali.eval.corruption_sources import corruption_cells, is_arrays
from apr_dali.eval.datasets import numbered
from apr_dali.eval.page import Section, Table, interval_text, percent, spaced, tenths, with_interval
from apr_dali.eval.passes import Source, together
from apr_dali.eval.pictures import corruption_picture
from apr_dali.eval.published_numbers import PUBLISHED
from apr_dali.eval.recorded import KEEPS, Recorded, evaluate_recorded
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject, session_of
from apr_dali.eval.shared_pass import put_shared
from apr_dali.eval.state import State
from apr_dali.runtime.text_table import table

if TYPE_CHECKING:
    from typing_extensions import Unpack


BESIDE = ("imagenet-c-bar", "imagenet-3dcc", "laion-c", "cifar-c-bar")
"""What evaluations of corrupted sets beside ImageNet-C or CIFAR-C are called."""


@dataclass(frozen=True)
class Corruption(Result):
    """Errors under the corruptions of `data`.

    set: 16 hex digits of what the images are. name: the set's, in words. classes: of the network. table: the errors,
    and what follows from them. labels: what was assumed of labels without names; None where they have names.
    computed: of images made on the fly: seed, version, form, parameter_set, geometry, of_images; None for others.
    evaluation: its name: another set beside one that is called corruption has another, of BESIDE.
    """

    data: str
    set: str
    name: str
    classes: int
    table: CorruptionTable
    labels: str | None = None
    computed: dict[str, Any] | None = None
    evaluation: str = "corruption"

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
    model: Subject,
    data: str | Path,
    *,
    clean: str | Path | None = None,
    image_list: str | Path | None = None,
    evaluation: str = "corruption",
    **options: Unpack[Options],
) -> Corruption:
    """The error under every corruption and severity of a set.

    Args:
        model, options: as for `evaluate_clean`.
        data: folders of ImageNet-C, C-bar, 3DCC or LAION-C, .npy files of CIFAR-C or C-bar, or the word digits for
            digits that are corrupted now.
        clean: the clean images, for the relative mCE; None to leave them out.
        image_list: only the images of this list, such as RobustBench's, see `apr_dali.data.image_ids`; None for
            all.
        evaluation: what the result and its files are called: corruption, or one of BESIDE.

    Raises:
        InputError: for a set that is not whole, or a network that does not fit it.
    """
    check_choice("evaluation", evaluation, ("corruption", *BESIDE))
    with session_of(model, options) as session:
        chosen = None if image_list is None else str(image_list)
        return _measure(session, str(data), None if clean is None else str(clean), chosen, evaluation)


def _measure(session: Session, data: str, clean: str | None, image_list: str | None, evaluation: str) -> Corruption:
    session = session.of_several([data] if clean is None else [data, clean])
    cells = corruption_cells(session, data, image_list)
    model = cells.answering(session)
    classes = cells.classes or session.network.classes
    session.check(cells.sources[0], model, len(classes))
    state = session.state("corruption", keeps=KEEPS)
    found = evaluate_recorded(model, cells.sources, session.group.device, state, session.amp)
    own = [] if clean is None else [_clean_source(session, clean, image_list)]
    cleaned = cleaned_of(session, own, state)
    filled = corruption_table(cells.sources, found, cells.kind, cleaned)
    labels = numbered(classes, "labels.npy has no names: its label") if is_arrays(data) else None
    images = together([*cells.sources, *own])
    result = Corruption(data, images, cells.name, len(classes), filled, labels, evaluation=evaluation)
    return result.finished(session, pictures_of(result), state)


def _clean_source(session: Session, clean: str, image_list: str | None) -> Source:
    if image_list is None:
        return session.labeled(clean)
    classes = session.network.classes
    return session.feeding.folder("clean", read_image_ids(image_list).below(clean, classes), classes)


def cleaned_of(session: Session, own: Sequence[Source], state: State) -> Recorded | None:
    """What is found on the clean images, where there are any."""
    for source in own:
        put_shared(session, source, state)
    return evaluate_recorded(session.model, own, session.group.device, state, session.amp).get("clean")


def corruption_table(
    cells: list[Source],
    found: Mapping[str, Recorded],
    kind: str,
    clean: Recorded | None,
) -> CorruptionTable:
    """The table of what was found on `cells`, each corruption's severities in their order, and on clean images."""
    severities = tuple(dict.fromkeys(int(cell.name.partition("/")[2]) for cell in cells))
    names = _ordered(cells)
    of = {name: [found[f"{name}/{severity}"] for severity in severities] for name in names}
    images = {name: [images for _, images in row] for name, row in of.items()}
    rms = {name: tuple(each.rms for each in row if each.rms is not None) for name, row in images.items()}
    filled = CorruptionTable(
        {name: tuple(1 - result.top1 for result, _ in row) for name, row in of.items()},
        cells[0].images,
        1 - clean[0].top1 if clean else None,
        kind,
        clean[0].images if clean else 0,
        severities,
        {name: tuple(each.ece for each in row) for name, row in images.items()},
        rms if all(rms.values()) else {},
    )
    return replace(filled, intervals=intervals_of(filled, images, clean[1].right if clean else None))


def pictures_of(result: Corruption) -> dict[str, bytes]:
    """The colored table of the errors."""
    found = result.table
    title = f"{result.name}, {found.images:,} images per cell"
    return {"errors": corruption_picture(found.errors, title, found.severities)}


def _ordered(cells: list[Source]) -> list[str]:
    """The corruptions, in the order of the paper's tables, then the others by name."""
    names = list(dict.fromkeys(cell.name.partition("/")[0] for cell in cells))
    return sorted(names, key=lambda name: (CORRUPTIONS.index(name) if name in CORRUPTIONS else len(CORRUPTIONS), name))


def _text(result: dict[str, Any]) -> str:
    """The table of errors in percent and the means below it."""
    normalized = next((result[key] for key in _CES if key in result), None)
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


_CES = ("ce", "generated_ce", "listed_ce")
CALIBRATION = {"mean_ece": "ECE", "mean_rms": "RMS calibration error"}


def _summary_lines(result: dict[str, Any]) -> list[str]:
    """The means of a corruption result, a line each, and what is missing for the others."""
    lines = [f"mean error over {averaged_text(result)}: {100 * result['mean_error']:.2f} %"]
    if c_bar := c_bar_text(result):
        lines.append(f"mean error over {c_bar}: {100 * result['c_bar_error']:.2f} %")
    if "computed" in result:
        lines.append(computed_text(result))
    calibration = [f"{name} {100 * result[key]:.2f} %" for key, name in CALIBRATION.items() if key in result]
    if calibration:
        lines.append(f"calibration, mean over the same: {', '.join(calibration)}")
    if result["clean_error"] is not None:
        lines.append(f"clean error {100 * result['clean_error']:.2f} % on {result['clean_images']:,} images")
    made = made_text(result)
    for key, text in (
        ("mce", "mCE"),
        ("relative_mce", "relative mCE"),
        ("generated_mce", f"{made}: AlexNet-normalized error, not comparable with published mCE,"),
        ("generated_relative_mce", f"{made}: relative, not comparable with published relative mCE,"),
        ("listed_mce", "mCE of the list, normalized by AlexNet's errors on all images,"),
        ("listed_relative_mce", "relative mCE of the list, normalized likewise,"),
    ):
        if key in result:
            lines.append(f"{text} {result[key]:.2f} %")
    if "labels" in result:
        lines.append(result["labels"])
    missing = [name for name in CORRUPTIONS if name not in result["errors"]]
    own = result["averaged"]
    others_alone = result["kind"] == "digits" or c_bar_names(own) == tuple(own) or other_set(own) is not None
    if missing and not others_alone:
        lines.append(f"no mean over the whole benchmark: {', '.join(missing)} missing")
    return lines


# ---- on the page of a benchmark --------------------------------------------------------------------------------------


_CORRUPTION_KEYS = {
    "mce": "mCE",
    "relative_mce": "relative mCE",
    "generated_mce": "generated set: AlexNet-normalized error (not mCE of ImageNet-C)",
    "generated_relative_mce": "generated set: relative error (not relative mCE of ImageNet-C)",
    "listed_mce": "mCE of the list, by AlexNet's errors on all images",
    "listed_relative_mce": "relative mCE of the list, likewise",
}


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that matter, with their units."""
    # mCE and its like are in percent already.
    return {
        label: f"{result[key]:.2f} %" if key.endswith("mce") else percent(result[key])
        for label, key in _labels(result).items()
    }


def bounds(result: Mapping[str, Any]) -> dict[str, str]:
    """The intervals of numbers of `summary`, by the same names."""
    intervals = result.get("intervals", {})
    return {
        label: interval_text(intervals[key], 1 if key.endswith("mce") else 100)
        for label, key in _labels(result).items()
        if key in intervals
    }


def _labels(result: Mapping[str, Any]) -> dict[str, str]:
    """The key of each number of `summary`, by its name there."""
    counts = f"{result['classes']:,} classes, {result['images']:,} images per cell"
    title = f"{result['name']} ({counts})"
    found = {f"{title}: mean error over {averaged_text(result)}": "mean_error"}
    if c_bar := c_bar_text(result):
        found[f"mean error over {c_bar}"] = "c_bar_error"
    labels = {key: label.replace("generated set", made_text(result)) for key, label in _CORRUPTION_KEYS.items()}
    found.update({label: key for key, label in labels.items() if key in result})
    found.update({f"{title}: mean {name}": key for key, name in CALIBRATION.items() if key in result})
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
        "imagenet-3dcc": "ImageNet-3DCC's images, center crop without resizing; errors are not normalized.",
        "imagenet-c-listed": "Images of a list, as RobustBench measures: its accuracy is 100 % less the mean error.",
        "imagenet-3dcc-listed": "Images of a list, as RobustBench measures: its accuracy is 100 % less the mean error.",
        "laion-c": "LAION-C's images, scaled whole; the superclass with the greatest mean probability of its classes. "
        "The severities are its intensities.",
        "digits": "scikit-learn's digits, corrupted in ways of our own: there is no published set of them.",
        "own": "Neither ImageNet-C nor CIFAR-C as published: none of its numbers is comparable with a published one.",
    }
    about = f"{result['name']}: {result['classes']:,} classes, {result['images']:,} images per cell; {result['data']}."
    ends = result.get("intervals", {})
    mean = f"Mean error over {averaged_text(result)}: "
    mean += with_interval(percent(result["mean_error"]), ends.get("mean_error"), 100) + "."
    if c_bar := c_bar_text(result):
        mean += f" Over {c_bar}: {with_interval(percent(result['c_bar_error']), ends.get('c_bar_error'), 100)}."
    titles = ("error in percent", *map(str, result["severities"]), "mean")
    note = _sentence(computed_text(result)) if "computed" in result else notes[result["kind"]]
    tables = (*_means_tables(result), *_ce_tables(result))
    return Section("Corruptions", (about, note, mean), tables, pictured=(Table(titles, rows),))


def section_beside(result: Mapping[str, Any]) -> Section:
    """The part of the page of another set beside ImageNet-C or CIFAR-C."""
    return replace(section(result), title=f"Corruptions of {result['name']}")


def _means_tables(result: Mapping[str, Any]) -> tuple[Table, ...]:
    """What each corruption comes to, over its severities; none where the picture says all of it."""
    errors = result["errors"]
    titles = {"errors": "mean error", "ece": "ECE", "rms": "RMS calibration error"}
    ends = result.get("intervals", {})
    found = {key: title for key, title in titles.items() if key in result}
    rows = tuple(
        (
            spaced(name),
            *(with_interval(_mean_text(result[key][name]), ends.get(key, {}).get(name), 100, 1) for key in found),
        )
        for name in errors
    )
    return (Table(("percent, mean over severities", *found.values()), rows),) if ends or len(found) > 1 else ()


def _mean_text(row: Sequence[float]) -> str:
    return f"{100 * sum(row) / len(row):.1f}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _ce_tables(result: Mapping[str, Any]) -> tuple[Table, ...]:
    """Corruption errors, beside published ones where they are ImageNet-C's."""
    key = next((key for key in _CES if key in result), None)
    if key is None:
        return ()
    own, ends = result[key], result.get("intervals", {})
    beside = [entry for entry in PUBLISHED if entry.ce] if "ce" in result else []
    rows = [
        (
            spaced(name),
            with_interval(f"{own[name]:.1f}", ends.get(key, {}).get(name), 1, 1),
            *(str(entry.ce[CORRUPTIONS.index(name)]) for entry in beside),
        )
        for name in CORRUPTIONS
        if name in own
    ]
    if "mce" in result:
        mean = with_interval(f"{result['mce']:.1f}", ends.get("mce"), 1, 1)
        rows.append(("mCE", mean, *(tenths(entry.imagenet_c) for entry in beside)))
    name = "CE, AlexNet = 100" if beside else "AlexNet-normalized error, not CE of ImageNet-C"
    return (Table((name, "this network", *(entry.method for entry in beside)), tuple(rows)),)
