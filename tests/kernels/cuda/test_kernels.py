"""The CUDA kernels themselves, run on the CPU, against the float64 reference and Pillow.

Twice: the sources thread by thread, in an order that finds what waits for nothing, and what NVRTC makes of them.
"""

import re

import numpy as np
import pytest
from helpers import tolerances
from helpers.singles import by_pillow, only_first, various
from helpers.tolerances import relative
from simulators.host_cuda import HostCuda, build, run_kernel

from apr_dali import pillow_ops, spectral
from apr_dali.draws import OPERATIONS, SingleDraws
from apr_dali.kernels.arrays import channels_last
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.kernels.cuda import launch, nvrtc
from apr_dali.kernels.cuda.launch import FUSED_SIZES, WHOLE_SIZES, Launch
from apr_dali.kernels.protocol import PairTask

pytestmark = [pytest.mark.simulator, pytest.mark.slow]

ONE, NOTHING = np.ones(3), np.zeros(3)


@pytest.fixture
def threads(shim_folder, install):
    return install(cupy_backend, HostCuda(shim_folder))


@pytest.fixture
def host(simulated, install):
    return install(cupy_backend, simulated)


def pair(images, partner, mix=True, scales=None, dtype="float32", axes="chw", **options):
    scales = scales or (ONE / 255, NOTHING, ONE, NOTHING)
    return cupy_backend.pair(PairTask(images, np.asarray(partner), mix, *scales, dtype, axes, **options))


# ---- Transforms ----

ROUND = """
#include "transform.cuh"
extern "C" __global__ void round_trip(const float2* in, const float2* twiddles, float2* spectra, float2* out) {
    SHARED(float2, spaces);
    const int team = threadIdx.x / TEAM, lane = threadIdx.x % TEAM;
    float2* const space = spaces + team * PITCH;
    const auto wait = [] { __syncwarp(); };
    Points x;
    Bins bins;
    for_own<SECOND>(lane, [&](int round, int j) {
        for (int r = 0; r < FIRST; ++r) x.of[round][r] = in[team * SIZE + j + SECOND * r];
    });
    forward(x, bins, space, twiddles, lane, wait);
    for_own<FIRST>(lane, [&](int round, int i) {
        for (int k = 0; k < SECOND; ++k) spectra[team * SIZE + i + FIRST * k] = bins.of[round][k];
    });
    wait();
    back(bins, x, space, twiddles, lane, wait);
    wait();
    put_points(x, space, lane);
    wait();
    for (int i = lane; i < SIZE; i += TEAM) out[team * SIZE + i] = space[i];
}
"""


@pytest.mark.parametrize("size", [*WHOLE_SIZES, *FUSED_SIZES])
def test_transforms_there_and_back(size, shim_folder):
    program = nvrtc.fused(size)
    text = ROUND.replace('#include "transform.cuh"', nvrtc.source("transform.cuh"))
    library = build(program, shim_folder, text)
    teams = 8
    rng = np.random.default_rng(size)
    given = (rng.standard_normal((teams, size)) + 1j * rng.standard_normal((teams, size))).astype(np.complex64)
    # One transform twice: what comes out depends on nothing but the points.
    given[-1] = given[0]
    first, second = launch.factors(size)
    twiddles = np.exp(-2j * np.pi * np.outer(np.arange(second), np.arange(first)) / size).astype(np.complex64)
    spectra, back = np.empty_like(given), np.empty_like(given)
    shape = Launch(1, teams * launch.team(size), teams * launch.pitch(size) * 8)
    run_kernel(library, "round_trip", shape, (given, twiddles, spectra, back))
    expected = np.fft.fft(given.astype(np.complex128))
    assert np.abs(spectra - expected).max() < 1e-6 * np.abs(expected).max()
    assert np.abs(back / size - given).max() < 1e-6 * np.abs(given).max()
    np.testing.assert_array_equal(spectra[-1], spectra[0])


# ---- Recombination ----

