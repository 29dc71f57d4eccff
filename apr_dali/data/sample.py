"""The built-in sample: a small data set cut from photographs that scikit-image and scikit-learn ship.

One class per photograph. Training and validation images are cut from two parts of it that share no pixel, so a network
has something to generalise to, if little: the sample shows that training works, not how well.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apr_dali.data.folders import SPLITS
from apr_dali.data.image_file import open_image
from apr_dali.data.sampling import evenly
from apr_dali.data.tar_index import format_index, scan
from apr_dali.errors import InputError, check_choice

FORMATS = ("folder", "webdataset")
IMAGES_PER_CLASS = {"train": 48, "val": 16}

_SHORTEST, _LONGEST = 96, 400
_QUALITY = 90
_TARS = {"train": 4, "val": 2}
_MARKER = ".apr_dali_sample.json"
_VERSION = 1
"""Of what is written: to be raised with every change of the images, so that an old sample is not taken for a new."""

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels, as Pillow's `crop` takes them."""


@dataclass(frozen=True)
class Subject:
    """A photograph and the two parts of it, in pixels of `photograph`'s result, that images are cut from."""

    package: str
    path: str
    train: Box
    val: Box

    def part(self, split: str) -> Box:
        """The part of the photograph that gives the images of "train" or "val"."""
        return self.train if split == "train" else self.val


# The parts leave out the plainest sky and background, and both show something of the subject.
SUBJECTS = {
    "astronaut": Subject("skimage", "data/astronaut.png", (0, 0, 512, 340), (0, 340, 512, 512)),
    "brick": Subject("skimage", "data/brick.png", (0, 0, 340, 512), (340, 0, 512, 512)),
    "cat": Subject("skimage", "data/chelsea.png", (0, 0, 255, 300), (255, 0, 451, 300)),
    "coffee": Subject("skimage", "data/coffee.png", (0, 0, 340, 400), (340, 0, 600, 400)),
    "coins": Subject("skimage", "data/coins.png", (0, 0, 250, 303), (250, 0, 384, 303)),
    "flower": Subject("sklearn", "datasets/images/flower.jpg", (100, 50, 330, 427), (330, 50, 510, 400)),
    "galaxies": Subject("skimage", "data/hubble_deep_field.jpg", (0, 0, 320, 436), (320, 0, 500, 436)),
    "grass": Subject("skimage", "data/grass.png", (0, 0, 340, 512), (340, 0, 512, 512)),
    "gravel": Subject("skimage", "data/gravel.png", (0, 0, 340, 512), (340, 0, 512, 512)),
    "moon": Subject("skimage", "data/moon.png", (0, 0, 340, 512), (340, 0, 512, 512)),
    "motorcycle": Subject("skimage", "data/motorcycle_left.png", (90, 100, 430, 500), (430, 100, 720, 500)),
    "page": Subject("skimage", "data/page.png", (0, 0, 256, 191), (256, 0, 384, 191)),
    "pagoda": Subject("sklearn", "datasets/images/china.jpg", (215, 30, 480, 427), (50, 30, 215, 427)),
    "retina": Subject("skimage", "data/retina.jpg", (40, 60, 430, 640), (430, 100, 670, 610)),
    "rocket": Subject("skimage", "data/rocket.jpg", (40, 100, 322, 427), (322, 100, 560, 427)),
    "tissue": Subject("skimage", "data/ihc.png", (0, 0, 340, 512), (340, 0, 512, 512)),
}


def write_sample(directory: str | Path, image_format: str = "folder", seed: int = 0) -> Path:
    """Write the sample data set into `directory`, whole or not at all, and return its absolute path.

    Args:
        directory: is made if it is not there. A finished sample of the same format and seed is left as it is.
        image_format: "folder" for `train/CLASS/*.jpg` and `val/CLASS/*.jpg`; "webdataset" for tar files of `.jpg`
            and `.cls` with DALI's indices, and `classes.txt`. The same images either way.
        seed: of the cuts. With the same versions of Pillow and NumPy the same seed gives the same bytes.

    Raises:
        InputError: if `directory` holds something else.
    """
    check_choice("image_format", image_format, FORMATS)
    target = Path(directory).absolute()
    wanted = {"format": image_format, "seed": seed, "version": _VERSION}
    if _is_finished(target, wanted):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        made = Path(temporary) / target.name
        made.mkdir()
        (_write_folders if image_format == "folder" else _write_tars)(made, seed)
        (made / _MARKER).write_text(json.dumps(wanted) + "\n", encoding="utf-8")
        try:
            made.rename(target)
        except OSError:
            # Another process of the same run may have been quicker.
            if not _is_finished(target, wanted):
                raise
    return target


