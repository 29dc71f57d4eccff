"""Running the commands of a plan: each run in its slot, a GPU or a share of the CPUs; what failed, and why."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apr_dali.errors import InputError
from apr_dali.reproduce import record
from apr_dali.reproduce.child import Child, Signals, stop
from apr_dali.reproduce.plan import TRAIN, Evaluation, Plan, Run, Words
from apr_dali.reproduce.slots import Slot
from apr_dali.runtime import checkpoint
from apr_dali.runtime.best_effort import say

_POLL = 0.1
"""Seconds between two looks at the running commands."""
Step = Evaluation | None
"""What is done for a run: None is its training."""


class Stopped(Exception):  # noqa: N818 - it reports a wish, not an error
    """A signal asked to stop; everything that ran has ended."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


@dataclass(frozen=True)
class Failure:
    """A command that ended badly: of which run, what it was, where its output is, and the end of that."""

    run: str
    command: str
    log: Path
    lines: tuple[str, ...]


def left(run: Run, output: Path) -> list[Step]:
    """The steps of a run that are not done."""
    done = record.training_of(run, output)
    if done is None:
        return [None, *run.evaluations]
    return [one for one in run.evaluations if record.result_of(run, one, output, done["sha256"]) is None]


def pending(run: Run, output: Path) -> list[Step]:
    """Those of them that have their images."""
    return [] if run.lacks else [step for step in left(run, output) if step is None or not step.lacks]


def words_of(run: Run, step: Step, output: Path) -> Words:
    """The command of a step."""
    home = run.home(output)
    return run.training.words(home) if step is None else step.words(home)


def prepare(words: Words, output: Path) -> None:
    """Run a command that comes before all runs. InputError where it fails."""
    with Signals() as signals:
        child = Child(words, {}, output / "prepare.log")
        try:
            while child.running:
                _wait(signals)
        except BaseException:
            stop([child], signals)
            raise
    if child.status:
        raise InputError(f"`{shlex.join(words)}` failed:\n" + "\n".join(child.last_lines()))


def _wait(signals: Signals) -> None:
    """Wait a moment. Raises Stopped after a signal."""
    time.sleep(_POLL)
    if signals.count:
        raise Stopped(signals.signum)


@dataclass
class _Active:
    """A run in a slot: the steps that are left, the first of which is running, and since when."""

    run: Run
    slot: Slot
    steps: list[Step]
    child: Child
    began: float


@dataclass
class Runner:
    """All runs of a plan, as many at a time as there are slots. failures: of the commands so far that ended badly."""

    plan: Plan
    slots: Sequence[Slot]
    failures: list[Failure] = field(default_factory=list)

    def run(self) -> None:
        """Run whatever is left. What fails does not end the others. Raises Stopped after a signal."""
        output = self.plan.asked.output
        waiting = [(run, steps) for run in self.plan.runs if (steps := pending(run, output))]
        total = len(waiting)
        active: dict[int, _Active] = {}
        say(f"runs: {len(self.plan.runs)}, {total} of them to do, {len(self.slots)} at a time")
        with Signals() as signals:
            try:
                while waiting or active:
                    for number, slot in enumerate(self.slots):
                        if number not in active and waiting:
                            run, steps = waiting.pop(0)
                            say(f"[{total - len(waiting)}/{total}] on {slot.where}: {run.key}")
                            active[number] = self._start(run, slot, steps)
                    self._look(active, signals)
            # A full disk, say: nothing may go on that nobody waits for.
            except BaseException:
                stop([one.child for one in active.values()], signals)
                raise

    def _look(self, active: dict[int, _Active], signals: Signals) -> None:
        """Wait a moment; then runs whose step has ended take their next one, or leave their slot."""
        _wait(signals)
        for number, one in [(n, one) for n, one in active.items() if not one.child.running]:
            further = self._ended(one)
            if further:
                active[number] = self._start(one.run, one.slot, further)
            else:
                del active[number]

    def _start(self, run: Run, slot: Slot, steps: list[Step]) -> _Active:
        output, step = self.plan.asked.output, steps[0]
        if step is None:
            record.begin(run, output)
        child = Child(words_of(run, step, output), slot.environment, run.home(output) / f"{_name(step)}.log")
        say(f"  running, see {child.log}")
        return _Active(run, slot, steps, child, time.monotonic())

    def _ended(self, active: _Active) -> list[Step]:
        """Note how the first step of a run has ended; the steps after it, none without its network."""
        run, (step, *further) = active.run, active.steps
        output = self.plan.asked.output
        failed = bool(active.child.status)
        if step is None and not failed:
            failed = not (run.home(output) / TRAIN / checkpoint.LATEST).is_file()
            if not failed:
                record.trained(run, output, time.monotonic() - active.began, active.slot.where)
        elif step is not None:
            failed = failed or step in pending(run, output)
        if failed:
            command = shlex.join(words_of(run, step, output))
            self.failures.append(Failure(run.key, command, active.child.log, active.child.last_lines()))
            say(f"failed: {run.key}, {_name(step)}; the others go on")
        return [] if failed and step is None else further


def _name(step: Step) -> str:
    return TRAIN if step is None else step.name
