"""Checking images before they are used: what is broken in a data set, what is left of each class."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tarfile import TarError
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from apr_dali.data.file_list import FileList, write_file_list
from apr_dali.data.folders import SPLITS, ImageSet, TarSet, check_components, has_split, open_set
from apr_dali.data.image_file import any_size, to_rgb
from apr_dali.data.image_header import TIFF, why_misread
from apr_dali.data.listing import NOT_UTF8, is_utf8
from apr_dali.data.tar_sources import is_elsewhere
from apr_dali.data.tars import Components, Part, opened
from apr_dali.errors import InputError
from apr_dali.runtime.pool import process_map

_DEFAULT = Components()


@dataclass(frozen=True)
class Checked:
    """What was found below `root`.

    splits: name and images of each of SPLITS that the root holds; one without a name if it holds class folders or tars.
        The "files" of tars are the names of the samples that have a label.
    bad: the images that cannot be decoded, in the order of the splits' files; before them the samples of tars that
        lack an image or a label.
    unlabeled: how many such samples each split has.
    """

    root: str
    splits: tuple[tuple[str, ImageSet], ...]
    bad: tuple[Bad, ...]
    unlabeled: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits[0][1].classes

    def table(self, width: int) -> str:
        """The good and the bad images of each class, one a line of at most `width` columns."""
        paths = [path for path, _ in self.bad]
        columns, titles = [], []
        for name, images in self.splits:
            good = count_per_class(images, paths)
            columns += [good, count_per_class(images) - good]
            titles += [name or "images", "bad"]
        rows = [(name, counts) for name, *counts in zip(self.classes, *columns, strict=True)]
        lacking = [count for number in self.unlabeled for count in (0, number)]
        if any(lacking):
            rows.append(("no image or label", lacking))
        rows.append(("total", [column.sum() + more for column, more in zip(columns, lacking, strict=True)]))
        return _table(("class", *titles), rows, width)


def check_tree(
    directory: str | Path,
    processes: int,
    components: Components = _DEFAULT,
    for_list: bool = False,
    cached: bool = True,
) -> Checked:
    """Decode every image of a data set: of both splits where `directory` says which images are of train and val.

    directory: a folder, an address of object storage, or a pattern of tars, as `open_set` takes them.

    components: which members of a tar's samples are image and label. for_list: refuse tars, which a file list cannot
    name the samples of. cached: see `open_set`.

    Raises InputError for a folder that is no data set, splits that differ in their classes, and as a trainer would.
    """
    root = str(directory) if is_elsewhere(directory) else os.path.abspath(directory)
    if os.path.isfile(root):
        raise InputError(f"{root} is a file: give the folder that holds the images")
    names = [name for name in SPLITS if has_split(root, name)]
    opened: list[ImageSet | TarSet] = []
    for name in names or [""]:
        classes = opened[0].classes if opened else None
        opened.append(open_set(root, name or None, classes, components=components, mixed=True, cached=cached))
        if for_list and isinstance(opened[-1], TarSet):
            raise InputError(
                f"{root} holds tar files, whose samples a file list cannot name: leave --write-file-list out, and "
                "train with --on-error skip"
            )
    check_components(components, any(isinstance(images, TarSet) for images in opened), [root])
    labeled = [_labeled(images) for images in opened]
    bad = [fault for _, faults in labeled for fault in faults]
    files: list[str | Part] = []
    for images in opened:
        files += images.files if isinstance(images, ImageSet) else images.parts()
    return Checked(
        root,
        tuple((name, images) for name, (images, _) in zip(names or [""], labeled, strict=True)),
        (*bad, *full_check(files, processes)),
        tuple(len(faults) for _, faults in labeled),
    )


def _labeled(images: ImageSet | TarSet) -> tuple[ImageSet, list[Bad]]:
    """The images that have a label, and what is wrong with the others."""
    if isinstance(images, ImageSet):
        return images, []
    bad, found = images.faults(), []
    for name, label in images.read_labels():
        if isinstance(label, int):
            found.append((name, label))
        else:
            bad.append((name, label))
    labels = np.array([label for _, label in found], np.int64)
    return ImageSet(tuple(name for name, _ in found), labels, images.classes), bad


def write_good(path: str | Path, checked: Checked) -> int:
    """Write a file list of the images that can be decoded, and return their number."""
    bad = {path for path, _ in checked.bad}
    start = len(os.path.join(checked.root, ""))
    entries = tuple(
        file[start:].replace(os.sep, "/") for _, images in checked.splits for file in images.files if file not in bad
    )
    names = tuple(name for name, _ in checked.splits if name)
    write_file_list(path, FileList(checked.root, checked.classes, names, entries))
    return len(entries)


def _table(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[int]]], width: int) -> str:
    column = max(8, *(len(str(value)) + 2 for _, values in rows for value in values))
    longest = max(len(name) for name, _ in rows)
    first = max(len(titles[0]), min(longest, width - column * (len(titles) - 1)))
    lines = [titles[0].ljust(first) + "".join(title.rjust(column) for title in titles[1:])]
    for name, values in rows:
        short = name if len(name) <= first else name[: first - 1] + "…"
        lines.append(short.ljust(first) + "".join(str(value).rjust(column) for value in values))
    return "\n".join(lines)


_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# What DALI decodes: Pillow knows more, and GIF or AVIF stop a pipeline as surely as a text does.
_MAGIC = (
    _JPEG,
    _PNG,
    b"BM",
    *(b"P%d" % number for number in range(1, 7)),
    *TIFF,
)
_JPEG_2000 = (b"\0\0\0\x0cjP  \r\n", b"\xff\x4f\xff\x51")
_END_OF_IMAGE, _START_OF_SCAN = b"\xff\xd9", 0xDA
_TAIL = 64
"""Bytes at the end of a file where its end marker is looked for first: some writers pad behind it."""
_CHUNK = 128
"""Files that a worker takes at a time."""

Bad = tuple[str, str]
"""A path, or a tar's path and a key, and the reason why it cannot be read."""

