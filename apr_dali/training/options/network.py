"""Options of the network, and of the arithmetic in which it runs."""

from __future__ import annotations

from dataclasses import dataclass

from apr_dali.recipes import CHANNELS
from apr_dali.training.options.declare import Options, option

AMP_MODES = ("none", "bf16", "fp16")
MEMORY_FORMATS = ("channels_last", "contiguous")
COMPILE = ("none", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
PRETRAINED = "pretrained"
"""The value of --weights that is no file."""


@dataclass(frozen=True)
class NetworkOptions(Options):
    """Which network is trained, from which weights, and how it computes."""

    model: str = option("network", "resnet50", "torchvision or timm model by its exact name; timm/NAME is timm's")
    weights: str = option(
        "network",
        "",
        "start from a file, or pretrained: torchvision's or timm's own; a head for other classes is made anew",
        metavar="pretrained|FILE",
    )
    amp: str = option("network", "none", "autocast: 16-bit arithmetic where it is safe", choices=AMP_MODES)
    memory_format: str = option("network", "channels_last", "order of the images in memory", choices=MEMORY_FORMATS)
    compile: str = option(
        "network",
        "none",
        f"compile the network, with a mode of torch.compile or without: {', '.join(COMPILE[1:])}",
        choices=COMPILE,
        metavar="MODE",
        bare="default",
    )
    sync_bn: bool = option("network", False, "batch norm over the batches of all processes, on GPUs")
    in_chans: int = option("network", 3, "channels of the images: 1 is for networks of gray images", choices=CHANNELS)
