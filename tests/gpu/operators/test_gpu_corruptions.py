"""The corruptions on a CUDA device, where there is one: `make gpu-check`.

Nothing here needs DALI, an installed package or the native operators: see benchmarks/gpu_check.sh.
"""

import numpy as np
import pytest
import torch
from helpers import tolerances

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.corruptions.parameters import SETS, SEVERITIES
from apr_dali.kernels.cuda import corruptions as cuda_corruptions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("photographs"),
]
NAMES = tuple(cuda_corruptions.LAUNCHERS)
SIZES = [(32, 32), (40, 56), (64, 64), (97, 133), (224, 224)]


def sampled(name, severity, images, first=0, parameter_set="imagenet"):
    n, height, width = images.shape[:3]
    return CorruptionDraws.sample(name, severity, n, height, width, 2**64 - 9, first, parameter_set)


def on_gpu(images, draws):
    got = apr_dali.corrupt(torch.from_numpy(images).cuda(), draws.name, draws.severity, draws, backend="cupy")
    assert got.is_cuda
    return got.cpu().numpy()


def check(images, draws):
    expected = apr_dali.corrupt(images, draws.name, draws.severity, draws, backend="numpy")
    apart = np.abs(on_gpu(images, draws).astype(int) - expected)
    assert apart.max() <= tolerances.LEVELS
    assert (apart > 0).mean() <= tolerances.CORRUPTED_SHARE


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_on_the_gpu_is_the_definition(name, size, crops):
    for severity in SEVERITIES:
        images = crops(3, *size, seed=severity)
        check(images, sampled(name, severity, images, first=5))


@pytest.mark.parametrize("parameter_set", SETS[1:])
@pytest.mark.parametrize("name", NAMES)
def test_other_sets_of_parameters(name, parameter_set, crops):
    side = 32 if parameter_set == "cifar" else 64
    images = crops(3, side, side)
    for severity in SEVERITIES:
        check(images, sampled(name, severity, images, parameter_set=parameter_set))


@pytest.mark.parametrize("name", NAMES)
def test_with_given_draws(name, crops):
    images = crops(3, 48, 75)
    random = np.random.default_rng(0) if name == "impulse_noise" else np.random.RandomState(0)
    one = CorruptionDraws.from_reference
    check(images, CorruptionDraws.join([one(name, 4, 48, 75, random) for _ in images]))


@pytest.mark.parametrize("name", NAMES)
def test_runs_and_batches_change_no_bit(name, crops):
    images = crops(70, 64, 80)
    whole = on_gpu(images, sampled(name, 3, images))
    for _ in range(3):
        np.testing.assert_array_equal(on_gpu(images, sampled(name, 3, images)), whole)
    for first, last in ((0, 1), (1, 40), (40, 70)):
        some = images[first:last]
        np.testing.assert_array_equal(on_gpu(some, sampled(name, 3, some, first)), whole[first:last])


@pytest.mark.parametrize("name", NAMES)
def test_cupy_arrays_streams_and_strides(name, crops):
    cupy = pytest.importorskip("cupy")
    images = crops(4, 50, 66)
    draws = sampled(name, 2, images)
    expected = on_gpu(images, draws)
    with cupy.cuda.Stream(non_blocking=True):
        got = apr_dali.corrupt(cupy.asarray(images), name, 2, draws)
        assert isinstance(got, cupy.ndarray)
        np.testing.assert_array_equal(got.get(), expected)
    with torch.cuda.stream(torch.cuda.Stream()):
        planes = torch.from_numpy(images).cuda().permute(0, 3, 1, 2).contiguous()
        got = apr_dali.corrupt(planes.permute(0, 2, 3, 1), name, 2, draws)
        np.testing.assert_array_equal(got.cpu().numpy(), expected)
