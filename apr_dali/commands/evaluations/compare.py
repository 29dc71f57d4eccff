"""`apr-dali eval compare`: several runs of `eval all` side by side."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folders of `eval all`")
    parser.add_argument("--output", default=".", metavar="DIR", help="for compare.html, .md and .csv (default: here)")
    parser.add_argument("--latex", action="store_true", help="write the table for LaTeX, too: compare.tex")


def run(args: argparse.Namespace) -> None:
    """Write and print the table."""
    from apr_dali.eval import compare

    print(compare(args.runs, args.output, latex=args.latex))
    print(f"written: {Path(args.output) / 'compare.html'}")
