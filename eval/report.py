"""What a page about a network says: its evaluations, and several networks side by side.

A report is a dict of JSON: when and how it was made (`date`, `command`, `settings`, `device`, `versions`),
`evaluations` with each one's result by name, `kept` with the dates of parts of earlier runs, and `missing`, `skipped`
and `failed`, lists of [set, text].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from apr_dali.eval import ood_page
from apr_dali.eval.bootstrap import LEVEL, RESAMPLES, SEED
from apr_dali.eval.evaluations import (
    autoattack,
    calibration,
    clean,
    corruption,
    distribution_shift,
    perturbation,
)
from apr_dali.eval.page import Section, Table, percent, spaced, tenths, with_interval
from apr_dali.eval.published_numbers import C_BAR_NOTE, CIFAR_NOTE, IMAGENET_NOTE, PUBLISHED, Published

Report = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """What a page says of an evaluation's result: its numbers that matter, its part, and the numbers' intervals."""

    summary: Callable[[Mapping[str, Any]], dict[str, str]]
    section: Callable[[Mapping[str, Any]], Section]
    bounds: Callable[[Mapping[str, Any]], dict[str, str]] = lambda _: {}


PAGES = {
    "clean": Page(clean.summary, clean.section, clean.bounds),
    "corruption": Page(corruption.summary, corruption.section, corruption.bounds),
    **{name: Page(corruption.summary, corruption.section_beside, corruption.bounds) for name in corruption.BESIDE},
    "perturbation": Page(perturbation.summary, perturbation.section, perturbation.bounds),
    "ood": Page(ood_page.summary_of("ood"), ood_page.section, ood_page.bounds_of("ood")),
    "imagenet-o": Page(
        ood_page.summary_of("imagenet-o"), ood_page.section_of_imagenet_o, ood_page.bounds_of("imagenet-o")
    ),
    "openood": Page(ood_page.summary_of("openood"), ood_page.section_of_openood, ood_page.bounds_of("openood")),
    "calibration": Page(calibration.summary, calibration.section, calibration.bounds),
    "autoattack": Page(autoattack.summary, autoattack.section, autoattack.bounds),
}
"""By the name of the evaluation, in the order of a page; all others are shifts, which have one part together."""


def summary(report: Report) -> dict[str, str]:
    """The numbers that matter, with their units, in the order of a report; only those that are there.

    The names say on how many images and of how many classes: what has one name is comparable.
    """
    return {measure: value for (measure, _), value in _measured(report).items()}


def _measured(report: Report) -> dict[tuple[str, str], str]:
    """The same by measure and by what its images are, see `apr_dali.eval.passes.together`."""
    return {
        (measure, result.get("set", "")): value
        for name, result in report["evaluations"].items()
        for measure, value in (PAGES[name].summary if name in PAGES else distribution_shift.summary)(result).items()
    }


def bounds(report: Report) -> dict[str, str]:
    """The intervals of numbers of `summary`, by the same names."""
    return {
        measure: ends
        for name, result in report["evaluations"].items()
        for measure, ends in (PAGES[name].bounds if name in PAGES else distribution_shift.bounds)(result).items()
    }


INTERVALS = (
    f"Intervals are {100 * LEVEL:.0f} % ones of a bootstrap over images: {RESAMPLES:,} draws, seed {SEED}. They say "
    "how far a number would be another on other images, not after another training."
)


def summary_table(report: Report) -> Table:
    """`summary` and `bounds` side by side; without the latter where there are none."""
    numbers, ends = summary(report), bounds(report)
    network = report["settings"]["network"]
    if not ends:
        return Table(("measure", network), tuple(numbers.items()))
    rows = tuple((measure, value, ends.get(measure, "–")) for measure, value in numbers.items())
    return Table(("measure", network, f"{100 * LEVEL:.0f} % interval"), rows)


CAPTIONS = {
    "errors": "Error by corruption and severity",
    "reliability": "Accuracy by confidence, and how many images have which confidence",
    "scores": "Histograms of the score: in-distribution against each other set",
}
"""What the pictures of evaluations show, by the title that they are written under."""


def sections(report: Report, pictures: Mapping[str, Mapping[str, bytes]]) -> list[Section]:
    """The parts of a report's page. pictures: by evaluation, the PNG by the title that `CAPTIONS` puts in words."""
    results = report["evaluations"]
    table = summary_table(report)
    found = [Section("Summary", (INTERVALS,) if len(table.titles) > 2 else (), (table,))]
    for name, page in PAGES.items():
        if name in results:
            made = page.section(results[name])
            shown = tuple((CAPTIONS[title], png) for title, png in pictures.get(name, {}).items())
            found.append(replace(made, notes=(*made.notes, *_kept_note(report, name)), pictures=shown))
    found += [*_shifts(report), *_published(report)]
    for title, key, head in (
        ("Not measured: not found", "missing", "what to do"),
        ("Not measured: found, but not run", "skipped", "why"),
        ("Not measured: failed", "failed", "why"),
    ):
        if report[key]:
            found.append(Section(title, tables=(Table(("set", head), tuple(map(tuple, report[key])), words=True),)))
    return [*found, _settings(report)]


