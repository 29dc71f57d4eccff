"""Transforms with draws of their own as operators of torch, which `torch.compile` takes as they are, whole.

An operator of torch takes tensors and numbers. So it takes the number of a transform, which it looks up when it runs:
the draws are then the same as without `torch.compile`, and their state goes on.
"""

from __future__ import annotations

import itertools
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from apr_dali.errors import InputError


class OfImages(Protocol):
    """A transform of a batch of images."""

    def forward(self, images: Tensor) -> Tensor:
        """The images changed, in their shape and dtype."""


class OfPairs(Protocol):
    """A transform that gives a batch in one or two views, as its draws want it."""

    def views_of(self, images: Tensor) -> Tensor:
        """Images (N, V, C, H, W), in their dtype; V 1 or 2."""


_numbers = itertools.count()
_owners: WeakValueDictionary[int, Any] = WeakValueDictionary()


def register(owner: OfImages | OfPairs) -> int:
    """The number by which the operators find `owner` while it lives."""
    number = next(_numbers)
    _owners[number] = owner
    return number


# They draw: two calls are not one, although their arguments are the same.
@torch.library.custom_op("apr_dali::change", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def change(images: Tensor, owner: int) -> Tensor:
    """`forward` of the transform with the number `owner`; of the images' shape and dtype, contiguous."""
    return _owned(_owners[owner].forward(images), images)


@change.register_fake
def _(images: Tensor, owner: int) -> Tensor:  # noqa: ARG001
    _check_stays()
    return torch.empty(images.shape, dtype=images.dtype, device=images.device)


@torch.library.custom_op("apr_dali::pair", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def pair(images: Tensor, owner: int, views: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001 - of the shape
    """`views_of` of the transform with the number `owner`: its rows (V·N, C, H, W), contiguous, and int64 (V·N,), the
    number of the image that each shows. views: V where it is known beforehand, 0 where the draws choose it."""
    made = _owners[owner].views_of(images)
    index = torch.arange(len(images), device=images.device).repeat_interleave(made.shape[1])
    return _owned(made.flatten(0, 1), images), index


@pair.register_fake
def _(images: Tensor, owner: int, views: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    _check_stays()
    batch = images.shape[0]
    rows: int | torch.SymInt = views * batch
    if views == 0:
        # Networks ask whether it is one, which nothing could answer otherwise.
        least = batch if isinstance(batch, int) else 2
        rows = torch.library.get_ctx().new_dynamic_size(min=least)
    made = torch.empty((rows, *images.shape[1:]), dtype=images.dtype, device=images.device)
    return made, torch.empty(rows, dtype=torch.int64, device=images.device)


def _refuse_torch_func(*given: Any) -> None:  # noqa: ARG001
    """Raise InputError: torch.func would take the operators' tangents for zeros."""
    raise InputError(
        "APR's operators are not differentiable, and take a batch at once: call them outside of torch.func's "
        "transforms, such as grad, jvp and vmap"
    )


_library = torch.library.Library("apr_dali", "IMPL")
for _name in ("change", "pair"):
    # Where every call within a transform of torch.func goes first.
    _library.impl(_name, _refuse_torch_func, "FuncTorchDynamicLayerFrontMode")


def _check_stays() -> None:
    """Raise InputError in torch.export: where its programs run, the number is of another transform, or of none."""
    if torch.compiler.is_exporting():
        raise InputError(
            "a transform with draws is no part of an exported program, which goes where its draws are not: export the "
            "network alone, and put the transform before it"
        )


def _owned(result: Tensor, images: Tensor) -> Tensor:
    """The result in memory of its own, as torch wants it of an operator, in the order that it was told."""
    result = result.contiguous()
    return result.clone() if result.data_ptr() == images.data_ptr() else result
