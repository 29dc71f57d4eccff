"""What DALI's reader gets for tar files, and which sample its errors are about.

Each tar gets an index with nothing but one image and one label per line, as IMAGE and LABEL. The paths in it are the
numbers of the samples in `TarSet.names`, which DALI repeats with each sample and in its errors: `17`, and `s17` where
that one stands in for a broken sample.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.tars import Samples, TarSet, parse_label
from apr_dali.errors import InputError

Drawn = NDArray[np.int64] | None
IMAGE, LABEL = "image", "label"
_SOURCE = r".*:(s?)(\d+)"
_FAULTS = (
    rf"Failed to decode sample #\d+ : (?P<origin>{_SOURCE})",
    rf"the label of (?P<origin>{_SOURCE})\n(?P<why>.*)",
)
_BEYOND = r'Malformed index file at "[^\n]*/(\d+)\.idx" line (\d+) - offset is outside'
_READING = r"nvidia\.dali\.fn\.readers\.webdataset`.*?encountered:\n\n(.*?)\n(?:C\+\+|Current)"


@dataclass(frozen=True)
class ReaderFiles:
    """What `nvidia.dali.fn.readers.webdataset` reads: tars and their indices; so many samples, of so many classes.

    field: of JSON labels.
    """

    tars: tuple[str, ...]
    indices: tuple[str, ...]
    samples: int
    classes: int
    field: str


def write(source: TarSet, folder: str, drawn: Drawn = None) -> ReaderFiles:
    """Write the indices of a set into `folder`, which the reader needs until its pipeline is built.

    drawn: the numbers of the samples of an epoch (N,), any number of times each; None takes each once. The tars then
    come in the order in which they are first drawn, each of them from its beginning to its end.

    Raises InputError if no sample of the set can be used.
    """
    tars, written = [], []
    for number, tar, content in _indices(source, drawn):
        path = os.path.join(folder, f"{number}.idx")
        Path(path).write_text(content, encoding="ascii")
        tars.append(tar)
        written.append(path)
    return ReaderFiles(tuple(tars), tuple(written), len(source), len(source.classes), source.components.field)


def _indices(source: TarSet, drawn: Drawn) -> Iterator[tuple[int, str, str]]:
    """(number of the tar, path of the tar to read in its place, index) of each tar that has samples.

    Other samples stand in for those of `source.left_out`, as in `apr_dali.data.folders.with_stand_ins`: the next one
    of their tar, or where none of it is left the first one of the next tar.
    """
    left_out = [_left_out(source, number) for number in range(len(source.tars))]
    whole = [np.flatnonzero(~bad) for bad in left_out]
    usable = [number for number, left in enumerate(whole) if len(left)]
    if not usable:
        raise InputError(f"none of the {len(source)} samples of the tars can be used")
    for number, chosen in _chosen(source, drawn):
        bad = left_out[number]
        at, taken = number, np.arange(len(bad))
        if len(whole[number]):
            taken[bad] = whole[number][np.searchsorted(whole[number], taken[bad]) % len(whole[number])]
        else:
            at = next((other for other in usable if other > number), usable[0])
            taken[:] = whole[at][0]
        first = sum(source.counts[:at])
        lines = (
            _line(source.samples[at], int(n), f"{'s' * bool(b)}{first + n}")
            for n, b in zip(taken[chosen], bad[chosen], strict=True)
        )
        yield number, source.tars[at], "\n".join([f"v1.2 {len(chosen)}", *lines]) + "\n"


def _chosen(source: TarSet, drawn: Drawn) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(number of a tar, which of its samples) of each tar that samples are taken from, in their order."""
    if drawn is None:
        yield from ((number, np.arange(count)) for number, count in enumerate(source.counts) if count)
        return
    ends = np.cumsum(source.counts)
    of = np.searchsorted(ends, drawn, side="right")
    numbers, firsts = np.unique(of, return_index=True)
    for number in numbers[np.argsort(firsts)].tolist():
        yield number, np.sort(drawn[of == number]) - (ends[number] - source.counts[number])


def _left_out(source: TarSet, number: int) -> NDArray[np.bool_]:
    prefix = f"{source.tars[number]}/"
    keys = {name.removeprefix(prefix) for name in source.left_out if name.startswith(prefix)}
    samples = source.samples[number]
    return np.fromiter((key in keys for key in samples.keys), dtype=bool, count=len(samples.keys))


def _line(samples: Samples, number: int, path: str) -> str:
    (image, image_size), (label, label_size) = samples.images[number].tolist(), samples.labels[number].tolist()
    return f"{IMAGE} {image} {image_size} {path} {LABEL} {label} {label_size} {path}"


def read_label(content: bytes, origin: str, classes: int, field: str) -> tuple[int, int]:
    """(number, label) of the sample whose label DALI read from `origin`; -1 - number where it stands in for another.

    Raises ValueError, by which `fault` finds the sample, if it is no label.
    """
    try:
        label = parse_label(content, classes, field)
    except ValueError as error:
        raise ValueError(f"the label of {origin}\n{error}") from None
    number, stands_in = _sample_of(origin)
    return (-1 - number if stands_in else number), label


def name_of(source: TarSet, origin: str) -> str:
    """The name of the sample that DALI read from `origin`."""
    return source.names[_sample_of(origin)[0]]


def _sample_of(origin: str) -> tuple[int, bool]:
    """The number of the sample that DALI read from `origin`, and whether it stands in for another."""
    found = re.fullmatch(_SOURCE, origin)
    assert found, origin
    return int(found[2]), bool(found[1])


def fault(source: TarSet, message: str) -> tuple[str, str] | None:
    """(name, reason) of the sample that an error of DALI is about, as far as it says so."""
    for pattern in _FAULTS:
        found = re.search(pattern, message)
        if found:
            return name_of(source, found["origin"]), found.groupdict().get("why", "cannot be decoded")
    return None


def refuse_unreadable(source: TarSet, message: str, drawn: Drawn = None) -> None:
    """Raise InputError if an error of DALI is that a tar cannot be opened or read, or does not fit its index.

    drawn: as `write` had it.
    """
    beyond = re.search(_BEYOND, message)
    if beyond:
        number, line = int(beyond[1]), int(beyond[2])
        raise InputError(
            f"{source.tars[number]} does not fit its index {source.indices[number]}: the sample "
            f"{source.samples[number].keys[dict(_chosen(source, drawn))[number][line - 1]]} lies beyond its end; make "
            "the index anew with wds2idx"
        )
    failed = re.search(_READING, message, re.DOTALL)
    if failed:
        raise InputError(f"the tars cannot be read: {failed[1].strip()}")
