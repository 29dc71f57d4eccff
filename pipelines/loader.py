"""The PyTorch side of the pipelines: epochs, lengths, shards and state."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

import torch
from nvidia.dali.pipeline import Pipeline
from nvidia.dali.plugin.pytorch import feed_ndarray, to_torch_type
from torch import Tensor

from apr_dali import backend as operators
from apr_dali.config import AUGMENTATIONS, IMAGENET, AprRecipe, check_choice, uses_pair
from apr_dali.data.folders import ImageSet, open_set
from apr_dali.data.scan import quick_check
from apr_dali.errors import InputError
from apr_dali.pipelines import imagenet

_DECODE_ERRORS = (r"Failed to decode sample #\d+ : (.+)", r"File mapping failed: (.+)")
# DALI's maintainers advise 3 to 5 threads a GPU: the GPU decodes, the threads only parse.
_THREADS_PER_GPU = 4
_MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class ImageNetLoader:
    """Batches of an ImageNet-like set from a DALI pipeline, for any PyTorch training loop.

    Iterating gives one epoch of (images, targets) on `device`:

    - images: (V·B, 3, S, S) in `dtype`, normalised; targets: int64 (V·B,). V = `views` is 2 for training with APR-P,
      where the clean and the mixed view of an image stand side by side, else 1. The published loss is the sum of
      the views' mean losses.
    - Every image of the shard comes once an epoch; the last batch may be smaller, or is left out with `drop_last`.
      In training all ranks have the same number of batches: if one shard is an image short of a batch of the
      others', it repeats its last image.
    - Each training epoch has another order, the same for the same seed.

    `state_dict` and `load_state_dict` continue in mid-epoch with the same batches, bit for bit on the CPU. A loop
    that was left in mid-epoch starts that epoch again from its beginning.

    Args:
        path: a folder of class folders, a folder of tars with their indices, a file list, or several of these.
        batch_size: images a batch on this rank, before the second view.
        aug: one of none, apr-p, apr-s, apr-sp; training only.
        train: random crops, flips and augmentation in shuffled order, or centre crops in the order of the set.
        device: "cpu" or "gpu"; device_id: which GPU.
        shard: (rank, world size).
        seed: of order and augmentation.
        dtype: float32, float16 or bfloat16.
        memory_format: "contiguous" or "channels_last".
        image_size: S in pixels.
        resize: False, in evaluation: cut the middle S×S pixels out of the image as it is, for sets that are already
            resized (ImageNet-C). Images must not be smaller.
        threads: of the pipeline; None: the CPUs at hand, at most 4 with a GPU.
        drop_last: leave out the last batch where it is not full.
        recipe: normalisation and APR's settings.
        classes: names that the set must have, in this order.
        backend: of the operators, see `apr_dali.pair`.

    Raises:
        InputError: for anything that a person can mend, before work starts; an image that cannot be decoded is
            named by its path when its batch is reached.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        batch_size: int,
        aug: str = "none",
        *,
        train: bool = True,
        device: str = "cpu",
        device_id: int = 0,
        shard: tuple[int, int] = (0, 1),
        seed: int = 0,
        dtype: str = "float32",
        memory_format: str = "contiguous",
        image_size: int = 224,
        resize: bool = True,
        threads: int | None = None,
        drop_last: bool = False,
        recipe: AprRecipe = IMAGENET,
        classes: Sequence[str] | None = None,
        backend: str = "auto",
    ) -> None:
        check_choice("aug", aug, AUGMENTATIONS)
        check_choice("device", device, ("cpu", "gpu"))
        check_choice("dtype", dtype, operators.DTYPES)
        check_choice("memory_format", memory_format, tuple(_MEMORY_FORMATS))
        if not train and aug != "none":
            raise InputError(f"aug={aug!r} has no effect with train=False: evaluation takes aug='none'")
        if train and not resize:
            raise InputError("resize=False has no effect with train=True: training crops are always resized")
        for name, value in (("batch_size", batch_size), ("image_size", image_size), ("threads", threads)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if not 0 <= shard[0] < shard[1]:
            raise InputError(f"shard must be (rank, world size) with 0 <= rank < world size, got {shard}")
        if device == "gpu" and not torch.cuda.is_available():
            raise InputError("device='gpu' needs a CUDA device, and torch sees none; see `apr-dali doctor`")
        self._set = open_set(path, classes=classes)
        self.classes = self._set.classes
        self.num_images = len(self._set)
        self.batch_size, self.shard, self.train = batch_size, shard, train
        self.views = 2 if uses_pair(aug) else 1
        self.epoch = 0
        self.drop_last = drop_last
        threads = threads or default_threads(device)
        self._graph = imagenet.Graph(device, image_size, aug, recipe, dtype, backend, threads, shard, resize)
        self._seed, self._dtype = seed, getattr(torch, dtype)
        self._memory_format = _MEMORY_FORMATS[memory_format]
        self._device = torch.device("cuda", device_id) if device == "gpu" else torch.device("cpu")
        self._batch = 0  # batches of this epoch given out
        self._epoch_start: bytes | None = None  # DALI's checkpoint at the beginning of this epoch
        self._resumed = True  # the next iteration goes on where the pipeline stands
        self._turn = 0  # tells an abandoned iterator from the current one
        self._pipeline: Pipeline | None = None
        self._closed = False
        self._check_length()

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
            outputs = self._next()
            self._batch += 1
            yield outputs
        # The reader's epoch is longer than ours by what drop_last leaves out, and by other shards' last images.
        for _ in range(len(self), ceil(self._padded_images() / self.batch_size)):
            self._run()
        self.epoch, self._batch = self.epoch + 1, 0
        self._epoch_start = self._running().checkpoint()

    def _next(self) -> tuple[Tensor, Tensor]:
        valid = min(self.batch_size, max(self._shard_images() - self._batch * self.batch_size, 1))
        images, labels = self._run()
        images = images[:valid].flatten(0, 1) if self.views > 1 else images[:valid]
        targets = labels[:valid].to(torch.int64).flatten().repeat_interleave(self.views)
        return images.to(self._dtype).contiguous(memory_format=self._memory_format), targets

    def _run(self) -> tuple[Tensor, Tensor]:
        """The pipeline's next batch, copied into tensors of ours, while it goes on with the ones after it."""
        pipeline = self._running()
        try:
            outputs = [output.as_tensor() for output in pipeline.share_outputs()]
        except RuntimeError as error:
            raise self._explain(error) from error
        tensors = tuple(self._copy(output) for output in outputs)
        pipeline.release_outputs()
        pipeline.schedule_run()
        return tensors[0], tensors[1]

    def _copy(self, output: Any) -> Tensor:
        tensor = torch.empty(output.shape(), dtype=to_torch_type[output.dtype], device=self._device)
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        return feed_ndarray(output, tensor, cuda_stream=stream)

    def _running(self) -> Pipeline:
        if self._pipeline is None:
            self._rebuild(None)
        assert self._pipeline is not None
        return self._pipeline

    def _rebuild(self, checkpoint: bytes | None) -> None:
        self._pipeline = None  # frees the old one before the new one takes memory
        self._pipeline = imagenet.build(
            self._set,
            self._graph,
            train=self.train,
            batch_size=self.batch_size,
            device_id=self._device.index,
            seed=self._seed,
            checkpoint=checkpoint,
        )
        self._pipeline.schedule_run()

    def _explain(self, error: RuntimeError) -> Exception:
        """The error with the path of the image that caused it, as far as that can be found out."""
        named = next((found[1] for pattern in _DECODE_ERRORS if (found := re.search(pattern, str(error)))), None)
        if named is None and isinstance(self._set, ImageSet):
            # Some decoders do not say which file it was.
            named = next((path for path, _ in quick_check(self._set.files, self._graph.threads)), None)
        if named is None:
            return error
        return InputError(
            f"the image {named} cannot be decoded: remove it, or let `apr-dali check-data` write a file list without it"
        )

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
        graph = asdict(self._graph) | {"recipe": repr(self._graph.recipe), "shard": list(self.shard)}
        # How it is computed may change: on another machine, say.
        return {key: value for key, value in graph.items() if key not in ("backend", "threads")} | {
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
            "pipeline": self._running().checkpoint(),
            "epoch_start": self._epoch_start or b"",
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
        self._rebuild(state["pipeline"])
        self._resumed = True

    def close(self) -> None:
        """Free the pipeline: its threads, buffers and device memory. Iterating is an error from here on."""
        self._closed = True
        self._pipeline = None

    def __enter__(self) -> ImageNetLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def default_threads(device: str) -> int:
    """The CPUs that this process may use, shared out among the processes of the machine; at most 4 with a GPU."""
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cpus = max(1, len(os.sched_getaffinity(0)) // local_world)
    return min(cpus, _THREADS_PER_GPU) if device == "gpu" else cpus
