"""DALI's dynamic mode on a CUDA device, where there is one: `make gpu-check`."""

import numpy as np
import pytest
import torch
from helpers.tolerances import LEVELS, RECOMBINE_ON_GPU, relative

import apr_dali
from apr_dali.bench.checks import check_pair
from apr_dali.recipes import IMAGENET

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_batches_of_dalis_operators_are_recombined_on_its_stream(crops):
    from apr_dali.pipelines.dynamic import apr_pair, apr_single, ndd

    images = crops(8, 64, 64)
    single, pair = apr_dali.SingleDraws.sample(8, 64, 64, seed=1), apr_dali.PairDraws.sample(8, seed=1, p=1.0)
    expected = apr_dali.single(images[:, :, ::-1].copy(), single)
    for _ in range(20):  # no copy of the host in between: an operator that does not wait would see other values
        flipped = ndd.flip(ndd.as_batch(images, layout="HWC").gpu(), horizontal=1)
        made = apr_single(flipped, draws=single)
        mixed = apr_pair(made, draws=pair, views="mixed", in_scale=1 / 255)
        again = ndd.flip(mixed, horizontal=1).torch()
        assert made.device.device_type == "gpu"
        levels = np.abs(made.cpu().torch().numpy().astype(int) - expected)
        assert np.minimum(levels, 256 - levels).max() <= LEVELS
        truth = apr_dali.pair(made.cpu().torch().numpy(), pair.partner, in_scale=1 / 255)
        assert relative(again.flip(3).cpu().numpy(), truth) < RECOMBINE_ON_GPU


def test_epochs_on_the_device(sample):
    from apr_dali.pipelines.dynamic_loader import DynamicLoader

    loader = DynamicLoader(f"{sample}/train", 16, "apr-p", image_size=64, device="cuda", threads=1, seed=1)
    for _ in range(2):
        for images, targets in loader:
            assert images.is_cuda
            assert targets.is_cuda
            if len(images) == 32:
                both = images.cpu().double().numpy().reshape(-1, 2, 3, 64, 64)
                check_pair("dynamic", both[:, 0], both[:, 1], IMAGENET)
