"""`apr-dali analyze heatmap`: how sensitive a network is to noise of each frequency."""

from __future__ import annotations

import argparse

from apr_dali.commands.analyses.common import add_subject, open_other, open_subject
from apr_dali.commands.arguments import positive

_SIZE = 63  # as published


def add(parser: argparse.ArgumentParser) -> None:
    add_subject(parser, limit=64)
    parser.add_argument(
        "--size",
        type=positive,
        metavar="N",
        help=f"frequencies per side (default: the greatest odd number that the images have, at most {_SIZE})",
    )
    parser.add_argument(
        "--epsilon",
        type=float,
        metavar="E",
        help="L2 norm of the noise per channel, of 0..1 (default, as published: 4.0 up to 64 pixels, 15.7 above)",
    )
    parser.add_argument(
        "--compare", metavar="MODEL", help="a second network, shown beside the first, and the difference"
    )


def run(args: argparse.Namespace) -> None:
    from apr_dali.eval import analyze_heatmap

    with open_subject(args) as session:
        result = analyze_heatmap(
            session,
            args.data,
            limit=args.limit,
            size=args.size,
            epsilon=args.epsilon,
            compare=open_other(session, args.compare, args.classes),
            seed=args.seed,
        )
        print(result.text() + result.kept_text)
        print(f"written: {session.output / 'heatmap.json'}, heatmap-maps.png")
