"""torchdata: a loader as a node of `torchdata.nodes`, whose state is the loader's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torchdata.nodes import BaseNode

from apr_dali.errors import InputError
from apr_dali.pipelines.base import EpochLoader


class LoaderNode(BaseNode[tuple[Tensor, ...]]):
    """The batches of an `ImageNetLoader` or `CifarLoader` as a source of torchdata's nodes, one epoch a `reset`.

    `torchdata.nodes.Loader(LoaderNode(loader))`, or with nodes in between, gives the loader's epochs one after the
    other; its `state_dict` after any batch goes on with the batches that would have come, bit for bit on the CPU. That
    holds behind a `Prefetcher`, too, which keeps the state of each batch that it holds.

    As an iteration of the loader itself, `reset()` after an epoch that was left early begins the next epoch, or goes on
    with the rest by the loader's `on_break`.

    Args:
        loader: gives (images, targets), see `apr_dali.ImageNetLoader`. It is the node's from here on.

    Raises:
        InputError: for anything else than such a loader, and for a state that does not fit it.
    """

    def __init__(self, loader: EpochLoader) -> None:
        super().__init__()
        if not isinstance(loader, EpochLoader):
            raise InputError(f"LoaderNode takes an ImageNetLoader or a CifarLoader, got {type(loader).__name__}")
        self.loader = loader
        self._batches: Iterator[tuple[Tensor, ...]] = iter(())

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        """Begin the next epoch, or go on where `initial_state` was taken."""
        super().reset(initial_state)
        if initial_state is not None:
            self.loader.load_state_dict(initial_state)
        self._batches = iter(self.loader)

    def next(self) -> tuple[Tensor, ...]:
        """The next batch of the epoch."""
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        """The loader's place after the last batch."""
        return self.loader.state_dict()
