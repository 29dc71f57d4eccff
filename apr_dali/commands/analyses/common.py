"""What the analyses share: their arguments, the network and the images that they look at, where results go.

An analysis writes its numbers and pictures with `Session.finish(name, result, pictures)`: NAME.json with settings and
versions, and NAME-TITLE.png.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.commands.arguments import add_components, add_network, positive, seed
from apr_dali.data.sampling import evenly
from apr_dali.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from apr_dali.data.folders import ImageSet, TarSet
    from apr_dali.eval.session import Session

Images = NDArray[np.uint8]
_OWN = "the network's own answers on the clean images"
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


def other_network(session: Session, model: str, classes: str | None = None) -> Session:
    """The same session with the network `model` in place of its own, fed with the very images of the first.

    model, classes: what `load_model` takes.
    """
    from apr_dali.eval.load_model import load_model

    first = session.network
    network = load_model(model, image_size=first.image_size, classes=classes)
    same = replace(network, scaling=first.scaling, scaled_whole=first.scaled_whole, from_folders=first.from_folders)
    if same.seen != network.seen:
        network = replace(same, seen_from=f"cut as for {first.name}, not as {network.seen_from} says")
    if session.group.main:
        print(network.told())
    feeding = replace(session.feeding, network=network)
    return replace(session, network=network, model=network.model.to(session.group.device), feeding=feeding)


@dataclass(frozen=True, eq=False)
class Samples:
    """Images under analysis, all of the network's size.

    images: uint8 (N, S, S, 3), 0..255. labels: int64 (N,), outputs of the network. origin: what they are, in words.
    labels_of: where the labels come from, in words. names: one an image, for captions.
    """

    images: Images
    labels: NDArray[np.int64]
    origin: str
    labels_of: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def true(self) -> bool:
        """Whether the labels are true: against the network's own answers nothing is right or wrong."""
        return self.labels_of != _OWN


def load_samples(session: Session, data: str | None, limit: int) -> Samples:
    """At most `limit` images, evenly taken: of the folder `data`; without one digits or the photographs.

    The labels of a folder are those of its class folders where these are classes of the network, or of `open_small`
    for a network of 32×32 images; otherwise, and for the photographs, what the network itself answers.
    """
    from apr_dali.data.arrays import load_set
    from apr_dali.data.sample import SUBJECTS, photograph
    from apr_dali.data.tars import DEFAULT

    if data is not None:
        return _of_folder(session, data, limit)
    if session.feeding.components != DEFAULT:
        raise InputError("--tar-image and --tar-label have no effect without --data: name the set of tars")
    if session.network.kind == "digits" and session.network.takes_small:
        digits = load_set("digits", "val")
        chosen = evenly(len(digits), limit)
        names = tuple(digits.classes[label] for label in digits.labels[chosen])
        return Samples(digits.images[chosen], digits.labels[chosen], "digits, test images", "the set", names)
    subjects = tuple(SUBJECTS)[:limit]
    images = np.stack([as_seen(session, photograph(name)) for name in subjects])
    return _answered(session, images, "built-in photographs", subjects)


def as_seen(session: Session, image: Image.Image) -> NDArray[np.uint8]:
    """An RGB image as evaluation cuts it for the network, uint8 (S, S, 3)."""
    from apr_dali.data.image_file import cut

    network = session.network
    return cut(image, network.image_size, network.scaling, network.mean)


def photographs(size: int) -> tuple[Images, tuple[str, ...]]:
    """The middles of the built-in photographs, uint8 (16, size, size, 3), and their names."""
    from apr_dali.data.sample import SUBJECTS, photograph
    from apr_dali.training.plots import centre_crop

    return np.stack([centre_crop(photograph(name), size) for name in SUBJECTS]), tuple(SUBJECTS)


def answers(session: Session, images: Images) -> NDArray[np.float32]:
    """The logits (N, classes) of images uint8 (N, S, S, 3), normalised as the network wants it."""
    from apr_dali.eval.passes import collect

    source = session.feeding.array("images", images, np.zeros(len(images), np.int64))
    functions = {"logits": lambda logits, _: logits}
    with source.open() as batches:
        return collect(session.model, batches, functions, session.group.device, session.amp)["logits"]


def in_words(name: str) -> str:
    """A class's name for captions: what ImageNet's WordNet ids stand for, others as they are."""
    if not re.fullmatch(r"n\d{8}", name):
        return name
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        return name
    described: str = ImageNetInfo().label_name_to_description(name)
    return described.partition(",")[0]


def _of_folder(session: Session, data: str, limit: int) -> Samples:
    from apr_dali.data.arrays import open_small
    from apr_dali.data.folders import open_set

    if session.takes_small(data):
        small = open_small(data)
        chosen = evenly(len(small), limit)
        names = tuple(small.classes[label] for label in small.labels[chosen])
        return _named(session, small.images[chosen], data, names, small.classes)
    found = open_set(data, components=session.feeding.components)
    images, labels = _decoded(session, found.only(evenly(len(found), limit)))
    return _named(session, images, data, tuple(found.classes[label] for label in labels), found.classes)


def _named(session: Session, images: Images, origin: str, names: tuple[str, ...], classes: tuple[str, ...]) -> Samples:
    """Images of the classes `names`, one an image; `classes`: all of their set's."""
    network = session.network
    if not set(classes) <= set(network.classes):
        return _answered(session, images, origin, names)
    return Samples(images, np.array(network.indices(names)), origin, "the set", names)


def _decoded(session: Session, part: ImageSet | TarSet) -> tuple[Images, NDArray[np.int64]]:
    """The images as evaluation cuts them, uint8 (N, S, S, 3), and their labels (N,)."""
    from apr_dali.data.arrays import open_scaled
    from apr_dali.data.folders import ImageSet
    from apr_dali.pipelines.loader import ImageNetLoader
    from apr_dali.recipes import AprRecipe

    feeding, network = session.feeding, session.network
    # The mean is the color beside an image that does not fill its crop.
    recipe = AprRecipe(0.0, True, network.mean, (1.0,) * 3)
    if network.scaled_whole:
        if not isinstance(part, ImageSet):
            raise InputError("this network's images are scaled whole: it takes a folder of class folders, no tar files")
        return open_scaled(part.files, network.image_size), part.labels
    with ImageNetLoader(
        part,
        feeding.batch_size,
        train=False,
        image_size=network.image_size,
        scaling=network.scaling,
        threads=feeding.threads,
        recipe=recipe,
    ) as loader:
        planes, labels = (np.concatenate([tensor.numpy() for tensor in column]) for column in zip(*loader, strict=True))
    levels = (planes.transpose(0, 2, 3, 1) + np.array(network.mean)) * 255
    return np.rint(levels).astype(np.uint8), labels


def _answered(session: Session, images: Images, origin: str, names: tuple[str, ...]) -> Samples:
    labels = answers(session, images).argmax(1).astype(np.int64)
    return Samples(images, labels, origin, _OWN, names)
