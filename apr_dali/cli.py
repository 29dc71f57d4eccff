"""The command `apr-dali`.

Exit status: 0 when all is well, 1 when the answer is bad news (a broken image, an environment that cannot train),
2 for wrong input, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from apr_dali import __version__
from apr_dali.commands.arguments import add_analyze, add_eval, add_make_c, add_processes
from apr_dali.commands.bench import add_bench
from apr_dali.commands.prepare import add_prepare
from apr_dali.errors import InputError

_WIDTH = 80


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like all the others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `argv` (default: the process's arguments) and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may hold what the terminal, or no text at all, can show.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = _parser().parse_args(argv)
        return int(args.run(args))
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="apr-dali", description="Amplitude-Phase Recombination inside NVIDIA DALI pipelines.")
    parser.add_argument("--version", action="version", version=f"apr_dali {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


# A command is one function that adds its parser and sets `run`, a function of the parsed arguments that returns the
# exit status. What a command needs is imported when it runs: `apr-dali doctor` must work where torch does not.
Commands = argparse._SubParsersAction


def _add_doctor(commands: Commands) -> None:
    parser = commands.add_parser("doctor", help="say what is installed, what can run, and what to do about the rest")
    parser.set_defaults(run=_doctor)


def _doctor(_: argparse.Namespace) -> int:
    from apr_dali.doctor import report

    found = report()
    print(found.text)
    return 0 if found.ok else 1


def _add_sample(commands: Commands) -> None:
    parser = commands.add_parser("sample", help="write a small data set of real photographs, to try things with")
    parser.add_argument("directory", metavar="DIR", help="folder to write; a finished sample there is left as it is")
    parser.add_argument(
        "--format",
        choices=("folder", "webdataset"),
        default="folder",
        help="folders of JPEG files, or tar files with DALI's indices (default: %(default)s)",
    )
    parser.set_defaults(run=_sample)


def _sample(args: argparse.Namespace) -> int:
    from apr_dali.data.sample import write_sample

    print(write_sample(args.directory, args.format))
    return 0


def _add_check_data(commands: Commands) -> None:
    parser = commands.add_parser("check-data", help="decode every image of a data set and name the broken ones")
    parser.add_argument("directory", metavar="DIR", help="a folder with train/ and val/, of class folders, or of tars")
    parser.add_argument(
        "--write-file-list",
        metavar="FILE",
        help="write a list of the images that are fine, which a trainer takes in place of the folder",
    )
    parser.add_argument("--tar-image", metavar="EXT", help="the image in a tar's samples (default: the only one)")
    parser.add_argument("--tar-label", metavar="EXT", default="cls", help="the label in them (default: %(default)s)")
    add_processes(parser)
    parser.set_defaults(run=_check_data)


def _check_data(args: argparse.Namespace) -> int:
    from apr_dali.data.check import check_tree, write_good
    from apr_dali.data.tars import Components

    if args.write_file_list is not None and not os.path.isdir(os.path.dirname(os.path.abspath(args.write_file_list))):
        # Not after an hour of decoding.
        raise InputError(f"--write-file-list {args.write_file_list}: its folder is not there; make it first")
    components = Components(args.tar_image, args.tar_label)
    checked = check_tree(args.directory, args.processes, components, for_list=args.write_file_list is not None)
    for path, reason in checked.bad:
        print(f"{path}: {reason}")
    print(checked.table(_WIDTH))
    if args.write_file_list is not None:
        count = write_good(args.write_file_list, checked)
        print(f"wrote {args.write_file_list} with {count} images; a trainer takes it in place of the folder")
    return 1 if checked.bad else 0


COMMANDS: tuple[Callable[[Commands], None], ...] = (
    _add_doctor,
    _add_sample,
    add_prepare,
    _add_check_data,
    add_make_c,
    add_eval,
    add_analyze,
    add_bench,
)


if __name__ == "__main__":
    sys.exit(main())
