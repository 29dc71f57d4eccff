"""The images that the benchmark reads: photographs of ImageNet's usual size, and small ones for memory."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apr_dali.bench.stored import prepare_stored
from apr_dali.data.arrays import ArraySet
from apr_dali.data.folders import ImageSet, TarSet, open_files, open_set
from apr_dali.data.sample import photograph
from apr_dali.runtime.files import npy_bytes, write_whole

_PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket")
_CLASSES = ("even", "odd")
_COUNT, _WIDTH, _HEIGHT = 256, 500, 375
_QUALITY = 98  # about 80 kB per file; ImageNet's have 110
_SMALL_COUNT, _SMALL_SIDE = 16384, 32
_EPOCH = 100_000


@dataclass(frozen=True)
class Places:
    """folder: class folders of photographs. small: a file of small images. stored: see `prepare_stored`."""

    folder: str
    small: str
    stored: Mapping[str, str] = field(default_factory=dict)


def prepare(output: Path, data: str | None, kinds: Sequence[str] = ()) -> Places:
    """Make sure that the images are there: `data`, or photographs below `output`, and small images there.

    kinds: those of `apr_dali.bench.rows.STORED` that are measured.

    Raises:
        InputError: if `data` is no set of image files.
    """
    places = _prepare_plain(output, data)
    return replace(places, stored=prepare_stored(output, places.folder, kinds))


def _prepare_plain(output: Path, data: str | None) -> Places:
    small = output / "images-32.npy"
    if not small.is_file():
        write_whole(small, npy_bytes(_small_images()))
    if data is not None:
        photographs(data)
        return Places(data, str(small))
    folder = output / f"images-{_WIDTH}x{_HEIGHT}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix=".images.", dir=output) as scratch:
            made = Path(scratch) / folder.name
            for path, jpeg in _photographs():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_bytes(jpeg)
            made.rename(folder)
    return Places(str(folder), str(small))


def photographs(folder: str) -> ImageSet:
    """The image files of `folder`, over and over: an epoch is long, as on ImageNet, and its end costs nothing."""
    found = open_files(folder, "the benchmark")
    times = -(-_EPOCH // len(found))
    return ImageSet(found.files * times, np.tile(found.labels, times), found.classes)


def packed(folder: str) -> TarSet:
    """The tars of `folder`, over and over, see `photographs`."""
    found = open_set(folder)
    assert isinstance(found, TarSet)
    times = -(-_EPOCH // len(found))
    return TarSet(found.tars * times, found.indices * times, found.classes)


def small_images(file: str) -> ArraySet:
    """The small images of `file`, in memory."""
    images = np.load(file)
    return ArraySet(images, np.arange(len(images)) % len(_CLASSES), _CLASSES)


def _photographs() -> Iterator[tuple[str, bytes]]:
    """Path and JPEG of each photograph: parts of _PHOTOGRAPHS, scaled up."""
    sources = [photograph(name) for name in _PHOTOGRAPHS]
    rng = np.random.default_rng(0)
    for index in range(_COUNT):
        photo = sources[index % len(sources)]
        height = int(rng.integers(200, 290))
        width = height * _WIDTH // _HEIGHT
        left, top = int(rng.integers(photo.width - width + 1)), int(rng.integers(photo.height - height + 1))
        part = photo.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        encoded = io.BytesIO()
        part.save(encoded, "JPEG", quality=_QUALITY)
        yield f"{_CLASSES[index % 2]}/{index:04d}.jpg", encoded.getvalue()


def _small_images() -> NDArray[np.uint8]:
    """uint8 (N, 32, 32, 3): parts of _PHOTOGRAPHS at half size."""
    sources = [np.asarray(photograph(name).reduce(2)) for name in _PHOTOGRAPHS]
    rng = np.random.default_rng(0)
    images = np.empty((_SMALL_COUNT, _SMALL_SIDE, _SMALL_SIDE, 3), np.uint8)
    for index in range(_SMALL_COUNT):
        photo = sources[index % len(sources)]
        top, left = (int(rng.integers(side - _SMALL_SIDE + 1)) for side in photo.shape[:2])
        images[index] = photo[top : top + _SMALL_SIDE, left : left + _SMALL_SIDE]
    return images
