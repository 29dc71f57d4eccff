"""What comes before training on image folders: finding the parts, looking for broken images, reading a few."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence

from PIL import Image

from apr_dali.config import ImageNetOptions
from apr_dali.data.file_list import read_file_list
from apr_dali.data.folders import ImageSet, TarSet, join, open_set
from apr_dali.errors import InputError
from apr_dali.training.distributed import Group, cores, gather, on_main

SAMPLE = "sample"
_NAMED = 10  # broken images that an error lists


Images = ImageSet | TarSet


def open_parts(
    options: ImageNetOptions, group: Group, classes: tuple[str, ...] | None = None
) -> tuple[Images | None, Images]:
    """The training images (None with --eval-only) and the validation images, of one list of classes.

    classes: with --eval-only, those of the checkpoint.

    --data DIR gives DIR/train and DIR/val; each --train DIR adds DIR/train, or DIR itself where that has the class
    folders; --val takes the place of DIR/val. `--data sample` is written first unless a ./sample is there.

    Raises InputError for what is missing, empty, or of other classes.
    """
    if options.data == SAMPLE:
        on_main(group, _write_sample)
    trained = None
    if not options.eval_only:
        sets = [open_set(options.data, "train")] if options.data else []
        for source in options.train:
            sets.append(_open_extra(source, "train", sets[0].classes if sets else None))
        trained = join(sets)
        classes = trained.classes
    if options.val:
        return trained, _open_extra(options.val, "val", classes)
    return trained, open_set(options.data, "val", classes)


def _write_sample() -> None:
    from apr_dali.data.sample import write_sample

    # Whatever else is called that may be data of the user's own.
    if not os.path.exists(SAMPLE):
        write_sample(SAMPLE)


def _open_extra(source: str, split: str, classes: tuple[str, ...] | None) -> Images:
    """The part `split` of a folder or file list, or the whole of it where it has no splits."""
    if os.path.isfile(source):
        return open_set(source, split if read_file_list(source).splits else None, classes)
    return open_set(source, split if os.path.isdir(os.path.join(source, split)) else None, classes)


def check(parts: Sequence[Images | None], options: ImageNetOptions, group: Group) -> None:
    """Raise InputError, with paths and reasons, if an image of the parts is broken. All processes share the work.

    Tar files are not looked into: a broken image in one is found when its batch is reached. With --on-error skip
    nothing is looked at: the loaders leave broken images out.
    """
    if options.check == "off" or options.on_error == "skip":
        return
    from apr_dali.data.scan import full_check, quick_check

    files = [file for part in parts if isinstance(part, ImageSet) for file in part.files]
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


def some_images(opened: Images, count: int) -> list[tuple[Image.Image, str]]:
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
