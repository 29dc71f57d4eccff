"""How many threads torch computes with on the CPU, beside the pipeline's and whatever else runs on the machine."""

from __future__ import annotations

import os

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from apr_dali.runtime import cpus

SMALL = 15e6
"""Floating-point operations of an image's forward pass below which a second thread gains next to nothing: of 6 million
7 % on two idle cores, of 26 million 22 %, of 300 million 90 %."""
_VARIABLE = "OMP_NUM_THREADS"


def choose(model: nn.Module, image_size: int, in_chans: int, device: torch.device) -> None:
    """Let torch compute with one thread where the network is small, else with this process's share of the CPUs.

    Threads meet at the end of each layer and spin there until all have come. Where layers are short and somebody else
    needs a core, they spin for most of the time. The choice follows from the network and the machine alone: other
    numbers of threads round otherwise. Every entry point that computes with a network on the CPU calls this.
    OMP_NUM_THREADS, where it is set, is followed, see `use`.
    """
    if device.type == "cpu" and _VARIABLE not in os.environ:
        use(1 if operations(model, image_size, in_chans) < SMALL else cpus.share())


def use(count: int) -> None:
    """Let torch compute with at most `count` threads on the CPU, unless OMP_NUM_THREADS is set: a person's wish."""
    if _VARIABLE not in os.environ:
        torch.set_num_threads(min(count, torch.get_num_threads()))


def operations(model: nn.Module, image_size: int, in_chans: int) -> int:
    """Floating-point operations of the matrix products and convolutions of one image's forward pass."""
    was_training = model.training
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.eval()(torch.zeros(1, in_chans, image_size, image_size))
    model.train(was_training)
    return int(counter.get_total_flops())
