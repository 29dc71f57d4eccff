"""The page of a table: the paper's numbers beside ours, and how ours came about; the same as JSON, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby

from apr_dali import __version__
from apr_dali.eval.corruption import COMPUTED
from apr_dali.eval.page import Section, Table, tenths, write_pages
from apr_dali.eval.report_files import tabular_of
from apr_dali.reproduce.follow import EPOCHS, differences
from apr_dali.reproduce.paper import NETWORKS
from apr_dali.reproduce.plan import Plan
from apr_dali.reproduce.plots import plots
from apr_dali.reproduce.results import DONE, Found, Outcome, commands, found, outcomes
from apr_dali.reproduce.runner import Failure
from apr_dali.runtime.files import write_whole
from apr_dali.runtime.json_text import json_text

_TITLES = ("method", "paper", "ours", "difference")
_COMMAND = ("run, seed: step", "command")
_SOURCES = {"code": "released code", "paper": "paper's text"}
_UNTRAINED = "not trained"


def write_page(plan: Plan, failures: Sequence[Failure]) -> None:
    """Write NAME.html, .md, .json, .csv and .tex of what is there now into the plan's output."""
    known = outcomes(plan)
    cells = found(plan, known)
    folder = plan.asked.output
    write_pages(
        folder, plan.name, f"{plan.title}, the paper's numbers and ours", _sections(plan, known, cells, failures)
    )
    text = json_text(_as_json(plan, known, cells, failures), indent=2) + "\n"
    for ending, content in (("json", text), ("csv", _csv(cells)), ("tex", latex(cells))):
        write_whole(folder / f"{plan.name}.{ending}", content.encode())


def _sections(
    plan: Plan, known: Mapping[str, Outcome], cells: Sequence[Found], failures: Sequence[Failure]
) -> list[Section]:
    parts = [_about(plan, known)]
    for place, of_place in groupby(cells, lambda one: one.cell.place):
        parts += _compared(_called(place), list(of_place))
    drawn = plots(plan, known)
    if drawn:
        parts.append(Section("Pictures", pictures=tuple(drawn)))
    for title, head, rows in (
        ("Not trained here", ("method", "why"), tuple(plan.not_trained.items())),
        ("Missing images", ("set", "what to do"), tuple(plan.missing.items())),
        ("Failed", ("run", "its last lines"), tuple((f.run, " · ".join((f.command, *f.lines))) for f in failures)),
    ):
        if rows:
            parts.append(Section(title, tables=(Table(head, rows, words=True),)))
    return [*parts, _followed(plan), *_commands(plan, known, failures)]


def _about(plan: Plan, known: Mapping[str, Outcome]) -> Section:
    asked, done = plan.asked, sum(outcome.training is not None for outcome in known.values())
    full = sum(len(outcome.records) == len(outcome.run.evaluations) for outcome in known.values())
    lengths = sorted({outcome.run.training.epochs for outcome in known.values()})
    rows = (
        ("runs", f"{len(known)}: {done} trained, {full} of them evaluated on everything"),
        ("training sets", ", ".join(plan.datasets)),
        ("epochs", ", ".join(map(str, lengths)) or "–"),
        ("seeds", f"0 to {asked.seeds - 1}" if asked.seeds > 1 else "0"),
        ("follows", _SOURCES[asked.follow.name]),
        ("version", f"apr_dali {__version__}" + _other_versions(known)),
        ("date", datetime.now().astimezone().isoformat(timespec="seconds")),
    )
    notes = [
        "All numbers in percent. Paper: Chen et al., Amplitude-Phase Recombination, ICCV 2021. Ours: the mean over the "
        "seeds ± their standard deviation, of the weights after the last epoch, which no test image has chosen. "
        "Difference: ours less the paper's.",
        *plan.notes,
    ]
    published = {EPOCHS[outcome.run.training.trainer] for outcome in known.values()}
    if plan.table != "table3" and lengths and set(lengths) != published:
        notes.append("Published runs have " + " and ".join(f"{n} epochs" for n in published) + ": steps in proportion.")
    attacked = {one.results["autoattack"]["images"] for one in known.values() if "autoattack" in one.results}
    if attacked:
        notes.append(f"AutoAttack on {', '.join(map(str, sorted(attacked)))} images; the paper's on CIFAR-10's 10000.")
    if any("computed" in one.results.get("corruption", {}) for one in known.values()):
        notes.append(f"Corruptions: {COMPUTED}.")
    if not any(cell.paper is not None for cell in plan.cells):
        notes.append("The paper has no numbers of these sets and networks.")
    return Section("What was run", tuple(notes), (Table(("what", "value"), rows, words=True),))


def _other_versions(known: Mapping[str, Outcome]) -> str:
    trained = {outcome.training["version"] for outcome in known.values() if outcome.training is not None}
    others = sorted(trained - {__version__})
    return f"; some networks were trained by {', '.join(others)}" if others else ""


def _called(place: str) -> str:
    """A place for headings, its network by its name in the paper, too."""
    _, _, network = place.partition(", ")
    return f"{place} ({NETWORKS[network]})" if network in NETWORKS else place


