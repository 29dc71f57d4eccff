"""From a source to a target that trainers read: what is written in which order, and what is left to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from apr_dali.data.class_names import format_classes
from apr_dali.data.prepare import count, journal, spool
from apr_dali.data.prepare.catalogue import Item, Source, as_files, as_keys, folder_names, listed_names, read_ranges
from apr_dali.data.prepare.images import check_scaling
from apr_dali.data.prepare.sources import open_source
from apr_dali.data.prepare.write import Done, Plan, Unit, size_of, write_unit
from apr_dali.data.remote import local_path
from apr_dali.data.tars import DEFAULT, Components
from apr_dali.errors import InputError, check_choice, check_whole
from apr_dali.runtime import lock
from apr_dali.runtime.files import write_whole, writing_to
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.runtime.pool import process_map

FORMATS = ("folder", "webdataset")
ODD = "odd_files.txt"
_VERSION = 5
"""Of what is written: to be raised with every change of it, so that no target is of two kinds."""
_FILES = 256
"""Images of class folders that are written at once."""
_FILES_OF_ROWS = 2048
"""The same of a source whose images come a row group at a time."""
_ALONE = 500_000_000
"""Bytes that are copied sooner than other processes have started."""
_RUN = 1024
"""Images after which the spool is put down: so many are read again after the process was killed."""


@dataclass(frozen=True)
class Options:
    """How a target is written.

    image_format: one of FORMATS. max_side: pixels that the longer side of an image may have, None for any. quality: of
    JPEG files that are made smaller. shards: tars of the training images, None to go by shard_size, in bytes. seed: of
    the order in tars. val_labels, components: see `open_source`.
    """

    image_format: str = "folder"
    max_side: int | None = None
    quality: int = 90
    shards: int | None = None
    shard_size: int = 256_000_000
    seed: int = 0
    val_labels: str | None = None
    components: Components = DEFAULT

    def check(self) -> None:
        """Raise InputError for values out of range."""
        check_choice("format", self.image_format, FORMATS)
        check_whole("quality", self.quality, 1, 100)
        check_whole("shard-size", self.shard_size, 1)
        for name, value in (("max-side", self.max_side), ("shards", self.shards)):
            if value is not None:
                check_whole(name, value, 1)
        if self.max_side is not None:
            check_scaling()


@dataclass(frozen=True)
class Prepared:
    """What was written: images of each split; what differs from the published set; (name, what) of odd images."""

    told: str
    images: dict[str, int]
    classes: int
    differences: tuple[str, ...]
    odd: tuple[tuple[str, str], ...]


def prepare(source: str | Path, out: str | Path, options: Options, processes: int = 1) -> Prepared:
    """Write `out`/train and `out`/val of a source, whichever it has; a stopped call goes on with the same arguments.

    The same arguments give the same bytes, in any number of processes and however often it was stopped.

    Raises:
        InputError: for a source that is none, damaged or incomplete, a target that holds something else, and a full
            disk.
        Interrupted: after SIGTERM or Ctrl-C.
    """
    options.check()
    target = local_path(out)
    # Before a source of a million images is looked through.
    journal.refuse_foreign(target)
    workers = process_map(processes, "writing", goes_on=True)
    with Interrupts(announce=True) as interrupts, workers as mapped, writing_to(target):

        def watch(things: Iterable[Any]) -> Iterator[Any]:
            return interrupts.watch(things, f"stopped; the same command goes on with {target}")

        def looked_through(function: Any, *given: Any) -> Iterator[Any]:
            return tqdm(watch(mapped(function, *given)), "looking through", len(given[0]), delay=2, disable=None)

        found = open_source(source, options.val_labels, options.components, looked_through)
        _refuse_within(target, found)
        settings = _settings(options, found)
        if not journal.begin(target, settings):
            with lock.hold(_state(target)):
                _write(target, found, options, mapped, watch)
                journal.mark(target, settings, finished=True)
        return _finish(target, found, options)


def _refuse_within(target: Path, source: Source) -> None:
    """Raise InputError for a target among the source's class folders: it would be one of them the next time."""
    for first in (items[0] for items in source.splits.values() if items):
        if source.read is read_ranges and first.at == 0:
            folder = first.store.removesuffix(first.name).removesuffix(f"{source.classes[first.label]}/")
            if str(target).startswith(folder):
                raise InputError(f"{target} lies in {folder}, which images are read from: give a folder elsewhere")


