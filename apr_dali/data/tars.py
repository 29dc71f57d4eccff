"""Tar files as WebDataset's writers make them: which members make up a sample, and where they lie.

The members of a sample share a key: their path up to the first dot of the file name; the rest is the component, as
`jpg` in `a/0001.jpg` and `seg.png` in `a/0001.seg.png`. They may come in any order and apart from each other.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from apr_dali.data import remote
from apr_dali.data.remote import is_remote
from apr_dali.data.tar_index import Member, members_of, split_name
from apr_dali.errors import InputError

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm")

TIFFS = (".tif", ".tiff")

FIELD = "label"
"""The field of a JSON object that holds the label, as timm has it."""
_GZIP = b"\x1f\x8b"
_REQUESTS = 16
_RANGES = 256
"""Members that are asked for at once."""
_NONE = (-1, -1)
_NAMED = 9
"""How many components a message lists."""


@dataclass(frozen=True)
class Components:
    """Which members of a sample are its image and its label.

    image: the component, or several with `;` between them, of which a sample's first is taken: `jpg;png`. None: the
        one that is an image by its name; InputError where a sample has several.
    label: the same of the label, decimal digits; `json:NAME` is the field NAME of a JSON object, `label` where none is
        named.

    Capital and small letters are the same.
    """

    image: str | None = None
    label: str = "cls"

    @property
    def field(self) -> str:
        """The field of a JSON object that holds the label."""
        return self.label.partition(":")[2] or FIELD


DEFAULT = Components()


class Part(NamedTuple):
    """An image within a tar: `size` bytes from `offset`; name: the tar's path and the key."""

    name: str
    tar: str
    offset: int
    size: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Samples:
    """The samples of a tar, in its order.

    keys: one per sample.
    images, labels: int64 (N, 2), where in the tar each begins and how many bytes it has; -1 where there is none.
    faults: the number of each sample that lacks one of them, and what it has instead.
    tiffs: the numbers of those whose image is a TIFF by its name.
    """

    keys: tuple[str, ...]
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    faults: dict[int, str]
    tiffs: frozenset[int] = frozenset()

    def only(self, numbers: NDArray[np.int64]) -> Samples:
        """Those of these numbers, int64 (K,), in that order."""
        keys = tuple(self.keys[number] for number in numbers)
        faults = {new: self.faults[old] for new, old in enumerate(numbers.tolist()) if old in self.faults}
        tiffs = frozenset(new for new, old in enumerate(numbers.tolist()) if old in self.tiffs)
        return Samples(keys, self.images[numbers], self.labels[numbers], faults, tiffs)


