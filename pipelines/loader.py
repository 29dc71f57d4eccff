"""The loader of image files and tars: a DALI pipeline as batches for any PyTorch training loop."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali.pipeline import Pipeline
from PIL import Image

from apr_dali.data import tar_reader
from apr_dali.data.check import Bad, quick_check
from apr_dali.data.fingerprint import fingerprint
from apr_dali.data.folders import ImageSet, TarSet, open_set, with_stand_ins
from apr_dali.data.sampling import draw
from apr_dali.data.tars import Part, opened
from apr_dali.errors import InputError, check_choice, check_share
from apr_dali.pipelines import imagenet
from apr_dali.pipelines.base import EpochLoader
from apr_dali.pipelines.batch_options import BatchArguments, BatchOptions, check_size, takes_batch_arguments
from apr_dali.pipelines.encoded import faults
from apr_dali.pipelines.graph import checksum
from apr_dali.recipes import (
    AUGMENTATIONS,
    CROP_RATIO,
    CROP_SCALE,
    HW_DECODER_LOAD,
    IMAGENET,
    ON_ERROR,
    STANDARD,
    VIEWS,
    AprRecipe,
    Scaling,
    check_crop,
    check_views,
    uses_pair,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_DECODE_ERRORS = (r"Failed to decode sample #\d+ : (.+)", r"File mapping failed: (.+)")


class ImageNetLoader(EpochLoader):
    """Batches of an ImageNet-like set from a DALI pipeline, for any PyTorch training loop.

    Iterating gives one epoch of (images, targets) on `device`:

    - images: (V·B, 3, S, S) in `dtype`, normalized; targets: int64 (V·B,). `loader.views` is 2 for training with APR-P,
      else 1, and V with it: the clean and the mixed view of an image stand side by side. Where the coin leaves a batch
      unmixed, both would be the same, and it comes once, V = 1. The published loss, the sum of the views' mean losses,
      is `loader.views` times the mean over all rows in both cases. All ranks have the same coin at a step.
    - Every image of the shard comes once per epoch; the last batch may be smaller, or is left out with `drop_last`.
      In training all ranks have the same number of batches: if one shard is an image short of a batch of the
      others', it repeats its last image.
    - Each training epoch has another order, the same for the same seed.

    `state_dict` and `load_state_dict` continue in mid-epoch with the same batches, bit for bit on the CPU.

    An epoch that a loop leaves early is not repeated: the next iteration is the next epoch, or with
    `on_break="resume"` the rest of the one that was left.

    Args:
        path: a folder of class folders, a folder of tars, a file list, or several of these; or what
            `apr_dali.data.folders.open_set` has found in them.
        aug: one of none, apr-p, apr-s, apr-sp; training only.
        views: with APR-P, "both", or "mixed": one view per image, as a loop for one view takes it.
        image_size: S in pixels.
        scaling: of evaluation images before the crop, by default that of the published recipe: the shorter side to
            256 for crops of 224. None cuts the middle S×S pixels out of the image as it is, for sets that are scaled
            already (ImageNet-C). Images must not be smaller.
        classes: names that the set must have, in this order; None takes its own. Of a validation set, the training
            loader's `classes`, so that labels mean the same.
        allow_missing_classes: the set may lack some of `classes`; one that has others is refused as ever.
        on_error: what an image does that cannot be decoded, or a tar's sample without an image or a label: "raise" ends
            the epoch with its path, or the tar's path and its key; "skip" leaves it out, warns, and adds that to
            `loader.skipped`. All other images keep their order and their batches, which are then smaller; where nothing
            is left of a training batch, it is made of the images after those.
        scale, ratio, hflip: of training crops: share of the image's area and width by height, each from and to, and
            share of images that are mirrored.
        hw_decoder_load: share of JPEGs for a GPU's hardware decoder, 0..1.

    `batch_size` and all other arguments are those of `apr_dali.pipelines.batch_options.BatchOptions`: train, device,
    device_id, shard, seed, dtype, memory_format, threads, drop_last, recipe, sampler, in_chans, with_index (of the
    image in `loader.files`), on_break, backend, repeat_unmixed, policy, policy_magnitude, random_erasing.

    Raises:
        InputError: for anything that a person can correct, before work starts; an image that cannot be decoded is
            named by its path when its batch is reached.
    """

    _version = 4
    _evaluation: Callable[..., Pipeline] = staticmethod(imagenet.eval_pipeline)

    @takes_batch_arguments
    def __init__(
        self,
        path: str | Path | Sequence[str | Path] | ImageSet | TarSet,
        batch_size: int,
        aug: str = "none",
        *,
        recipe: AprRecipe = IMAGENET,
        views: str = "both",
        image_size: int = 224,
        scaling: Scaling | None = STANDARD,
        classes: Sequence[str] | None = None,
        allow_missing_classes: bool = False,
        on_error: str = "raise",
        scale: tuple[float, float] = CROP_SCALE,
        ratio: tuple[float, float] = CROP_RATIO,
        hflip: float = 0.5,
        hw_decoder_load: float = HW_DECODER_LOAD,
        **batch: Unpack[BatchArguments],
    ) -> None:
        check_choice("aug", aug, AUGMENTATIONS)
        check_choice("views", views, VIEWS)
        check_choice("on_error", on_error, ON_ERROR)
        check_size("image_size", image_size)
        if not isinstance(scaling, (Scaling, NoneType)):
            raise InputError(f"scaling must be a Scaling or None, got {scaling!r}")
        check_crop(scale, ratio, hflip)
        check_share("hw_decoder_load", hw_decoder_load)
        options = BatchOptions(batch_size=batch_size, aug=aug, recipe=recipe, **batch)
        self._graph = imagenet.Graph(
            **options.for_graph(),
            image_size=int(image_size),
            scaling=scaling,
            views=views,
            scale=(float(scale[0]), float(scale[1])),
            ratio=(float(ratio[0]), float(ratio[1])),
            hflip=float(hflip),
            hw_decoder_load=float(hw_decoder_load),
        )
        _refuse_without_effect(self._graph, options.train)
        self._set = _opened(path, classes, allow_missing_classes)
        self._weights = options.weights(self._set)
        self._on_error = on_error
        self._leave_out(self._unusable(self._graph.threads))
        super().__init__(
            options,
            classes=self._set.classes,
            num_images=len(self._set),
            labels=self._set.labels if isinstance(self._set, ImageSet) else None,
            views=2 if uses_pair(aug) and views == "both" else 1,
            anew=self._weights is not None,
        )

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the images, by their numbers; of tars the tar's path and the sample's key."""
        return self._set.files if isinstance(self._set, ImageSet) else self._set.names

    @property
    def image_size(self) -> int:
        """S in pixels."""
        return self._graph.image_size

    def resize(self, image_size: int) -> None:
        """Give images of another size from the next epoch on: from there a pipeline and its draws of their own.

        Raises:
            InputError: within an epoch, whose batches are of one size.
        """
        check_size("image_size", image_size)
        if image_size == self.image_size:
            return
        if self._batch:
            raise InputError(
                f"a loader is resized between epochs, this one has given {self._batch} batches of its epoch"
            )
        self._graph = replace(self._graph, image_size=int(image_size))
        self._begin(self.epoch)

    def _source(self) -> ImageSet | TarSet:
        """What the pipeline reads: image files with their numbers in the place of labels."""
        if not isinstance(self._set, ImageSet):
            return with_stand_ins(self._set, self.skipped)
        images = replace(self._set, labels=np.arange(len(self._set)))
        drawn = self._drawn()
        if drawn is not None:
            images = replace(images, files=tuple(self._set.files[number] for number in drawn), labels=drawn)
        return with_stand_ins(images, self.skipped)

    def _drawn(self) -> NDArray[np.int64] | None:
        """The numbers of this epoch's images where weights draw them."""
        return None if self._weights is None else draw(self._weights, self._seed, self._stream)

    def _build(self, checkpoint: bytes | None) -> Pipeline:
        tars = isinstance(self._set, TarSet)
        drawn = self._drawn() if tars else None
        try:
            return imagenet.build(
                self._source(),
                self._graph,
                train=self.train,
                batch_size=self.batch_size,
                device_id=self._device.index,
                seed=self._seed,
                stream=self._stream,
                # Tars are read in order, whatever was drawn of them.
                shuffle=tars or self._weights is None,
                drawn=drawn,
                checkpoint=checkpoint,
                handover=self._handover if self._graph.hands_over else None,
                evaluation=self._evaluation,
            )
        except RuntimeError as error:
            if isinstance(self._set, TarSet):
                tar_reader.refuse_unreadable(self._set, str(error), drawn)
            raise

    @cached_property
    def _fingerprint(self) -> int:
        return fingerprint(self._set)

    def _settings(self) -> dict[str, Any]:
        return self._graph.settings() | {"names": self._fingerprint, "sampler": checksum(self._weights)}

    def _recover(self, error: RuntimeError) -> None:
        if self._graph.scaling is None and "out of bounds" in str(error):
            raise InputError(self._too_small()) from error
        broken = [(path, reason) for path, reason in self._broken(error) if path not in self.skipped]
        if not broken:
            raise error
        self._leave_out(broken, error)

    def _unusable(self, threads: int) -> list[Bad]:
        """The images that no batch can show, and the reasons, as far as they are seen at once."""
        faults = self._set.faults()
        known = {path for path, _ in faults}
        # The decoder would take levels of no known range for white.
        tiffs = [image for image in self._set.tiffs() if str(image) not in known]
        return faults + _undecodable(quick_check(tiffs, threads))

    def _leave_out(self, broken: Sequence[Bad], error: RuntimeError | None = None) -> None:
        """Add what is broken to `skipped`, or raise InputError, by `on_error`."""
        if broken and self._on_error == "raise":
            (path, reason), tars = broken[0], isinstance(self._set, TarSet)
            more = f" (and {len(broken) - 1} others)" if len(broken) > 1 else ""
            remedy = (
                "pack the tar anew without it (`apr-dali check-data` finds all of them)"
                if tars
                else "remove it, let `apr-dali check-data` write a file list without it"
            )
            raise InputError(
                f"the {'sample' if tars else 'image'} {path} {reason}{more}: {remedy}, or leave such images out with "
                "on_error='skip'"
            ) from error
        for path, reason in broken:
            warnings.warn(f"left out {path}, which {reason}", stacklevel=3)
        self.skipped += tuple(path for path, _ in broken)

    def _too_small(self) -> str:
        """What to say of the first image, from this batch on, that is smaller than its crop."""
        side = self._graph.image_size
        first = self.num_images * self.shard[0] // self.shard[1] + self._batch * self.batch_size
        # What was left out may have come before the batch; all else before it was large enough.
        for file in self._readable()[max(first - len(self.skipped), 0) :]:
            with opened(file) as content, Image.open(content) as image:
                if min(image.size) < side:
                    found = f"the image {file} has {image.width}×{image.height} pixels"
                    break
        else:
            found = "an image is smaller"
        return f"{found}: scaling=None cuts {side}×{side} out of the image as it is; leave scaling out or crop less"

    def _readable(self) -> list[str | Part]:
        """The images that are on this machine and not left out, in the order of the set."""
        images = self._set.files if isinstance(self._set, ImageSet) else self._set.parts()
        known = set(self.skipped)
        return [image for image in images if str(image) not in known]

    def _broken(self, error: RuntimeError) -> list[Bad]:
        """The paths of the images that caused the error, as far as they can be found out, and what each is or has."""
        refused = faults(str(error))
        if refused:
            names = partial(tar_reader.name_of, self._set) if isinstance(self._set, TarSet) else str
            return [(names(origin), f"cannot be decoded ({reason})") for origin, reason in refused]
        if isinstance(self._set, TarSet):
            tar_reader.refuse_unreadable(self._set, str(error))
            named = tar_reader.fault(self._set, str(error))
        else:
            paths = [found[1] for pattern in _DECODE_ERRORS if (found := re.search(pattern, str(error)))]
            named = (paths[0], "cannot be decoded") if paths else None
        if named:
            return [named]
        return _undecodable(self._unopened())

    def _unopened(self) -> list[Bad]:
        """The image files that cannot even be opened, of which DALI does not always say which they are."""
        if isinstance(self._set, TarSet):
            return []
        known = set(self.skipped)
        return quick_check([file for file in self._set.files if file not in known], self._graph.threads)


