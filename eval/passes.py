"""Passes of a network over sets of images: one by one with the results kept, and values of every single image."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from apr_dali.data.fingerprint import CONTENTS
from apr_dali.eval.checks import not_finite
from apr_dali.eval.clean import CleanResult, evaluate
from apr_dali.eval.state import State

Batches = Iterable[tuple[Tensor, Tensor]]
"""(images, targets): images (N, C, H, W) as the network takes them, targets int64 (N,)."""

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
        return f"{self.name} {self.identified}"

    @cached_property
    def identified(self) -> str:
        """What `identity` gives."""
        return self.identity()

    @property
    def contents(self) -> str:
        """What the set is, by its classes, names and sizes, or its pixels: a copy has the same."""
        return self.identified[:CONTENTS]


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
    run_each(model, sources, device, state, amp)
    return {source.name: CleanResult(**state.get(source.key)) for source in sources}


Seen = Callable[[Tensor, Tensor], None]
"""Is given the logits and the targets of each batch."""


def run_each(
    model: nn.Module,
    sources: Sequence[Source],
    device: torch.device | str,
    state: State,
    amp: torch.dtype | None = None,
    *,
    seen: Callable[[Source], Seen] | None = None,
    put: Callable[[Source, CleanResult], None] | None = None,
) -> None:
    """What `evaluate_each` runs. seen: takes the logits of a set. put: keeps the result in `state`."""
    with progress([s for s in sources if s.key not in state]) as bar:
        for source in sources:
            if source.key in state:
                continue
            bar.set_description(source.name)
            with source.open() as batches:
                own = () if seen is None else (seen(source),)
                result = evaluate(model, counted(batches, bar), device, amp, *own)
            # Over all processes: all of them end here, or none.
            if not math.isfinite(result.loss):
                raise not_finite(f"some of the {result.images} images of {source.name}")
            if put is None:
                state.put(source.key, asdict(result))
            else:
                put(source, result)


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