PATHS = {
    "whole": (32, 32),
    "fused": (64, 64),
    "odd": (9, 15),
    "even": (20, 34),
    "row": (1, 7),
    "column": (5, 1),
    "one": (1, 1),
}
LAUNCHED = {"whole": ["whole_images"], "fused": ["rows_forward", "columns", "rows_back"]}
AROUND_CUFFT = ["before", "cufft", "between", "cufft", "after"]


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("path", PATHS)
def test_pair_is_the_reference(path, axes, host, crops):
    images, partner = crops(5, *PATHS[path], seed=3), [3, 0, 4, 1, 1]
    scales = (np.array([1, 2, 3]) / 255, np.array([0.1, 0.2, -0.3]), np.array([2, 1, 0.5]), np.array([0.5, 0, 1]))
    for given in (images, np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)):
        host.launched.clear()
        got = pair(given, partner, True, scales, axes=axes, with_clean=True)
        assert host.launched == LAUNCHED.get(path, AROUND_CUFFT)
        assert relative(got[:, 1], spectral.pair(images, partner, True, *scales, axes)) < tolerances.RECOMBINE_FLOAT32
        assert relative(got[:, 0], spectral.pair(images, partner, False, *scales, axes)) < 1e-6


def test_pair_at_224(host, crops):
    images, partner = crops(2, 224, 224, seed=1), [1, 0]
    got = pair(images, partner, with_clean=True)
    assert host.launched == LAUNCHED["fused"]
    assert relative(got[:, 1], spectral.pair(images, partner, True, 1 / 255)) < tolerances.RECOMBINE_FLOAT32
    np.testing.assert_allclose(got[:, 0], images.transpose(0, 3, 1, 2) / 255, rtol=1e-6)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("axes", spectral.AXES)
def test_half_intermediates_are_near_and_take_half_the_memory(axes, size, host, crops):
    images, partner = crops(3, size, size, seed=3), [2, 0, 1]
    shape = (3, launch.strips(size, axes == "chw"), size, 4)
    pair(images, partner, axes=axes)
    whole = host.kinds[shape]
    # Levels as they are: unscaled, the spectrum of a row would leave the range of float16.
    scales = (ONE, NOTHING, ONE, NOTHING)
    got = pair(images, partner, scales=scales, axes=axes, intermediates="float16", with_clean=True)
    assert host.launched[-3:] == LAUNCHED["fused"]
    assert (whole, host.kinds[shape]) == ("complex64", "uint32")
    expected = spectral.pair(images, partner, True, axes=axes)
    error = relative(got[:, 1], expected)
    assert tolerances.RECOMBINE_FLOAT32 < error < tolerances.HALF_INTERMEDIATES
    assert np.sqrt(((got[:, 1] - expected) ** 2).mean()) < 0.2  # of a gray level
    np.testing.assert_array_equal(got[:, 0], images.transpose(0, 3, 1, 2))  # no spectrum lies between
    for partner in ([1, 3, -1], [1, 2, 0]):
        lost = np.isnan(pair(images, partner, intermediates="float16", axes=axes)).all(axis=(1, 2, 3))
        assert lost.tolist() == [False, partner[1] == 3, partner[2] == -1]


@pytest.mark.usefixtures("host")
def test_half_intermediates_keep_the_exact_zeros_of_gray_images(crops):
    gray, color = crops(2, 64, 64, seed=2)
    gray = np.repeat(gray[..., :1], 3, axis=-1)
    got = pair(np.stack([gray, color]), [1, 0], intermediates="float16")
    expected = spectral.pair(np.stack([gray, color]), [1, 0], True, 1 / 255)
    assert relative(got, expected) < tolerances.HALF_INTERMEDIATES


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", [(32, 32), (64, 48)])
def test_half_intermediates_where_there_are_none_are_refused(size, crops):
    with pytest.raises(ValueError, match=f"are for squares of 64, .*, got {size[0]} × {size[1]} × 3"):
        pair(crops(2, *size), [1, 0], intermediates="float16")


