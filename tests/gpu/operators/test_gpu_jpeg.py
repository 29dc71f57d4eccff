"""JPEG files that nobody writes on a CUDA device, where there is one: `make gpu-check`."""

import numpy as np
import pytest
import torch
from helpers.blocky import pictures

from apr_dali.corruptions.digital import through_jpeg
from apr_dali.kernels.jpeg import round_trip

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 130), (97, 61), (224, 224), (500, 375)], ids=str)
def test_on_the_gpu_is_pillow(size):
    images = pictures(*size)
    for quality in (1, 10, 50, 85, 100):
        got = round_trip(torch.from_numpy(images).cuda(), quality)
        assert got.is_cuda
        expected = np.stack([through_jpeg(image, quality) for image in images])
        np.testing.assert_array_equal(got.cpu().numpy(), expected, err_msg=f"{quality}")
