"""From the loader to the network's first layer: no pass over the batch, and the same training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.passes import Passes
from helpers.run_files import ALONE
from torch import nn

from apr_dali import CifarLoader
from apr_dali.data.arrays import ArraySet
from apr_dali.runtime.precision import LOADER_TYPES
from apr_dali.training.engine import Trainer
from apr_dali.training.options import TrainingOptions

SIDE, BATCH = 16, 4


def loader(aug: str, **given) -> CifarLoader:
    pixels = np.random.default_rng(0).integers(0, 256, (16, SIDE, SIDE, 3), np.uint8)
    return CifarLoader(ArraySet(pixels, np.arange(16) % 2, ("a", "b")), BATCH, aug, threads=1, seed=5, **given)


def new_trainer(amp: str, memory_format: str) -> Trainer:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return Trainer(model, TrainingOptions(lr=0.1, amp=amp, memory_format=memory_format), ALONE, "net")


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
@pytest.mark.parametrize("amp", ["none", "bf16"])
@pytest.mark.parametrize("aug", ["none", "apr-p", "apr-s", "apr-sp"])
def test_the_first_layer_reads_what_the_loader_gave(aug, amp, memory_format):
    trainer, seen = new_trainer(amp, memory_format), []
    trainer.model[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].data_ptr()))
    with loader(aug, dtype=LOADER_TYPES[amp], memory_format=memory_format) as batches:
        for images, targets in batches:
            with Passes(images.numel(), until="convolution") as passes:
                trainer.step(images, targets, batches.views, batch_views=batches.batch_views)
            assert passes.over
            assert passes.found == []
            assert seen.pop() == images.data_ptr()


def test_the_first_layer_would_convert_other_batches():
    """The test above can fail: autocast casts batches of another type itself."""
    trainer, images, targets = new_trainer("bf16", "contiguous"), torch.zeros(2, 3, SIDE, SIDE), torch.tensor([0, 1])
    with Passes(images.numel(), until="convolution") as passes:
        trainer.step(images, targets, 1)
    assert passes.found == ["aten._to_copy.default"]


@pytest.mark.parametrize("aug", ["none", "apr-sp"])
def test_training_in_bfloat16_is_what_it_is_on_batches_of_float32(aug):
    weights = []
    for dtype in ("float32", "bfloat16"):
        trainer = new_trainer("bf16", "channels_last")
        with loader(aug, dtype=dtype, memory_format="channels_last") as batches:
            for images, targets in batches:
                trainer.step(images, targets, batches.views, batch_views=batches.batch_views)
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
