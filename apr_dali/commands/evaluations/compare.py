"""`apr-dali eval compare`: several runs of `eval all` side by side."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folders of `eval all`")
    parser.add_argument("--output", default=".", metavar="DIR", help="for compare.html and compare.md (default: here)")


def run(args: argparse.Namespace) -> None:
    """Write and print the table."""
    from apr_dali.eval import compare

    print(compare(args.runs, args.output))
    print(f"written: {Path(args.output) / 'compare.html'}")