@pytest.mark.parametrize("path", ["whole", "fused", "even"])
def test_what_is_not_mixed_is_clean(path, host, crops):
    images, partner = crops(3, *PATHS[path]), [1, 2, 0]
    expected = pair(images, partner, with_clean=True)[:, :1]
    np.testing.assert_allclose(expected[:, 0], images.transpose(0, 3, 1, 2) / 255, rtol=1e-6)
    # A coin on the host spares the transforms; one on the device is seen by the kernels.
    for mix, launched in ((False, ["before"]), (np.zeros(1, bool), LAUNCHED.get(path, AROUND_CUFFT))):
        host.launched.clear()
        np.testing.assert_array_equal(pair(images, partner, mix, with_clean=True), np.repeat(expected, 2, axis=1))
        assert host.launched == launched
        np.testing.assert_array_equal(pair(images, partner, mix), expected[:, 0])
    mixed = pair(images, partner)
    np.testing.assert_array_equal(pair(images, partner, np.ones(1, bool)), mixed)


# Words of four pixels, what is left of a block of them, and images that begin between words.
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (1, 12), (33, 31), (37, 28), (1, 1030)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_unmixed_views_of_any_size_and_kind_are_exact(size, channels, host):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    levels = rng.integers(0, 256, (3, *size, channels), np.uint8)
    planes = np.ascontiguousarray(levels.transpose(0, 3, 1, 2), dtype=np.float32)
    scale, bias = np.array([0.5, 2, 1, 4])[:channels], np.array([3, -100, 0, 1])[:channels]
    # Powers of two and whole numbers: nothing is rounded before the result's own type.
    scales = (scale, bias, scale[::-1], bias[::-1])
    expected = planes
    for by, plus in (scales[:2], scales[2:]):
        expected = expected * by[:, None, None] + plus[:, None, None]
    expected = torch.from_numpy(expected.astype(np.float32))
    for given in (levels, planes):
        for dtype in ("float32", "float16", "bfloat16"):
            for memory_format in ("contiguous", "channels_last"):
                both = pair(given, [1, 2, 0], False, scales, dtype, with_clean=True, memory_format=memory_format)
                one = pair(given, [1, 2, 0], False, scales, dtype, memory_format=memory_format)
                of_expected = expected.to(getattr(torch, dtype)).view(torch.uint8).numpy()
                for got in (both[:, 0], both[:, 1], one):
                    np.testing.assert_array_equal(np.ascontiguousarray(got).view(np.uint8), of_expected)
    assert set(host.launched) == {"before"}


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("path", ["whole", "fused", "odd"])
def test_half_precision_is_the_result_rounded(path, crops):
    torch = pytest.importorskip("torch")
    images, partner = crops(2, *PATHS[path]), [1, 0]
    full = torch.from_numpy(pair(images, partner, with_clean=True))
    assert pair(images, partner, dtype="float16", with_clean=True).tobytes() == full.half().numpy().tobytes()
    bits = torch.from_numpy(pair(images, partner, dtype="bfloat16", with_clean=True))
    assert torch.equal(bits.view(torch.bfloat16), full.bfloat16())


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("path", ["whole", "fused", "odd", "column"])
def test_channels_last_is_the_same_result_in_another_order(path, crops):
    images, partner = crops(2, *PATHS[path]), [1, 0]
    for dtype in ("float32", "float16", "bfloat16"):
        for mix in (True, False, np.zeros(1, bool)):
            for both in (True, False):
                planes = pair(images, partner, mix, dtype=dtype, with_clean=both)
                pixels = pair(images, partner, mix, dtype=dtype, with_clean=both, memory_format="channels_last")
                assert pixels.shape == planes.shape
                assert channels_last(pixels).flags.c_contiguous
                np.testing.assert_array_equal(pixels, planes)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("path", ["whole", "fused", "even"])
