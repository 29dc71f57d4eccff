"""`apr-dali analyze filters`: the frequencies of a layer's filters."""

from __future__ import annotations

import argparse

from apr_dali.commands.analyses import common
from apr_dali.commands.arguments import add_network, positive


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser, optional=True)
    parser.add_argument("--layer", metavar="NAME", help="a convolution by its name (default: the first one)")
    parser.add_argument(
        "--pad", type=positive, default=32, metavar="N", help="zero-pad filters to N×N (default: %(default)s)"
    )
    parser.set_defaults(seed=0)


def run(args: argparse.Namespace) -> None:
    """Write filters.json, filters-gallery.png and filters-spectra.png."""
    from apr_dali.eval import analyze_filters

    with common.open_subject(args) as session:
        print(analyze_filters(session, layer=args.layer, pad=args.pad).text())
        print(f"written: {session.output / 'filters.json'}")
