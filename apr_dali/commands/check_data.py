"""`apr-dali check-data`: every image of a data set is decoded, and the broken ones are named."""

from __future__ import annotations

import argparse
import os

from apr_dali.commands.arguments import add_components, add_processes
from apr_dali.errors import InputError

_WIDTH = 80


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "directory",
        metavar="DIR",
        help="a folder with train/ and val/, of class folders or of tars; a pattern or an address of tars; or an "
        "archive or a folder of archives that apr-dali prepare takes",
    )
    parser.add_argument(
        "--write-file-list",
        metavar="FILE",
        help="write a list of the images that are fine, which a trainer takes in place of the folder",
    )
    add_components(parser, "cls")
    parser.add_argument("--no-cache", action="store_true", help="list the folders anew, whatever an earlier start kept")
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    """Print the broken images and a table; 1 where there are broken ones."""
    from apr_dali.data.check import check_tree, write_good
    from apr_dali.data.prepare.check import check_source
    from apr_dali.data.prepare.sources import is_packed
    from apr_dali.data.tars import Components

    if args.write_file_list is not None and not os.path.isdir(os.path.dirname(os.path.abspath(args.write_file_list))):
        # Not after an hour of decoding.
        raise InputError(f"--write-file-list {args.write_file_list}: its folder is not there; make it first")
    components = Components(args.tar_image, args.tar_label)
    for_list = args.write_file_list is not None
    if is_packed(args.directory):
        if for_list:
            raise InputError(f"--write-file-list has no effect on {args.directory}: files in archives have no paths")
        checked = check_source(args.directory, args.processes, components)
    else:
        checked = check_tree(args.directory, args.processes, components, for_list, cached=not args.no_cache)
    for path, reason in checked.bad:
        print(f"{path}: {reason}")
    print(checked.table(_WIDTH))
    if args.write_file_list is not None:
        count = write_good(args.write_file_list, checked)
        print(f"wrote {args.write_file_list} with {count} images; a trainer takes it in place of the folder")
    return 1 if checked.bad else 0
