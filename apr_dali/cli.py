"""The command `apr-dali`.

Exit status: 0 when all is well, 1 when the answer is bad news (a broken image, an environment that cannot train),
2 for wrong input, 130 after Ctrl-C.

`COMMANDS` is the table of all commands. A command is a row of it, and a module below apr_dali.commands with two
functions: `add(parser)` declares the arguments, `run(args)` does the work and returns the exit status, None for 0.
The module is imported when its command is chosen: `apr-dali --help` reads the table alone, and `apr-dali doctor` works
where torch does not.
"""

# Without `from __future__ import annotations`: pdoc cannot look up what a NamedTuple only names.

import apr_dali.runtime.spin_count  # isort: skip  # noqa: F401  before torch

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, NoReturn

from apr_dali import __version__
from apr_dali.errors import InputError, check_words, what_is_missing
from apr_dali.runtime.output import quiet_where_unread


class Command(NamedTuple):
    """A command. text: the line that --help shows. module: where it is below apr_dali.commands."""

    name: str
    text: str
    module: str


class Group(NamedTuple):
    """Commands below a command. title, metavar: what they are together, and one of them, in --help."""

    name: str
    text: str
    title: str
    metavar: str
    commands: tuple[Command, ...]


EVALUATIONS = (
    Command("clean", "accuracy on clean images", "evaluations.clean"),
    Command("corruption", "error on ImageNet-C, CIFAR-10-C, CIFAR-100-C and sets like them", "evaluations.corruption"),
    Command("ood", "telling images of other sets from those of the training set", "evaluations.ood"),
    Command("calibration", "whether the network is as often right as it says", "evaluations.calibration"),
    Command("autoattack", "accuracy under AutoAttack or one of its attacks", "evaluations.autoattack"),
    Command("shift", "accuracy on ImageNet-A, -R, -Sketch or -V2", "evaluations.shift"),
    Command("perturbation", "how steady answers are on the videos of ImageNet-P", "evaluations.perturbation"),
    Command("all", "all evaluations that the sets below a folder allow, and one page of results", "evaluations.all"),
    Command("compare", "several runs of `eval all` side by side", "evaluations.compare"),
)

ANALYSES = (
    Command("heatmap", "error and loss under noise of one frequency, for each frequency", "analyses.heatmap"),
    Command(
        "bands",
        "train a network on each pair of an amplitude's and a phase's band, and draw the 4×4 table",
        "analyses.bands",
    ),
    Command(
        "labels",
        "train with the phase's label weighted by λ and the amplitude's by 1 - λ, and draw accuracy and AUROC over λ",
        "analyses.labels",
    ),
    Command(
        "swap", "amplitude of one image with the phase of another: which of the two a network follows", "analyses.swap"
    ),
    Command(
        "templates",
        "the four template contrasts of a frequency of an image, and the phase that follows from them",
        "analyses.templates",
    ),
    Command(
        "tsne",
        "t-SNE of high-frequency amplitudes of clean, corrupted and other images, and how well a probe tells them "
        "apart",
        "analyses.tsne",
    ),
    Command("gradcam", "Grad-CAM of one or two networks on clean and corrupted images", "analyses.gradcam"),
    Command(
        "filters",
        "which frequencies the filters of a convolution let through (our reading of arXiv 1911.12044)",
        "analyses.filters",
    ),
    Command("gallery", "show what APR-S and APR-P make of photographs, with their spectra", "analyses.gallery"),
)

COMMANDS: tuple[Command | Group, ...] = (
    Command("doctor", "say what is installed, what can run, and what to do about the rest", "doctor"),
    Command("sample", "write a small data set of real photographs, to try things with", "sample"),
    Command("prepare", "turn archives, parquet files, tars or class folders into what the trainers read", "prepare"),
    Command("check-data", "decode every image of a data set and name the broken ones", "check_data"),
    Command(
        "make-c",
        "write a set like ImageNet-C or CIFAR-C from images: the published corruptions, with draws of its own",
        "make_c",
    ),
    Group("eval", "measure accuracy and robustness of a network", "evaluations", "EVALUATION", EVALUATIONS),
    Group("analyze", "look at what a network sees, frequency by frequency", "analyses", "ANALYSIS", ANALYSES),
    Command("reproduce", "train and evaluate what a table of the paper is made of, and compare", "reproduce"),
    Command("bench", "measure what APR and other augmentations cost on this machine", "bench"),
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like all the others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `argv` (default: the process's arguments) and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may hold what the terminal, or no text at all, can show.
        sys.stdout.reconfigure(errors="backslashreplace")
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    given = sys.argv[1:] if argv is None else argv
    try:
        with quiet_where_unread():
            check_words(given)
            args = build_parser(given).parse_args(given)
            return int(args.run(args) or 0)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not (missing := what_is_missing(error)):
            raise
        print(f"error: this needs {missing}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def build_parser(words: Collection[str]) -> argparse.ArgumentParser:
    """The parser of the whole command line, in which the commands among `words` have their arguments."""
    parser = _Parser(prog="apr-dali", description="Amplitude-Phase Recombination inside NVIDIA DALI pipelines.")
    parser.add_argument("--version", action="version", version=f"apr_dali {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for item in COMMANDS:
        one = commands.add_parser(item.name, help=item.text, description=item.text)
        if isinstance(item, Command):
            _fill(one, item, words, in_torch=False)
            continue
        group = one.add_subparsers(title=item.title, metavar=item.metavar, required=True)
        for part in item.commands:
            _fill(group.add_parser(part.name, help=part.text, description=part.text), part, words, in_torch=True)
    return parser


def _fill(parser: argparse.ArgumentParser, command: Command, words: Collection[str], in_torch: bool) -> None:
    """Give the parser of a chosen command its arguments and its function."""
    if command.name in words:
        module = importlib.import_module(f"apr_dali.commands.{command.module}")
        module.add(parser)
        parser.set_defaults(run=partial(_run_in_torch, module.run) if in_torch else module.run)


def _run_in_torch(run: Callable[[argparse.Namespace], int | None], args: argparse.Namespace) -> int:
    """Run a command that needs torch and may be one process of several."""
    from apr_dali.runtime import exit_status

    return exit_status.run(lambda: run(args), "run the same command, which keeps what it has finished")


def _complete() -> None:
    """Answer the shell, which asks with the TAB key what may come next, and end; without argcomplete go on."""
    try:
        import argcomplete
    except ImportError:
        return
    words = os.environ.get("COMP_LINE", "").split()
    argcomplete.autocomplete(build_parser(words), always_complete_options=False)


if __name__ == "__main__":
    sys.exit(main())