def _compared(place: str, cells: Sequence[Found]) -> list[Section]:
    """A table of each measure that the paper has, and one of all others, a row for each method."""
    by_measure = {what: list(group) for what, group in groupby(cells, lambda one: one.cell.what)}
    known = {w: group for w, group in by_measure.items() if any(one.cell.paper is not None for one in group)}
    parts = [
        Section(f"{place}: {what}", tables=(Table(_TITLES, tuple(map(_row, group))),)) for what, group in known.items()
    ]
    others = {what: group for what, group in by_measure.items() if what not in known}
    if others:
        columns = zip(*others.values(), strict=True)
        rows = tuple(
            (row[0].cell.title, *(_UNTRAINED if one.cell.why else ours(one) for one in row)) for row in columns
        )
        parts.append(Section(f"{place}: ours alone", tables=(Table(("method", *others), rows),)))
    return parts


def _row(one: Found) -> tuple[str, ...]:
    # Table 4 rounds corruption errors to whole numbers.
    paper = str(one.cell.paper) if isinstance(one.cell.paper, int) else tenths(one.cell.paper)
    if one.cell.why:
        return (one.cell.title, paper, _UNTRAINED, "–")
    return (one.cell.title, paper, ours(one), _signed(one.difference))


def ours(one: Found) -> str:
    """Our number with its deviation, and of how many seeds where some are not done; – where there is none."""
    done, asked = len(one.values), len(one.cell.runs)
    deviation = "" if one.deviation is None else f" ± {one.deviation:.1f}"
    return tenths(one.ours) + deviation + (f" ({done} of {asked})" if 0 < done < asked else "")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}".replace("-", "−")


def _followed(plan: Plan) -> Section:
    name = plan.asked.follow.name
    note = f"--follow {name}: as the {_SOURCES[name]} has it, except where the trainers do one of the two alone."
    rows = tuple(differences(plan.table, plan.asked.follow))
    return Section("Where text and code differ", (note,), (Table(("what", "here", "the other"), rows, words=True),))


def _commands(plan: Plan, known: Mapping[str, Outcome], failures: Sequence[Failure]) -> list[Section]:
    parts = []
    if plan.prepared:
        before = tuple(("before all", shlex.join(words)) for words in plan.prepared)
        parts.append(Section("Commands before all runs", tables=(Table(_COMMAND, before, words=True),)))
    for place, group in groupby(known.values(), lambda one: one.run.place):
        rows = []
        for outcome in group:
            for step, state, command in commands(outcome, plan, failures):
                what = command if state == DONE else f"[{state}] {command}"
                rows.append((f"{outcome.run.method}, {outcome.run.seed}: {step}", what))
        title = f"Commands: {place}"
        parts.append(Section(title, tables=(Table(_COMMAND, tuple(rows), words=True),)))
    return parts


# ---- for programs ----------------------------------------------------------------------------------------------------


def _as_json(
    plan: Plan, known: Mapping[str, Outcome], cells: Sequence[Found], failures: Sequence[Failure]
) -> dict[str, object]:
    asked = plan.asked
    return {
        "table": plan.table,
        "title": plan.title,
        "follow": asked.follow.name,
        "datasets": list(plan.datasets),
        "version": __version__,
        "cells": {one.cell.key: _cell_as_json(one) for one in cells},
        "runs": {
            key: {
                "settings": outcome.run.training.settings(),
                "trained": outcome.training,
                "steps": [
                    {"step": step, "state": state, "command": command}
                    for step, state, command in commands(outcome, plan, failures)
                ],
            }
            for key, outcome in known.items()
        },
        "not_trained": dict(plan.not_trained),
        "missing": dict(plan.missing),
        "failed": [{"run": f.run, "command": f.command, "lines": list(f.lines)} for f in failures],
    }


def _cell_as_json(one: Found) -> dict[str, object]:
    return {
        "set": one.cell.place,
        "measure": one.cell.what,
        "method": one.cell.method,
        "paper": one.cell.paper,
        "ours": one.ours,
        "deviation": one.deviation,
        "difference": one.difference,
        "values": list(one.values),
        "why_not": one.cell.why or None,
    }


_KEYS = ("key", "set", "measure", "method", "paper", "ours", "deviation", "difference", "seeds", "why_not")


def _csv(cells: Sequence[Found]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_KEYS)
    for one in cells:
        values = (one.cell.paper, one.ours, one.deviation, one.difference)
        numbers = ["" if value is None else f"{value:.6g}" for value in values]
        writer.writerow(
            [one.cell.key, one.cell.place, one.cell.what, one.cell.method, *numbers, len(one.values), one.cell.why]
        )
    return file.getvalue()


def latex(cells: Sequence[Found]) -> str:
    """A tabular for each table, for booktabs."""
    blocks = []
    for group, row in groupby(cells, lambda one: f"{one.cell.place}: {one.cell.what}"):
        blocks.append(f"% {group}\n{tabular_of(Table(_TITLES, tuple(map(_row, row))))}\n")
    return "\n".join(blocks)
