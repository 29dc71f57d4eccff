"""Sets of small images in memory: CIFAR's archives, SVHN's .mat, scikit-learn's digits, folders of small images."""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apr_dali.data.folders import SPLITS, open_files
from apr_dali.data.image_file import open_image
from apr_dali.data.listing import images_below
from apr_dali.errors import InputError, check_choice, first_line
from apr_dali.recipes import DATASETS

_SIZE = 32
_TEST_EVERY = 5  # of the digits of a class, in scikit-learn's order


@dataclass(frozen=True, eq=False)
class ArraySet:
    """Images of one size with labels.

    images: uint8 (N, H, W, 3), 0..255. labels: int64 (N,), indices into `classes`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise ValueError(f"images must be uint8 (N, H, W, 3), got {self.images.dtype} with the shape {shape}")
        if not isinstance(self.labels, np.ndarray) or self.labels.dtype.kind not in "iu":
            kind = getattr(self.labels, "dtype", type(self.labels).__name__)
            raise InputError(f"labels must be an array of integers, got {kind}")
        if self.labels.shape != shape[:1]:
            raise ValueError(f"labels must have the shape {shape[:1]}, got {self.labels.shape}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"labels must be in 0..{len(self.classes) - 1}, got {self.labels.min()} to {self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.labels)


def load_set(
    dataset: str,
    split: str,
    directory: str | Path = "",
    image_size: int = _SIZE,
    classes: Sequence[str] | None = None,
    *,
    allow_missing_classes: bool = False,
) -> ArraySet:
    """The part `split` ("train" or "val", the published test images) of a data set.

    Args:
        dataset: cifar10 or cifar100: the python archive in `directory`, as .tar.gz or extracted, or `directory` itself
            is one of them. digits: scikit-learn's 1,797, from nowhere. folder: `directory`/train/CLASS/IMAGE and
            `directory`/val/CLASS/IMAGE.
        image_size: S; images of a folder are scaled to S × S pixels.
        classes: of a folder: the names that it must have, those of the training part.
        allow_missing_classes: of a folder: it may lack some of `classes`.

    Raises:
        InputError: for whatever is missing, damaged or of other classes, with what to do about it.
    """
    check_choice("dataset", dataset, DATASETS)
    check_choice("split", split, SPLITS)
    if dataset == "digits":
        return _digits(split)
    if dataset == "folder":
        return _folder(directory, split, image_size, classes, allow_missing_classes)
    return _cifar(dataset, split, Path(directory))


# ---- the CIFAR archives ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """What is published of an archive: its address, its checksum (MD5), those of its files, and the names in them."""

    url: str
    folder: str
    md5: str
    parts: dict[str, tuple[tuple[str, str], ...]]
    meta: tuple[str, str]
    labels_key: str
    names_key: str

    @property
    def filename(self) -> str:
        return self.url.rpartition("/")[2]


def archive(dataset: str) -> Archive:
    """The published facts of "cifar10" or "cifar100", as torchvision keeps them."""
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[dataset]
    return Archive(
        url=kind.url,
        folder=kind.base_folder,
        md5=kind.tgz_md5,
        parts={"train": tuple(map(tuple, kind.train_list)), "val": tuple(map(tuple, kind.test_list))},
        meta=(kind.meta["filename"], kind.meta["md5"]),
        labels_key="labels" if dataset == "cifar10" else "fine_labels",
        names_key=kind.meta["key"],
    )


def download(dataset: str, directory: str | Path) -> None:
    """Fetch the archive into `directory` unless it is there already.

    Raises InputError where the network does not give it, and says where to put the file.
    """
    from torchvision.datasets.utils import download_url

    facts = archive(dataset)
    target = Path(directory) / facts.filename
    if _place(facts, Path(directory)) is not None:
        return
    try:
        download_url(facts.url, str(directory), facts.filename, facts.md5)
    # torchvision raises RuntimeError for a file that is not the published one.
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{facts.url} could not be downloaded ({error}): fetch it on another machine and put it at {target}"
        ) from error


def _cifar(dataset: str, split: str, directory: Path) -> ArraySet:
    facts = archive(dataset)
    read = _reader(facts, directory)
    files = [_unpickle(name, md5, read(name)) for name, md5 in (*facts.parts[split], facts.meta)]
    meta = files.pop()
    labels = np.concatenate([file[facts.labels_key] for file in files])
    images = np.empty((len(labels), _SIZE, _SIZE, 3), np.uint8)
    planes = [file["data"].reshape(-1, 3, _SIZE, _SIZE).transpose(0, 2, 3, 1) for file in files]
    np.concatenate(planes, out=images)
    return ArraySet(images, labels.astype(np.int64), tuple(meta[facts.names_key]))


def cifar_at(path: str | Path) -> tuple[str, ...]:
    """The names, for `load_set`, of the CIFAR archives that `path` is or holds, as .tar.gz or extracted."""
    place = Path(path)
    if not _looks_like_cifar(place):
        return ()  # torchvision, which knows the facts, takes seconds to import
    return tuple(name for name in ("cifar10", "cifar100") if _place(archive(name), place) is not None)


def _looks_like_cifar(path: Path) -> bool:
    names = os.listdir(path) if path.is_dir() else []
    return any(name.startswith("cifar-") or name in {"meta", "batches.meta"} for name in (path.name, *names))


def _place(facts: Archive, path: Path) -> Path | None:
    """The extracted folder or the .tar.gz that `path` is or holds; None if it has neither."""
    if path.name == facts.filename and path.is_file():
        return path
    # The folder may have been given another name, and the training files may have been left out.
    names = [name for name, _ in (*facts.parts["val"], facts.meta)]
    if (path.name == facts.folder and path.is_dir()) or all((path / name).is_file() for name in names):
        return path
    if (path / facts.folder).is_dir():
        return path / facts.folder
    return path / facts.filename if (path / facts.filename).is_file() else None


def _reader(facts: Archive, directory: Path) -> Callable[[str], bytes]:
    """A function from the name of a file of the archive to its bytes."""
    place = _place(facts, directory)
    if place is None:
        packed, extracted = directory / facts.filename, directory / facts.folder
        raise InputError(
            f"expected {packed} or the folder {extracted}: give --data the folder that one of them is in, or itself, "
            f"add --download, or fetch {facts.url} and put it at {packed}"
        )
    if place.is_dir():
        return lambda name: _read_file(place / name)
    return lambda name: _read_member(place, f"{facts.folder}/{name}")


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): extract the archive again, or remove {path.parent} "
            "so that the .tar.gz beside it is read"
        ) from error


def _read_member(packed: Path, name: str) -> bytes:
    try:
        with tarfile.open(packed, "r:gz") as tar:
            member = tar.extractfile(name)
            assert member is not None
            return member.read()
    # What a cut or foreign file raises depends on where it is cut: EOFError, zlib.error, tarfile.ReadError, KeyError.
    except Exception as error:
        raise unreadable(packed, error) from error


def unreadable(archive: Path, error: Exception) -> InputError:
    """What is said of an archive, or its folder, that raised `error` when it was read."""
    end = f", which ends at byte {archive.stat().st_size}," if archive.is_file() else ""
    return InputError(
        f"{archive}{end} cannot be read ({first_line(error)}): it is truncated or another file; fetch it again"
    )


def _unpickle(name: str, md5: str, content: bytes) -> dict[str, Any]:
    # A pickle can run anything when it is read: only the published bytes are.
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise InputError(
            f"{name} is not the published file or is truncated: expected the MD5 checksum {md5}, got {found} "
            f"({len(content)} bytes); fetch the archive again"
        )
    return pickle.loads(content, encoding="latin1")


# ---- digits and folders ----------------------------------------------------------------------------------------------


def _digits(split: str) -> ArraySet:
    """scikit-learn's digits as 32×32 RGB; every fifth of a class is for validation, whatever the versions."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    number = np.zeros_like(labels)  # of an image among those of its class
    for label in range(10):
        number[labels == label] = np.arange((labels == label).sum())
    chosen = (number % _TEST_EVERY == _TEST_EVERY - 1) == (split == "val")
    levels = np.rint(bunch.images[chosen] * (255 / 16)).astype(np.uint8)
    images = np.stack([_scaled(Image.fromarray(image).convert("RGB"), _SIZE) for image in levels])
    return ArraySet(images, labels[chosen], tuple(map(str, range(10))))