@dataclass(frozen=True)
class TarSet:
    """WebDataset tar files with labels in decimal digits.

    tars: absolute paths, or `s3://` and `gs://` addresses that DALI opens.
    indices: path of DALI's index of each (`wds2idx`), or of such a tar its address. One that is not there, or does not
        fit its tar, is made anew: in its place or, where something is there or nothing can be written, in the cache
        folder. One on this machine of a tar that is not must be there.
    classes: names.
    components: which members are images and labels.
    left_out: names of samples that others stand in for, see `with_stand_ins`.
    sources: how many samples each of the sets has that were joined to this one.
    """

    tars: tuple[str, ...]
    indices: tuple[str, ...]
    classes: tuple[str, ...]
    components: Components = DEFAULT
    left_out: frozenset[str] = field(default=frozenset(), repr=False)
    sources: tuple[int, ...] = ()

    @cached_property
    def samples(self) -> tuple[Samples, ...]:
        """Those of each tar. Reads the indices, or the tars' headers; raises InputError for what cannot be read."""
        # Servers answer many requests at once; the work on this machine's files is Python's own.
        with ThreadPoolExecutor(_REQUESTS if self.remote else 1) as pool:
            found = pool.map(members_of, self.tars, self.indices)
            shown = tqdm(zip(self.tars, found, strict=True), "indices", len(self.tars), delay=2, disable=None)
            return tuple(choose(tar, members, self.components) for tar, members in shown)

    @property
    def remote(self) -> bool:
        """Whether any of the tars is not on this machine's file systems."""
        return any(map(is_remote, self.tars))

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples in each tar."""
        return tuple(len(samples.keys) for samples in self.samples)

    def __len__(self) -> int:
        return sum(self.counts)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for each sample: the tar's path and the sample's key, with / between them."""
        return tuple(f"{tar}/{key}" for tar, samples in self._each() for key in samples.keys)

    def faults(self) -> list[tuple[str, str]]:
        """(name, reason) of the samples without an image or a label."""
        return [(f"{tar}/{samples.keys[n]}", why) for tar, samples in self._each() for n, why in samples.faults.items()]

    def parts(self) -> Iterator[Part]:
        """The images of the samples without a fault."""
        for tar, samples in self._each():
            for number in range(len(samples.keys)):
                if number not in samples.faults:
                    yield _part(tar, samples, number)

    def tiffs(self) -> list[Part]:
        """Those of `parts` that are TIFFs by their names."""
        return [_part(tar, samples, n) for tar, samples in self._each() for n in sorted(samples.tiffs)]

    def read_labels(self) -> Iterator[tuple[str, int | str]]:
        """(name, label or the reason why it has none) for each of `parts`."""
        for tar, samples in self._each():
            numbers = [number for number in range(len(samples.keys)) if number not in samples.faults]
            contents = _contents(tar, samples.labels[numbers])
            for number, content in zip(numbers, contents, strict=True):
                label = _label_or_reason(content, len(self.classes), self.components.field)
                yield f"{tar}/{samples.keys[number]}", label

    def _each(self) -> Iterator[tuple[str, Samples]]:
        return zip(self.tars, self.samples, strict=True)

    def with_classes(self, classes: tuple[str, ...]) -> TarSet:
        """The same samples with other names of their labels."""
        return replace(self, classes=classes)._with_samples(self.samples)

    def without(self, broken: Iterable[str]) -> TarSet:
        """The same set with the samples of these names left out: see `with_stand_ins`."""
        return replace(self, left_out=frozenset(broken))._with_samples(self.samples)

    def only(self, numbers: NDArray[np.int64]) -> TarSet:
        """The samples of these numbers, int64 (K,), in the set's order."""
        wanted = np.zeros(len(self), bool)
        wanted[numbers] = True
        parts = np.split(wanted, np.cumsum(self.counts)[:-1])
        chosen = (samples.only(np.flatnonzero(part)) for samples, part in zip(self.samples, parts, strict=True))
        return replace(self, sources=())._with_samples(tuple(chosen))

    def _with_samples(self, samples: tuple[Samples, ...]) -> TarSet:
        # Not read again: where cached_property keeps it.
        self.__dict__["samples"] = samples
        return self


def _part(tar: str, samples: Samples, number: int) -> Part:
    offset, size = samples.images[number].tolist()
    return Part(f"{tar}/{samples.keys[number]}", tar, offset, size)


def join_tars(sets: Sequence[TarSet]) -> TarSet:
    """The samples of several sets of the same classes and components, one set after the other."""
    tars, indices = (tuple(path for found in sets for path in getattr(found, of)) for of in ("tars", "indices"))
    joined = TarSet(tars, indices, sets[0].classes, sets[0].components, sources=tuple(map(len, sets)))
    return joined._with_samples(tuple(samples for found in sets for samples in found.samples))


def _contents(tar: str, places: NDArray[np.int64]) -> Iterator[bytes]:
    """The bytes at each of the places in a tar, int64 (N, 2)."""
    if is_remote(tar):
        for start in range(0, len(places), _RANGES):
            yield from remote.read_ranges(tar, [(at, size) for at, size in places[start : start + _RANGES].tolist()])
        return
    with open(tar, "rb") as file:
        for at, size in places.tolist():
            file.seek(at)
            yield file.read(size)


def _label_or_reason(content: bytes, classes: int, name: str) -> int | str:
    try:
        return parse_label(content, classes, name)
    except ValueError as error:
        return str(error)


