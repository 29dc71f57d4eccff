"""Passes of a network over sets of images: one by one with the results kept, and values of every single image."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from apr_dali.data.fingerprint import CONTENTS
from apr_dali.eval.checks import not_finite
from apr_dali.eval.clean import CleanResult, evaluate
from apr_dali.eval.state import State

Batches = Iterable[tuple[Tensor, Tensor]]
"""(images, targets): images (N, C, H, W) as the network takes them, targets int64 (N,)."""

_SOUND = "whether the logits are finite"

# With the clock time of the end, which a person plans by, beside the rate.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{rate_fmt}, ends {eta:%a %H:%M}]"


@dataclass(frozen=True)
class Source:
    """A set of images to run over.

    name: unlike any other's. images: how many, over all processes. open: gives this process's batches; closed after.
    identity: of the set itself, see `apr_dali.data.fingerprint`; asked once, by all processes together.
    """

    name: str
    images: int
    open: Callable[[], AbstractContextManager[Batches]]
    identity: Callable[[], str]

    @cached_property
    def key(self) -> str:
        """Under which results on this set are kept: another set of the same name has another."""
        return f"{self.name} {self._identity}"

    @cached_property
    def _identity(self) -> str:
        return self.identity()

    @property
    def contents(self) -> str:
        """What the set is, by its classes, names and sizes, or its pixels: a copy has the same."""
        return self._identity[:CONTENTS]


def together(sources: Sequence[Source]) -> str:
    """16 hex digits of what all `sources` are, by which two reports tell whether they are of the same images."""
    described = repr([(source.name, source.contents) for source in sources])
    return hashlib.sha256(described.encode("utf-8", "surrogateescape")).hexdigest()[:16]


class ClassSlice(nn.Module):
    """A network that answers with some of its classes only: the logits of `indices`, in their order."""

    def __init__(self, model: nn.Module, indices: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.indices: Tensor
        self.register_buffer("indices", torch.tensor(indices))

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)[:, self.indices]


def evaluate_each(
    model: nn.Module,
    sources: Sequence[Source],
    device: torch.device | str,
    state: State,
    amp: torch.dtype | None = None,
) -> dict[str, CleanResult]:
    """Accuracy on each of `sources`; those that `state` has are not run again, the others are kept there.

    Raises InputError for a set on which the network's loss is not finite: its accuracy would be that of some images.
    Shows a progress bar on the first process where stderr is a terminal. Processes share the work as in
    `apr_dali.eval.clean.evaluate`.
    """
    with progress([s for s in sources if s.key not in state]) as bar:
        for source in sources:
            if source.key in state:
                continue
            bar.set_description(source.name)
            with source.open() as batches:
                result = evaluate(model, counted(batches, bar), device, amp)
            # Over all processes: all of them end here, or none.
            if not math.isfinite(result.loss):
                raise not_finite(f"some of the {result.images} images of {source.name}")
            state.put(source.key, asdict(result))
    return {source.name: CleanResult(**state.get(source.key)) for source in sources}


def progress(sources: Sequence[Source]) -> tqdm:
    """A bar over the images of `sources`, silent where stderr is no terminal and on all but the first process."""
    main = not dist.is_initialized() or dist.get_rank() == 0
    total = sum(source.images for source in sources)
    return tqdm(total=total, unit=" images", bar_format=_BAR, smoothing=0.05, disable=None if main else True)


def counted(batches: Batches, bar: tqdm) -> Iterator[tuple[Tensor, Tensor]]:
    """`batches`, with the images of all processes counted in `bar`."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    for images, targets in batches:
        yield images, targets
        bar.update(len(targets) * world)


@torch.no_grad()
def collect(
    model: nn.Module,
    batches: Batches,
    functions: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    device: torch.device | str,
    amp: torch.dtype | None = None,
) -> dict[str, NDArray[Any]]:
    """A value of every image by each of `functions`, in the order of the set, on all processes.

    Args:
        model, batches, device, amp: as for `apr_dali.eval.clean.evaluate`; each process has the next part of the set.
        functions: of (logits float32 (N, classes), targets int64 (N,)), each gives (N, …).

    Raises:
        InputError: if a logit is nan or infinite.
    """
    training = model.training
    model.eval()
    device = torch.device(device)
    every = {**functions, _SOUND: lambda logits, _: logits.isfinite().all(1)}
    values: dict[str, list[NDArray[Any]]] = {name: [] for name in every}
    for images, targets in batches:
        with torch.autocast(device.type, amp or torch.bfloat16, enabled=amp is not None):
            logits = model(images.to(device, non_blocking=True))
        for name, function in every.items():
            found = function(logits.float(), targets.to(device, non_blocking=True))
            values[name].append(found.cpu().numpy())  # synchronizes
    model.train(training)
    gathered = _gathered({name: np.concatenate(parts) if parts else np.empty(0) for name, parts in values.items()})
    sound = gathered.pop(_SOUND)
    if not sound.all():
        raise not_finite(f"{int((~sound).sum())} of {len(sound)} images")
    return gathered


def _gathered(values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if not dist.is_initialized():
        return values
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, values)
    # A process without a batch has no type and no shape to offer.
    return {name: np.concatenate([part[name] for part in everyone if len(part[name])]) for name in values}


def is_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether the greatest logit is the target's: bool (N,)."""
    return logits.argmax(1) == targets
