"""One page about a network: its evaluations as HTML, Markdown and JSON, and several networks side by side.

A report is a dict of JSON: `settings` and `versions` as the evaluations recorded them, `evaluations` with each one's
result by name, `missing` and `failed`, lists of [set, text].
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from apr_dali.eval.published import NOTE, PUBLISHED

Report = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table of text. rows: each as long as `titles`; the first column names, the others are numbers."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading, notes in sentences, tables, and titles of pictures with their PNG."""

    title: str
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[tuple[str, bytes], ...] = ()


# ---- what a report says ----------------------------------------------------------------------------------------------


def summary(report: Report) -> dict[str, str]:
    """The numbers that matter, with their units, in the order of a report; only those that are there."""
    found: dict[str, str] = {}
    for name, result in report["evaluations"].items():
        if name == "clean":
            found["clean error"] = percent(1 - result["top1"])
        elif name == "corruption":
            found.update(_corruption_summary(result))
        elif name in ("ood", "imagenet-o"):
            for score, rows in result["scores"].items():
                found[f"{name} AUROC, {score}, mean of {len(rows) - 1}"] = percent(rows["mean"]["auroc"])
                found[f"{name} AUPR-out, {score}, mean of {len(rows) - 1}"] = percent(rows["mean"]["aupr_out"])
        elif name == "calibration":
            before, after = result["rows"].values()
            found["ECE"] = percent(before["ece"])
            found["ECE, temperature tuned"] = percent(after["ece"])
        elif name == "autoattack":
            budget = f"{result['norm']} {255 * result['epsilon']:.3g}/255"
            found[f"right under {result['version']} attack, {budget}, {result['images']} images"] = percent(
                result["robust"]
            )
        else:
            found[f"{name} error"] = percent(1 - result["top1"])
    return found


_CORRUPTION_KEYS = {
    "mce": "mCE",
    "relative_mce": "relative mCE",
    "generated_mce": "generated set: AlexNet-normalised error (not mCE of ImageNet-C)",
    "generated_relative_mce": "generated set: relative error (not relative mCE of ImageNet-C)",
}


def _corruption_summary(result: Mapping[str, Any]) -> dict[str, str]:
    kind = {"generated": "generated set", "imagenet-c": "ImageNet-C", "cifar-c": "CIFAR-C"}[result["kind"]]
    found = {f"{kind}: mean error": percent(result["mean_error"])}
    # mCE and its like are in percent already.
    found.update({label: f"{result[key]:.2f} %" for key, label in _CORRUPTION_KEYS.items() if key in result})
    return found


def percent(share: float | None) -> str:
    """A share in 0..1 as percent, – for None."""
    return "–" if share is None else f"{100 * share:.2f} %"


def sections(report: Report, pictures: Mapping[str, Mapping[str, bytes]]) -> list[Section]:
    """The parts of a report's page. pictures: by evaluation, the PNG by the title that `CAPTIONS` puts in words."""
    results = report["evaluations"]
    found = [
        Section("Summary", tables=(Table(("measure", report["settings"]["network"]), tuple(summary(report).items())),))
    ]
    for name, result in results.items():
        made = _SECTIONS.get(name)
        if made:
            title, notes, tables = made(result)
            shown = tuple((CAPTIONS[kind], png) for kind, png in pictures.get(name, {}).items())
            found.append(Section(title, (*notes, *_kept_note(report, name)), tables, shown))
    found.append(Section("Published numbers, in percent", (NOTE,), (_published(),)))
    for title, key in (("Not measured: not found", "missing"), ("Not measured: failed", "failed")):
        if report[key]:
            found.append(Section(title, tables=(Table(("set", "what to do"), tuple(map(tuple, report[key]))),)))
    return [*found, _settings(report)]


CAPTIONS = {
    "errors": "Error by corruption and severity",
    "reliability": "Accuracy by confidence, and how many images have which confidence",
    "scores": "Histograms of the score: in-distribution against each other set",
}
"""What the pictures of evaluations show, by the title that they are written under."""


def _kept_note(report: Report, name: str) -> tuple[str, ...]:
    dates = sorted(report["kept"].get(name, {}).values())
    return (f"{len(dates)} of its parts were kept from earlier runs: {dates[0]} to {dates[-1]}.",) if dates else ()


_Made = tuple[str, tuple[str, ...], tuple[Table, ...]]


def _corruption(result: Mapping[str, Any]) -> _Made:
    rows = tuple(
        (name.replace("_", " "), *(f"{100 * error:.1f}" for error in row), f"{100 * sum(row) / len(row):.1f}")
        for name, row in result["errors"].items()
    )
    notes = {
        "generated": "Made by apr-dali make-c: a generated set. Its elastic transform and frost differ from "
        "ImageNet-C's, so none of its numbers is comparable with a published mCE.",
        "imagenet-c": "ImageNet-C's images, centre crop without resizing; mCE over its 15 corruptions, AlexNet = 100.",
        "cifar-c": "CIFAR-C's images; the mean is over its 15 corruptions, not normalised.",
    }
    titles = ("error in percent", "1", "2", "3", "4", "5", "mean")
    return "Corruptions", (notes[result["kind"]],), (Table(titles, rows),)