def _folder(
    directory: str | Path, split: str, size: int, classes: Sequence[str] | None, allow_missing: bool
) -> ArraySet:
    if not directory:
        raise InputError("--dataset folder needs --data DIR with DIR/train/CLASS/IMAGE and DIR/val/CLASS/IMAGE")
    reader = "--dataset folder"
    found = open_files(directory, reader, split, classes=classes, allow_missing_classes=allow_missing)
    return ArraySet(open_scaled(found.files, size), found.labels, found.classes)


def open_scaled(files: Sequence[str], size: int) -> NDArray[np.uint8]:
    """Image files, each scaled to a square whatever its shape: uint8 (N, size, size, 3)."""
    images = np.empty((len(files), size, size, 3), np.uint8)
    for image, path in zip(images, files, strict=True):
        image[:] = _open(path, size)
    return images


def _open(path: str, size: int) -> NDArray[np.uint8]:
    try:
        return _scaled(open_image(path), size)
    except InputError as error:
        raise InputError(f"{error}: remove it, or let `apr-dali check-data` write a file list without it") from error


def _scaled(image: Image.Image, size: int) -> NDArray[np.uint8]:
    if image.size == (size, size):
        return np.asarray(image)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


SIDE = 32
DIGITS = "digits"
NO_CLASS = "(in no class folder)"