def _refuse_without_effect(graph: imagenet.Graph, train: bool) -> None:
    """Raise InputError for settings that are not the default's and would change nothing."""
    if graph.views == "mixed" and not uses_pair(graph.aug):
        raise InputError(f"views='mixed' has no effect with aug={graph.aug!r}: only apr-p and apr-sp have two views")
    check_views(graph.views, graph.repeat_unmixed)
    if train and graph.scaling != STANDARD:
        raise InputError("scaling has no effect with train=True: training crops are drawn, then resized to S×S")
    if not train and (graph.scale, graph.ratio, graph.hflip) != (CROP_SCALE, CROP_RATIO, 0.5):
        raise InputError("scale, ratio and hflip have no effect with train=False: they are of training crops")
    if graph.device == "cpu" and graph.hw_decoder_load != HW_DECODER_LOAD:
        raise InputError("hw_decoder_load has no effect with device='cpu': it is for a GPU's decoder")


def _opened(
    path: str | Path | Sequence[str | Path] | ImageSet | TarSet,
    classes: Sequence[str] | None,
    allow_missing_classes: bool,
) -> ImageSet | TarSet:
    if not isinstance(path, (ImageSet, TarSet)):
        return open_set(path, classes=classes, allow_missing_classes=allow_missing_classes)
    if classes is not None or allow_missing_classes:
        raise InputError("classes has no effect on a set that is open already: give it to open_set")
    return path


def _undecodable(bad: Sequence[Bad]) -> list[Bad]:
    return [(path, f"cannot be decoded ({reason})") for path, reason in bad]
