"""`apr-dali analyze gradcam`: where one or two networks look, on clean and on corrupted images."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from apr_dali.commands.analyses import common

if TYPE_CHECKING:
    from apr_dali.eval.session import Session


_CORRUPTIONS = ("gaussian noise", "impulse noise", "blur", "contrast", "brightness", "pixelation", "jpeg", "fog")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    common.add_subject(parser, limit=60)
    parser.add_argument(
        "--compare", metavar="MODEL", help="a second network (default, without MODEL: one trained with APR-SP)"
    )
    parser.add_argument("--layer", metavar="NAME", help="of both (default: the last that gives a map)")
    parser.add_argument(
        "--corruption",
        choices=_CORRUPTIONS,
        default=_CORRUPTIONS[0],
        metavar="NAME",
        help=f"{', '.join(_CORRUPTIONS)} (default: %(default)s)",
    )
    parser.add_argument("--strength", type=int, choices=(1, 2, 3), default=2, help="(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Write gradcam.json and gradcam-maps.png."""
    from apr_dali.eval import analyze_gradcam

    with common.open_subject(args) as session:
        own = args.model is None and args.compare is None
        result = analyze_gradcam(
            session,
            args.data,
            limit=args.limit,
            compare=_trained(args, session) if own else common.open_other(session, args.compare, args.classes),
            names=("standard", "APR-SP") if own else None,
            layer=args.layer,
            corruption=args.corruption,
            strength=args.strength,
        )
        print(result.text())
        print(f"written: {session.output / 'gradcam.json'}")


def _trained(args: argparse.Namespace, session: Session) -> Session:
    """The network of digits that is trained with APR-SP."""
    from apr_dali.commands.analyses.small_network import SMALL, digits_network

    options = replace(SMALL, seed=args.seed, aug="apr-sp")
    trained = digits_network(session.output / "apr-sp", session.group, options)
    return common.open_other(session, str(trained))