def test_gray_and_black_images_keep_their_exact_zeros(path, crops):
    gray, color = crops(2, *PATHS[path], seed=2)
    gray = np.repeat(gray[..., :1], 3, axis=-1)
    images = np.stack([gray, color, np.zeros_like(gray)])
    for partner in ([1, 0, 1], [2, 2, 0]):
        got, expected = pair(images, partner), spectral.pair(images, partner, True, 1 / 255)
        assert relative(got, expected) < tolerances.RECOMBINE_FLOAT32
    np.testing.assert_array_equal(got[:2], 0)  # of black's amplitude nothing is left


@pytest.mark.parametrize("path", ["whole", "fused", "odd"])
def test_the_order_of_threads_changes_nothing(path, threads, crops):
    images, partner = crops(2, *PATHS[path]), [1, 0]
    results = []
    for seed in (1, 2, 3):
        threads.seed = seed
        results.append(pair(images, partner).tobytes())
    assert len(set(results)) == 1


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("path", ["whole", "fused", "odd"])
def test_a_partner_on_the_device_that_is_none_gives_no_number(path, crops):
    images = crops(3, *PATHS[path])
    got = pair(images, [1, 3, -1])
    assert np.isnan(got[1:]).all()
    np.testing.assert_array_equal(got[0], pair(images, [1, 0, 0])[0])


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("path", ["whole", "fused", "odd", "row"])
def test_recombine_is_the_reference(path, axes, host, crops):
    images = crops(4, *PATHS[path], seed=4).transpose(0, 3, 1, 2) / 255.0 + 0.1
    first, second = images[:2], images[2:]
    expected = spectral.recombine(first, second, axes)
    single = cupy_backend.recombine(first.astype(np.float32), second.astype(np.float32), axes)
    assert relative(single, expected) < tolerances.RECOMBINE_FLOAT32
    host.launched.clear()
    double = cupy_backend.recombine(first, second, axes)
    assert host.launched == ["cufft", "between", "cufft"]
    assert double.dtype == np.float64
    assert relative(double, expected) < tolerances.RECOMBINE_FLOAT64


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_numbers_of_channels(channels, axes):
    images = np.random.default_rng(0).random((4, channels, 12, 15)) + 0.1
    got = cupy_backend.recombine(images[:2], images[2:], axes)
    assert relative(got, spectral.recombine(images[:2], images[2:], axes)) < tolerances.RECOMBINE_FLOAT64
    levels = (images * 200).astype(np.uint8).transpose(0, 2, 3, 1)
    one, nothing = np.ones(channels), np.zeros(channels)
    got = pair(levels, [2, 3, 0, 1], True, (one, nothing, one, nothing), axes=axes)
    assert relative(got, spectral.pair(levels, [2, 3, 0, 1], True, axes=axes)) < tolerances.RECOMBINE_FLOAT32


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("magnitude", [1e-25, 1e25])
@pytest.mark.parametrize("path", ["whole", "fused", "odd"])
def test_amplitudes_whose_squares_leave_float32(path, magnitude, crops):
    images = (crops(2, *PATHS[path]).transpose(0, 3, 1, 2) * magnitude).astype(np.float32)
    expected = spectral.recombine(images[:1].astype(float), images[1:].astype(float))
    assert relative(cupy_backend.recombine(images[:1], images[1:], "chw"), expected) < tolerances.RECOMBINE_FLOAT32


