"""The CUDA kernels of the corruptions, run on the CPU, next to the native operators and the definition.

Twice: the sources thread by thread, in an order that finds what waits for nothing, and what NVRTC makes of them.
"""

import numpy as np
import pytest
from helpers import tolerances
from simulators.ptx_cuda import PtxCuda

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.corruptions import find
from apr_dali.corruptions.parameters import SETS, SEVERITIES
from apr_dali.kernels import corruptions
from apr_dali.kernels.cuda import corruptions as cuda_corruptions

pytestmark = [pytest.mark.simulator, pytest.mark.slow]

NAMES = tuple(cuda_corruptions.LAUNCHERS)
EXACT = tuple(sorted({*NAMES} - {"contrast", "defocus_blur", "elastic_transform"}))
"""The same operations in the same order as in the native operators, or whole numbers."""
BATCH = 3
SIZES = [(32, 32), (40, 56), (35, 61)]
# The greatest severity reaches farthest: it has all sizes.
CELLS = [*zip(SEVERITIES[:-1], 2 * SIZES, strict=False), *((SEVERITIES[-1], size) for size in SIZES)]


@pytest.fixture
def host(simulated, install):
    return install(cuda_corruptions, simulated)


def various(crops, height, width):
    """A photograph, noise, and a picture of gray steps with black, white and one color."""
    images = crops(BATCH, height, width)
    images[1] = np.random.default_rng(1).integers(0, 256, images[1].shape)
    images[2] = np.arange(width)[:, None] * 255 // (width - 1)
    images[2, 3:6], images[2, 8:11], images[2, 13:16] = 0, 255, [93, 10, 201]
    return images


def sampled(name, severity, images, first=0, parameter_set="imagenet"):
    n, height, width = images.shape[:3]
    return CorruptionDraws.sample(name, severity, n, height, width, 2**63 + 5, first, parameter_set)


def on_device(images, draws):
    return corruptions._on_device(*find(draws.name, draws.severity, draws.parameter_set), images, draws)


def check(images, draws):
    """At most a level from the native operator and from the definition."""
    got = on_device(images, draws).astype(int)
    for backend in ("native", "numpy"):
        expected = apr_dali.corrupt(images, draws.name, draws.severity, draws, backend=backend)
        apart = np.abs(got - expected)
        assert apart.max() <= tolerances.LEVELS, backend
        assert (apart > 0).mean() <= tolerances.CORRUPTED_SHARE, backend


@pytest.mark.usefixtures("native", "host")
@pytest.mark.parametrize(("severity", "size"), CELLS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_is_what_native_and_the_definition_give(name, severity, size, crops):
    images = various(crops, *size)
    check(images, sampled(name, severity, images, first=2**40))


@pytest.mark.usefixtures("native", "host")
@pytest.mark.parametrize("name", EXACT)
def test_is_native_bit_for_bit(name, crops):
    images = various(crops, 64, 64)
    draws = sampled(name, 4, images)
    np.testing.assert_array_equal(on_device(images, draws), apr_dali.corrupt(images, name, 4, draws, backend="native"))


@pytest.mark.usefixtures("native", "host")
@pytest.mark.parametrize("parameter_set", SETS[1:])
@pytest.mark.parametrize("name", NAMES)
def test_other_sets_of_parameters(name, parameter_set, crops):
    side = 32 if parameter_set == "cifar" else 64
    images = various(crops, side, side)[: 3 if side == 32 else 1]
    for severity in (1, 3, 5):
        check(images, sampled(name, severity, images, parameter_set=parameter_set))


@pytest.mark.usefixtures("native", "host")
@pytest.mark.parametrize("name", NAMES)
def test_with_given_draws(name, crops):
    images = various(crops, 33, 47)
    random = np.random.default_rng(0) if name == "impulse_noise" else np.random.RandomState(0)
    one = CorruptionDraws.from_reference
    for severity in (2, 5):
        check(images, CorruptionDraws.join([one(name, severity, 33, 47, random) for _ in images]))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", NAMES)
def test_however_the_batch_is_cut(name, crops):
    images = various(crops, 36, 44)
    whole = on_device(images, sampled(name, 3, images))
    np.testing.assert_array_equal(on_device(images, sampled(name, 3, images)), whole)
    for first, last in ((0, 1), (1, 3)):
        some = images[first:last]
        np.testing.assert_array_equal(on_device(some, sampled(name, 3, some, first)), whole[first:last])


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", NAMES)
def test_no_images_give_no_images(name):
    none = np.empty((0, 40, 50, 3), np.uint8)
    assert on_device(none, sampled(name, 1, none)).shape == none.shape


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_224(name, crops, monkeypatch, record_property):
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC comes with torch's CUDA builds")
    device = PtxCuda()
    monkeypatch.setattr(cuda_corruptions, "_device", lambda: device)
    images = crops(1, 224, 224)
    check(images, sampled(name, 3, images))
    # For docs/corruptions.md: it is the compiler's, so nothing is asserted of it.
    for kernel, trace in device.traces.items():
        record_property(f"{kernel}: warp instructions per image", round(trace.issued.sum()))
    if name in ("gaussian_noise", "impulse_noise"):
        trace = device.traces[device.launched[-1]]
        assert trace.sectors.sum() < 1.1 * trace.filled.sum()
