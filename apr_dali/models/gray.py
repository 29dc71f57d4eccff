"""Networks of gray images, which have one channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from apr_dali.models.filter_bands import first_convolution, replace_layer
from apr_dali.recipes import AprRecipe

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray level (ITU-R BT.601), as decoders and Pillow take them."""


def make_gray(model: nn.Module) -> None:
    """Let the first convolution take one channel in place of three.

    Its weights are their sum over the channels: a gray image gives what its color image gave.
    """
    name, layer = first_convolution(model)
    made = nn.Conv2d(
        1,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )
    with torch.no_grad():
        made.weight.copy_(layer.weight.sum(1, keepdim=True))
        if made.bias is not None and layer.bias is not None:
            made.bias.copy_(layer.bias)
    replace_layer(model, name, made)


class SeesGray(nn.Module):
    """A network of gray images for color ones: (N, 3, H, W), normalized with `recipe`, which has one level for all."""

    def __init__(self, network: nn.Module, recipe: AprRecipe) -> None:
        super().__init__()
        self.network = network
        assert recipe == recipe.gray(), recipe  # then the weights' sum of 1 keeps normalized images normalized
        self.luma: Tensor
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * self.luma.to(images.dtype)).sum(1, keepdim=True))