def open_images(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images and labels of `open_small`, for whom classes mean nothing: the labels are numbers of its classes."""
    found = open_small(path)
    return found.images, found.labels


def open_small(path: str | Path) -> ArraySet:
    """The images of a set, uint8 (N, 32, 32, 3), 0..255, with labels and the names of its own classes; all in memory.

    Args:
        path: SVHN's test_32x32.mat, of the classes 0 to 9; CIFAR's archive, as .tar.gz or extracted, or the folder that
            it is in, for its test part; "digits", where nothing has that name, for scikit-learn's test part; or a
            folder of 32×32 image files at any depth (LSUN_resize, Imagenet_resize, LSUN_fix, Imagenet_fix, …), whose
            classes are the folders right below it. Images right in it are of NO_CLASS.

    Raises:
        InputError: for anything else, or images of another size.
    """
    path = Path(path)
    if path.suffix == ".mat" and path.is_file():
        return _svhn(path)
    archives = cifar_at(path)
    if len(archives) > 1:
        raise InputError(f"{path} holds {' and '.join(archives)}: give the folder or the .tar.gz of one of them")
    dataset = archives[0] if archives else DIGITS if is_digits(path) else None
    if dataset is not None:
        return load_set(dataset, "val", path)
    if not path.is_dir():
        raise InputError(
            f"{path} {'is no set of 32×32 images' if path.exists() else 'is not there'}: "
            "expected a folder of images, SVHN's test_32x32.mat, CIFAR's folder or .tar.gz, or the word digits"
        )
    return _files(path)


def is_digits(path: str | Path) -> bool:
    """Whether `path` means scikit-learn's digits: the word, and nothing of that name is there."""
    return str(path) == DIGITS and not Path(path).exists()


def is_small_set(path: str | Path) -> bool:
    """Whether `path` is a set whose images have 32×32 pixels, whatever network looks at them: no folder of files."""
    path = Path(path)
    return is_digits(path) or path.suffix == ".mat" or bool(cifar_at(path))


def is_image_folder(path: str | Path) -> bool:
    """Whether `path` is a folder of image files, not CIFAR's."""
    return Path(path).is_dir() and not cifar_at(path)


def _svhn(path: Path) -> ArraySet:
    from scipy.io import loadmat

    try:
        found = loadmat(path)
        images, labels = found["X"], found["y"].astype(np.int64).ravel() % 10  # the digit 0 has the label 10
    # What a cut or foreign file raises depends on where it is cut: MatReadError, zlib.error, KeyError, IndexError.
    except Exception as error:
        raise InputError(f"{path} is not SVHN's .mat file with X and y ({error!r}): fetch it again") from error
    if images.ndim != 4 or images.shape[:3] != (SIDE, SIDE, 3) or images.dtype != np.uint8:
        raise InputError(f"{path}: expected X as uint8 (32, 32, 3, N), got {images.dtype} {images.shape}")
    if len(labels) != images.shape[3] or not len(labels):
        raise InputError(f"{path}: expected as many labels y as images X, got {len(labels)} and {images.shape[3]}")
    return ArraySet(np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels, tuple(map(str, range(10))))


def _files(path: Path) -> ArraySet:
    files = images_below(str(path))
    if not files:
        raise InputError(f"{path} holds no image")
    images = np.empty((len(files), SIDE, SIDE, 3), np.uint8)
    for index, file in enumerate(files):
        image = open_image(file)
        if image.size != (SIDE, SIDE):
            raise InputError(f"{file}: expected {SIDE}×{SIDE} pixels, got {image.size[0]}×{image.size[1]}")
        images[index] = np.asarray(image)
    names, labels = np.unique([_class_of(Path(file).relative_to(path)) for file in files], return_inverse=True)
    return ArraySet(images, labels.astype(np.int64), tuple(map(str, names)))


def _class_of(file: Path) -> str:
    return file.parts[0] if len(file.parts) > 1 else NO_CLASS
