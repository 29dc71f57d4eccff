"""The operators on a CUDA device, where there is one: `make gpu-check`.

Nothing here needs DALI or an installed package: see benchmarks/gpu_check.sh.
"""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import tolerances
from PIL import Image, ImageOps

import apr_dali
from apr_dali import spectral
from apr_dali.draws import OPERATIONS, SingleDraws
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.kernels.cuda import launch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SQUARES = [(size, size) for size in (*launch.WHOLE_SIZES, *launch.FUSED_SIZES)]
SIZES = [(1, 1), (1, 7), (5, 1), (33, 20), (20, 33), (299, 299), (300, 288), *SQUARES]
BACKENDS = ("cupy", "torch")


def relative(got, expected) -> float:
    return float(np.abs(got.cpu().numpy() - expected).max() / max(np.abs(expected).max(), 1e-30))


def test_the_kernels_are_what_runs():
    assert cupy_backend.check()[0], cupy_backend.check()[1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pair_on_the_gpu_is_the_reference(size, axes, backend, crops):
    images, partner = crops(6, *size), np.array([3, 0, 5, 1, 2, 4])
    on_gpu = torch.from_numpy(images).cuda()
    scales = (np.array([1, 2, 3]) / 255, np.array([0.1, 0.2, 0.3]), np.array([2, 1, 0.5]), np.array([0.5, 0, 1]))
    expected = spectral.pair(images, partner, True, *scales, axes=axes)
    named = dict(zip(("in_scale", "in_bias", "out_scale", "out_bias"), scales, strict=True))
    for given in (on_gpu, on_gpu.permute(0, 3, 1, 2).float()):
        got = apr_dali.pair(given, partner, True, **named, axes=axes, with_clean=True, backend=backend)
        assert got.is_cuda
        assert relative(got[:, 1], expected) < tolerances.RECOMBINE_ON_GPU
        assert relative(got[:, 0], spectral.pair(images, partner, False, *scales)) < 1e-6


@pytest.mark.parametrize("size", [(33, 20), *SQUARES], ids=str)
def test_repeated_runs_are_bit_equal(size, crops):
    images, draws = torch.from_numpy(crops(8, *size)).cuda(), SingleDraws.sample(8, *size, seed=2)
    partner = torch.randperm(8, device="cuda")
    pairs = {apr_dali.pair(images, partner, backend="cupy").cpu().numpy().tobytes() for _ in range(5)}
    singles = {apr_dali.single(images, draws, backend="cupy").cpu().numpy().tobytes() for _ in range(5)}
    assert (len(pairs), len(singles)) == (1, 1)


@pytest.mark.parametrize("size", [(9, 14), (32, 32), (224, 224)], ids=str)
def test_gray_and_black_images_keep_their_exact_zeros(size, crops):
    gray, color = crops(2, *size, seed=2)
    images = np.stack([np.repeat(gray[..., :1], 3, axis=-1), color, np.zeros_like(gray)])
    for partner in ([1, 0, 1], [2, 2, 0]):
        got = apr_dali.pair(torch.from_numpy(images).cuda(), partner, in_scale=1 / 255, backend="cupy")
        expected = spectral.pair(images, np.array(partner), True, 1 / 255)
        assert relative(got, expected) < tolerances.RECOMBINE_ON_GPU


@pytest.mark.parametrize("size", [(33, 20), (32, 32), (64, 64)], ids=str)
def test_half_precision_is_the_result_rounded(size, crops):
    images, partner = torch.from_numpy(crops(4, *size)).cuda(), np.array([1, 2, 3, 0])
    full = apr_dali.pair(images, partner, in_scale=1 / 255, backend="cupy")
    for dtype in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        got = apr_dali.pair(images, partner, in_scale=1 / 255, dtype=name, backend="cupy")
        assert got.dtype == dtype
        assert torch.equal(got, full.to(dtype))


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", launch.FUSED_SIZES)
def test_half_intermediates_are_near(size, axes, crops):
    images, partner = crops(6, size, size), np.array([3, 0, 5, 1, 2, 4])
    given = {"in_scale": 1 / 255, "axes": axes, "backend": "cupy", "intermediates": "float16"}
    got = apr_dali.pair(torch.from_numpy(images).cuda(), partner, **given)
    expected = spectral.pair(images, partner, True, 1 / 255, axes=axes)
    assert tolerances.RECOMBINE_ON_GPU < relative(got, expected) < tolerances.HALF_INTERMEDIATES


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [(33, 20), (32, 32), (64, 64)], ids=str)
def test_recombine_keeps_the_type(size, dtype, crops):
    images = torch.from_numpy(crops(4, *size)).permute(0, 3, 1, 2).double().div(255).add(0.1).to("cuda", dtype)
    got = apr_dali.recombine(images[:2], images[2:], backend="cupy")
    assert got.dtype == dtype
    expected = spectral.recombine(images[:2].double().cpu().numpy(), images[2:].double().cpu().numpy())
    limit = {torch.float64: 1e-10, torch.float32: 5e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
    assert relative(got.double(), expected) < limit


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_numbers_of_channels(channels):
    images = np.random.default_rng(0).random((4, channels, 12, 15)) + 0.1
    given = torch.from_numpy(images).cuda()
    got = apr_dali.recombine(given[:2], given[2:], backend="cupy")
    assert relative(got, spectral.recombine(images[:2], images[2:])) < tolerances.RECOMBINE_FLOAT64


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("overflow", spectral.OVERFLOWS)
@pytest.mark.parametrize("size", [(17, 16), (32, 32), (64, 64), (224, 224)], ids=str)
def test_single_on_the_gpu_is_the_reference(size, overflow, backend, crops):
    images, draws = crops(40, *size), SingleDraws.sample(40, *size, seed=1)
    got = (
        apr_dali.single(torch.from_numpy(images).cuda(), draws, overflow=overflow, backend=backend)
        .cpu()
        .numpy()
        .astype(int)
    )
    expected = apr_dali.single(images, draws, overflow=overflow, backend="reference")
    apart = np.abs(got - expected)
    assert np.minimum(apart, 256 - apart).max() <= tolerances.LEVELS
    np.testing.assert_array_equal(got[~draws.mix], expected[~draws.mix])


@pytest.mark.parametrize("size", [(1, 1), (9, 2), (17, 16), (32, 32), (224, 224)], ids=str)
def test_operations_are_pillows_bit_for_bit(size, crops):
    count = 200
    images, drawn = crops(count, *size), SingleDraws.sample(count, *size, seed=8)
    draws = SingleDraws(drawn.operation, drawn.parameters, np.zeros(count, bool), drawn.amplitude_of_second)
    got = apr_dali.single(torch.from_numpy(images).cuda(), draws, backend="cupy").cpu().numpy()
    for n, image in enumerate(images):
        name, parameters = OPERATIONS[draws.operation[n, 0]], draws.parameters[n, 0]
        picture = Image.fromarray(image)
        if name in ("autocontrast", "equalize"):
            expected = getattr(ImageOps, name)(picture)
        elif name in ("posterize", "solarize"):
            expected = getattr(ImageOps, name)(picture, int(parameters[0]))
        else:
            bilinear = Image.Resampling.BILINEAR
            expected = picture.transform(picture.size, Image.Transform.AFFINE, tuple(parameters), bilinear)
        np.testing.assert_array_equal(got[n], np.asarray(expected), err_msg=f"{n} {name}")


def test_draws_decoded_on_the_device_are_those_of_the_host():
    cupy = pytest.importorskip("cupy")
    uniform = np.random.default_rng(2).random((5000, 8), dtype=np.float32)
    got, expected = cupy_backend.decode(cupy.asarray(uniform), 224, 192), SingleDraws.from_uniform(uniform, 224, 192)
    for name in ("operation", "parameters", "mix", "amplitude_of_second"):
        np.testing.assert_array_equal(getattr(got, name).get(), getattr(expected, name), err_msg=name)


def test_cupy_arrays_and_another_stream_give_the_same(crops):
    cupy = pytest.importorskip("cupy")
    images, partner = crops(6, 64, 64), np.array([3, 0, 5, 1, 2, 4])
    expected = apr_dali.pair(torch.from_numpy(images).cuda(), partner).cpu().numpy()
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()) as _:
        got = apr_dali.pair(torch.from_numpy(images).cuda(), partner).cpu().numpy()
        np.testing.assert_array_equal(got, expected)
    with cupy.cuda.Stream(non_blocking=True):
        got = apr_dali.pair(cupy.asarray(images), partner)
        assert isinstance(got, cupy.ndarray)
        np.testing.assert_array_equal(got.get(), expected)
        np.testing.assert_array_equal(apr_dali.pair(cupy.asarray(images)[:, ::-1][:, ::-1], partner).get(), expected)


