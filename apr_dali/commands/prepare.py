"""`apr-dali prepare`: from the archives that people have to what the trainers read."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from apr_dali.commands.arguments import add_components, add_processes, positive, seed

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_SHOWN = 20


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="SOURCE", help="an archive, or the folder of one or several")
    parser.add_argument("out", metavar="OUT", help="folder to write; a stopped command goes on there")
    parser.add_argument(
        "--format",
        choices=("folder", "webdataset"),
        default="folder",
        help="class folders, or shuffled tar files with DALI's indices (default: %(default)s)",
    )
    parser.add_argument(
        "--max-side",
        type=positive,
        metavar="N",
        help="make images smaller whose longer side has more pixels; all others stay as they are, byte for byte "
        "(default: all do)",
    )
    parser.add_argument("--quality", type=positive, metavar="Q", help="of the JPEG files made smaller (default: 90)")
    parser.add_argument("--shards", type=positive, metavar="N", help="tars of the training images, val's of their size")
    parser.add_argument("--shard-size", type=size, metavar="SIZE", help="of a tar at most, about (default: 256MB)")
    parser.add_argument("--seed", type=seed, help="of the order in the tars (default: 0)")
    parser.add_argument(
        "--val-labels",
        metavar="FILE",
        help="classes of ILSVRC2012's validation images: the devkit, Kaggle's table, or a list of one such as "
        "n01440764 a line (default: looked for beside the images)",
    )
    add_components(parser, "cls")
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    """Write the set and print what it holds; 1 where it differs from the published one."""
    from apr_dali.data.prepare.job import prepare
    from apr_dali.runtime.interrupts import Interrupted

    try:
        found = prepare(args.source, args.out, _options(args), args.processes)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signum
    for name, what in found.odd[:_SHOWN]:
        print(f"{name}: {what}")
    if len(found.odd) > _SHOWN:
        print(f"and {len(found.odd) - _SHOWN} more, see odd_files.txt")
    for difference in found.differences:
        print(f"differs: {difference}")
    told = " and ".join(f"{count} images for {split}" for split, count in found.images.items())
    print(f"{args.out}: {told}, {found.classes} classes, from {found.told}")
    return 1 if found.differences else 0


def _options(args: argparse.Namespace) -> Any:
    from apr_dali.data.prepare.job import Options
    from apr_dali.data.tars import Components
    from apr_dali.errors import InputError

    tars = args.format == "webdataset"
    for name in ("shards", "shard_size", "seed"):
        if getattr(args, name) is not None and not tars:
            raise InputError(f"--{name.replace('_', '-')} has no effect without --format webdataset")
    if args.shards is not None and args.shard_size is not None:
        raise InputError("--shards and --shard-size both say how large a tar is: give one of them")
    if args.quality is not None and args.max_side is None:
        raise InputError("--quality has no effect without --max-side: images stay as they are")
    given = {
        name: getattr(args, name) for name in ("max_side", "quality", "shards", "shard_size", "seed", "val_labels")
    }
    kept = {name: value for name, value in given.items() if value is not None}
    return Options(args.format, components=Components(args.tar_image, args.tar_label), **kept)


def size(text: str) -> int:
    """Bytes: a number with KB, MB or GB behind it, or without."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]?)B?", text.upper())
    if found is None or float(found[1]) * _UNITS[found[2]] < 1:
        raise argparse.ArgumentTypeError(f"must be a size such as 256MB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])
