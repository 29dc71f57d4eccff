"""What is done to a batch between the operator that writes it and the network: passes over all of its values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from apr_dali.pipelines import base, operators


class Passes(TorchDispatchMode):
    """Notes torch's operations that write at least `least` values to memory which they were not given, or copy so many.

    `until`: the name of an operation after which nothing is noted any more.
    """

    def __init__(self, least: int, until: str = "") -> None:
        super().__init__()
        self.least, self.until, self.over = least, until, False
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func)
        self.over |= bool(self.until) and self.until in name
        if not self.over:
            given = {_memory(value) for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)}
            for value in tree_leaves(out):
                large = isinstance(value, torch.Tensor) and value.numel() >= self.least
                if large and (_memory(value) not in given or "copy_" in name):
                    self.found.append(name)
        return out


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def written(monkeypatch) -> Iterator[set[int]]:
    """The addresses of the batches that are written meanwhile: by our operators in their arrays, by DALI in its own."""
    addresses: set[int] = set()
    pair, own = operators.functional.pair, base.EpochLoader._own

    def noted_pair(*args: Any, **options: Any) -> Any:
        result = pair(*args, **options)
        addresses.add(result.ctypes.data)
        return result

    def noted_own(loader: base.EpochLoader, output: Any) -> torch.Tensor:
        # What our operators write is elsewhere, and here its copy, if DALI has made one.
        if not loader._graph.hands_over:
            addresses.add(output.data_ptr())
        return own(loader, output)

    with monkeypatch.context() as patch:
        patch.setattr(operators.functional, "pair", noted_pair)
        patch.setattr(base.EpochLoader, "_own", noted_own)
        yield addresses