def test_a_coin_on_the_device_decides_there(crops):
    images, partner = torch.from_numpy(crops(4, 32, 32)).cuda(), torch.tensor([1, 2, 3, 0], device="cuda")
    for mix in (True, False):
        coin = torch.tensor([mix], device="cuda")
        got = apr_dali.pair(images, partner, coin, with_clean=True, backend="cupy")
        assert torch.equal(got, apr_dali.pair(images, partner, mix, with_clean=True, backend="cupy"))


def test_a_partner_on_the_device_that_is_none_gives_no_number(crops):
    for size in ((32, 32), (64, 64), (9, 10)):
        images, partner = torch.from_numpy(crops(3, *size)).cuda(), torch.tensor([1, 3, -1], device="cuda")
        got = apr_dali.pair(images, partner, backend="cupy")
        assert got[1:].isnan().all()
        assert got[0].isfinite().all()


SMALL_CASES = """
import cupy, numpy as np, apr_dali
from importlib.util import find_spec
from apr_dali.draws import SingleDraws
from apr_dali.kernels.cuda import backend as cupy_backend, corruptions
for size in (32, 64, 20):
    images = cupy.asarray(np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8))
    apr_dali.pair(images, np.array([1, 2, 3, 0]), with_clean=True)
    apr_dali.single(images, SingleDraws.sample(4, size, size, 1))
    cupy_backend.decode(cupy.zeros((4, 8), "f4"), size, size)
images = cupy.asarray(np.random.default_rng(0).integers(0, 256, (3, 35, 41, 3), dtype=np.uint8))
for name in corruptions.LAUNCHERS:
    if name != "frost" or find_spec("imagecorruptions"):
        for severity in (1, 5):
            draws = apr_dali.CorruptionDraws.sample(name, severity, 3, 35, 41, 1)
            apr_dali.corrupt(images, name, severity, draws, backend="cupy")
cupy.cuda.Device().synchronize()
"""


@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="compute-sanitizer is not installed")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck"])
def test_compute_sanitizer_finds_nothing(tool):
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "7", sys.executable, "-c", SMALL_CASES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
