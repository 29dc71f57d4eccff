"""Sets of small images as arrays, each with its classes: SVHN's .mat, CIFAR's archives, the digits, and image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.arrays import ArraySet, cifar_at, load_set
from apr_dali.data.folders import images_below
from apr_dali.data.image_file import open_image
from apr_dali.errors import InputError

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
