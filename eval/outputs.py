"""What a network makes of every single image of a set: values in memory, rows of them on the disk, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from apr_dali.eval.checks import not_finite
from apr_dali.eval.head import Head, tapped
from apr_dali.eval.passes import Batches
from apr_dali.eval.rows import RowsWriter

_SOUND = "whether the logits are finite"


@dataclass(frozen=True)
class Batch:
    """A batch and what the network made of it, on its device.

    images: as the network took them. logits: float32 (N, classes). targets: int64 (N,). features: float32 (N, D), what
    went into its last layer, where that was asked for.
    """

    images: Tensor
    logits: Tensor
    targets: Tensor
    features: Tensor | None = None


Function = Callable[[Batch], Tensor]
"""A value (N, …) of each image of a batch."""


@torch.no_grad()
def collect(
    model: nn.Module,
    batches: Batches,
    functions: Mapping[str, Function],
    device: torch.device | str,
    amp: torch.dtype | None = None,
    *,
    head: Head | None = None,
    rows: Mapping[str, tuple[Function, RowsWriter]] | None = None,
) -> dict[str, NDArray[Any]]:
    """A value of every image by each of `functions`, in the order of the set, on all processes.

    Args:
        model, batches, device, amp: as for `apr_dali.eval.clean.evaluate`; each process has the next part of the set.
        functions: each gives (N, …).
        head: the model's last layer, whose inputs are the features; None for none.
        rows: what is kept on the disk, by what it is called; finished when this returns.

    Raises:
        InputError: if a logit is nan or infinite, or a row beyond float16.
    """
    training = model.training
    model.eval()
    device = torch.device(device)
    every = {**functions, _SOUND: lambda batch: batch.logits.isfinite().all(1)}
    values = {name: Column() for name in every}
    with tapped(head) if head is not None else nullcontext() as tap:
        for images, targets in batches:
            moved = images.to(device, non_blocking=True)
            with torch.autocast(device.type, amp or torch.bfloat16, enabled=amp is not None):
                logits = model(moved)
            features = None if tap is None else tap.taken
            batch = Batch(moved, logits.float(), targets.to(device, non_blocking=True), features)
            for name, function in every.items():
                # On the device until the end: a copy would wait for the network.
                values[name].append(function(batch))
            for function, kept in (rows or {}).values():
                kept.append(function(batch))
    model.train(training)
    found = gathered({name: column.array() for name, column in values.items()})
    sound = found.pop(_SOUND)
    if not sound.all():
        raise not_finite(f"{int((~sound).sum())} of {len(sound)} images")
    for name, (_, kept) in (rows or {}).items():
        kept.finish(name)
    return found


class Column:
    """The values of all images so far, on their device, in one piece of memory that doubles.

    Many small pieces, which stay, between the large ones of each batch, which go, would break the memory up: a process
    grew by 7 MB a batch.
    """

    def __init__(self) -> None:
        self._values: Tensor | None = None
        self._count = 0

    def append(self, values: Tensor) -> None:
        """Take the values (N, …) of a batch."""
        end = self._count + len(values)
        if self._values is None:
            self._values = torch.empty_like(values)
        if end > len(self._values):
            grown = self._values.new_empty((2 * end, *values.shape[1:]))
            grown[: self._count] = self._values[: self._count]
            self._values = grown
        self._values[self._count : end] = values
        self._count = end

    def array(self) -> NDArray[Any] | None:
        """The values, (N, …); None where there was no batch."""
        return None if self._values is None else self._values[: self._count].cpu().numpy()


def gathered(values: dict[str, NDArray[Any] | None]) -> dict[str, NDArray[Any]]:
    """The parts of all processes one after the other; a process without a batch has none."""
    everyone: list[Any] = [values]
    if dist.is_initialized():
        everyone = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, values)
    found = {name: [part[name] for part in everyone if part[name] is not None] for name in values}
    return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in found.items()}


def features_of(batch: Batch) -> Tensor:
    """The features of a batch of a pass that was given the head: float32 (N, D)."""
    assert batch.features is not None
    return batch.features


def is_right(batch: Batch) -> Tensor:
    """Whether the greatest logit is the target's: bool (N,)."""
    return batch.logits.argmax(1) == batch.targets
