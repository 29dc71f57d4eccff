"""What comes before training on image folders: finding the parts, looking for broken images, reading a few."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from PIL import Image

from apr_dali.data.folders import ImageSet, TarSet, check_components, has_split, join, open_set
from apr_dali.data.image_file import open_image
from apr_dali.data.remote import is_remote
from apr_dali.data.sampling import Sampler, by_source, evenly
from apr_dali.data.tar_sources import is_elsewhere
from apr_dali.data.tars import Components, Part, opened
from apr_dali.errors import InputError
from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.runtime import cpus
from apr_dali.runtime.best_effort import best_effort, say
from apr_dali.runtime.distributed import Group, gather, on_main
from apr_dali.training.options import ImageNetOptions

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
    elif options.data and not (is_elsewhere(options.data) or os.path.exists(options.data)):
        raise InputError(
            f"--data {options.data} is not there: give a folder with train and val, of class folders or of tars, "
            "or a file list; `--data sample` takes the built-in photographs"
        )
    components = Components(options.tar_image or None, options.tar_label)
    trained, validated = _opened(options, classes, components)
    tars = any(isinstance(part, TarSet) for part in (trained, validated))
    check_components(components, tars, [*filter(None, (options.data, *options.train, options.val))])
    return trained, validated


def _opened(
    options: ImageNetOptions, classes: tuple[str, ...] | None, components: Components
) -> tuple[Images | None, Images]:
    """What `open_parts` gives; parts without tars pass over the components."""
    trained = None
    common: dict[str, Any] = {"components": components, "mixed": True, "cached": options.cache}
    if not options.eval_only:
        sets = [open_set(options.data, "train", **common)] if options.data else []
        for source in options.train:
            sets.append(_open_extra(source, "train", sets[0].classes if sets else None, common))
        trained = join(sets)
        classes = trained.classes
    if options.val:
        return trained, _open_extra(options.val, "val", classes, common, options.allow_missing_classes)
    return trained, open_set(
        options.data,
        "val",
        classes,
        allow_missing_classes=options.allow_missing_classes,
        **common,
    )


def sampler(options: ImageNetOptions, part: Images) -> Sampler:
    """What draws the training images: --sampler, or --train-weights over the sources that the part was joined of."""
    return by_source(part.sources, options.train_weights) if options.train_weights else options.sampler


def _write_sample() -> None:
    from apr_dali.data.sample import write_sample

    # Whatever else is called that may be data of the user's own.
    if not os.path.exists(SAMPLE):
        write_sample(SAMPLE)


def _open_extra(
    source: str, split: str, classes: tuple[str, ...] | None, common: dict[str, Any], allow_missing: bool = False
) -> Images:
    """The part `split` of a folder or file list, or the whole of it where it has no splits."""
    return open_set(
        source,
        split if has_split(source, split) else None,
        classes,
        allow_missing_classes=allow_missing,
        **common,
    )


def check(parts: Sequence[Images | None], options: ImageNetOptions, group: Group) -> None:
    """Raise InputError, with paths and reasons, if an image of the parts is broken. All processes share the work.

    With --on-error skip nothing is looked at: the loaders leave broken images out. The ends of images in object
    storage are not looked at either, which would take two requests each; with --check full they are decoded.
    """
    if options.check == "off" or options.on_error == "skip":
        return
    from apr_dali.data.check import full_check, quick_check

    opened_parts = [part for part in parts if part is not None]
    files: Iterable[str | Part] = chain.from_iterable(map(_files, opened_parts))
    quick = options.check == "quick"
    look = quick_check if quick else full_check
    if quick:
        files = filter(_is_local, files)
    broken = look(list(islice(files, group.rank, None, group.world)), options.threads or cpus.share())
    everywhere = sorted(found for each in gather(group, broken) for found in each)
    if everywhere:
        listed = "".join(f"\n  {path}: {reason}" for path, reason in everywhere[:_NAMED])
        more = f"\n  and {len(everywhere) - _NAMED} more" if len(everywhere) > _NAMED else ""
        raise InputError(
            f"{len(everywhere)} of {sum(map(len, opened_parts))} images cannot be read:{listed}{more}\nRemove them, "
            "leave them out with --on-error skip, or train on the list that `apr-dali check-data DIR --write-file-list "
            "FILE` writes of image files, with --data FILE"
        )


def _files(part: Images) -> Iterable[str | Part]:
    return part.files if isinstance(part, ImageSet) else part.parts()


def _is_local(image: str | Part) -> bool:
    return isinstance(image, str) or not is_remote(image.tar)


def left_out(group: Group, skipped: Sequence[str]) -> int:
    """Images that the processes have left out, each counted once; skipped: the paths of those of this process."""
    # In each epoch an image comes to another process.
    return len(set[str]().union(*gather(group, list(skipped))))


def print_left_out(group: Group, *loaders: ImageNetLoader) -> None:
    """Say how many images the loaders have left out because they cannot be decoded, if any."""
    count = left_out(group, [path for loader in loaders for path in loader.skipped])
    if count and group.main:
        say(f"{count} images were left out because they cannot be decoded")


def some_images(source: Images, count: int) -> list[tuple[Image.Image, str]]:
    """`count` photographs, RGB, and their class names: spread over a folder's classes, or a tar's first ones.

    Those that cannot be opened are warned of and left out.
    """
    found = []
    for file, name in _chosen(source, count):
        with best_effort(f"showing {file}"), opened(file) as content:
            found.append((open_image(content), name))
    return found


def _chosen(source: Images, count: int) -> Iterator[tuple[str | Part, str]]:
    """The images of `some_images` and their class names."""
    if isinstance(source, ImageSet):
        for n in evenly(len(source), count):
            yield source.files[n], source.classes[source.labels[n]]
        return
    for part, (_, label) in islice(zip(source.parts(), source.read_labels(), strict=True), count):
        yield part, source.classes[label] if isinstance(label, int) else label
