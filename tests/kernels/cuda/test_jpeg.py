"""The CUDA kernels of JPEG files, run on the CPU, next to Pillow: the sources, and what NVRTC makes of them."""

from contextlib import nullcontext

import numpy as np
import pytest
from helpers.blocky import pictures

from apr_dali.corruptions.digital import through_jpeg
from apr_dali.kernels import arrays, dispatch, jpeg
from apr_dali.kernels.cuda import corruptions as cuda_corruptions

# Less than a square, a few squares, more than the four of a block; even and odd, in words of four and not.
SIZES = [(1, 1), (2, 4), (5, 3), (17, 5), (4, 33), (31, 48), (40, 40), (33, 71)]


@pytest.fixture
def host(simulated, install):
    return install(cuda_corruptions, simulated)


@pytest.mark.simulator
@pytest.mark.slow
@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_is_pillows(size):
    images = pictures(*size)
    for quality in (1, 17, 40, 100):
        expected = np.stack([through_jpeg(image, quality) for image in images])
        got = cuda_corruptions.through_jpeg(images, quality)
        np.testing.assert_array_equal(got, expected, err_msg=f"{quality}")


@pytest.mark.simulator
@pytest.mark.usefixtures("host")
def test_no_images_give_no_images():
    assert cuda_corruptions.through_jpeg(np.empty((0, 40, 50, 3), np.uint8), 85).shape == (0, 40, 50, 3)


@pytest.mark.parametrize("available", [True, False])
def test_images_on_a_device_stay_there_where_kernels_can_run(available, monkeypatch):
    images = pictures(20, 30)
    found = dispatch.Availability(available, "")
    on_device = []
    monkeypatch.setattr(arrays, "on_device", lambda given: given is images)
    monkeypatch.setattr(dispatch, "availability", lambda name: found if name == "cupy" else None)
    monkeypatch.setattr(arrays, "on_the_stream_of", lambda *given: on_device.append(given) or nullcontext())
    monkeypatch.setattr(cuda_corruptions, "through_jpeg", lambda given, quality: given + np.uint8(quality))
    got = jpeg.round_trip(images, 85)
    on_the_cpu = np.stack([through_jpeg(image, 85) for image in images])
    np.testing.assert_array_equal(got, images + np.uint8(85) if available else on_the_cpu)
    assert on_device == [(images, "cupy")] * available
