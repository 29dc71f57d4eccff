"""Sets of small images as arrays: SVHN's .mat, CIFAR's archives, the digits, and folders of image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.arrays import cifar_at, load_set
from apr_dali.data.folders import images_below
from apr_dali.data.image_file import open_image
from apr_dali.errors import InputError

SIDE = 32
DIGITS = "digits"


def open_images(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images of a set, uint8 (N, 32, 32, 3), 0..255, and their labels, int64 (N,); all in memory.

    Args:
        path: SVHN's test_32x32.mat; CIFAR's archive, as .tar.gz or extracted, or the folder that it is in, for its test
            part; "digits", where nothing has that name, for scikit-learn's test part; or a folder of 32×32 image files
            at any depth (LSUN_resize, Imagenet_resize, LSUN_fix, Imagenet_fix, …), whose labels are the numbers of the
            folders right below it, in the order of their names.

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
        found = load_set(dataset, "val", path)
        return found.images, found.labels
    if not path.is_dir():
        raise InputError(
            f"{path} {'is no set of 32×32 images' if path.exists() else 'is not there'}: "
            "expected a folder of images, SVHN's test_32x32.mat, CIFAR's folder or .tar.gz, or the word digits"
        )
    return _files(path)


def is_digits(path: str | Path) -> bool:
    """Whether `path` means scikit-learn's digits: the word, and nothing of that name is there."""
    return str(path) == DIGITS and not Path(path).exists()


def is_image_folder(path: str | Path) -> bool:
    """Whether `path` is a folder of image files, not CIFAR's."""
    return Path(path).is_dir() and not cifar_at(path)


def _svhn(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
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
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels


def _files(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    files = images_below(str(path))
    if not files:
        raise InputError(f"{path} holds no image")
    images = np.empty((len(files), SIDE, SIDE, 3), np.uint8)
    for index, file in enumerate(files):
        image = open_image(file)
        if image.size != (SIDE, SIDE):
            raise InputError(f"{file}: expected {SIDE}×{SIDE} pixels, got {image.size[0]}×{image.size[1]}")
        images[index] = np.asarray(image)
    tops = [Path(file).relative_to(path).parts[0] for file in files]
    return images, np.unique(tops, return_inverse=True)[1].astype(np.int64)
