"""The commands `apr-dali eval …`: one process, or several under torchrun.

Each writes NAME.json, the table with settings and versions, and pictures into the output folder, and keeps finished
parts in NAME.HASH.state.json: the same command goes on there after it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apr_dali.commands.all import compare, evaluate_all
from apr_dali.commands.autoattack import autoattack
from apr_dali.commands.clean import calibrate, clean
from apr_dali.commands.corruption import corruption
from apr_dali.commands.distribution_shift import shift
from apr_dali.commands.ood import ood
from apr_dali.errors import InputError
from apr_dali.eval.autoattack import Attack
from apr_dali.eval.session import Session, kept_text, open_session
from apr_dali.runtime import exit_status

Evaluation = Callable[[Session, argparse.Namespace], tuple[dict[str, Any], str]]
"""Gives the record that it has written, and a text for people."""


def _attack(session: Session, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    if args.amp not in (None, "none"):
        raise InputError(f"--amp {args.amp} does not go with autoattack: attacks need the gradients of float32")
    attack = Attack(args.version, args.norm, args.epsilon, args.seed)
    return autoattack(session, args.data, attack, args.limit, args.keep)


_EVALUATIONS: dict[str, Evaluation] = {
    "clean": lambda session, args: clean(session, args.data),
    "corruption": lambda session, args: corruption(session, args.data, args.clean),
    "ood": lambda session, args: ood(session, args.data, args.ood, args.imagenet_o),
    "calibration": lambda session, args: calibrate(session, args.data),
    "autoattack": _attack,
    "shift": lambda session, args: shift(session, args.set, args.data),
    "all": lambda session, args: evaluate_all(session, args.data_root, args.attack),
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
    with open_session(args) as session:
        record, text = _EVALUATIONS[name](session, args)
        if session.group.main:
            file = "report.html" if name == "all" else f"{record['evaluation']}.json"
            print(text if name == "all" else text + kept_text(record))
            print(f"written: {session.output / file}")
        failed = record.get("failed", [])
        if failed and session.group.main:
            print("error: failed: " + "; ".join(f"{part}: {reason}" for part, reason in failed), file=sys.stderr)
        return 1 if failed else 0
