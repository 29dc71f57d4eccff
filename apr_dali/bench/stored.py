"""The benchmark's photographs as people keep them otherwise: in tars, and re-encoded to fewer pixels."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from apr_dali.data.fingerprint import identity
from apr_dali.data.folders import ImageSet, open_files
from apr_dali.data.prepare.job import Options, prepare
from apr_dali.data.sampling import evenly
from apr_dali.runtime import cpus

_LIMIT = 2048
"""Photographs that are kept so: enough to be many, few enough for minutes."""
_SHARDS = 4


def prepare_stored(output: Path, folder: str, kinds: Sequence[str]) -> dict[str, str]:
    """The place below `output` of each of `kinds`, of `apr_dali.bench.rows.STORED`: made where it is not there yet.

    They hold at most 2,048 photographs of `folder`, as far apart as can be, and are what `apr-dali prepare` writes:
    larger ones are re-encoded with its quality, others stay as they are.
    """
    if not kinds:
        return {}
    images = open_files(folder, "the benchmark")
    chosen = evenly(len(images), _LIMIT)
    few = replace(images, files=tuple(images.files[number] for number in chosen), labels=images.labels[chosen])
    place = output / f"stored-{identity(few)}"
    links = _linked(few, place / "links")
    for kind in kinds:
        prepare(links, place / kind, _options(kind), cpus.usable())
    return {kind: str(place / kind / "train") for kind in kinds}


def _options(kind: str) -> Options:
    if kind == "tars":
        return Options("webdataset", shards=_SHARDS)
    return Options("folder", max_side=int(kind))


def _linked(images: ImageSet, place: Path) -> Path:
    """Links to the images as a set of training images in class folders, which `prepare` takes."""
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".links.", dir=place.parent) as scratch:
            for number, (file, label) in enumerate(zip(images.files, images.labels.tolist(), strict=True)):
                link = Path(scratch) / place.name / "train" / images.classes[label] / f"{number:06d}{Path(file).suffix}"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(os.path.abspath(file))
            (Path(scratch) / place.name).rename(place)
    return place


def mean_sizes(folder: str, stored: Mapping[str, str]) -> dict[str, float]:
    """kB of a photograph by its kind: "" of `folder`, and of each of `stored` that holds files."""
    places = {"": folder} | {kind: place for kind, place in stored.items() if kind != "tars"}
    found = {}
    for kind, place in places.items():
        files = open_files(place, "the benchmark").files
        some = [files[number] for number in evenly(len(files), _LIMIT)]
        found[kind] = sum(map(os.path.getsize, some)) / len(some) / 1000
    return found
