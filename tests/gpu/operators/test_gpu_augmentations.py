"""The augmentations beside APR on a CUDA device, where there is one: `make gpu-check`."""

import numpy as np
import pytest
import torch
from helpers import tolerances
from helpers.augmentations import drawn, planes
from helpers.forms import assert_close
from helpers.singles import levels_apart

from apr_dali.augmentations import NAMES, apply, find

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PLANES = [name for name in NAMES if find(name).takes == "planes"]


@pytest.mark.parametrize("size", [(1, 7), (20, 33), (32, 32)], ids=str)
@pytest.mark.parametrize("name", PLANES)
def test_floating_images_are_the_definitions(name, size, crops):
    record = find(name)
    images = 0.9 * planes(crops(5, *size)) + 0.1 * np.random.default_rng(0).random((5, 3, *size))
    for seed in range(3):
        draws = drawn(record, 5, size, seed)
        for dtype in (np.float64, np.float32):
            given = images.astype(dtype)
            got = apply(name, torch.from_numpy(given).cuda(), draws)
            assert got.is_cuda
            assert_close(name, got.cpu(), record.define(given.astype(np.float64), draws))


@pytest.mark.parametrize("library", ["torch", "cupy"])
@pytest.mark.parametrize("name", NAMES)
def test_levels_are_the_definitions(name, library, crops):
    record, images = find(name), crops(8, 20, 15)
    draws = drawn(record, 8, (20, 15))
    expected = apply(name, images, draws, backend="reference")
    if library == "torch":
        got = apply(name, torch.from_numpy(images).cuda(), draws).cpu().numpy()
    else:
        cupy = pytest.importorskip("cupy")
        got = apply(name, cupy.asarray(images), draws).get()
    limit = tolerances.HYBRID_LEVELS if name == "hybrid++-s" else tolerances.LEVELS
    apart = levels_apart(got, expected, record.overflow)
    assert (apart > limit).mean() <= (1e-3 if name == "prime" else 0)
