"""Every evaluation that the sets below a folder allow, and one page about it."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apr_dali.data.listing import is_hidden
from apr_dali.errors import InputError, check_choice
from apr_dali.eval.page import write_pages
from apr_dali.eval.plans import ON_THE_FLY, Found, Job, Plan, Wanted, others, plan_of
from apr_dali.eval.report import Report, sections, summary, summary_table
from apr_dali.eval.report_files import csv_of, latex_of
from apr_dali.eval.result import Result
from apr_dali.eval.session import Session, Subject, about_run, session_of
from apr_dali.eval.shared_pass import sharing
from apr_dali.runtime.distributed import on_main
from apr_dali.runtime.files import write_whole
from apr_dali.runtime.json_text import json_text

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from apr_dali.eval.session import Options


@dataclass(frozen=True)
class Results:
    """What `benchmark` found.

    results: by the name of the evaluation. failed: by its name, why. missing, skipped: by the name of the set, what to
    do about one that is not there, and why one that is there was not evaluated. report: all of it, as JSON.
    """

    results: dict[str, Result]
    failed: dict[str, str]
    missing: dict[str, str]
    skipped: dict[str, str]
    report: Report

    def __getitem__(self, name: str) -> Result:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def as_json(self) -> Report:
        """What report.json has."""
        return self.report

    def summary(self) -> dict[str, str]:
        """The numbers that matter, with their units."""
        return summary(self.report)

    def text(self) -> str:
        """The results for people, one after another."""
        return "\n\n".join(result.text() for result in self.results.values())


def benchmark(
    model: Subject,
    data_root: str | Path | None = None,
    *,
    sets: Collection[str] | None = None,
    attack: int | None = None,
    on_the_fly: bool = False,
    latex: bool = False,
    each: Callable[[Result], None] | None = None,
    **options: Unpack[Options],
) -> Results:
    """Run what the sets below a folder allow, and with `output` write report.html, .md, .json and .csv.

    An evaluation that fails does not end the others.

    Args:
        model: a module, a checkpoint, a name, or an open session.
        data_root: folder with val, imagenet-c, imagenet-a, …; for a network of 32×32 images with CIFAR's, SVHN's, ….
            None for a network of digits, which needs none.
        sets: names of sets, such as val and imagenet-a, to leave out all others; None for all that are there.
        attack: AutoAttack on so many images, which takes hours where the others take minutes; None for none.
        on_the_fly: where there is no corrupted set, corrupt the clean images while the network runs over them, see
            `evaluate_corruption_on_the_fly`.
        latex: write report.tex, the summary as a table, too.
        each: is called with each result as soon as it is there.
        options: see `apr_dali.eval.session.Options`.

    Raises:
        InputError: if there is no set, one of `sets` is not there, or no evaluation works.
    """
    with session_of(model, options) as own, sharing(own) as session:
        if latex and not session.keeps:
            raise InputError("latex writes a file: give an output")
        root = None if data_root is None else str(data_root)
        return _run(session, root, sets, attack, on_the_fly, each or (lambda _: None), latex)


def _run(
    session: Session,
    root: str | None,
    sets: Collection[str] | None,
    attacked: int | None,
    on_the_fly: bool,
    each: Callable[[Result], None],
    latex: bool,
) -> Results:
    plan = plan_of(session.network)
    if root is None and not plan.words:
        raise InputError("--data-root is missing: networks of digits alone need none")
    found = on_main(session.group, lambda: _find(root, plan, sets))
    session = session.of_several(placed) if (placed := [*_with_files(found, plan).values()]) else session
    jobs = _chosen(plan, found, attacked, on_the_fly)
    if not jobs:
        places = "\n".join(f"  {item.places[0]}: {item.looks}" for item in plan.wanted)
        raise InputError(f"{root} has none of the sets that can be evaluated; expected some of\n{places}")
    results, failed = _run_jobs(jobs, session, found, attacked, each)
    if not results:
        raise InputError("no evaluation worked: " + "; ".join(f"{name}: {text}" for name, text in failed.items()))
    asked = [item for item in plan.wanted if sets is None or item.name in sets]
    ran = [job.name for job in jobs]
    missing = {item.name: _missing(root, item) for item in asked if root and item.name not in (*found, *ran)}
    skipped = on_main(session.group, lambda: _skipped(root, plan, found, ran, attacked))
    report: Report = {
        "evaluations": {name: result.as_json() for name, result in results.items()},
        "kept": {name: result.record["kept"] for name, result in results.items()},
        "failed": _pairs(failed),
        **about_run(session.group, session.about()),
        "missing": _pairs(missing),
        "skipped": _pairs(skipped),
    }
    # As the file says it: a tuple is a list there.
    report = json.loads(json_text(report))
    on_main(session.group, lambda: _write(report, results, session.output, latex))
    return Results(results, failed, missing, skipped, report)


def _chosen(plan: Plan, found: Found, attacked: int | None, on_the_fly: bool) -> list[Job]:
    """The jobs that have what they need."""
    conditions = {
        "attack": attacked is not None,
        "others": bool(others(found)),
        ON_THE_FLY: on_the_fly and "corruption" not in found,
    }
    there = {*found, *(name for name, holds in conditions.items() if holds)}
    return [job for job in plan.jobs if there.issuperset(job.needs)]


def _pairs(texts: Mapping[str, str]) -> list[list[str]]:
    return [[name, text] for name, text in texts.items()]


def _run_jobs(
    jobs: Iterable[Job], session: Session, found: Found, attacked: int | None, each: Callable[[Result], None]
) -> tuple[dict[str, Result], dict[str, str]]:
    """The results, and of those that failed why."""
    results: dict[str, Result] = {}
    failed: dict[str, str] = {}
    for job in jobs:
        try:
            result = job.run(session, found, attacked)
        except InputError as error:
            failed[job.name] = str(error)
            continue
        # Hours of finished evaluations must not go without a page because of a fault in another.
        except Exception as error:
            # Where others may wait in it for this process, all have to end; what is finished is kept.
            if session.group.world > 1:
                raise
            traceback.print_exc()
            failed[job.name] = f"{type(error).__name__}: {error}"
            continue
        results[job.name] = result
        each(result)
    return results, failed


def _find(root: str | None, plan: Plan, sets: Collection[str] | None) -> Found:
    """The sets that are there, of `sets` if they are named; InputError where one of these is not."""
    known = (*plan.words, *(item.name for item in plan.wanted))
    for name in sets or ():
        check_choice("sets", name, known)
    for word in plan.words.values():
        if os.path.exists(word):
            raise InputError(f"something is called {word} here, where the word must mean the set: start it elsewhere")
    found = {**plan.words, **(_look(root, plan.wanted) if root is not None else {})}
    gone = [item for item in plan.wanted if sets is not None and item.name in sets and item.name not in found]
    if gone:
        lacking = "; ".join(f"{item.name}: {_missing(root or 'DATA_ROOT', item)}" for item in gone)
        raise InputError(f"sets that are asked for are not there; {lacking}")
    return {name: path for name, path in found.items() if sets is None or name in sets}


def _with_files(found: Found, plan: Plan) -> Found:
    return {name: path for name, path in found.items() if name not in plan.words}


def _look(root: str, wanted: tuple[Wanted, ...]) -> Found:
    if not os.path.isdir(root):
        raise InputError(f"--data-root {root} is not there")
    found = {}
    for item in wanted:
        place = next((path for p in item.places if os.path.exists(path := os.path.join(root, p))), None)
        if place is not None:
            found[item.name] = place
    return found


def _missing(root: str, item: Wanted) -> str:
    return f"put it in {os.path.join(root, item.places[0])}, which should hold: {item.looks}"


def _skipped(root: str | None, plan: Plan, found: Found, ran: Collection[str], attacked: int | None) -> dict[str, str]:
    """What lies below `root` and was not run, with the reason."""
    skipped = {}
    if root is not None:
        used, known = ({_below(root, path) for path in paths.values()} for paths in (found, _look(root, plan.wanted)))
        for name in sorted(os.listdir(root)):
            if name not in used and not is_hidden(name):
                why = "asked for" if name in known else "known for this network"
                skipped[name] = f"is not among the sets that are {why}"
    if plan.clean not in found:
        without = "needs the clean images of the same classes, which are missing"
        skipped.update({name: without for name in found if name not in ran})
    elif attacked is None:
        skipped["autoattack"] = "takes hours: give --attack N to attack N images"
    return skipped


def _below(root: str, path: str) -> str:
    """The entry of `root` that `path` is or lies in; words stand for what needs no file."""
    return Path(os.path.relpath(path, root)).parts[0]


def _write(report: Report, results: Mapping[str, Result], output: Path, latex: bool) -> None:
    parts = sections(report, {name: result.pictures for name, result in results.items()})
    write_pages(output, "report", f"Robustness of {report['settings']['network']}", parts)
    write_whole(output / "report.json", (json_text(report, indent=2) + "\n").encode())
    write_whole(output / "report.csv", csv_of({report["settings"]["network"]: report}).encode())
    if latex:
        table = summary_table(report)
        write_whole(output / "report.tex", latex_of(table, f"Robustness of {table.titles[1]}.").encode())
