"""`apr-dali eval autoattack`: accuracy under AutoAttack or one of its attacks."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import add_network, positive, seed
from apr_dali.commands.evaluations.common import evaluate
from apr_dali.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser)
    parser.add_argument("--data", required=True, metavar="VAL", help="images to attack")
    parser.add_argument("--version", default="standard", help="standard, plus, or one attack's name (%(default)s)")
    parser.add_argument("--norm", default="linf", help="linf, l2 or l1 (%(default)s)")
    parser.add_argument("--epsilon", type=_fraction, default=8 / 255, metavar="E", help="such as 8/255, the default")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N images, evenly taken")
    parser.add_argument("--seed", type=seed, default=0, help="of the attacks (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the adversarial images, .npy files in 0..1")


def _fraction(text: str) -> float:
    number, _, divisor = text.partition("/")
    try:
        return float(number) / float(divisor or 1)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"must be a number or a fraction such as 8/255, got {text!r}") from None


def run(args: argparse.Namespace) -> None:
    """Write and print the result."""
    from apr_dali.eval import evaluate_autoattack

    if args.amp not in (None, "none"):
        raise InputError(f"--amp {args.amp} does not go with autoattack: attacks need the gradients of float32")
    options = {name: getattr(args, name) for name in ("version", "norm", "epsilon", "seed", "limit", "keep")}
    evaluate(args, lambda session: evaluate_autoattack(session, args.data, **options))