def _state(target: Path) -> Path:
    state = target / journal.STATE
    state.mkdir(exist_ok=True)
    return state


def _settings(options: Options, source: Source) -> dict[str, Any]:
    tars = options.image_format == "webdataset"
    return {
        "version": _VERSION,
        "format": options.image_format,
        "max-side": options.max_side,
        "quality": options.quality if options.max_side is not None else None,
        "shards": options.shards if tars else None,
        "shard-size": options.shard_size if tars and options.shards is None else None,
        "seed": options.seed if tars else None,
        "source": source.digest(),
    }


def _write(target: Path, source: Source, options: Options, mapped: Any, watch: Any) -> None:
    tars = options.image_format == "webdataset"
    state = _state(target)
    units = cut_units(source, options)
    folders = None if tars else folder_names(source.classes)
    spooled = source.sequential or (tars and source.streamed)
    plan = Plan(target, state, folders, source.read, spooled, options.max_side, options.quality)
    done = _done_already(plan, units)
    waiting = [unit for unit in units if (unit.split, unit.number) not in done]
    _clear(state)
    if options.max_side is None:
        _check_room(target, state, waiting)
    if tars:
        write_whole(target / "classes.txt", format_classes(listed_names(source.classes)), alone=True)
    if spooled:
        _spool(source, units, state, tars, watch)
    spread = map if _is_quick(plan, waiting) else mapped
    images, left = (sum(len(unit.items) for unit in some) for some in (units, waiting))
    with tqdm(
        total=images, initial=images - left, desc="writing", unit=" images", unit_scale=True, disable=None
    ) as bar:
        for made in watch(spread(write_unit, [plan] * len(waiting), waiting)):
            journal.record(state, made)
            if spooled:
                spool.bucket(state, made.split, made.number).unlink()
            bar.update(made.images)


def _is_quick(plan: Plan, waiting: Sequence[Unit]) -> bool:
    copied = plan.max_side is None and (plan.spooled or plan.read is read_ranges)
    return copied and sum(item.size for unit in waiting for item in unit.items) < _ALONE


