"""What the loaders share on PyTorch's side of a pipeline: epochs, lengths, shards and state."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali.backend import TensorGPU
from nvidia.dali.pipeline import Pipeline
from nvidia.dali.plugin.pytorch import feed_ndarray, to_torch_type
from torch import Tensor

from apr_dali.errors import InputError, check_whole
from apr_dali.kernels.torch_copies import put
from apr_dali.pipelines.batch_options import MEMORY_FORMATS, BatchOptions, check_shared_out
from apr_dali.pipelines.handover import Handover

_STATE_KEYS = {"epoch", "batch", "stream", "pipeline", "skipped", "signature"}

Self = TypeVar("Self", bound="EpochLoader")


def normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images uint8 (N, H, W, 3), 0..255, as a network takes them: float32 (N, 3, H, W), (v / 255 - mean) / std."""
    shift, scale = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (mean, std))
    # Contiguous as a loader's are: foreign code takes no views in another order.
    levels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return levels.div_(255).sub_(shift).div_(scale)


class EpochLoader(ABC):
    """One epoch of (images, targets) an iteration from a DALI pipeline whose epochs follow one another without end.

    A subclass says what the pipeline is. Its epoch must have ceil(ceil(num_images / world) / batch_size) batches, each
    filled by repetition; its first outputs are images (B, ...) or, with several views, (B, V, ...), V `views` or 1, and
    integers (B, K): the numbers of the images, of which the first is the row's own, or (B, 2): its number and label.
    """

    classes: tuple[str, ...]
    num_images: int
    views: int
    """Of an image, over which the loss is summed: it is so many times the mean over all rows."""
    batch_views: int
    """Rows of an image in the batch given last: `views`, or 1 where the views were one and the same."""
    skipped: tuple[str, ...] = ()
    """What this rank has left out so far because it is broken."""
    _version = 3
    """Of the state: DALI takes up a pipeline only with the operators that it had."""

    def __init__(
        self,
        options: BatchOptions,
        *,
        classes: tuple[str, ...],
        num_images: int,
        labels: NDArray[np.int64] | None,
        views: int,
        anew: bool = False,
    ) -> None:
        """labels: by the number of the image; None where the pipeline gives them. anew: a pipeline each epoch."""
        self.classes, self.num_images = classes, num_images
        self.batch_size, self.train = int(options.batch_size), options.train
        self.shard = (int(options.shard[0]), int(options.shard[1]))
        self.views, self.in_chans, self.drop_last = views, int(options.in_chans), options.drop_last
        self.batch_views = views
        self.with_index, self.on_break = options.with_index, options.on_break
        self.epoch = 0
        self._labels = None if labels is None else torch.from_numpy(np.array(labels, np.int64))
        self._seed, self._dtype = int(options.seed), getattr(torch, options.dtype)
        self._memory_format, self._device = MEMORY_FORMATS[options.memory_format], options.torch_device
        self._batch = 0  # batches of this epoch given out
        self._under_way = False  # some of them since the loader was made or given a state
        self._anew = anew
        self._stream = 0  # the epoch with which the pipeline began
        self._checkpoint = b""  # DALI's, with which the next pipeline begins; none at the beginning of a stream
        self._turn = 0  # tells an abandoned iterator from the current one
        self._pipeline: Pipeline | None = None
        self._handover = Handover()
        self._closed = False
        self._check_length()

    @abstractmethod
    def _build(self, checkpoint: bytes | None) -> Pipeline:
        """A built pipeline, at the beginning of the epoch `_stream` or where `checkpoint` was taken."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """What of the subclass's own must be the same for a state to mean the same batches."""

    def _recover(self, error: RuntimeError) -> None:
        """After an error of the pipeline: see to it that the next one built does not meet it again, or raise.

        What is left out is added to `skipped`; in its place comes another image with the number -1 - its number.
        """
        raise error

    def _targets(self, labels: Tensor, views: int) -> Tensor:
        """Labels (B, 1) as int64 (V·B,), a label a view; V = `views` of this batch."""
        return labels.to(torch.int64).flatten().repeat_interleave(views)

    def __len__(self) -> int:
        """Batches of one epoch on this rank; in training the same on every rank."""
        shortest = self.num_images // self.shard[1]
        if self.drop_last:
            return shortest // self.batch_size
        images = self._padded_images() if self.train else self._shard_images()
        return ceil(images / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if self._closed:
            raise RuntimeError("the loader is closed")
        if self._under_way and self._batch >= len(self):
            self._finish()
        elif self._under_way and self.on_break == "new":
            self._begin(self.epoch + 1)
        self._turn += 1
        return self._epoch(self._turn)

    def __getitem__(self, index: object) -> NoReturn:
        # A DataLoader asks for items.
        raise InputError("a loader gives whole batches, one after the other: iterate over it itself, in no DataLoader")

    def _epoch(self, turn: int) -> Iterator[tuple[Tensor, ...]]:
        while True:
            if turn != self._turn or self._closed:
                raise RuntimeError("this iterator has ended: its loader was closed or iterated anew")
            if self._batch >= len(self):
                break
            batch = self._next()
            self._batch, self._under_way = self._batch + 1, True
            if len(batch[1]):
                yield batch
        self._finish()

    def _finish(self) -> None:
        """Pass over what the pipeline's epoch has beyond ours."""
        if self._anew:
            self._begin(self.epoch + 1)
            return
        # The reader's epoch is longer by what drop_last leaves out, and by other shards' last images.
        for _ in range(len(self), ceil(self._padded_images() / self.batch_size)):
            self._run()
        self.epoch, self._batch, self._under_way = self.epoch + 1, 0, False

    def _begin(self, epoch: int) -> None:
        """Go to the beginning of an epoch, with a pipeline whose stream begins there."""
        self.epoch = self._stream = epoch
        self._batch, self._under_way = 0, False
        self._pipeline, self._checkpoint = None, b""

    def _next(self) -> tuple[Tensor, ...]:
        images, numbers = self._rows()
        images = self._as_pixels(images)
        if self.views > 1:
            self.batch_views = images.shape[1]
            images = images.flatten(0, 1)
        # The channels of a gray image are the same three times.
        images = images[:, : self.in_chans]
        # Passes over the batch where the graph could not write it so: gray images, and bfloat16 on a GPU without APR-P.
        images = images.to(self._dtype).contiguous(memory_format=self._memory_format)
        targets = self._sent(self._targets(self._labels_of(numbers), self.batch_views))
        if not self.with_index:
            return images, targets
        return images, targets, self._sent(numbers[:, 0].repeat_interleave(self.batch_views))

    def _sent(self, tensor: Tensor) -> Tensor:
        """A tensor of the CPU on the loader's device."""
        return put(tensor, self._device)

    def _as_pixels(self, images: Tensor) -> Tensor:
        """A graph's output as the view (B, C, H, W) or (B, V, C, H, W) of numbers that it stands for."""
        if images.dtype == torch.int16:
            images = images.view(torch.bfloat16)
        return images.movedim(-1, -3) if self._memory_format == torch.channels_last else images

    def _rows(self) -> tuple[Tensor, Tensor]:
        """The pipeline's next batch, without repetitions and stand-ins: its images, and int64 numbers on the CPU."""
        valid = min(self.batch_size, max(self._shard_images() - self._batch * self.batch_size, 1))
        images, numbers = self._run()
        images, numbers = images[:valid], numbers[:valid]
        if self.skipped:
            images, numbers = self._without_stand_ins(images, numbers)
        return images, numbers.to(torch.int64)

    def _labels_of(self, numbers: Tensor) -> Tensor:
        """The labels of a batch's rows, int64 (B, 1)."""
        return numbers[:, 1:] if self._labels is None else self._labels[numbers]

    def _without_stand_ins(self, images: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that are no stand-ins; in training, where ranks count on each batch, at least those."""
        kept = numbers[:, 0] >= 0
        if not self.train or kept.any():
            # By their places: a mask on the device would be waited for.
            return images[put(kept.nonzero()[:, 0], images.device)], numbers[kept]
        return images, torch.where(numbers < 0, -1 - numbers, numbers)

    def _run(self) -> tuple[Tensor, Tensor]:
        """The pipeline's next batch, ours to keep, while it goes on with the ones after it; numbers on the CPU."""
        before = self._running().checkpoint()
        while True:
            pipeline = self._running()
            try:
                outputs = [output.as_tensor() for output in pipeline.share_outputs()]
                break
            except RuntimeError as error:
                # A pipeline that has failed cannot go on.
                self._pipeline, self._checkpoint = None, before
                self._recover(error)
        images, numbers = self._own(outputs[0]), torch.from_dlpack(outputs[1])
        pipeline.release_outputs()
        pipeline.schedule_run()
        return images, numbers

    def _own(self, output: Any) -> Tensor:
        if isinstance(output, TensorGPU):
            # DALI may reuse its memory while kernels of ours that read it are still to run: copied on our stream.
            tensor = torch.empty(output.shape(), dtype=to_torch_type[output.dtype], device=self._device)
            return feed_ndarray(output, tensor, cuda_stream=torch.cuda.current_stream(self._device))
        # The dynamic executor gives memory out for good. Fresh memory for a copy would cost more than the copy.
        tensor = torch.from_dlpack(output)
        if tensor.dtype == torch.int64:  # the number of a batch in its place
            return torch.from_numpy(self._handover.take(int(tensor[0])))
        return tensor.to(self._device)

    def _running(self) -> Pipeline:
        if self._closed:
            raise RuntimeError("the loader is closed")
        if self._pipeline is None:
            self._handover = Handover()
            try:
                self._pipeline = self._build(self._checkpoint or None)
            except RuntimeError as error:
                if self._checkpoint and "checkpoint" in str(error).lower():
                    raise InputError(f"the loader's state is damaged: DALI cannot go on from it ({error})") from error
                raise
            self._pipeline.schedule_run()
        return self._pipeline

    def _shard_images(self) -> int:
        rank, world = self.shard
        return self.num_images * (rank + 1) // world - self.num_images * rank // world

    def _padded_images(self) -> int:
        return ceil(self.num_images / self.shard[1])

    def _check_length(self) -> None:
        check_shared_out(self.num_images, self.shard[1])
        if len(self) == 0:
            raise InputError(
                f"batch_size {self.batch_size} gives no batch: a process has {self.num_images // self.shard[1]} images "
                "and drop_last leaves out the batch that is not full; take a smaller batch_size"
            )

    def _signature(self) -> dict[str, Any]:
        """What must be the same for a state to mean the same batches."""
        signature = self._settings() | {
            "images": self.num_images,
            "batch_size": self.batch_size,
            "shard": self.shard,
            "train": self.train,
            "seed": self._seed,
            "drop_last": self.drop_last,
        }
        # As it is read from a file: with lists for tuples.
        return dict(json.loads(json.dumps(signature)))

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, after the last batch given out: numbers, text, and lists and dicts of these.

        `json` and `torch.load(..., weights_only=True)` take it.
        """
        place = self._checkpoint if self._pipeline is None else self._pipeline.checkpoint()
        return {
            "version": self._version,
            "epoch": self.epoch,
            "batch": self._batch,
            "stream": self._stream,
            "pipeline": base64.b64encode(place).decode("ascii"),
            "skipped": list(self.skipped),
            "signature": self._signature(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken: the next iteration gives the rest of that epoch.

        Raises:
            InputError: if the state belongs to another set or other settings, which it names.
        """
        if not isinstance(state, dict):
            raise InputError(f"the loader's state must be what state_dict() gave, got {type(state).__name__}")
        if state.get("version") != self._version:
            raise InputError(
                f"the loader's state must have version {self._version}, got {state.get('version')!r}: "
                "another version of apr_dali took it; begin the epoch anew"
            )
        if missing := sorted(_STATE_KEYS - state.keys()):
            raise InputError(f"the loader's state lacks {', '.join(missing)}: it is no state_dict() of a loader")
        if not isinstance(state["signature"], dict):
            raise InputError(f"the loader's state is damaged: its signature must be a dict, got {state['signature']!r}")
        ours, theirs = self._signature(), state["signature"]
        differing = [
            f"{key} {theirs.get(key)!r}, now {ours.get(key)!r}"
            for key in {**ours, **theirs}
            if ours.get(key) != theirs.get(key)
        ]
        if differing:
            raise InputError(f"the state was taken with other settings: {'; '.join(differing)}")
        place = self._place_of(state)
        self._turn += 1
        self._begin(state["stream"])
        self.epoch, self._batch = state["epoch"], state["batch"]
        self.skipped = tuple(state["skipped"])
        self._checkpoint = place

    def _place_of(self, state: dict[str, Any]) -> bytes:
        """The place in the pipeline that a state holds; InputError if the state cannot be one of this loader."""
        try:
            check_whole("its epoch", state["epoch"], 0)
            check_whole("its stream", state["stream"], 0, state["epoch"])
            check_whole("its batch", state["batch"], 0, len(self))
        except InputError as error:
            raise InputError(f"the loader's state is damaged: {error}") from error
        skipped, place = state["skipped"], state["pipeline"]
        if not isinstance(skipped, (list, tuple)) or not all(isinstance(path, str) for path in skipped):
            raise InputError(f"the loader's state is damaged: skipped must be a list of paths, got {skipped!r}")
        try:
            return base64.b64decode(place, validate=True)
        except (ValueError, TypeError) as error:
            raise InputError(f"the loader's state is damaged: its pipeline is no base64 text ({error})") from error

    def leave_epoch(self) -> None:
        """After `load_state_dict`: the loop had left the epoch where the state was taken; see `on_break`."""
        self._under_way = self._batch > 0

    def __getstate__(self) -> dict[str, Any]:
        if self._pipeline is not None:
            raise InputError(
                "a loader that runs has threads and buffers, and cannot be pickled or copied: make one in the other "
                "process, and give it this one's state_dict() to go on from here"
            )
        return self.__dict__

    def close(self) -> None:
        """Free the pipeline: its threads, buffers and device memory. Iterating is an error from here on.

        Its state stays that of the last batch given out.
        """
        if self._pipeline is not None:
            self._checkpoint = self._pipeline.checkpoint()
        self._closed = True
        self._pipeline = None

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
