"""`apr-dali sample`: a small data set of real photographs."""

from __future__ import annotations

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="folder to write; a finished sample there is left as it is")
    parser.add_argument(
        "--format",
        choices=("folder", "webdataset"),
        default="folder",
        help="folders of JPEG files, or tar files with DALI's indices (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    """Write the set and print its folder."""
    from apr_dali.data.sample import write_sample

    print(write_sample(args.directory, args.format))
