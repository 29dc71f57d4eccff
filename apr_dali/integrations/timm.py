"""timm: run its own train.py, unchanged, with APR.

    python -m apr_dali.integrations.timm --loader apr-sp train.py DIR --model resnet50 --color-jitter 0 \\
        --train-interpolation bilinear ...
    python -m apr_dali.integrations.timm --pair 0.5 train.py DIR --model resnet50 --mixup 1 --no-prefetcher ...

`--loader AUG` gives the script DALI's training batches, crops, flips and APR included, in place of `timm.data.
create_loader`'s; validation stays timm's. Each of timm's options is followed, or refused by name where the pipeline
cannot do it, color jitter and random interpolation among them; the seed is the script's, as it gives it to
`timm.utils.random_seed`. `--pair P` leaves timm's loader and puts `AprPair` in the place of its `Mixup`. Scripts that
take `create_loader` or `Mixup` from `timm.data` after this one has started see the replacements.

train.py takes the mean loss over both views, the published recipe their sum: with SGD and two views, double --lr and
halve --weight-decay to the same effect, or give `--views mixed`. A batch that the coin leaves unmixed comes once, with
the same mean; `--repeat-unmixed` gives it in both views.
"""

from __future__ import annotations

import apr_dali.runtime.spin_count  # isort: skip  # noqa: F401  before torch

import argparse
import inspect
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from apr_dali.data.folders import ImageSet
from apr_dali.errors import InputError
from apr_dali.integrations import timm_options
from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.recipes import AUGMENTATIONS, CROP_RATIO, CROP_SCALE, IMAGENET, VIEWS
from apr_dali.runtime import cpus, exit_status, torch_threads
from apr_dali.transforms import AprPair


class TimmLoader:
    """ImageNetLoader with what timm's train.py asks of a training loader.

    An iteration is one epoch of (images, targets) on the device; the last batch is left out unless it is full.

    Args:
        make: gives the loader for a seed.
        dataset: timm's, which gets this loader's `set_epoch`.
    """

    mixup_enabled = False
    """timm switches its Mixup off here; there is none."""

    def __init__(self, make: Callable[[int], ImageNetLoader], dataset: Any) -> None:
        self._make, self._first = make, 0
        self.loader = make(0)
        self.dataset, self.sampler = dataset, self
        dataset.set_epoch = self.set_epoch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch next; one that does not follow the last, after a restart, has an order of its own."""
        if epoch != self._first + self.loader.epoch:
            self.loader.close()
            self._first, self.loader = epoch, self._make(epoch)


class AprMixup:
    """APR-P where timm calls its Mixup: images (B, C, H, W) and labels (B,) to both views and soft targets.

    Gives (2·B, C, H, W) and (2·B, num_classes), the views of an image side by side, or B with views="mixed" and for a
    batch that is not mixed, unless the pair repeats it.
    Of Mixup's arguments it takes label_smoothing and num_classes; what is mixed and how often is AprPair's. CutMix and
    other modes are refused.
    """

    def __init__(self, pair: AprPair, label_smoothing: float = 0.1, num_classes: int = 1000, **options: Any) -> None:
        timm_options.check_mixup(options)
        self.pair, self.label_smoothing, self.num_classes = pair, label_smoothing, num_classes
        self.mixup_enabled = True

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.mixup_enabled:
            images, labels = self.pair(images, labels)
        soft = F.one_hot(labels, self.num_classes).to(images.dtype)
        return images, soft * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes


def create_loader(
    *args: Any,
    aug: str = "none",
    views: str = "both",
    repeat_unmixed: bool = False,
    seed: int = 42,
    memory_format: str = "contiguous",
    **options: Any,
) -> Any:
    """`timm.data.create_loader` with DALI and APR for training, and as it is for everything else.

    Args:
        args, options: timm's arguments; the dataset is an ImageDataset on a folder of class folders. For training,
            what is done with each says `timm_options`; num_workers are DALI's threads.
        aug, views, repeat_unmixed, seed, memory_format: see `apr_dali.ImageNetLoader`.

    Raises:
        InputError: for what the pipeline cannot do, by name, and readers of no folder.
    """
    # Not timm.data's, which this function takes the place of.
    from timm.data import loader as timms

    signature = inspect.signature(timms.create_loader)
    bound = signature.bind(*args, **options)
    bound.apply_defaults()
    given = bound.arguments
    if not given["is_training"]:
        return timms.create_loader(*args, **options)
    timm_options.check_loader(given, signature)
    in_chans = timm_options.channels(given["input_size"])
    images, device = image_set(given["dataset"], in_chans), torch.device(given["device"])
    mean, std = (timm_options.of_color(given[name]) for name in ("mean", "std"))
    loader = partial(
        ImageNetLoader,
        images,
        given["batch_size"],
        aug,
        views=views if aug in ("apr-p", "apr-sp") else "both",
        repeat_unmixed=repeat_unmixed,
        device=device,
        shard=_shard(given["distributed"]),
        memory_format=memory_format,
        dtype="float16" if given["fp16"] else str(given["img_dtype"]).removeprefix("torch."),
        image_size=timm_options.side(given["input_size"]),
        threads=given["num_workers"] or None,
        drop_last=True,
        recipe=replace(IMAGENET, mean=mean, std=std),
        in_chans=in_chans,
        scale=given["scale"] or CROP_SCALE,
        ratio=given["ratio"] or CROP_RATIO,
        hflip=given["hflip"],
    )
    return TimmLoader(lambda epoch: loader(seed=seed + epoch), given["dataset"])


def _shard(distributed: bool) -> tuple[int, int]:
    return (int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))) if distributed else (0, 1)


def image_set(dataset: Any, in_chans: int = 3) -> ImageSet:
    """The files and labels of timm's ImageDataset on a folder of class folders, which opens images of `in_chans`."""
    samples = getattr(dataset.reader, "samples", None)
    if not samples or not isinstance(samples[0][0], str):
        raise InputError(
            "the DALI loader needs a folder of class folders, timm reads with "
            f"{type(dataset.reader).__name__}: use --pair"
        )
    mode, expected = getattr(dataset, "input_img_mode", "RGB"), "RGB" if in_chans == 3 else "L"
    if mode != expected or getattr(dataset, "target_transform", None) is not None:
        raise InputError(
            f"the DALI loader gives {expected} images with their folders' labels, got {mode} or other labels"
        )
    names = dataset.reader.class_to_idx
    return ImageSet(
        files=tuple(os.path.abspath(path) for path, _ in samples),
        labels=np.array([label for _, label in samples], np.int64),
        classes=tuple(sorted(names, key=names.__getitem__)),
    )