def tiles(size: int, limit: int) -> NDArray[np.uint8]:
    """Tiles of the photographs, not scaled, about as many of each, at most `limit`: uint8 (N, size, size, 3)."""
    each = -(-limit // len(SUBJECTS))
    found = []
    for name in SUBJECTS:
        pixels = np.asarray(photograph(name))
        rows, columns = (side // size for side in pixels.shape[:2])
        for n in evenly(rows * columns, each):
            y, x = size * (n // columns), size * (n % columns)
            found.append(pixels[y : y + size, x : x + size])
    if not found:
        raise InputError(f"no built-in photograph has {size}×{size} pixels: give a smaller size, or images of your own")
    return np.stack(found)[evenly(len(found), limit)]


def photograph(name: str) -> Image.Image:
    """The photograph of a class of SUBJECTS as RGB; one of 1000 pixels per side or more is halved."""
    subject = SUBJECTS[name]
    spec = find_spec(subject.package)
    folders = (spec.submodule_search_locations if spec else None) or []
    path = next((path for folder in folders if (path := Path(folder) / subject.path).is_file()), None)
    if path is None:
        source = {"skimage": "scikit-image>=0.24", "sklearn": "scikit-learn>=1.5"}[subject.package]
        raise InputError(f"the sample needs {subject.path} of {subject.package}: pip install '{source}'")
    rgb = open_image(path)
    # At full size a cut of the largest shows next to nothing of it.
    return rgb.reduce(2) if max(rgb.size) >= 1000 else rgb


def cuts(name: str, split: str, seed: int) -> list[Box]:
    """The boxes that the images of a class are cut out with: 96 to 400 pixels per side, within the split's part."""
    left, top, right, bottom = SUBJECTS[name].part(split)
    rng = np.random.default_rng([seed, sorted(SUBJECTS).index(name), SPLITS.index(split)])
    boxes = []
    for _ in range(IMAGES_PER_CLASS[split]):
        width = int(rng.integers(_SHORTEST, min(_LONGEST, right - left), endpoint=True))
        height = int(rng.integers(_SHORTEST, min(_LONGEST, bottom - top), endpoint=True))
        x = int(rng.integers(left, right - width, endpoint=True))
        y = int(rng.integers(top, bottom - height, endpoint=True))
        boxes.append((x, y, x + width, y + height))
    return boxes


def _is_finished(target: Path, wanted: dict[str, object]) -> bool:
    """Whether `target` is the wanted sample; False where nothing is in its way. Raises InputError otherwise."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    marker = target / _MARKER
    if not marker.is_file():
        raise InputError(f"{target} is not empty and not a sample: give a new folder, or remove this one")
    found = json.loads(marker.read_text(encoding="utf-8"))
    if found != wanted:
        raise InputError(
            f"{target} holds another sample: expected {json.dumps(wanted)}, got {json.dumps(found)}; "
            "give a new folder, or remove this one"
        )
    return True


def _images(split: str, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """(class, name without suffix, JPEG) of each image of the split."""
    for name in sorted(SUBJECTS):
        photo = photograph(name)
        for number, box in enumerate(cuts(name, split, seed)):
            encoded = io.BytesIO()
            photo.crop(box).save(encoded, "JPEG", quality=_QUALITY)
            yield name, f"{name}_{number:03d}", encoded.getvalue()


def _write_folders(root: Path, seed: int) -> None:
    for split in SPLITS:
        for class_name, name, jpeg in _images(split, seed):
            folder = root / split / class_name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.jpg").write_bytes(jpeg)


def _write_tars(root: Path, seed: int) -> None:
    classes = sorted(SUBJECTS)
    for split in SPLITS:
        samples = list(_images(split, seed))
        # A reader of tar files goes through them in order, with a small buffer to shuffle in.
        order = np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(samples))
        (root / split).mkdir()
        for number, part in enumerate(np.array_split(order, _TARS[split])):
            tar = root / split / f"{number:03d}.tar"
            with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
                for index in part:
                    class_name, name, jpeg = samples[index]
                    _add(archive, f"{name}.jpg", jpeg)
                    _add(archive, f"{name}.cls", str(classes.index(class_name)).encode("ascii"))
            tar.with_suffix(".idx").write_bytes(format_index(scan(str(tar))))
    (root / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    # A fresh TarInfo has time 0 and no owner: the same bytes on every machine.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