def cut_units(source: Source, options: Options) -> list[Unit]:
    """All units of a target, in the order in which they are written."""
    if options.image_format == "folder":
        return [
            Unit(split, number, part)
            for split, items in source.splits.items()
            for number, part in enumerate(_parts(as_files(items), _FILES_OF_ROWS if source.streamed else _FILES))
        ]
    total = {split: sum(item.size for item in items) for split, items in source.splits.items()}
    largest = max(total.get("train", 0), 1) if "train" in total else max(total["val"], 1)
    units = []
    for number_of_split, (split, items) in enumerate(source.splits.items()):
        if options.shards is None:
            tars = -(-total[split] // options.shard_size)
        else:
            tars = -(-options.shards * total[split] // largest)
        rng = np.random.default_rng([options.seed, number_of_split])
        order = np.array_split(rng.permutation(len(items)), max(1, min(tars, len(items))))
        named = list(as_keys(items))
        units += [Unit(split, n, tuple(named[index] for index in part)) for n, part in enumerate(order)]
    return units


def _parts(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    rest = iter(items)
    while part := tuple(islice(rest, size)):
        yield part


def _done_already(plan: Plan, units: Sequence[Unit]) -> set[tuple[str, int]]:
    """The units that were put down as written, and whose files have the size that was put down."""
    known = {(unit.split, unit.number): unit for unit in units}
    return {
        (done.split, done.number)
        for done in journal.recorded(plan.state)
        if size_of(plan, known[done.split, done.number]) == done.size
    }


def _clear(state: Path) -> None:
    """Remove what was being written when the process ended."""
    for path in state.glob("*.tmp*"):
        path.unlink(missing_ok=True)


def _check_room(target: Path, state: Path, waiting: Sequence[Unit]) -> None:
    """Raise InputError where images, which are written as they are, cannot fit."""
    needed = sum(item.size for unit in waiting for item in unit.items)
    spooled = sum(path.stat().st_size for path in state.iterdir())
    free = shutil.disk_usage(target).free + spooled
    if needed > free:
        raise InputError(
            f"{target}: {_size(needed)} are to be written, and the disk has {_size(free)} free: make room and run the "
            "same command, or take --max-side"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.3f} MB"


def _spool(source: Source, units: Sequence[Unit], state: Path, tars: bool, watch: Any) -> None:
    """Put the images into a file for each unit, in one pass over the source."""
    renamed = as_keys if tars else as_files
    named = [(split, item) for split, items in source.splits.items() for item in renamed(items)]
    unit_of = {(unit.split, item.label, item.name): unit.number for unit in units for item in unit.items}
    ready, sizes = journal.recorded_spool(state)
    if ready == len(named):
        return  # and some of its files may be tars already
    for unit in units:
        path = spool.bucket(state, unit.split, unit.number)
        spool.cut(path, sizes.get(path.name, 0))
    with tqdm(total=len(named), initial=ready, desc="reading", unit=" images", unit_scale=True, disable=None) as bar:
        contents = watch(source.read([item for _, item in named[ready:]]))
        for (split, item), content in zip(named[ready:], contents, strict=True):
            path = spool.bucket(state, split, unit_of[split, item.label, item.name])
            sizes[path.name] = sizes.get(path.name, 0) + spool.append(path, item, content)
            ready += 1
            if ready % _RUN == 0 or ready == len(named):
                journal.record_spool(state, ready, sizes)
            bar.update()


def _finish(target: Path, source: Source, options: Options) -> Prepared:
    """What was written, looked at once more; the state goes once it is put down."""
    state = target / journal.STATE
    tars = options.image_format == "webdataset"
    published = count.published_for(source.classes, source.official)
    differing, images = [], {}
    for split, items in source.splits.items():
        images[split] = count.written(target / split, tars)
        if images[split] != len(items):
            differing.append(f"{split}: {len(items)} images were read, and {target / split} holds {images[split]}")
        counts = np.bincount([item.label for item in items], minlength=len(source.classes))
        if not tars and len(images) == 1:
            differing += count.without_images(split, counts, source.classes)
        if published is not None:
            per_class = source.per_class if split == "train" else ()
            differing += count.differences(split, counts, source.classes, published, per_class)
    if state.is_dir():
        odd = [fault for done in _in_order(state) for fault in done.odd]
        lines = [f"{name}: {what}".replace("\n", "\\n") for name, what in (*source.left_out, *odd)]
        if lines:
            write_whole(target / ODD, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"), alone=True)
        shutil.rmtree(state)
    told = (target / ODD).read_bytes() if (target / ODD).is_file() else b""
    lines = told.decode("utf-8", "surrogateescape").split("\n")[:-1]
    pairs = tuple((name, what) for name, _, what in (line.partition(": ") for line in lines))
    # That of the classes comes with every split.
    return Prepared(source.told, images, len(source.classes), tuple(dict.fromkeys(differing)), pairs)


def _in_order(state: Path) -> list[Done]:
    """The units that were written, each once, in an order that does not depend on how often it was stopped."""
    found = {(done.split, done.number): done for done in journal.recorded(state)}
    return [found[key] for key in sorted(found)]
