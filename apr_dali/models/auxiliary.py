"""A second set of batch norms, for views of an image whose statistics are not to be mixed with the others'.

AdvProp (Xie et al., CVPR 2020) has it for attacked images, AFA (Vaish et al., CVPR 2024) for its waves: weights are
shared, but for statistics, scale and shift of batch norm. nis-research/afa-augment was read:
project/models/image_classification/imagenet.py (DualBatchNorm2d) and project/trainers/base_module.py.

    add_auxiliary(network)
    with routed(network, (False, True)):  # the first half of the batch the main way, the second the auxiliary one
        logits = network(torch.cat([images, waves]))

The network keeps the names of its parameters, and evaluation, which is never routed, sees the main ones alone.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from apr_dali.errors import InputError

NAME = "auxiliary"
"""Of the second batch norm, within the first."""

Value = TypeVar("Value")


class _Route:
    """Which of the equal parts of a batch go the auxiliary way; None: the whole of it goes the main one.

    All batch norms of a network share one; its copies have one of their own.
    """

    parts: tuple[bool, ...] | None = None


class _TwoNorms(nn.Module):
    """Batch norm with a second one beside it. Each part of a batch has statistics of its own, as if it came alone."""

    auxiliary: nn.Module
    route: _Route

    def forward(self, rows: Tensor) -> Tensor:
        parts, main = self.route.parts, super().forward
        if parts is None:
            return main(rows)
        # Rows that are no multiple of the parts leave a piece too many, which zip refuses.
        pieces = zip(rows.split(max(len(rows) // len(parts), 1)), parts, strict=True)
        return torch.cat([self.auxiliary(piece) if auxiliary else main(piece) for piece, auxiliary in pieces])


@functools.cache
def _with_second(kind: type[nn.Module]) -> type[nn.Module]:
    """A kind of batch norm, timm's with an activation or that of several processes too, with a second one."""
    return type(f"Two{kind.__name__}", (_TwoNorms, kind), {})


def add_auxiliary(model: nn.Module) -> int:
    """Give every batch norm of a network a second one, which begins as its copy; returns how many there are.

    Changes the network in place, before DDP and torch.compile; conversions of its batch norms, such as to
    SyncBatchNorm, come before. The names of its parameters and buffers stay, with those of the second ones beside them.
    A network without batch norm stays as it is: all views then go one way.

    Raises InputError for a network that has them already.
    """
    if _route_of(model) is not None:
        raise InputError("the network has auxiliary batch norms already")
    norms, route = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)], _Route()
    for norm in norms:
        _add(norm, route)
    return len(norms)


def _add(norm: Any, route: _Route) -> None:
    second = copy.deepcopy(norm)
    # In its place, since others may hold it: its class has the two ways.
    kind: Any = type(norm)
    norm.__class__ = _with_second(kind)
    norm.auxiliary, norm.route = second, route


@contextmanager
def routed(network: nn.Module, parts: Sequence[bool]) -> Iterator[None]:
    """While entered, batches of a network go in so many equal parts: True through the auxiliary batch norms.

    Each part has its own statistics, also those that go the same way: as if it came alone. The number of rows must be
    a multiple of len(parts). A network without second batch norms takes the whole batch as ever.
    """
    route = _route_of(network)
    if route is None:
        yield
        return
    route.parts = tuple(map(bool, parts))
    try:
        yield
    finally:
        route.parts = None


def _route_of(network: nn.Module) -> _Route | None:
    return next((layer.route for layer in network.modules() if isinstance(layer, _TwoNorms)), None)


def without_auxiliary(state: Mapping[str, Value]) -> tuple[dict[str, Value], str]:
    """The values of a state dict that an ordinary network has, and what is to be said of the others, "" for nothing."""
    own = {name: value for name, value in state.items() if not _is_second(name, state)}
    return own, "" if len(own) == len(state) else "without its auxiliary batch norms"


def _is_second(name: str, names: Mapping[str, object]) -> bool:
    """Whether a name is of a second batch norm: the first has a value of the same kind."""
    above, inner, below = name.rpartition(f"{NAME}.")
    return bool(inner) and (not above or above.endswith(".")) and above + below in names
