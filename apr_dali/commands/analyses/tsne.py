"""`apr-dali analyze tsne`: high-frequency amplitudes of clean, corrupted and out-of-distribution images."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import named_paths, positive, seed

_DIGIT_SIZE = 32


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--data", metavar="DIR", help="clean images: a folder, or SVHN or CIFAR (default: digits)")
    parser.add_argument(
        "--corrupted", nargs="+", metavar="NAME=PATH", help="corrupted ones (default: made of the clean ones)"
    )
    parser.add_argument("--ood", nargs="+", metavar="NAME=PATH", help="others (default: the built-in photographs)")
    parser.add_argument(
        "--size", type=positive, default=_DIGIT_SIZE, metavar="N", help="the middle N×N pixels, unscaled (%(default)s)"
    )
    parser.add_argument("--limit", type=positive, default=200, metavar="N", help="images of a set (%(default)s)")
    parser.add_argument("--cut", type=float, default=0.25, metavar="F", help="in cycles per pixel (%(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of folds and t-SNE (%(default)s)")
    parser.add_argument("--output", default="runs/analyze-tsne", metavar="DIR", help="(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Write tsne.json and tsne-map.png."""
    from apr_dali.eval import analyze_tsne
    from apr_dali.eval.session import write_record
    from apr_dali.runtime.distributed import start
    from apr_dali.runtime.files import make_output

    result = analyze_tsne(
        args.data,
        corrupted=None if args.corrupted is None else named_paths("--corrupted", args.corrupted),
        ood=None if args.ood is None else named_paths("--ood", args.ood),
        size=args.size,
        limit=args.limit,
        cut=args.cut,
        seed=args.seed,
    )
    settings = {key: value for key, value in vars(args).items() if key not in ("run", "output")}
    with start("cpu") as group:
        output = make_output(args.output)
        write_record(group, output, result.evaluation, settings, result.as_json(), result.pictures)
    print(result.text())
    print(f"written: {output / 'tsne.json'}")