# ---- APR-S ----


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 2), (17, 16), (32, 32), (61, 45)], ids=str)
def test_operations_are_pillows_bit_for_bit(size, host, crops):
    count = 90
    rng = np.random.default_rng(size[0])
    images, drawn = various(rng, crops, count, *size), SingleDraws.sample(count, *size, seed=8)
    assert set(drawn.operation[:, 0]) == set(range(len(OPERATIONS)))
    draws = only_first(drawn)
    got = cupy_backend.single(images, draws, "wrap", "chw")
    assert host.launched[0] == "operate"
    for n, image in enumerate(images):
        name = OPERATIONS[draws.operation[n, 0]]
        np.testing.assert_array_equal(got[n], by_pillow(image, name, draws.parameters[n, 0]), err_msg=f"{n} {name}")


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("overflow", spectral.OVERFLOWS)
@pytest.mark.parametrize("path", ["whole", "fused", "even"])
def test_single_is_the_reference(path, overflow, crops):
    count = 12
    images, draws = crops(count, *PATHS[path], seed=6), SingleDraws.sample(count, *PATHS[path], seed=3)
    assert 0 < draws.mix.sum() < count
    assert len(set(zip(draws.mix, draws.amplitude_of_second, strict=True))) == 4
    got = cupy_backend.single(images, draws, overflow, "chw")
    expected = pillow_ops.single(images, draws, overflow)
    np.testing.assert_array_equal(got[~draws.mix], expected[~draws.mix])
    apart = np.abs(got.astype(int) - expected)
    assert np.minimum(apart, 256 - apart).max() <= tolerances.LEVELS
    # A second operation that changes nothing leaves whole numbers, which a rounding can take across a border.
    unsettled = np.array([np.isclose(e, i).all() for e, i in zip(expected, images, strict=True)])
    share = tolerances.LEVELS_SHARE_CLAMP if overflow == "clamp" else 0.05
    assert (apart[~unsettled] > 0).mean() < share


@pytest.mark.usefixtures("host")
def test_draws_decoded_on_the_device_are_those_of_the_host():
    uniform = np.random.default_rng(2).random((2000, 8), dtype=np.float32)
    uniform[:4] = [[0] * 8, [1] * 8, [0.5] * 8, [np.nextafter(np.float32(1), 0, dtype=np.float32)] * 8]
    uniform[4:9] = [
        [which, 0.5, 0.5, 0.5] * 2 for which in (0.3, 0.4, 0.6, 0.7, 0.8)
    ]  # signs and flags at their border
    for height, width in ((32, 32), (224, 224), (17, 40)):
        got, expected = cupy_backend.decode(uniform, height, width), SingleDraws.from_uniform(uniform, height, width)
        for name in ("operation", "parameters", "mix", "amplitude_of_second"):
            np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)


# ---- The stand-in itself ----


BARRIERS = [
    (path, found.span())
    for path in ("whole", "fused")
    for found in re.finditer(r"__sync(warp|threads)\(\);", nvrtc.source(f"{path}.cu"))
]


@pytest.mark.parametrize(("path", "where"), BARRIERS, ids=[f"{path}-{where[0]}" for path, where in BARRIERS])
def test_no_barrier_can_be_missing(path, where, threads, crops, monkeypatch):
    images = crops(2, *PATHS[path])
    expected = pair(images, [1, 0], with_clean=True)
    text = nvrtc.source(f"{path}.cu")
    monkeypatch.setattr(nvrtc, "source", lambda _: text[: where[0]] + text[where[1] :])
    for threads.seed in (1, 2):
        assert not np.allclose(pair(images, [1, 0], with_clean=True), expected, atol=1e-2)


@pytest.mark.usefixtures("threads")
def test_a_barrier_that_not_all_threads_reach_is_caught(crops, monkeypatch):
    text = nvrtc.source("whole.cu").replace("    __syncthreads();", "    if (threadIdx.x < 32) __syncthreads();", 1)
    monkeypatch.setattr(nvrtc, "source", lambda _: text)
    with pytest.raises(AssertionError, match="a barrier that not all threads reach"):
        pair(crops(2, 32, 32), [1, 0])


@pytest.mark.usefixtures("threads")
def test_too_little_shared_memory_is_caught(crops, monkeypatch):
    monkeypatch.setattr(launch, "whole", lambda _size, images, _across: Launch(images, 224, 29_888))
    with pytest.raises(AssertionError, match="shared memory overrun"):
        pair(crops(2, 32, 32), [1, 0])


def test_more_threads_than_a_kernel_is_compiled_for_are_caught(shim_folder):
    program = nvrtc.whole(32)
    most = dict(program.defines)["THREADS"]
    with pytest.raises(AssertionError, match="more threads than its launch bounds"):
        run_kernel(build(program, shim_folder), "whole_images", Launch(1, most + 32), [])
