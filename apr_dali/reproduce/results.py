"""The numbers of a plan that are there, beside the paper's."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apr_dali.errors import InputError
from apr_dali.reproduce import record
from apr_dali.reproduce.plan import EVALUATED, TRAIN, Cell, Plan, Run
from apr_dali.reproduce.runner import Failure

Record = dict[str, Any]
DONE = "done"


@dataclass(frozen=True)
class Outcome:
    """What is known of a run. training: of its training, None if it has not come to its end. records: of its
    evaluations, by name."""

    run: Run
    training: Record | None
    records: Mapping[str, Record]

    @property
    def results(self) -> dict[str, Mapping[str, Any]]:
        """The `result` of each evaluation."""
        return {name: found["result"] for name, found in self.records.items()}


@dataclass(frozen=True)
class Found:
    """A cell with our numbers, in percent: one of each seed whose runs are done."""

    cell: Cell
    values: tuple[float, ...]

    @property
    def ours(self) -> float | None:
        """The mean over the seeds."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds (n - 1); None of one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's; None where one of them is not there."""
        return None if self.ours is None or self.cell.paper is None else self.ours - self.cell.paper


def outcomes(plan: Plan) -> dict[str, Outcome]:
    """What is there of each run, by its key."""
    return {run.key: _outcome(run, plan) for run in plan.runs}


def _outcome(run: Run, plan: Plan) -> Outcome:
    output = plan.asked.output
    training = record.training_of(run, output)
    records = {}
    for evaluation in run.evaluations if training is not None else ():
        assert training is not None
        found = record.result_of(run, evaluation, output, training["sha256"])
        if found is not None:
            records[evaluation.name] = found
    return Outcome(run, training, records)


def found(plan: Plan, known: Mapping[str, Outcome]) -> list[Found]:
    """All cells of a plan with what is there for them."""
    return [Found(cell, tuple(_values(cell, known))) for cell in plan.cells]


def _values(cell: Cell, known: Mapping[str, Outcome]) -> Sequence[float]:
    values = []
    for keys in cell.runs:
        each = [_value(cell, known[key]) for key in keys]
        there = [value for value in each if value is not None]
        if each and len(there) == len(each):
            values.append(statistics.fmean(there))
    return values


def _value(cell: Cell, outcome: Outcome) -> float | None:
    try:
        return cell.measure(outcome.results)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{outcome.run.key}/{EVALUATED} has a file that is damaged: no {cell.what} can be read of it ({error!r}); "
            "remove that folder, and the same command evaluates anew"
        ) from error


def commands(outcome: Outcome, plan: Plan, failures: Sequence[Failure]) -> list[tuple[str, str, str]]:
    """(step, what became of it, its command) of a run: of what is done the command that did it."""
    run, home = outcome.run, outcome.run.home(plan.asked.output)
    failed = {failure.command for failure in failures if failure.run == run.key}
    rows = []
    training = shlex.join(run.training.words(home))
    done = outcome.training is not None
    state = _state(done, training in failed, run.lacks)
    rows.append((TRAIN, state, outcome.training["command"] if outcome.training is not None else training))
    for evaluation in run.evaluations:
        command = shlex.join(evaluation.words(home))
        record = outcome.records.get(evaluation.name)
        state = _state(record is not None, command in failed, (*run.lacks, *evaluation.lacks))
        rows.append((evaluation.name, state, command if record is None else record["command"]))
    return rows


def _state(done: bool, failed: bool, lacks: Sequence[str]) -> str:
    if done:
        return DONE
    if lacks:
        return f"not run: needs {', '.join(dict.fromkeys(lacks))}"
    return "failed" if failed else "not run"


def pictures(outcome: Outcome, plan: Plan, evaluation: str) -> dict[str, bytes]:
    """The pictures that an evaluation has drawn, PNG by title."""
    titles = outcome.records.get(evaluation, {}).get("pictures", [])
    folder = outcome.run.home(plan.asked.output) / EVALUATED
    paths = {title: folder / f"{evaluation}-{title}.png" for title in titles}
    return {title: path.read_bytes() for title, path in paths.items() if path.is_file()}