def _kept_note(report: Report, name: str) -> tuple[str, ...]:
    dates = sorted(report["kept"].get(name, {}).values())
    if not dates:
        return ()
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return (f"Kept from an earlier run, {when}: {len(dates)} of its parts.",)


def _shifts(report: Report) -> list[Section]:
    results = {name: result for name, result in report["evaluations"].items() if name not in PAGES}
    if not results:
        return []
    rows = tuple(
        (
            result["name"],
            *(
                with_interval(percent(result[key]), result.get("intervals", {}).get(key), 100)
                for key in ("top1", "top5", "top1_of_all")
            ),
            *(f"{result[key]:,}" for key in ("images", "classes", "all_classes")),
            str(result["data"]),
        )
        for result in results.values()
    )
    note = "Logits of the classes of each set alone, as its authors evaluate; beside it among all of the network's."
    kept = tuple(f"{name}: {text}" for name in results for text in _kept_note(report, name))
    table = Table(("set", "top-1", "top-5", "top-1 of all", "images", "classes", "of all", "data"), rows)
    return [Section("Other photographs and drawings", (note, *kept), (table,))]


def _published(report: Report) -> list[Section]:
    """Published numbers of what was measured here; none beside other sets."""
    kinds = [result.get("kind") for result in report["evaluations"].values()]
    columns: dict[str, Callable[[Published], float | None]] = {
        "imagenet-c": lambda entry: entry.imagenet_c,
        "cifar-10-c": lambda entry: entry.cifar10_c,
        "cifar-100-c": lambda entry: entry.cifar100_c,
        "imagenet-c-bar": lambda entry: entry.imagenet_c_bar,
        "cifar-10-c-bar": lambda entry: entry.cifar10_c_bar,
    }
    return [_published_of(kind, columns[kind]) for kind in columns if kind in kinds]


def _published_of(kind: str, of: Callable[[Published], float | None]) -> Section:
    title = "Published numbers, in percent"
    entries = [entry for entry in PUBLISHED if of(entry) is not None]
    if kind != "imagenet-c":
        table = Table(("method", "mean error"), tuple((entry.method, tenths(of(entry))) for entry in entries))
        note = C_BAR_NOTE if kind.endswith("-bar") else CIFAR_NOTE
        return Section(title, (note,), (table,))
    rows = tuple((entry.method, tenths(entry.clean), tenths(of(entry))) for entry in entries)
    return Section(title, (IMAGENET_NOTE,), (Table(("method", "clean error", "mCE"), rows),))


def _date_of(report: Report) -> str:
    """Day and time, which can stand on two lines."""
    return str(report["date"]).replace("T", " ")


def _settings(report: Report) -> Section:
    rows = [("date", _date_of(report)), ("command", report["command"])]
    rows += [(spaced(key), str(value)) for key, value in report["settings"].items()]
    rows += [(f"version of {name}", version) for name, version in report["versions"].items()]
    rows += [("device", report["device"]), ("processes", str(report["processes"]))]
    return Section("Settings", tables=(Table(("setting", "value"), tuple(rows), words=True),))


def compared(reports: Mapping[str, Report]) -> Table:
    """The summaries of several reports side by side, with their intervals; – where one has not what another has.

    What was measured on other images has a row of its own, however many these are and whatever they are called.
    """
    measured = {}
    for name, report in reports.items():
        ends = bounds(report)
        measured[name] = {
            (measure, of): f"{value} ({ends[measure]})" if measure in ends else value
            for (measure, of), value in _measured(report).items()
        }
    keys = dict.fromkeys(key for found in measured.values() for key in found)
    sets = Counter(measure for measure, _ in keys)
    rows = tuple(
        (
            f"{measure} (set {of or 'unknown'})" if sets[measure] > 1 else measure,
            *(found.get((measure, of), "–") for found in measured.values()),
        )
        for measure, of in keys
    )
    return Table(("measure", *measured), rows)


def runs(reports: Mapping[str, Report]) -> Table:
    """When each report was made, and of which file of weights."""
    rows = []
    for name, report in reports.items():
        settings = report["settings"]
        rows.append((name, _date_of(report), settings.get("file", "–"), settings.get("file_sha256", "–")[:16]))
    return Table(("run", "date", "network file", "its SHA-256 begins"), tuple(rows), words=True)
