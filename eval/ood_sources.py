"""The sets of out-of-distribution detection: folders, image lists, small images; and what scores are fitted to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from apr_dali.data.arrays import DIGITS, SIDE, cifar_at, is_digits, is_small_set, load_set, open_images
from apr_dali.data.folders import ImageSet, open_set
from apr_dali.data.image_list import is_image_list, read_image_list
from apr_dali.data.listing import EXTENSIONS, images_below, listing
from apr_dali.data.sample import tiles
from apr_dali.data.sampling import evenly
from apr_dali.errors import InputError
from apr_dali.eval.datasets import Feeding, numbered, outputs_by_name, select
from apr_dali.eval.passes import Source
from apr_dali.eval.session import Session
from apr_dali.recipes import Scaling
from apr_dali.runtime.distributed import on_main

PHOTOGRAPHS = "photographs"
_TILES = 400  # of them
IN, NEAR, FAR, MEAN = "in-distribution", "nearood", "farood", "mean"
TAKEN = (IN, MEAN, NEAR, FAR)
"""Names that results have beside those of the sets."""
_TO_SIDE = Scaling(over_crop=1.0)
"""What OpenOOD makes of an image for a network of small ones: the shorter side to 32 pixels, the middle of it."""


def checked_sets(sets: Mapping[str, str | Path]) -> dict[str, str]:
    """The places of sets by name; InputError for a name that results have already, or a place that is not there."""
    for name, path in sets.items():
        if name in TAKEN:
            raise InputError(f"a set cannot be called {name}: results have that name; give {path} another")
        if not os.path.exists(path) and str(path) not in (DIGITS, PHOTOGRAPHS):
            raise InputError(f"{name}={path}: {path} is not there")
    return {name: str(path) for name, path in sets.items()}


def in_source(session: Session, data: str, root: str | None = None, name: str = IN) -> Source:
    """Images of the network's classes, labeled. root: see `apr_dali.data.image_list.read_image_list`."""
    if not is_image_list(data):
        return session.labeled(data, name)
    return _listed(session, name, data, session.network.classes, root)


def in_source_of_some(session: Session, data: str, classes: tuple[str, ...]) -> Source:
    """The images of a folder that belong to ImageNet-O's 200 classes, which are `classes`."""
    if is_image_list(data):
        raise InputError(f"{data}: --imagenet-o takes a folder of class folders, not an image list")
    listed = on_main(session.group, lambda: _list_classes(data, classes, session.output / "imagenet-o.files.txt"))
    return session.feeding.folder(IN, str(listed), classes=classes)


def out_source(session: Session, name: str, path: str, root: str | None = None, scaled: bool = False) -> Source:
    """The images of a set that the network does not know, whose labels mean nothing.

    scaled: for a network of small images, those of a folder may have any size; without it they must be of its own.
    """
    if path == PHOTOGRAPHS and not os.path.exists(path):
        if not session.network.takes_small:
            raise InputError(f"{name}={path}: its tiles of {SIDE}×{SIDE} pixels are for networks of small images")
        images = tiles(SIDE, _TILES)
        return session.feeding.array(name, images, np.zeros(len(images), np.int64))
    if is_image_list(path):
        return _listed(session, name, path, None, root)
    to_scale = scaled and session.network.takes_as_they_are and not is_small_set(path)
    if session.takes_small(path) and not to_scale:
        images, labels = open_images(path)
        return session.feeding.array(name, images, labels * 0)
    feeding = _to_side(session) if to_scale else session.feeding
    # It needs no class folders.
    flat = os.path.isdir(path) and any(file.lower().endswith(EXTENSIONS) for file in listing(path)[0])
    return feeding.folder(name, _unlabeled(path) if flat else path)


def shifted_source(session: Session, name: str, path: str, root: str | None = None) -> Source:
    """Other images of the network's classes, or of some of them, labeled by the names of folders, or their numbers."""
    classes = session.network.classes
    if is_image_list(path):
        return _listed(session, name, path, classes, root)
    if is_small_set(path):
        return session.feeding.small(name, path)
    feeding = _to_side(session) if session.network.takes_as_they_are else session.feeding
    found = open_set(path, components=session.feeding.components, mixed=session.feeding.mixed)
    if not isinstance(found, ImageSet):
        raise InputError(f"{name}={path} has tar files: expected class folders of image files, or an image list")
    names = found.classes
    if not set(names) <= set(classes) and all(given.isdecimal() for given in names):
        # ImageNet-V2's folders are called by the number of the class.
        if beyond := [given for given in names if int(given) >= len(classes)]:
            raise InputError(f"{name}={path}: {numbered(classes, 'the folder')}, and there is no class {beyond[0]}")
        names = tuple(classes[int(given)] for given in names)
    labels = outputs_by_name(classes, names, path)[found.labels]
    return feeding.folder(name, ImageSet(found.files, labels, classes))


def fit_source(session: Session, path: str, limit: int, root: str | None = None) -> Source:
    """Training images that scores are fitted to, labeled, `limit` of them at the most, evenly taken."""
    name, network = "training", session.network
    if is_image_list(path):
        return _listed(session, name, path, network.classes, root, limit)
    if not os.path.exists(path) and path != DIGITS:
        raise InputError(f"--fit-data {path} is not there")
    archives = cifar_at(path)
    if session.takes_small(path) and (archives or is_digits(path)):
        found = load_set(archives[0] if archives else DIGITS, "train", path)
        labels = outputs_by_name(network.classes, found.classes, path)[found.labels]
        chosen = evenly(len(found), limit)
        return session.feeding.array(name, found.images[chosen], labels[chosen])
    if session.takes_small(path):
        return session.feeding.small(name, path, lambda count: evenly(count, limit))
    images = open_set(path, classes=network.classes, components=session.feeding.components, mixed=True)
    if not isinstance(images, ImageSet):
        if len(images) > limit:
            raise InputError(
                f"--fit-data {path} has {len(images)} images in tar files, of which a part cannot be taken: "
                f"give --fit-images {len(images)}, or a folder of class folders"
            )
        return session.feeding.folder(name, path, classes=network.classes)
    return session.feeding.folder(name, images.only(evenly(len(images), limit)))


def _listed(
    session: Session, name: str, path: str, classes: tuple[str, ...] | None, root: str | None, limit: int | None = None
) -> Source:
    found = on_main(session.group, lambda: read_image_list(path, classes, root, limit))
    feeding = _to_side(session) if session.network.takes_as_they_are else session.feeding
    return feeding.folder(name, found)


def _to_side(session: Session) -> Feeding:
    """How images of any size reach a network that takes small ones as they are."""
    return replace(session.feeding, network=replace(session.network, scaling=_TO_SIDE))


def _list_classes(data: str, classes: tuple[str, ...], path: Path) -> Path:
    """A file list of the images in `data` that belong to the 200 classes, written to `path`."""
    wanted = set(classes)
    missing = sorted(wanted - {entry.name for entry in os.scandir(data)})
    if missing:
        raise InputError(f"{data} lacks {len(missing)} of ImageNet-O's 200 classes: {', '.join(missing[:5])}")
    depth = len(Path(data).absolute().parts)
    select(data, path, lambda files: [n for n, file in enumerate(files) if Path(file).parts[depth] in wanted], classes)
    return path


def _unlabeled(path: str) -> ImageSet:
    """All images below a folder, of one class."""
    files = tuple(images_below(os.path.abspath(path)))
    return ImageSet(files, np.zeros(len(files), np.int64), ("image",))
