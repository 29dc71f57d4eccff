"""The cells of a corrupted set, each corruption at each severity, as sources of images, and what the set is called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from apr_dali.data.arrays import SIDE, is_digits, load_set, open_scaled
from apr_dali.data.corruption_sets import CorruptionFolders, find_corruption_folders, open_corruption_arrays
from apr_dali.data.fingerprint import identity
from apr_dali.data.folders import ImageSet, open_files
from apr_dali.data.image_ids import ImageIds, read_image_ids
from apr_dali.data.small_corruptions import CORRUPTIONS as DIGITS_CORRUPTIONS
from apr_dali.errors import InputError
from apr_dali.eval.class_names import is_imagenet
from apr_dali.eval.corruption import C_BARS, CELLS, KINDS, SEVERITIES, c_bar_names, other_set
from apr_dali.eval.datasets import outputs_by_name
from apr_dali.eval.laion_c import DISTORTIONS, SUPERCLASSES, Superclassed
from apr_dali.eval.passes import Source
from apr_dali.eval.session import Session
from apr_dali.runtime import cpus
from apr_dali.runtime.distributed import on_main

_NAMES = {
    "imagenet-c": "ImageNet-C",
    "generated": "generated set (not the published ImageNet-C)",
    "cifar-10-c": "CIFAR-10-C",
    "cifar-100-c": "CIFAR-100-C",
    "imagenet-c-bar": "ImageNet-C-bar",
    "imagenet-3dcc": "ImageNet-3DCC",
    "cifar-10-c-bar": "CIFAR-10-C-bar",
    "laion-c": "LAION-C",
    "digits": "corrupted digits (made here, no published set)",
}
_CIFAR = {"cifar10": "cifar-10-c", "cifar100": "cifar-100-c"}


@dataclass(frozen=True)
class Cells:
    """What a corrupted set holds.

    sources: of each corruption's severities in their order. kind: of `apr_dali.eval.corruption.KINDS`. name: in words.
    classes: of the set where these are not the network's, LAION-C's superclasses; None where they are.
    """

    sources: list[Source]
    kind: str
    name: str
    classes: tuple[str, ...] | None = None

    def answering(self, session: Session) -> nn.Module:
        """The session's network, with outputs for the classes of the set."""
        if self.classes is None:
            return session.model
        return Superclassed(session.model, session.network.classes).to(session.group.device)


def corruption_cells(session: Session, data: str, image_list: str | None = None) -> Cells:
    """The cells of the set `data`, or of each the images of a list, see `apr_dali.data.image_ids`."""
    if session.takes_small(data) and is_digits(data):
        _refuse_list(image_list, data)
        return _digits(session)
    if is_arrays(data):
        _refuse_list(image_list, data)
        return _arrays(session, data)
    if _is_laion_c(data):
        _refuse_list(image_list, data)
        return _laion_c(session, data)
    return _folders(session, data, None if image_list is None else read_image_ids(image_list))


def _refuse_list(image_list: str | None, data: str) -> None:
    if image_list is not None:
        raise InputError(f"--image-list {image_list} names images of ImageNet's class folders, which {data} has not")


def _digits(session: Session) -> Cells:
    """The test images of the digits under each of `small_corruptions`, made now."""
    digits = load_set("digits", "val")
    labels = outputs_by_name(session.network.classes, digits.classes, "digits")[digits.labels]
    sources = [
        session.feeding.array(f"{name}/{severity}", corrupt(digits.images, strength), labels)
        for name, (corrupt, strengths) in DIGITS_CORRUPTIONS.items()
        for severity, strength in enumerate(strengths, 1)
    ]
    return Cells(sources, "digits", _NAMES["digits"])


def is_arrays(data: str) -> bool:
    """Whether it is a set of .npy files, whose labels have no names."""
    return os.path.isfile(os.path.join(data, "labels.npy"))


def _arrays(session: Session, data: str) -> Cells:
    network = session.network
    if not network.takes_small:
        raise InputError(
            f"{data} has images of {SIDE}×{SIDE}, and {network.name} takes {network.image_size}×{network.image_size}: "
            "give ImageNet-C's folders, or a network for small images"
        )
    classes = len(network.classes)
    arrays = open_corruption_arrays(data, classes)
    sources = [
        session.feeding.array(f"{name}/{severity}", arrays.severity(name, severity), arrays.labels)
        for name in arrays.images
        for severity in SEVERITIES
    ]
    # The published ones have as many images of each class, and labels of their own classes.
    kind = _kind_of(_CIFAR.get(session.network.kind, "own"), arrays.images)
    of_each = CELLS.get(kind, 0) // classes
    if arrays.generated or not (np.bincount(arrays.labels, minlength=classes) == of_each).all():
        kind = "own"
    return Cells(sources, kind, _NAMES.get(kind) or _own_name(data, arrays.generated))