def _with_the_same_labels(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, timm's create_loader or ours, that refuses a later set whose labels mean other classes."""
    known: dict[str, int] = {}

    def loader(dataset: Any, *args: Any, **options: Any) -> Any:
        labels = getattr(getattr(dataset, "reader", None), "class_to_idx", None) or {}
        for name, label in labels.items():
            before = known.get(name, "not there")
            if known and before != label:
                raise InputError(
                    f"the sets' labels mean different classes: {name!r} is {label} and was {before}; "
                    "give both the same class folders, or name them in a file for timm's --class-map"
                )
        known.update(labels)
        return make(dataset, *args, **options)

    return loader


def _seed_of(utils: Any) -> Callable[[], int]:
    """What says the seed that the script last gave to `random_seed` of the module `utils`: train.py's --seed."""
    original = utils.random_seed
    given = [42]  # timm's default

    def random_seed(seed: int = 42, rank: int = 0) -> None:
        given[0] = seed
        original(seed, rank)

    utils.random_seed = random_seed
    return lambda: given[0]


def _replace_mixup(data: Any, pair: Callable[[], AprPair]) -> None:
    """Put AprMixup into the place of `Mixup` in the module `data`, and refuse a script that would not call it.

    pair: called when the script makes its Mixup, after it has given out its seed.
    """
    made: list[AprMixup] = []
    original = data.create_loader

    def mixup(**options: Any) -> AprMixup:
        made.append(AprMixup(pair(), **options))
        return made[-1]

    def fast_collate(**_: Any) -> None:
        raise InputError("--pair works on batches of numbers, timm's prefetcher mixes bytes: add --no-prefetcher")

    def loader(*args: Any, **options: Any) -> Any:
        # train.py makes its Mixup before its loaders.
        if options.get("is_training") and not made:
            raise InputError("--pair takes the place of timm's Mixup, which the script does not use: add --mixup 1")
        return original(*args, **options)

    data.Mixup, data.FastCollateMixup, data.create_loader = mixup, fast_collate, loader


def main(argv: Sequence[str] | None = None) -> None:
    """Put the replacements in their places and run the script as if by itself."""
    import timm.data
    import timm.utils

    parser = argparse.ArgumentParser(prog="python -m apr_dali.integrations.timm", description=__doc__)
    parser.add_argument("--loader", choices=AUGMENTATIONS, help="DALI's training batches with this augmentation")
    parser.add_argument("--pair", type=float, metavar="P", help="AprPair on this share of batches, in Mixup's place")
    parser.add_argument("--views", choices=VIEWS, default="both", help="what APR-P gives of an image")
    parser.add_argument("--repeat-unmixed", action="store_true", help="APR-P: give unmixed batches in both views")
    parser.add_argument("script", help="timm's train.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    given = parser.parse_args(argv)
    torch_threads.use(cpus.share())  # of the script's network nothing is known
    if (given.loader is None) == (given.pair is None):
        parser.error("give one of --loader and --pair")
    seed = _seed_of(timm.utils)
    shape = {"views": given.views, "repeat_unmixed": given.repeat_unmixed}
    if given.loader is not None:
        # The script would have its batches in this order, and transposes those that are not.
        order = "channels_last" if "--channels-last" in given.arguments else "contiguous"
        timm.data.create_loader = lambda *args, **options: create_loader(
            *args, aug=given.loader, seed=seed(), memory_format=order, **shape, **options
        )
    else:
        # Refused at once, not when the script has come to its Mixup.
        AprPair(given.pair, **shape)
        _replace_mixup(timm.data, lambda: AprPair(given.pair, coin_seed=seed(), **shape))
    timm.data.create_loader = _with_the_same_labels(timm.data.create_loader)
    sys.argv = [given.script, *given.arguments]
    # As `python SCRIPT` does it: its own folder comes first.
    sys.path.insert(0, os.path.dirname(os.path.abspath(given.script)))
    runpy.run_path(given.script, run_name="__main__")


if __name__ == "__main__":
    sys.exit(exit_status.run(main))
