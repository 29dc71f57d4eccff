"""What the loaders share on PyTorch's side of a pipeline: epochs, lengths, shards and state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import ceil
from typing import Any, TypeVar

import torch
from nvidia.dali.backend import TensorGPU
from nvidia.dali.pipeline import Pipeline
from nvidia.dali.plugin.pytorch import feed_ndarray, to_torch_type
from torch import Tensor

from apr_dali import backend as operators
from apr_dali import cpus
from apr_dali.config import check_choice
from apr_dali.errors import InputError

# DALI's maintainers advise 3 to 5 threads a GPU: the GPU decodes, the threads only parse.
_THREADS_PER_GPU = 4
_MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

Self = TypeVar("Self", bound="EpochLoader")


class EpochLoader(ABC):
    """One epoch of (images, targets) an iteration from a DALI pipeline whose epochs follow one another without end.

    A subclass says what the pipeline is. Its epoch must have ceil(ceil(num_images / world) / batch_size) batches, each
    filled by repetition; its first outputs are images (B, ...) or (B, V, ...) and integer labels (B, ...).
    """

    classes: tuple[str, ...]
    num_images: int
    skipped: tuple[str, ...] = ()
    """What this rank has left out so far because it is broken."""

    def __init__(
        self,
        *,
        classes: tuple[str, ...],
        num_images: int,
        batch_size: int,
        shard: tuple[int, int],
        train: bool,
        views: int,
        seed: int,
        device: str,
        device_id: int,
        dtype: str,
        memory_format: str,
        drop_last: bool,
    ) -> None:
        self.classes, self.num_images = classes, num_images
        self.batch_size, self.shard, self.train = batch_size, shard, train
        self.views, self.drop_last = views, drop_last
        self.epoch = 0
        self._seed, self._dtype = seed, getattr(torch, dtype)
        self._memory_format = _MEMORY_FORMATS[memory_format]
        self._device = torch.device("cuda", device_id) if device == "gpu" else torch.device("cpu")
        self._batch = 0  # batches of this epoch given out
        self._epoch_start: bytes | None = None  # DALI's checkpoint at the beginning of this epoch
        self._resumed = True  # the next iteration goes on where the pipeline stands
        self._turn = 0  # tells an abandoned iterator from the current one
        self._pipeline: Pipeline | None = None
        self._closed = False
        self._closed_at: bytes | None = None  # DALI's checkpoint then
        self._check_length()

    @abstractmethod
    def _build(self, checkpoint: bytes | None) -> Pipeline:
        """A built pipeline, at its beginning or where `checkpoint` was taken."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """What of the subclass's own must be the same for a state to mean the same batches."""

    def _recover(self, error: RuntimeError) -> None:
        """After an error of the pipeline: see to it that the next one built does not meet it again, or raise.

        What is left out is added to `skipped`; in its place comes another image with the label -1 - its label.
        """
        raise error

    def _targets(self, labels: Tensor) -> Tensor:
        """Labels (B, 1) of the pipeline as int64 (V·B,), a label a view."""
        return labels.to(torch.int64).flatten().repeat_interleave(self.views)

    def __len__(self) -> int:
        """Batches of one epoch on this rank; in training the same on every rank."""
        shortest = self.num_images // self.shard[1]
        if self.drop_last:
            return shortest // self.batch_size
        images = self._padded_images() if self.train else self._shard_images()
        return ceil(images / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._closed:
            raise RuntimeError("the loader is closed")
        if not self._resumed and self._batch:
            self._rebuild(self._epoch_start)
            self._batch = 0
        self._resumed = False
        self._turn += 1
        return self._epoch(self._turn)

    def _epoch(self, turn: int) -> Iterator[tuple[Tensor, Tensor]]:
        while self._batch < len(self):
            if turn != self._turn or self._closed:
                raise RuntimeError("this iterator has ended: its loader was closed or iterated anew")
            images, targets = self._next()
            self._batch += 1
            if len(targets):
                yield images, targets
        # The reader's epoch is longer than ours by what drop_last leaves out, and by other shards' last images.
        for _ in range(len(self), ceil(self._padded_images() / self.batch_size)):
            self._run()
        self.epoch, self._batch = self.epoch + 1, 0
        self._epoch_start = self._running().checkpoint()

    def _next(self) -> tuple[Tensor, Tensor]:
        valid = min(self.batch_size, max(self._shard_images() - self._batch * self.batch_size, 1))
        images, labels = self._run()
        images, labels = images[:valid], labels[:valid]
        if self.skipped:
            images, labels = self._without_stand_ins(images, labels)
        if self.views > 1:
            images = images.flatten(0, 1)
        return images.to(self._dtype).contiguous(memory_format=self._memory_format), self._targets(labels)

    def _without_stand_ins(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that are no stand-ins; in training, where ranks count on each batch, at least those."""
        kept = labels[:, 0] >= 0
        if not self.train or kept.any():  # synchronises
            return images[kept], labels[kept]
        return images, -1 - labels

    def _run(self) -> tuple[Tensor, Tensor]:
        """The pipeline's next batch, ours to keep, while it goes on with the ones after it."""
        before = self._running().checkpoint()
        while True:
            pipeline = self._running()
            try:
                outputs = [output.as_tensor() for output in pipeline.share_outputs()]
                break
            except RuntimeError as error:
                self._recover(error)
                self._rebuild(before)
        tensors = tuple(self._own(output) for output in outputs)
        pipeline.release_outputs()
        pipeline.schedule_run()
        return tensors[0], tensors[1]

    def _own(self, output: Any) -> Tensor:
        if isinstance(output, TensorGPU):
            # DALI may reuse its memory while kernels of ours that read it are still to run: copied on our stream.
            tensor = torch.empty(output.shape(), dtype=to_torch_type[output.dtype], device=self._device)
            return feed_ndarray(output, tensor, cuda_stream=torch.cuda.current_stream(self._device))
        # The dynamic executor gives memory out for good. Fresh memory for a copy would cost more than the copy.
        return torch.from_dlpack(output).to(self._device)

    def _running(self) -> Pipeline:
        if self._closed:
            raise RuntimeError("the loader is closed")
        if self._pipeline is None:
            self._rebuild(None)
        assert self._pipeline is not None
        return self._pipeline

    def _rebuild(self, checkpoint: bytes | None) -> None:
        self._pipeline = None  # frees the old one before the new one takes memory
        self._pipeline = self._build(checkpoint)
        self._pipeline.schedule_run()

    def _shard_images(self) -> int:
        rank, world = self.shard
        return self.num_images * (rank + 1) // world - self.num_images * rank // world

    def _padded_images(self) -> int:
        return ceil(self.num_images / self.shard[1])

    def _check_length(self) -> None:
        if self.num_images < self.shard[1]:
            raise InputError(f"{self.num_images} images cannot be shared out among {self.shard[1]} processes")
        if len(self) == 0:
            raise InputError(
                f"batch_size {self.batch_size} gives no batch: a process has {self.num_images // self.shard[1]} images "
                "and drop_last leaves out the batch that is not full; take a smaller batch_size"
            )

    def _signature(self) -> dict[str, Any]:
        """What must be the same for a state to mean the same batches."""
        return self._settings() | {
            "images": self.num_images,
            "batch_size": self.batch_size,
            "train": self.train,
            "seed": self._seed,
            "drop_last": self.drop_last,
        }

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, after the last batch given out: plain numbers, strings and bytes."""
        return {
            "version": 1,
            "epoch": self.epoch,
            "batch": self._batch,
            "pipeline": self._closed_at or self._running().checkpoint(),
            "epoch_start": self._epoch_start or b"",
            "skipped": list(self.skipped),
            "signature": self._signature(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken: the next iteration gives the rest of that epoch.

        Raises:
            InputError: if the state belongs to another set or other settings, which it names.
        """
        if state.get("version") != 1:
            raise InputError(f"the loader's state must have version 1, got {state.get('version')!r}")
        ours = self._signature()
        differing = [
            f"{key} {state['signature'].get(key)!r}, now {ours[key]!r}"
            for key in ours
            if ours[key] != state["signature"].get(key)
        ]
        if differing:
            raise InputError(f"the state was taken with other settings: {'; '.join(differing)}")
        self._turn += 1
        self.epoch, self._batch = state["epoch"], state["batch"]
        self._epoch_start = state["epoch_start"] or None
        self.skipped = tuple(state["skipped"])
        self._rebuild(state["pipeline"])
        self._resumed = True

    def close(self) -> None:
        """Free the pipeline: its threads, buffers and device memory. Iterating is an error from here on.

        Its state stays that of the last batch given out.
        """
        if self._pipeline is not None:
            self._closed_at = self._pipeline.checkpoint()
        self._closed = True
        self._pipeline = None

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_arguments(
    *, device: str, dtype: str, memory_format: str, shard: tuple[int, int], at_least_one: dict[str, int | None]
) -> None:
    """Raise InputError unless a loader can be made from these; None stands for a number that is chosen later."""
    check_choice("device", device, ("cpu", "gpu"))
    check_choice("dtype", dtype, operators.DTYPES)
    check_choice("memory_format", memory_format, tuple(_MEMORY_FORMATS))
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if not 0 <= shard[0] < shard[1]:
        raise InputError(f"shard must be (rank, world size) with 0 <= rank < world size, got {shard}")
    if device == "gpu" and not torch.cuda.is_available():
        raise InputError("device='gpu' needs a CUDA device, and torch sees none; see `apr-dali doctor`")


def default_threads(device: str) -> int:
    """The CPUs that this process may use, shared out among the processes of the machine; at most 4 with a GPU."""
    return min(cpus.share(), _THREADS_PER_GPU) if device == "gpu" else cpus.share()
