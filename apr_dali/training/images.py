"""What comes before training on image folders: finding the parts, looking for broken images, reading a few."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from apr_dali.config import ImageNetOptions
from apr_dali.data.file_list import FileList, read_file_list, write_file_list
from apr_dali.data.folders import ImageSet, TarSet, open_set
from apr_dali.errors import InputError
from apr_dali.training.distributed import Group, cores, gather, on_main

SAMPLE = "sample"
_NAMED = 10  # broken images that an error lists


@dataclass(frozen=True)
class Part:
    """One part of the data: `sources` as a loader takes them, and the set that they open to."""

    sources: tuple[str, ...]
    opened: ImageSet | TarSet


def open_parts(options: ImageNetOptions, group: Group, scratch: Path) -> tuple[Part | None, Part]:
    """The training part (None with --eval-only) and the validation part, of one list of classes.

    --data DIR gives DIR/train and DIR/val; each --train DIR adds DIR/train, or DIR itself where that has the class
    folders; --val takes the place of DIR/val. `--data sample` is written first unless a ./sample is there.
    `scratch`: a folder for files that the loaders read while they live.

    Raises InputError for what is missing, empty, or of other classes.
    """
    if options.data == SAMPLE:
        on_main(group, _write_sample)
    trained = None
    if not options.eval_only:
        sources = [_split(options.data, "train", scratch)] if options.data else []
        sources += [_split(source, "train", scratch, strict=False) for source in options.train]
        trained = Part(tuple(sources), open_set(sources))
    source = _split(options.val, "val", scratch, strict=False) if options.val else _split(options.data, "val", scratch)
    classes = trained.opened.classes if trained else None
    return trained, Part((source,), open_set(source, classes=classes))


def _write_sample() -> None:
    from apr_dali.data.sample import write_sample

    # Whatever else is called that may be data of the user's own.
    if not os.path.exists(SAMPLE):
        write_sample(SAMPLE)


def _split(source: str, split: str, scratch: Path, strict: bool = True) -> str:
    """The part `split` of a folder or file list, as a path; not `strict`: or the source itself, if it has no splits."""
    if os.path.isfile(source):
        return _split_list(source, split, scratch)
    folder = os.path.join(source, split)
    if os.path.isdir(folder):
        return folder
    if strict:
        open_set(source, split)  # raises, and says what is missing
    return source


def _split_list(source: str, split: str, scratch: Path) -> str:
    """A list of the entries of `split` alone: a loader reads a list as a whole."""
    listing = read_file_list(source)
    if not listing.splits:
        return source
    listing.below(split)  # raises where the list has no such part
    below = f"{split}/"
    entries = tuple(entry.removeprefix(below) for entry in listing.entries if entry.startswith(below))
    part = scratch / f"{split}-{len(os.listdir(scratch))}.txt"
    write_file_list(part, FileList(os.path.join(listing.root, split), listing.classes, (), entries))
    return str(part)


def check(parts: Sequence[Part | None], options: ImageNetOptions, group: Group) -> None:
    """Raise InputError, with paths and reasons, if an image of the parts is broken. All processes share the work.

    Tar files are not looked into: `apr-dali check-data` does that.
    """
    if options.check == "off":
        return
    from apr_dali.data.scan import full_check, quick_check

    files = [file for part in parts if part and isinstance(part.opened, ImageSet) for file in part.opened.files]
    look = quick_check if options.check == "quick" else full_check
    broken = look(files[group.rank :: group.world], options.threads or cores())
    everywhere = sorted(found for each in gather(group, broken) for found in each)
    if everywhere:
        listed = "".join(f"\n  {path}: {reason}" for path, reason in everywhere[:_NAMED])
        more = f"\n  and {len(everywhere) - _NAMED} more" if len(everywhere) > _NAMED else ""
        raise InputError(
            f"{len(everywhere)} of {len(files)} images cannot be read:{listed}{more}\nRemove them, or train on the "
            "list that `apr-dali check-data DIR --write-file-list FILE` writes, with --data FILE"
        )


def some_images(opened: ImageSet | TarSet, count: int) -> list[tuple[Image.Image, str]]:
    """`count` photographs, RGB, and their class names: spread over a folder's classes, or a tar's first ones."""
    if isinstance(opened, TarSet):
        return _first_of_tar(opened, count)
    chosen = [n * len(opened) // count for n in range(min(count, len(opened)))]
    found = []
    for n in chosen:
        with Image.open(opened.files[n]) as image:
            found.append((image.convert("RGB"), opened.classes[opened.labels[n]]))
    return found


def _first_of_tar(opened: TarSet, count: int) -> list[tuple[Image.Image, str]]:
    found: list[tuple[Image.Image, str]] = []
    with tarfile.open(opened.tars[0]) as tar:
        image = None
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                continue
            if member.name.endswith(".cls") and image is not None:
                found.append((image, opened.classes[int(content.read())]))
                image = None
            elif not member.name.endswith(".cls"):
                image = Image.open(io.BytesIO(content.read())).convert("RGB")
            if len(found) == count:
                break
    return found
