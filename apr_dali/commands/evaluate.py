"""The commands `apr-dali eval …`: one process, or several under torchrun.

Each writes NAME.json, the table with settings and versions, and pictures into the output folder, and keeps finished
parts in NAME.HASH.state.json: the same command goes on there after it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from apr_dali.commands.arguments import named_paths
from apr_dali.commands.network import open_network
from apr_dali.errors import InputError
from apr_dali.eval import (
    evaluate_autoattack,
    evaluate_calibration,
    evaluate_clean,
    evaluate_corruption,
    evaluate_ood,
    evaluate_shift,
)
from apr_dali.eval.comparison import compare
from apr_dali.eval.evaluations.ood import TAKEN
from apr_dali.eval.result import Result
from apr_dali.eval.session import Session
from apr_dali.eval.suite import Results, benchmark
from apr_dali.runtime import exit_status


def _attack(session: Session, args: argparse.Namespace) -> Result:
    if args.amp not in (None, "none"):
        raise InputError(f"--amp {args.amp} does not go with autoattack: attacks need the gradients of float32")
    options = {name: getattr(args, name) for name in ("version", "norm", "epsilon", "seed", "limit", "keep")}
    return evaluate_autoattack(session, args.data, **options)


_EVALUATIONS: dict[str, Callable[[Session, argparse.Namespace], Result]] = {
    "clean": lambda session, args: evaluate_clean(session, args.data),
    "corruption": lambda session, args: evaluate_corruption(session, args.data, clean=args.clean),
    "ood": lambda session, args: evaluate_ood(
        session, args.data, ood=named_paths("--ood", args.ood, TAKEN), imagenet_o=args.imagenet_o
    ),
    "calibration": lambda session, args: evaluate_calibration(session, args.data),
    "autoattack": _attack,
    "shift": lambda session, args: evaluate_shift(session, args.data, set=args.set),
}


def run(name: str, args: argparse.Namespace) -> int:
    """Run the evaluation `name` and return the exit status: 1 where a part of `all` failed."""
    outcome: list[int] = []
    return exit_status.run(lambda: outcome.append(_run(name, args))) or outcome[0]


def _run(name: str, args: argparse.Namespace) -> int:
    if name == "compare":
        print(compare(args.runs, args.output))
        print(f"written: {Path(args.output) / 'compare.html'}")
        return 0
    with open_network(args) as session:
        if name == "all":
            results = benchmark(session, args.data_root, attack=args.attack, each=lambda result: _show(session, result))
            return _ended(session, results)
        result = _EVALUATIONS[name](session, args)
        if session.group.main:
            print(result.text() + result.kept_text)
            print(f"written: {session.output / f'{result.evaluation}.json'}")
    return 0


def _show(session: Session, result: Result) -> None:
    if session.group.main:
        print(f"\n{result.text()}{result.kept_text}", flush=True)


def _ended(session: Session, results: Results) -> int:
    """Say how a whole benchmark ended; the exit status."""
    if session.group.main:
        print(f"\nevaluations: {len(results.results)} done, {len(results.failed)} failed")
        print(f"written: {session.output / 'report.html'}")
        if results.failed:
            failed = "; ".join(f"{part}: {reason}" for part, reason in results.failed.items())
            print("error: failed: " + failed, file=sys.stderr)
    return 1 if results.failed else 0
