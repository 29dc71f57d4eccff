"""`apr-dali make-c`: a set like ImageNet-C, made from a folder of images, or CIFAR-C's arrays."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import add_corruptions, add_processes, positive, seed
from apr_dali.errors import InputError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="VAL", help="folder of class folders; with --cifar a CIFAR archive")
    parser.add_argument("target", metavar="OUT", help="folder to write; a stopped command goes on there")
    add_corruptions(parser)
    parser.add_argument("--image-size", type=positive, metavar="N", help="pixels (default: 224)")
    parser.add_argument(
        "--format",
        choices=("folder", "webdataset"),
        default="folder",
        help="class folders, or tar files with DALI's indices (default: %(default)s)",
    )
    parser.add_argument("--cifar", action="store_true", help="write CIFAR-C's arrays of the test images instead")
    parser.add_argument("--seed", type=seed, default=0, help="of the draws (default: %(default)s)")
    add_processes(parser)


def run(args: argparse.Namespace) -> None:
    """Write the set and print what was done."""
    from apr_dali.corruptions import corruptions_of
    from apr_dali.data.make_c import make_c, make_cifar_c

    corruptions = args.corruptions
    if args.set is not None:
        if corruptions is not None:
            raise InputError(f"--set {args.set} has no effect with --corruptions: these name all")
        corruptions = corruptions_of(args.set, "cifar" if args.cifar else "imagenet")
    if not args.cifar:
        size = 224 if args.image_size is None else args.image_size
        print(make_c(args.source, args.target, corruptions, size, args.seed, args.processes, args.format))
        return
    if args.format != "folder":
        raise InputError(f"--format {args.format} has no effect with --cifar, which writes .npy files")
    if args.image_size is not None:
        raise InputError(f"--image-size {args.image_size} has no effect with --cifar: its images have 32 pixels")
    print(make_cifar_c(args.source, args.target, corruptions, args.seed, args.processes))