def _folders(session: Session, data: str, listed: ImageIds | None) -> Cells:
    classes, size, components = session.network.classes, session.network.image_size, session.feeding.components
    found = on_main(session.group, lambda: find_corruption_folders(data, classes, size, components))
    sources = [
        session.feeding.folder(
            name, folder if listed is None else listed.below(folder, classes), classes, as_it_is=True
        )
        for name, folder in _each(found)
    ]
    count = _same_count(data, sources)
    kind = "generated" if found.generated else _kind_of("imagenet-c", found.folders)
    own = _own_name(data, found.generated)
    if listed is not None:
        of = f"{count:,} images of {os.path.basename(listed.path)}"
        if f"{kind}-listed" in KINDS and is_imagenet(classes):
            return Cells(sources, f"{kind}-listed", f"{_NAMES[kind]}, {of}")
        return Cells(sources, "own", f"{own}, {of}")
    if count == CELLS.get(kind) and is_imagenet(classes):
        return Cells(sources, kind, _NAMES[kind])
    return Cells(sources, "own", own)


def _each(found: CorruptionFolders) -> list[tuple[str, str]]:
    """The name of each cell and its folder."""
    return [
        (f"{name}/{severity}", folder)
        for name, folders in found.folders.items()
        for severity, folder in zip(SEVERITIES, folders, strict=True)
    ]


def _is_laion_c(data: str) -> bool:
    return any(os.path.isdir(os.path.join(data, name, "intensity_level_1")) for name in DISTORTIONS)


def _laion_c(session: Session, data: str) -> Cells:
    """LAION-C's folders; its images are scaled whole, as its authors do."""
    classes, feeding = tuple(SUPERCLASSES), session.feeding
    network = session.network
    if network.takes_small:
        raise InputError(f"{data} is LAION-C: it is for networks of ImageNet's classes, {network.name} takes 32×32")
    folders = on_main(session.group, lambda: find_corruption_folders(data, classes, 1))
    others = sorted(set(folders.folders) - set(DISTORTIONS))
    if others:
        raise InputError(f"{data} has folders of LAION-C and others, {', '.join(others[:5])}: keep these elsewhere")

    def source(name: str, folder: str) -> Source:
        files = open_files(folder, "LAION-C", classes=classes)
        scaled: Any = _Scaled(files, network.image_size, feeding.threads or cpus.share())
        return feeding.array(name, scaled, files.labels, lambda: identity(files))

    return Cells([source(name, folder) for name, folder in _each(folders)], "laion-c", _NAMES["laion-c"], classes)


class _Scaled:
    """Image files, scaled whole when they are asked for: as an array uint8 (N, size, size, 3) that is read in parts."""

    def __init__(self, found: ImageSet, size: int, threads: int) -> None:
        self._files, self._size, self._threads = found.files, size, threads

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        with ThreadPoolExecutor(self._threads) as pool:
            return np.concatenate(list(pool.map(lambda file: open_scaled([file], self._size), self._files[part])))


def _kind_of(kind: str, names: Collection[str]) -> str:
    """The kind of a set with these corruptions, which has no other than C-bar's or 3DCC's, or is `kind`."""
    if kind == "imagenet-c" and other_set(names) == "ImageNet-3DCC":
        return "imagenet-3dcc"
    if c_bar_names(names) != tuple(names):
        return kind
    bar = f"{kind}-bar"
    return bar if set(names) <= set(C_BARS.get(_NAMES.get(bar, ""), ())) else "own"


def _same_count(data: str, cells: list[Source]) -> int:
    """How many images each cell has; InputError where one has another number than the others."""
    counts = Counter(cell.images for cell in cells)
    usual = counts.most_common(1)[0][0]
    others = [f"{cell.name} {cell.images:,}" for cell in cells if cell.images != usual]
    if others:
        raise InputError(
            f"{data}: {counts[usual]} of {len(cells)} cells have {usual:,} images, the others not: "
            f"{', '.join(others[:5])}{' …' if len(others) > 5 else ''}; a corruption and severity that is not whole "
            "has another error: complete it, or move the corruption elsewhere"
        )
    return usual


def _own_name(data: str, generated: bool) -> str:
    return f"own set {os.path.basename(os.path.abspath(data))}{', made by apr-dali make-c' if generated else ''}"
