"""The images that an analysis looks at, and a second network beside the first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from apr_dali.data.arrays import load_set, open_scaled, open_small
from apr_dali.data.folders import ImageSet, TarSet, open_set
from apr_dali.data.image_file import cut
from apr_dali.data.sample import SUBJECTS, photograph
from apr_dali.data.sampling import evenly
from apr_dali.data.tars import DEFAULT
from apr_dali.errors import InputError
from apr_dali.eval.datasets import listed
from apr_dali.eval.load_model import Classes, load_model
from apr_dali.eval.outputs import collect
from apr_dali.eval.session import Options, Session, Subject, left_as_it_was, session_of
from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.recipes import AprRecipe

if TYPE_CHECKING:
    from PIL import Image

Images = NDArray[np.uint8]
_OWN = "MODEL's own answers on the clean images"


@contextmanager
def subject_of(model: Subject, options: Options) -> Iterator[Session]:
    """The session of `model`, as `session_of` gives it; InputError in several processes, which would do the same."""
    with session_of(model, options) as session:
        if session.group.world > 1:
            raise InputError("an analysis runs in one process: start it without torchrun")
        yield session


@contextmanager
def beside(session: Session, other: Subject | None, classes: Classes = None) -> Iterator[list[Session]]:
    """The session alone, or with one for a second network of the same classes, fed with the very images of the first.

    Raises InputError for a network of other classes, or in another order.
    """
    if other is None:
        yield [session]
        return
    with ExitStack() as stack:
        if isinstance(other, nn.Module):
            stack.enter_context(left_as_it_was(other))
        second = other if isinstance(other, Session) else other_network(session, other, classes)
        expected, got = session.network.classes, second.network.classes
        if got != expected:
            raise InputError(
                f"the second network, {second.network.name}, needs the classes of the first in their order: the labels "
                f"are theirs; expected {listed(expected)}, got {listed(got)}"
            )
        yield [session, second]


def other_network(session: Session, model: str | Path | nn.Module, classes: Classes = None) -> Session:
    """The same session with the network `model` in place of its own, fed with the very images of the first.

    model, classes: what `load_model` takes.
    """
    first = session.network
    network = load_model(model, image_size=first.image_size, classes=classes)
    same = replace(network, scaling=first.scaling, scaled_whole=first.scaled_whole, from_folders=first.from_folders)
    if same.seen != network.seen:
        network = replace(same, seen_from=f"cut as for {first.name}, not as {network.seen_from} says")
    feeding = replace(session.feeding, network=network)
    return replace(session, network=network, model=network.model.to(session.group.device), feeding=feeding)


@dataclass(frozen=True, eq=False)
class Samples:
    """Images under analysis, all of the network's size.

    images: uint8 (N, S, S, 3), 0..255. labels: int64 (N,), outputs of the network. origin: what they are, in words.
    labels_of: where the labels come from, in words. names: one per image, for captions.
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
    network = session.network
    return cut(image, network.image_size, network.scaling, network.mean)


def answers(session: Session, images: Images) -> NDArray[np.float32]:
    """The logits (N, classes) of images uint8 (N, S, S, 3), normalized as the network wants it."""
    source = session.feeding.array("images", images, np.zeros(len(images), np.int64))
    functions = {"logits": lambda batch: batch.logits}
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
    if session.takes_small(data):
        small = open_small(data)
        chosen = evenly(len(small), limit)
        names = tuple(small.classes[label] for label in small.labels[chosen])
        return _named(session, small.images[chosen], data, names, small.classes)
    found = open_set(data, components=session.feeding.components)
    images, labels = _decoded(session, found.only(evenly(len(found), limit)))
    return _named(session, images, data, tuple(found.classes[label] for label in labels), found.classes)


def _named(session: Session, images: Images, origin: str, names: tuple[str, ...], classes: tuple[str, ...]) -> Samples:
    """Images of the classes `names`, one per image; `classes`: all of their set's."""
    network = session.network
    if not set(classes) <= set(network.classes):
        return _answered(session, images, origin, names)
    return Samples(images, np.array(network.indices(names)), origin, "the set", names)


def _decoded(session: Session, part: ImageSet | TarSet) -> tuple[Images, NDArray[np.int64]]:
    """The images as evaluation cuts them, uint8 (N, S, S, 3), and their labels (N,)."""
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