Files = Sequence["str | Part"]


def quick_check(files: Files, threads: int) -> list[Bad]:
    """(path, reason) of the files that cannot be images, in the order of `files`; decodes nothing.

    files: paths, or parts of tars. Finds what is missing, empty, of no format that DALI decodes, a JPEG or PNG cut off
    before its end marker, or a file that DALI would take for another picture than its header says. The format is known
    by the content: ImageNet has a PNG named .JPEG, and decoders do not mind.
    """
    with ThreadPoolExecutor(threads) as pool:
        return list(chain.from_iterable(pool.map(_not_images, _chunks(files))))


def full_check(files: Files, processes: int) -> list[Bad]:
    """(path, reason) of the files that `quick_check` finds or that Pillow cannot decode, in the order of `files`.

    Shows a progress bar where stderr is a terminal. Raises InputError if a process dies.
    """
    chunks = _chunks(files)
    bar = tqdm(total=len(files), desc="decoding", unit=" images", unit_scale=True, disable=None)
    with bar, process_map(processes, "decoding") as mapped:
        return _collect(mapped(_undecodable, chunks), chunks, bar)


def count_per_class(images: ImageSet, without: Iterable[str] = ()) -> NDArray[np.int64]:
    """How many images each class of `images` has, int64 (classes,), not counting the paths in `without`."""
    left_out = set(without)
    kept = np.fromiter((file not in left_out for file in images.files), dtype=bool, count=len(images))
    return np.bincount(images.labels[kept], minlength=len(images.classes)).astype(np.int64)


def _chunks(files: Files) -> list[Files]:
    return [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]


def _collect(results: Iterable[list[Bad]], chunks: Iterable[Files], bar: tqdm) -> list[Bad]:
    bad = []
    for found, chunk in zip(results, chunks, strict=True):
        bad += found
        bar.update(len(chunk))
    return bad


def _not_images(files: Files) -> list[Bad]:
    return [(str(file), reason) for file in files if (reason := _why(file, why_no_image)) is not None]


def _why(image: str | Part, look: Callable[[BinaryIO], str | None]) -> str | None:
    if isinstance(image, str) and not is_utf8(image):
        return NOT_UTF8
    try:
        with opened(image) as file:
            return look(file)
    except (OSError, TarError) as error:
        return getattr(error, "strerror", None) or str(error)


def why_no_image(file: BinaryIO) -> str | None:
    """Why the content of a file cannot be an image, by its beginning and its end, or DALI would decode another."""
    start = file.read(16)
    if not start:
        return "empty file"
    if start.startswith(_JPEG_2000):
        return "JPEG 2000, of which a broken file ends the process in DALI's decoder: save it as PNG"
    if not start.startswith(_MAGIC) and not (start[:4] == b"RIFF" and start[8:12] == b"WEBP"):
        return f"not an image: it starts with {start[:8]!r}"
    if start.startswith(_JPEG) and not (_END_OF_IMAGE in _tail(file) or _jpeg_has_end(_whole(file))):
        return "truncated: no end marker"
    if start.startswith(_PNG) and not (b"IEND" in _tail(file) or b"IEND" in _whole(file)):
        return "truncated: no end marker"
    return why_misread(file)


def _tail(file: BinaryIO) -> bytes:
    file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
    return file.read()


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _jpeg_has_end(content: bytes) -> bool:
    """Whether an end marker follows the start of the picture's own data.

    Cameras append whole films behind the end marker, and a preview in the header has an end marker of its own:
    neither the tail nor the first marker found tells.
    """
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        if content[position + 1] == _START_OF_SCAN:
            return content.find(_END_OF_IMAGE, position) >= 0
        if content[position + 1] == 0xFF:
            position += 1  # a fill byte before a marker
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return False


def _undecodable(files: Files) -> list[Bad]:
    with any_size():
        return [
            (str(file), reason)
            for file in files
            if (reason := _why(file, why_no_image) or _why_not_decoded(opened(file))) is not None
        ]


def why_undecodable(content: bytes) -> str | None:
    """Why the content of a file is no image that `full_check` takes, if it is none."""
    with any_size():
        return why_no_image(io.BytesIO(content)) or _why_not_decoded(io.BytesIO(content))


def _why_not_decoded(image_file: AbstractContextManager[BinaryIO]) -> str | None:
    try:
        with warnings.catch_warnings():
            # Others, of broken EXIF data or of a large size, are about pictures that can be read.
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*[Tt]runcated")
            with image_file as file, Image.open(file) as image:
                to_rgb(image)  # decodes it, and refuses levels of no known range
    except Exception as error:  # noqa: BLE001 - what a decoder makes of a broken file can be any of them
        return undecoded(error)
    return None


def undecoded(error: Exception) -> str:
    """What Pillow says of an image that it cannot decode, in one line; the same for the same image."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image, though it starts like one"  # its own words hold an address in memory
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
