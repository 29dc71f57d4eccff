"""`apr-dali doctor`: what is installed, what can run, and what to do about the rest."""

from __future__ import annotations

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """It has no arguments."""


def run(args: argparse.Namespace) -> int:  # noqa: ARG001
    """Print the report; 1 where this environment cannot train."""
    from apr_dali.doctor import report

    found = report()
    print(found.text)
    return 0 if found.ok else 1
