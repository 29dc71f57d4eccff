"""`apr-dali eval corruption`: error by corruption and severity."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import add_corruptions, add_network, positive, seed
from apr_dali.commands.evaluations.common import evaluate
from apr_dali.errors import InputError

_ON_THE_FLY = ("corruptions", "set", "severities", "limit", "extra", "seed", "in_memory")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--data",
        metavar="DIR",
        help="folders of ImageNet-C, C-bar, 3DCC or LAION-C, or .npy files of CIFAR-C or C-bar; the word digits for "
        "digits that are corrupted now",
    )
    source.add_argument(
        "--val", metavar="VAL", help="clean images, which ImageNet-C's corruptions are computed of while it runs"
    )
    parser.add_argument("--clean", metavar="VAL", help="clean images too: for the relative mCE")
    parser.add_argument(
        "--image-list",
        metavar="FILE",
        help="with --data: only the images of this list, CLASS/FILE a line; the word robustbench for RobustBench's "
        "5,000 images of ImageNet",
    )
    computed = parser.add_argument_group("with --val")
    add_corruptions(computed)
    computed.add_argument("--extra", action="store_true", default=None, help="the four extra corruptions too")
    computed.add_argument("--severities", nargs="+", type=positive, metavar="S", help="only these (default: 1 to 5)")
    computed.add_argument("--limit", type=positive, metavar="N", help="N images, the same for everyone (default: all)")
    computed.add_argument("--seed", type=seed, help="of the draws (default: 0)")
    computed.add_argument(
        "--in-memory",
        action="store_true",
        default=None,
        help="leave out the JPEG compression of ImageNet-C's files",
    )


def run(args: argparse.Namespace) -> None:
    """Write and print the result."""
    from apr_dali.eval import evaluate_corruption, evaluate_corruption_on_the_fly

    given = {name: getattr(args, name) for name in _ON_THE_FLY if getattr(args, name) is not None}
    if args.val is not None:
        if args.image_list is not None:
            raise InputError(f"--image-list has no effect on --val {args.val}: give a set with --data, or --limit N")
        evaluate(args, lambda session: evaluate_corruption_on_the_fly(session, args.val, clean=args.clean, **given))
        return
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{named} has no effect on --data {args.data}: what is computed goes with --val")
    evaluate(
        args, lambda session: evaluate_corruption(session, args.data, clean=args.clean, image_list=args.image_list)
    )
