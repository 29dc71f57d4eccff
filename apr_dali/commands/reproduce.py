"""`apr-dali reproduce`: train and evaluate what a table of the paper is made of, and compare."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from apr_dali.commands.arguments import positive
from apr_dali.errors import InputError

if TYPE_CHECKING:
    from apr_dali.reproduce.plan import Asked, Plan
    from apr_dali.reproduce.runner import Runner

_TABLES = ("table1", "table2", "table3", "table4", "fig4", "fig9", "fourier")
_OF_SOME = {"attack": ("table3",), "on_the_fly": ("table1", "table4", "fig9")}
_DATASETS = ("cifar10", "cifar100", "imagenet", "digits", "sample")

_WHOLE = re.compile("0|[1-9][0-9]*")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    _add_table(parser)
    _add_training(parser)
    _add_evaluation(parser)
    _add_place(parser)


def _add_table(parser: argparse.ArgumentParser) -> None:
    """What is trained and evaluated, and where it lies."""
    parser.add_argument("table", choices=_TABLES, metavar="TABLE", help=", ".join(_TABLES))
    parser.add_argument(
        "--plan", action="store_true", help="print the commands and how long they may take, run nothing"
    )
    parser.add_argument("--data", default="data", metavar="DIR", help="folder with the sets (default: %(default)s)")
    parser.add_argument("--output", default="runs/reproduce", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument(
        "--dataset",
        nargs="+",
        choices=_DATASETS,
        default=[],
        metavar="NAME",
        help="in place of the paper's; digits and sample need no files",
    )
    parser.add_argument("--networks", nargs="+", default=[], metavar="NAME", help="in place of the paper's")
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD", help="only these rows of the table")


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds",
        type=positive,
        default=1,
        metavar="N",
        help="runs of each method, with the seeds 0 to N - 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help="of each training, steps of the learning rate in proportion (default: published; digits 12, sample 20)",
    )
    parser.add_argument(
        "--follow",
        choices=("code", "paper"),
        default="code",
        help="what to do where the paper's text and its released code differ (default: %(default)s)",
    )
    parser.add_argument(
        "--amp",
        choices=("none", "bf16"),
        default="none",
        help="arithmetic of training (default: %(default)s, as published)",
    )


def _add_evaluation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-the-fly",
        action="store_true",
        help="where there is no corrupted set, corrupt the clean images while networks run",
    )
    parser.add_argument(
        "--attack", type=positive, metavar="N", help="table3: AutoAttack on N images (default: all; 20 digits)"
    )


def _add_place(parser: argparse.ArgumentParser) -> None:
    """Where runs compute, and how fast that is."""
    parser.add_argument(
        "--rate",
        nargs="+",
        default=[],
        metavar="[NETWORK=]N",
        help="--plan: training images per second (default: measured now)",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--gpus", type=_gpus, default=(), metavar="0,1,…", help="a run at a time on each of these GPUs")
    place.add_argument("--processes", type=positive, metavar="N", help="so many runs at a time on the CPUs")


def _gpus(text: str) -> tuple[str, ...]:
    numbers = tuple(text.split(","))
    if not all(map(_WHOLE.fullmatch, numbers)) or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"must be the numbers of GPUs with commas, each once, got {text!r}")
    return numbers


def run(args: argparse.Namespace) -> int:
    """Run what is left and write the page; 1 where something failed, 128 + its number after a signal."""
    from apr_dali.reproduce import overview
    from apr_dali.reproduce.record import check_unchanged
    from apr_dali.reproduce.results import found, outcomes
    from apr_dali.reproduce.runner import Runner
    from apr_dali.reproduce.slots import slots
    from apr_dali.reproduce.tables import check_runs, plan_of
    from apr_dali.runtime.files import make_output
    from apr_dali.runtime.lock import hold

    if args.rate and not args.plan:
        raise InputError("--rate changes nothing without --plan, which estimates hours from it")
    plan = plan_of(args.table, _asked(args))
    check_unchanged(plan)
    # What is there is read before anything runs: a damaged file would keep the page from being written in the end.
    found(plan, outcomes(plan))
    if args.plan:
        print(overview.text(plan, _rates(args.rate), max(1, len(args.gpus))))
        return 0
    check_runs(plan)
    print(overview.left_out(plan), end="")
    runner = Runner(plan, slots(args.gpus, args.processes))
    with hold(make_output(args.output)):
        return _run(plan, runner)


def _run(plan: Plan, runner: Runner) -> int:
    from apr_dali.reproduce.page import write_page
    from apr_dali.reproduce.runner import Stopped, prepare

    status = 0
    try:
        for words in plan.prepared:
            prepare(words, plan.asked.output)
        runner.run()
    except Stopped as stop:
        print(f"{stop}: the same command goes on", file=sys.stderr)
        status = 128 + stop.signum
    write_page(plan, runner.failures)
    print(f"written: {plan.asked.output / plan.name}.html, .md, .json, .csv, .tex")
    for failure in runner.failures:
        print(f"error: {failure.run}: `{failure.command}` failed; the end of {failure.log}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in failure.lines), file=sys.stderr)
    return status or int(bool(runner.failures))


def _asked(args: argparse.Namespace) -> Asked:
    from apr_dali.reproduce.follow import FOLLOWED
    from apr_dali.reproduce.plan import Asked

    for name, tables in _OF_SOME.items():
        if getattr(args, name) and args.table not in tables:
            shown = name.replace("_", "-")
            raise InputError(f"--{shown} changes nothing for {args.table}: it is of {', '.join(tables)}")
    return Asked(
        data=Path(args.data),
        output=Path(args.output),
        follow=FOLLOWED[args.follow],
        datasets=tuple(dict.fromkeys(args.dataset)),
        networks=tuple(dict.fromkeys(args.networks)),
        only=tuple(dict.fromkeys(args.only)),
        seeds=args.seeds,
        epochs=args.epochs,
        amp=args.amp,
        on_the_fly=args.on_the_fly,
        attack=args.attack,
    )


def _rates(given: list[str]) -> dict[str, float]:
    """Training images per second by network, under "" for all others."""
    found: dict[str, float] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = 0.0
        if not 0 < found[name] < float("inf"):
            raise InputError(f"--rate expects N or NETWORK=N, images per second above 0, got {text!r}")
    return found
