"""Writing a set like ImageNet-C, or CIFAR-C's arrays, from images of one's own.

The corruptions are those of `apr_dali.corrupt`: the published ones, with draws of their own.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from apr_dali.corruptions import CORRUPTIONS, CorruptionDraws, names_in
from apr_dali.data.arrays import open_small
from apr_dali.data.class_names import format_classes
from apr_dali.data.corrupted_files import FORMATS, Batch, Job, write_batch, write_classes
from apr_dali.data.corruption_sets import MARKER, SEVERITIES
from apr_dali.data.folders import ImageSet, open_files
from apr_dali.data.imagenet_c import QUALITY, check_needs
from apr_dali.data.listing import is_empty
from apr_dali.data.prepare.catalogue import Item, as_keys
from apr_dali.data.remote import local_path
from apr_dali.errors import InputError, check_choice
from apr_dali.kernels.corruptions import corrupt
from apr_dali.runtime import lock
from apr_dali.runtime.files import npy_bytes, write_whole, writing_to
from apr_dali.runtime.pool import process_map

_SMALLEST = 32
_NAMED = 5  # pairs that an error lists
_MOST_CLASSES = 256  # that labels of a byte tell apart


def make_c(
    source: str | Path,
    target: str | Path,
    corruptions: Sequence[str] | None = None,
    image_size: int = 224,
    seed: int = 0,
    processes: int = 1,
    image_format: str = "folder",
) -> Path:
    """Write `target/<corruption>/<1-5>/<class>/<name>.JPEG` for every image of `source`; return `target`'s path.

    Each image is resized (shorter side 8/7 of `image_size`) and center-cropped first, and written as in ImageNet-C:
    quality 85, 4:2:0, with Huffman tables of its own. What is there already is kept: a stopped call goes on with the
    same arguments. The same seed gives the same files, in any number of processes: the draws of the k-th image are
    those of `CorruptionDraws.sample(..., first=k)`. Where two images of a class differ in their extension alone, each
    keeps its own before .JPEG.

    Args:
        source: a folder of class folders. corruptions: some of `apr_dali.corruptions.NAMES` and `C_BAR`, None for the
        15 of ImageNet-C. image_size: pixels, at least 32. image_format: "folder", or "webdataset": the same files in
        `target/<corruption>/<1-5>/<number>.tar`, a thousand in each, with DALI's indices and classes.txt; a tar is kept
        when it is whole.

    Raises:
        InputError: for an unknown corruption, a folder that holds something else, two images that would have one name,
        a broken image, by its path, a target that cannot be written, or a full disk.
    """
    target = local_path(target)
    chosen = _known(corruptions, "imagenet")
    check_choice("format", image_format, FORMATS)
    if image_size < _SMALLEST:
        raise InputError(f"--image-size must be at least {_SMALLEST} for these corruptions, got {image_size}")
    if os.path.isfile(source):
        raise InputError(f"{source} is a file list: make-c takes a folder of class folders")
    found = open_files(source, "make-c")
    root = os.path.abspath(source)
    names = _names(root, found.files)
    check_needs(chosen, image_size, "imagenet")
    settings = {
        "corruptions": list(chosen),
        "image_size": image_size,
        "seed": seed,
        "quality": QUALITY,
        "images": _fingerprint(names),
    }
    if image_format != "folder":
        settings["format"] = image_format
        names = _keys(root, found)
        format_classes(found.classes)  # refuses names before there is anything
    job = Job(str(target), chosen, image_size, seed, image_format)
    with writing_to(target):
        _begin(target, settings)
        with lock.hold(target):
            _write(job, found, names, processes)
            _mark(target, settings, finished=True)
    return target


def _write(job: Job, found: ImageSet, names: Sequence[str], processes: int) -> None:
    if job.image_format == "webdataset":
        write_classes(job, found.classes)
    parts = [slice(first, first + job.at_once) for first in range(0, len(found), job.at_once)]
    batches = [
        Batch(part.start, tuple(found.files[part]), tuple(found.labels[part].tolist()), tuple(names[part]))
        for part in parts
    ]
    bar = tqdm(total=len(found), desc="make-c", unit=" images", disable=None)
    with bar, process_map(processes, "writing", goes_on=True) as mapped:
        for batch, problem in zip(batches, mapped(partial(write_batch, job), batches), strict=True):
            if problem is not None:
                raise InputError(problem)
            bar.update(len(batch.files))
    os.sync()  # files are not waited for one by one


def make_cifar_c(
    source: str | Path,
    target: str | Path,
    corruptions: Sequence[str] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Path:
    """Write CIFAR-C's arrays of test images: `target/<corruption>.npy` and `labels.npy`; return `target`'s path.

    Each array is uint8 (5·N, 32, 32, 3), severity 1 first, with the severities of CIFAR-10-C; the labels are uint8
    (5·N,). An array that is there already is kept: a stopped call goes on with the same arguments.

    Args:
        source: a CIFAR archive or the folder that it is in, or what else `open_small` takes.
        corruptions: some of `apr_dali.corruptions.NAMES` and `CIFAR_C_BAR`, None for the 15. seed: as for `make_c`.
        threads: that corrupt; they change nothing in the result.

    Raises:
        InputError: for an unknown corruption, or a set that cannot be read or has more than 256 classes.
    """
    target = local_path(target)
    chosen = _known(corruptions, "cifar")
    found = open_small(source)
    if len(found.classes) > _MOST_CLASSES:
        raise InputError(f"CIFAR-C's labels are of {_MOST_CLASSES} classes at most, {source} has {len(found.classes)}")
    check_needs(chosen, _SMALLEST, "cifar")
    content = zlib.crc32(found.images.tobytes())
    settings = {"corruptions": list(chosen), "seed": seed, "arrays": [len(found), content]}
    with writing_to(target):
        _begin(target, settings)
        with lock.hold(target):
            write_whole(target / "labels.npy", npy_bytes(np.tile(found.labels.astype(np.uint8), SEVERITIES)))
            for name in tqdm(chosen, desc="make-c", unit=" arrays", disable=None):
                path = target / f"{name}.npy"
                if not path.exists():
                    write_whole(path, npy_bytes(np.concatenate(list(_severities(found.images, name, seed, threads)))))
            _mark(target, settings, finished=True)
    return target


def _severities(images: np.ndarray, name: str, seed: int, threads: int) -> Iterator[np.ndarray]:
    for severity in range(1, SEVERITIES + 1):
        draws = CorruptionDraws.sample(name, severity, len(images), _SMALLEST, _SMALLEST, seed, parameter_set="cifar")
        yield corrupt(images, name, severity, draws, threads=threads)


def _known(corruptions: Sequence[str] | None, parameter_set: str) -> tuple[str, ...]:
    names = names_in(parameter_set)
    unknown = [name for name in corruptions or () if name not in names]
    if unknown:
        raise InputError(f"unknown corruption {', '.join(unknown)}: expected some of {', '.join(names)}")
    return tuple(corruptions or CORRUPTIONS)


def _names(root: str, files: Sequence[str]) -> list[str]:
    """What the corrupted versions of each file are called below a severity's folder; InputError for a name twice."""
    places = [Path(file).relative_to(root) for file in files]
    alike = Counter(place.with_suffix("") for place in places)
    names = [
        str(place.with_suffix(".JPEG") if alike[place.with_suffix("")] == 1 else place.with_name(f"{place.name}.JPEG"))
        for place in places
    ]
    first: dict[str, str] = {}
    pairs = []
    for name, place in zip(names, map(str, places), strict=True):
        other = first.setdefault(name, place)
        if other != place:
            pairs.append(f"{other} and {place}")
    if pairs:
        raise InputError(
            f"{root} has images that would be written as one: "
            f"{'; '.join(pairs[:_NAMED])}{' …' if len(pairs) > _NAMED else ''}; rename them"
        )
    return names