def parse_label(content: bytes, classes: int, name: str = FIELD) -> int:
    """The label that a member holds: decimal digits, with blanks and line breaks around them, or a JSON object.

    name: of the object's field that holds it. A member compressed by gzip is unpacked.

    Raises ValueError with the reason if it is no number, or none of 0..classes-1.
    """
    try:
        plain = gzip.decompress(content) if content.startswith(_GZIP) else content
        digits = str(json.loads(plain)[name]).encode() if plain.lstrip().startswith(b"{") else plain
    except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        raise ValueError(f"has a label that cannot be read ({error!r}): expected a number in its {name!r}") from None
    if not re.fullmatch(rb"\s*[0-9]+\s*", digits):
        raise ValueError(f"has a label that is no number: {digits[:20]!r}")
    label = int(digits)
    if label >= classes:
        raise ValueError(f"has the label {label}: expected 0..{classes - 1}, one of {classes} classes")
    return label


@contextmanager
def opened(image: str | Part) -> Iterator[BinaryIO]:
    """The file of an image, or what looks like a file of one within a tar."""
    if isinstance(image, str):
        with open(image, "rb") as file:
            yield file
        return
    if is_remote(image.tar):
        yield io.BytesIO(remote.read_ranges(image.tar, [(image.offset, image.size)])[0])
        return
    member = tarfile.TarInfo(image.name)
    member.offset_data, member.size = image.offset, image.size
    with tarfile.open(image.tar, "r:") as archive:
        content = archive.extractfile(member)
        assert content is not None
        with content:
            yield content  # type: ignore[misc]


def choose(tar: str, members: Sequence[Member], components: Components) -> Samples:
    """The samples of a tar. Raises InputError for a member that is there twice, or several images of a sample."""
    groups = _grouped(tar, members)
    wanted = components.image.lower().split(";") if components.image else _images_in(groups.values())
    label = components.label.partition(":")[0].lower().split(";")
    keys: list[str] = []
    images: list[tuple[int, int]] = []
    labels: list[tuple[int, int]] = []
    faults: dict[int, str] = {}
    tiffs: set[int] = set()
    for key, found in groups.items():
        image = [found[name] for name in wanted if name in found]
        digits = [found[name] for name in label if name in found]
        if not image and not digits:
            continue  # a README, or the description of the set
        if len(image) > 1 and not components.image:
            raise InputError(
                f"the sample {key} of {tar} has several images: {', '.join(n for n in wanted if n in found)}; say "
                "which one to take (--tar-image, or components=Components(image=...) of open_set)"
            )
        if not image or not digits:
            lacking = "image" if not image else f"label ({components.label})"
            faults[len(keys)] = f"has no {lacking}, only {', '.join(list(found)[:_NAMED])}"
        elif image[0].name.lower().endswith(TIFFS):
            tiffs.add(len(keys))
        keys.append(key)
        images.append(image[0][1:] if image else _NONE)
        labels.append(digits[0][1:] if digits else _NONE)
    return Samples(tuple(keys), _places(images), _places(labels), faults, frozenset(tiffs))


def _places(members: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array(members, np.int64).reshape(-1, 2)


def _grouped(tar: str, members: Iterable[Member]) -> dict[str, dict[str, Member]]:
    """The members of each key by their component, without hidden ones."""
    groups: dict[str, dict[str, Member]] = {}
    for member in members:
        key, component = split_name(member.name)
        if key:
            component = component.lower()
            found = groups.setdefault(key, {})
            if component in found:
                raise InputError(f"{tar} has the component {component} of the sample {key} twice: pack it anew")
            found[component] = member
    return groups


def _images_in(samples: Iterable[dict[str, Member]]) -> list[str]:
    """The components of a tar that are images by their name: `seg.png` only where no sample has a plain `png`."""
    counted = Counter(component for found in samples for component in found)
    plain = [name for name in IMAGES if name in counted]
    return plain or [name for name in counted if name.rpartition(".")[2] in IMAGES]
