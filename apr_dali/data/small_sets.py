"""Sets of small images as arrays: SVHN's .mat, CIFAR's folders, and folders of image files, each with its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.arrays import ArraySet
from apr_dali.data.folders import images_below
from apr_dali.data.image_file import open_image
from apr_dali.errors import InputError

SIDE = 32
NO_CLASS = "(in no class folder)"
_CIFAR = {"cifar-10-batches-py": "CIFAR10", "cifar-100-python": "CIFAR100"}


def open_images(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images and labels of `open_small`, for whom classes mean nothing: the labels are numbers of its classes."""
    found = open_small(path)
    return found.images, found.labels


def open_small(path: str | Path) -> ArraySet:
    """The images of a set, uint8 (N, 32, 32, 3), 0..255, with labels and the names of its own classes; all in memory.

    Args:
        path: SVHN's test_32x32.mat, of the classes 0 to 9; a folder cifar-10-batches-py or cifar-100-python, whose test
            part is taken; or a folder of 32×32 image files at any depth (LSUN_resize, Imagenet_resize, LSUN_fix,
            Imagenet_fix, …), whose classes are the folders right below it. Images right in it are of NO_CLASS.

    Raises:
        InputError: for anything else, or images of another size.
    """
    path = Path(path)
    if path.suffix == ".mat" and path.is_file():
        return _svhn(path)
    if path.name in _CIFAR and path.is_dir():
        return _cifar(path)
    if not path.is_dir():
        raise InputError(f"{path} is not there: expected a folder of images, SVHN's test_32x32.mat or CIFAR's folder")
    return _files(path)


def is_image_folder(path: str | Path) -> bool:
    """Whether `path` is a folder of image files, not CIFAR's."""
    return Path(path).is_dir() and Path(path).name not in _CIFAR


def _svhn(path: Path) -> ArraySet:
    from scipy.io import loadmat

    try:
        found = loadmat(path)
        images, labels = found["X"], found["y"].astype(np.int64).ravel() % 10  # the digit 0 has the label 10
    except (ValueError, KeyError, TypeError, NotImplementedError, OSError) as error:
        raise InputError(f"{path} is not SVHN's .mat file with X and y: {error}") from error
    if images.ndim != 4 or images.shape[:3] != (SIDE, SIDE, 3) or images.dtype != np.uint8:
        raise InputError(f"{path}: expected X as uint8 (32, 32, 3, N), got {images.dtype} {images.shape}")
    if len(labels) != images.shape[3] or not len(labels):
        raise InputError(f"{path}: expected as many labels y as images X, got {len(labels)} and {images.shape[3]}")
    return ArraySet(np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels, tuple(map(str, range(10))))


def _cifar(path: Path) -> ArraySet:
    import torchvision

    try:
        # It looks at the checksums, so that it unpickles nothing but the published files.
        found = getattr(torchvision.datasets, _CIFAR[path.name])(path.parent, train=False)
    except RuntimeError as error:
        raise InputError(f"{path} is not whole, or not the published set: {error}") from error
    return ArraySet(found.data, np.array(found.targets, np.int64), tuple(found.classes))


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