def _keys(root: str, found: ImageSet) -> list[str]:
    """The key of each file's sample in tars."""
    files = zip(found.labels.tolist(), found.files, strict=True)
    items = [Item(label, os.path.relpath(file, root), file, 0, 0) for label, file in files]
    return [os.path.splitext(item.name)[0] for item in as_keys(items)]


def _fingerprint(names: Sequence[str]) -> list[int]:
    """Of the images and their order, on which the draws depend."""
    return [len(names), zlib.crc32("\n".join(names).encode("utf-8", "surrogateescape"))]


def _begin(target: Path, settings: dict[str, Any]) -> None:
    """Make the folder, or see that it holds an unfinished call's work of the same settings."""
    marker = target / MARKER
    if marker.is_file():
        found = json.loads(marker.read_text(encoding="utf-8"))["settings"]
        if found != settings:
            raise InputError(f"{target} was made with other settings: expected {settings}, got {found}; give a new one")
        return
    if target.exists() and (not target.is_dir() or not is_empty(target)):
        raise InputError(f"{target} is not empty and no set of make-c: give a new folder")
    os.makedirs(target, exist_ok=True)
    _mark(target, settings, finished=False)


def _mark(target: Path, settings: dict[str, Any], finished: bool) -> None:
    write_whole(target / MARKER, json.dumps({"settings": settings, "finished": finished}).encode())