def _ood(result: Mapping[str, Any]) -> _Made:
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
    return "Out of distribution", (note,), tables


def _imagenet_o(result: Mapping[str, Any]) -> _Made:
    _, notes, tables = _ood(result)
    more = "Logits of ImageNet-O's 200 classes alone; in-distribution: the validation images of the same classes."
    return "ImageNet-O", (*notes, more), tables


def _calibration(result: Mapping[str, Any]) -> _Made:
    keys = {
        "accuracy": "accuracy",
        "confidence": "mean confidence",
        "ece": "ECE, 15 bins",
        "rms": "RMS, all bins of 100",
        "rms_as_published": "RMS as published, last bin left out",
        "aurra": "AURRA",
    }
    rows = result["rows"]
    table = Table(
        ("percent", *rows), tuple((label, *(percent(row[key]) for row in rows.values())) for key, label in keys.items())
    )
    note = f"Temperature {result['temperature']:.3f}, tuned on {result['tuned_on']} images that are not counted here."
    return "Calibration", (note,), (table,)


def _autoattack(result: Mapping[str, Any]) -> _Made:
    rows = (("no attack", percent(result["clean"])), *((k, percent(v)) for k, v in result["after"].items()))
    budget = f"{result['norm']}, epsilon {255 * result['epsilon']:.3g}/255"
    note = f"{result['version']}: {budget}, {result['images']} images, seed {result['seed']}."
    return "Adversarial attacks", (note,), (Table(("right after", "share"), tuple(rows)),)


_SECTIONS = {
    "corruption": _corruption,
    "ood": _ood,
    "imagenet-o": _imagenet_o,
    "calibration": _calibration,
    "autoattack": _autoattack,
}


def _published() -> Table:
    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.1f}"

    rows = tuple((p.method, *map(shown, (p.clean, p.imagenet_c, p.cifar10_c, p.cifar100_c))) for p in PUBLISHED)
    return Table(("method", "clean error", "ImageNet-C mCE", "CIFAR-10-C error", "CIFAR-100-C error"), rows)


def _settings(report: Report) -> Section:
    rows = [(key.replace("_", " "), str(value)) for key, value in report["settings"].items()]
    rows += [(f"version of {name}", version) for name, version in report["versions"].items()]
    rows += [("device", report["device"]), ("processes", str(report["processes"]))]
    return Section("Settings", tables=(Table(("setting", "value"), tuple(rows)),))


def compared(reports: Mapping[str, Report]) -> Table:
    """The summaries of several reports side by side, – where one has not what another has."""
    summaries = {name: summary(report) for name, report in reports.items()}
    measures = dict.fromkeys(measure for found in summaries.values() for measure in found)
    rows = tuple((measure, *(found.get(measure, "–") for found in summaries.values())) for measure in measures)
    return Table(("measure", *summaries), rows)


# ---- how it looks ----------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child, table.words td, table.words th { text-align: left; }
td:not(:first-child), table.words td:first-child { white-space: nowrap; }
table.words td:not(:first-child) { white-space: normal; overflow-wrap: anywhere; }
tbody tr:nth-child(even) { background: var(--faint); }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; background: white; }
@media (max-width: 30rem) { table { font-size: .8rem; } th, td { padding: .25rem .35rem; } }
figcaption { font-size: .85rem; opacity: .75; }
"""
_WORDS = ("Settings", "Not measured: not found", "Not measured: failed")
"""Sections whose second column is prose."""


def html(title: str, parts: Sequence[Section]) -> str:
    """One page in one file: style and pictures are inside, and it needs no script."""
    body = "\n".join(_html_section(part) for part in parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html_section(part: Section) -> str:
    lines = [f"<section>\n<h2>{escape(part.title)}</h2>", *(f"<p>{escape(note)}</p>" for note in part.notes)]
    words = ' class="words"' if part.title in _WORDS else ""
    for table in part.tables:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.titles)
        rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
        body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
        lines.append(f'<div class="scroll" tabindex="0"><table{words}>\n{body}\n</table></div>')
    for title, png in part.pictures:
        data = base64.b64encode(png).decode()
        caption = f"<figcaption>{escape(title)}</figcaption>"
        lines.append(f'<figure><img alt="{escape(title)}" src="data:image/png;base64,{data}">{caption}</figure>')
    return "\n".join([*lines, "</section>"])


def markdown(title: str, parts: Sequence[Section]) -> str:
    """The same as Markdown, without the pictures."""
    lines = [f"# {_cell(title)}"]
    for part in parts:
        lines += ["", f"## {part.title}", *("\n" + note for note in part.notes)]
        for table in part.tables:
            lines += ["", _line(table.titles), _line(("---", *("---:" for _ in table.titles[1:])))]
            lines += [_line(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
