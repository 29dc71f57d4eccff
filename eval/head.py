"""The last layer of any network, found by what it does, and what goes into it: the network's features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr_dali.errors import InputError


@dataclass(frozen=True)
class Head:
    """The linear layer whose outputs are the network's logits.

    layer: it, called `name` in the network. weight: float32 (classes, D). bias: float32 (classes,), zeros where the
    layer has none.
    """

    layer: nn.Module
    name: str
    weight: Tensor
    bias: Tensor

    @property
    def width(self) -> int:
        """D, the number of features."""
        return self.weight.shape[1]

    def logits(self, features: Tensor) -> Tensor:
        """What it makes of features (N, D): logits (N, classes)."""
        return F.linear(features, self.weight.to(features), self.bias.to(features))


class Tap:
    """Keeps what goes into a layer: `taken` is that of the latest batch, float32 (N, D)."""

    def __init__(self) -> None:
        self.taken: Tensor | None = None

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A forward pre-hook."""
        self.taken = inputs[0].detach().float().flatten(1)


@contextmanager
def tapped(head: Head) -> Iterator[Tap]:
    """A tap on the layer's input, for as long as the block lasts."""
    tap = Tap()
    handle = head.layer.register_forward_pre_hook(tap)
    try:
        yield tap
    finally:
        handle.remove()


@torch.no_grad()
def find_head(model: nn.Module, images: Tensor, name: str) -> Head:
    """The linear layer, or 1×1 convolution of one pixel, that gives the logits of `model` in eval mode.

    Looked for by what it does: of the layers with as many outputs, the last one whose output are the logits of
    `images`, as the model takes them on its device.

    Args:
        name: what the network is called, for people.

    Raises:
        InputError: if there is none, as where logits are averaged, scaled or pooled after the last layer.
    """
    outputs: dict[str, Tensor] = {}
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and set(module.kernel_size) == {1}):

            def keep(_: nn.Module, __: Any, output: Any, path: str = path) -> None:
                outputs.pop(path, None)  # the order is that of the last calls
                outputs[path] = output.clone()  # what follows may change it in place

            handles.append(module.register_forward_hook(keep))
    try:
        logits = model.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    modules = dict(model.named_modules())
    for path, output in reversed(outputs.items()):
        if torch.equal(output.flatten(1), logits):
            layer = modules[path]
            weight = layer.weight.detach().float().flatten(1)
            bias = torch.zeros_like(weight[:, 0]) if layer.bias is None else layer.bias.detach().float()
            return Head(layer, path, weight, bias)
    raise InputError(
        f"{name} has no last linear layer whose outputs are its logits: scores of features (react, dice, ash, scale, "
        "vim, knn, mahalanobis) cannot be computed for it; leave them out"
    )
