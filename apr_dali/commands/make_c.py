"""`apr-dali make-c`: a set like ImageNet-C, made from a folder of images."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import add_processes, positive, seed


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="VAL", help="folder of class folders")
    parser.add_argument("target", metavar="OUT", help="folder to write; a stopped command goes on there")
    parser.add_argument("--corruptions", nargs="+", metavar="NAME", help="only these (default: the 15 of ImageNet-C)")
    parser.add_argument("--image-size", type=positive, default=224, metavar="N", help="pixels (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of the noise (default: %(default)s)")
    add_processes(parser)


def run(args: argparse.Namespace) -> None:
    """Write the set and print what was done."""
    from apr_dali.data.make_c import make_c

    print(make_c(args.source, args.target, args.corruptions, args.image_size, args.seed, args.processes))
