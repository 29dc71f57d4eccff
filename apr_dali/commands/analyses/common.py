"""What the commands of analyses share: their arguments, and the network that they look at."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from apr_dali.commands.arguments import add_components, add_network, positive, seed
from apr_dali.errors import InputError

if TYPE_CHECKING:
    from apr_dali.eval.session import Session

Images = NDArray[np.uint8]
_OUTPUT = "runs/analyze-digits"
_OF_MODEL = ("weights", "image_size", "classes", "mean", "std", "crop_pct", "interpolation")
_RECIPES: dict[str, dict[str, Any]] = {
    "quick": {"dataset": "digits", "model": "wrn-16-1", "epochs": 3, "batch_size": 32, "lr": 0.05},
    # Sections 5.1 and 5.3; what they do not say is as for train_cifar.py.
    "paper": {"dataset": "cifar10", "model": "resnet18", "epochs": 200, "batch_size": 128, "lr": 0.1},
}


def add_subject(parser: argparse.ArgumentParser, limit: int) -> None:
    """Declare MODEL, --data, --limit with its default, --seed and what every command for a network has."""
    add_network(parser, optional=True)
    add_components(parser)
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="folder of class folders (default: the test images of the digits for a network of digits, "
        "else the built-in photographs)",
    )
    parser.add_argument(
        "--limit", type=positive, default=limit, metavar="N", help="images, evenly taken (default: %(default)s)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of every draw (default: %(default)s)")


def add_training(parser: argparse.ArgumentParser) -> None:
    """Declare what every command that trains small networks has, --recipe and what it stands for."""
    parser.add_argument(
        "--recipe",
        choices=tuple(_RECIPES),
        default="quick",
        help="quick: small and without flips, the learning rate falls evenly to 0. paper: its network, flips and steps "
        "of the learning rate, for days on a GPU (default: %(default)s)",
    )
    quick, paper = (_RECIPES[name] for name in ("quick", "paper"))

    def default(name: str) -> str:
        return f"(default: {quick[name]}; paper: {paper[name]})"

    parser.add_argument("--dataset", metavar="NAME", help=f"as for train_cifar.py {default('dataset')}")
    parser.add_argument("--data", default="data", metavar="DIR", help="as for train_cifar.py")
    parser.add_argument("--model", metavar="NAME", help=f"as for train_cifar.py {default('model')}")
    parser.add_argument("--epochs", type=positive, metavar="N", help=f"of each training {default('epochs')}")
    parser.add_argument("--batch-size", type=positive, metavar="N", help=default("batch_size"))
    parser.add_argument("--lr", type=float, help=f"greatest learning rate {default('lr')}")
    parser.add_argument("--seed", type=seed, default=0, help="of weights and order (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--threads", type=positive, default=0, metavar="N", help="data threads (default: chosen)")


def training_options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `add_training` as options of train_cifar.py; what is not given is the recipe's."""
    recipe = _RECIPES[args.recipe]
    chosen = {name: value if (value := getattr(args, name)) is not None else recipe[name] for name in recipe}
    return {**chosen, "seed": args.seed, "threads": args.threads}


@contextmanager
def open_subject(args: argparse.Namespace) -> Iterator[Session]:
    """The session with the network that the command line names, or with a small one of our own for digits."""
    from apr_dali.commands.analyses.small_network import SMALL, digits_network
    from apr_dali.commands.network import open_network
    from apr_dali.runtime.distributed import start

    model, output = args.model, args.output
    if model is None:
        if any(getattr(args, name) is not None for name in _OF_MODEL):
            named = ", ".join("--" + name.replace("_", "-") for name in _OF_MODEL)
            raise InputError(f"{named} change nothing without MODEL: name the model that they fit")
        output = output or _OUTPUT
        with start(args.device) as group:
            model = str(digits_network(Path(output), group, replace(SMALL, seed=args.seed)))
    with open_network(args, model, output) as session:
        if session.group.world > 1:
            raise InputError("an analysis runs in one process: start it without torchrun")
        yield session


@overload
def open_other(session: Session, model: str, classes: str | None = None) -> Session: ...


@overload
def open_other(session: Session, model: str | None, classes: str | None = None) -> Session | None: ...


def open_other(session: Session, model: str | None, classes: str | None = None) -> Session | None:
    """A session for the second network, which says what that is; None where there is none."""
    from apr_dali.eval.analyses.samples import other_network

    if model is None:
        return None
    other = other_network(session, model, classes)
    print(other.network.description())
    return other


def photographs(size: int) -> tuple[Images, tuple[str, ...]]:
    """The middles of the built-in photographs, uint8 (16, size, size, 3), and their names."""
    from apr_dali.data.sample import SUBJECTS, photograph
    from apr_dali.training.plots import center_crop

    return np.stack([center_crop(photograph(name), size) for name in SUBJECTS]), tuple(SUBJECTS)
