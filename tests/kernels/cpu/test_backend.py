"""The native CPU backend against the float64 reference and Pillow, at every level that this machine can run."""

import threading
import time

import numpy as np
import pytest
from helpers import tolerances
from helpers.tolerances import relative

import apr_dali
from apr_dali import spectral
from apr_dali.draws import SingleDraws
from apr_dali.errors import InputError
from apr_dali.kernels import arrays
from apr_dali.kernels.cpu import backend as native_backend

pytestmark = pytest.mark.usefixtures("native")

# Powers of one prime and products, rows and columns of one, lengths with other primes, less and more than a vector.
SIZES = [
    (1, 1),
    (1, 7),
    (5, 1),
    (8, 8),
    (7, 9),
    (33, 20),
    (20, 33),
    (16, 125),
    (49, 27),
    (31, 45),
    (32, 32),
    (64, 48),  # a row alone in its group, of three vectors at the widest, and of eleven
    (32, 176),
    (224, 224),
]


def planes(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)


# ---- recombine ----


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_recombine_is_the_reference(size, axes, crops, each_level):
    images = crops(4, *size).transpose(0, 3, 1, 2) / 255.0 + 0.1
    first, second = images[:2], images[2:]
    expected = spectral.recombine(first, second, axes)
    single = [x.astype(np.float32) for x in (first, second)]
    for _ in each_level():
        got = apr_dali.recombine(*single, axes=axes, backend="native")
        assert got.dtype == np.float32
        assert relative(got, expected) < tolerances.RECOMBINE_FLOAT32
        double = apr_dali.recombine(first, second, axes=axes, backend="native")
        assert double.dtype == np.float64
        assert relative(double, expected) < tolerances.RECOMBINE_FLOAT64


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_other_numbers_of_channels(channels, axes):
    images = np.random.default_rng(0).random((4, channels, 12, 15)) + 0.1
    expected = spectral.recombine(images[:2], images[2:], axes)
    got = apr_dali.recombine(images[:2], images[2:], axes=axes, backend="native")
    assert relative(got, expected) < tolerances.RECOMBINE_FLOAT64
    levels = (images * 200).astype(np.uint8).transpose(0, 2, 3, 1)
    partner = np.array([2, 3, 0, 1])
    got = apr_dali.pair(levels, partner, axes=axes, backend="native")
    assert relative(got, spectral.pair(levels, partner, True, axes=axes)) < tolerances.RECOMBINE_FLOAT32


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", [(8, 8), (9, 14), (11, 5), (32, 32)], ids=str)
def test_gray_images_keep_their_exact_zeros(size, axes, crops):
    gray, color = crops(2, *size, seed=2)
    gray = np.repeat(gray[..., :1], 3, axis=-1)
    for first, second in ((gray, color), (color, gray)):
        given = [planes(x[None]) / 255 for x in (first, second)]
        got = apr_dali.recombine(*given, axes=axes, backend="native")
        assert relative(got, spectral.recombine(*given, axes)) < tolerances.RECOMBINE_FLOAT32


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("size", [(32, 32), (32, 48), (64, 112), (20, 12)], ids=str)
def test_equal_rows_keep_their_exact_zeros(size, crops):
    stripes, other = (planes(x[None]) / 255 for x in crops(2, *size, seed=5))
    stripes = np.ascontiguousarray(np.broadcast_to(stripes[:, :, :1], other.shape))
    got = apr_dali.recombine(stripes, other, backend="native")
    assert relative(got, spectral.recombine(stripes, other)) < tolerances.RECOMBINE_FLOAT32


@pytest.mark.usefixtures("level")
def test_a_black_image_takes_the_amplitude_with_phase_zero(crops):
    black = np.zeros((1, 3, 16, 16), np.float32)
    other = planes(crops(1, 16, 16)) / 255
    got = apr_dali.recombine(black, other, backend="native")
    assert relative(got, spectral.recombine(black, other)) < tolerances.RECOMBINE_FLOAT32
    np.testing.assert_array_equal(apr_dali.recombine(other, black, backend="native"), 0)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("size", [(224, 224), (32, 32), (45, 22), (1, 9)], ids=str)
def test_a_round_trip_gives_the_image_back(size, crops):
    images = planes(crops(2, *size))
    assert relative(native_backend.round_trip(images), images) < 1e-6


# ---- pair ----

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("given", ["uint8", "float32", "strided"])
@pytest.mark.parametrize("size", [(9, 14), (32, 32), (224, 224)], ids=str)
def test_pair_scales_mixes_and_scales_again(size, given, crops, each_level):
    images = crops(7, *size, seed=3)  # a bin that happens to be tiny costs every float32 transform digits
    if given == "float32":
        images = images.transpose(0, 3, 1, 2).astype(np.float32)
    if given == "strided":
        images = np.repeat(images, 2, axis=2)[:, ::-1, ::2]
    partner = np.random.default_rng(1).permutation(7)
    scales = {"in_scale": 1 / (255 * STD), "in_bias": -MEAN / STD, "out_scale": (0.5, 2, 1), "out_bias": 0.25}
    expected, clean = (spectral.pair(images, partner, mix, *scales.values()) for mix in (True, False))
    for _ in each_level():
        got = apr_dali.pair(images, partner, **scales, backend="native")
        assert got.dtype == np.float32
        assert relative(got, expected) < tolerances.RECOMBINE_FLOAT32
        both = apr_dali.pair(images, partner, **scales, with_clean=True, backend="native")
        np.testing.assert_array_equal(both[:, 1], got)
        assert relative(both[:, 0], clean) < 1e-6
        unmixed = apr_dali.pair(images, partner, False, **scales, with_clean=True, backend="native")
        np.testing.assert_array_equal(unmixed, np.repeat(both[:, :1], 2, axis=1))


@pytest.mark.usefixtures("level")
def test_any_partners_are_the_reference(crops):
    images = crops(9, 12, 16)
    for seed in range(12):
        # Chains that run into cycles, several images with one partner, images that are their own.
        partner = np.random.default_rng(seed).integers(0, 9, 9)
        got = apr_dali.pair(images, partner, backend="native", threads=1 + seed % 3)
        assert relative(got, spectral.pair(images, partner, True)) < tolerances.RECOMBINE_FLOAT32


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("mix", [True, False])
def test_half_precision_is_the_result_rounded_to_nearest(mix, crops):
    torch = pytest.importorskip("torch")
    images, partner = torch.from_numpy(crops(4, 24, 21)), np.array([1, 2, 3, 0])
    for scale in (1 / 255, 1e-6, 300):
        full = apr_dali.pair(images, partner, mix, in_scale=scale, backend="native")
        for dtype in (torch.float16, torch.bfloat16):
            name = str(dtype).removeprefix("torch.")
            half = apr_dali.pair(images, partner, mix, in_scale=scale, dtype=name, backend="native")
            assert half.dtype == dtype
            assert torch.equal(half, full.to(dtype)), (name, scale)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_last_is_the_same_result_in_another_order(channels, dtype, crops):
    torch = pytest.importorskip("torch")
    partner = np.array([1, 2, 3, 0])
    for size in ((24, 21), (9, 64), (3, 75), (1, 1)):  # less and more than the pixels that are written at a time
        images = torch.from_numpy(np.repeat(crops(4, *size), 2, axis=3)[..., :channels].copy())
        for mix in (True, False):
            for both in (True, False):
                given = {"dtype": dtype, "with_clean": both, "backend": "native"}
                planes = apr_dali.pair(images, partner, mix, **given)
                pixels = apr_dali.pair(images, partner, mix, memory_format="channels_last", **given)
                assert pixels.shape == planes.shape
                assert pixels.movedim(-3, -1).is_contiguous()
                assert torch.equal(pixels, planes)


@pytest.mark.parametrize("backend", ["native", "torch", "reference"])
def test_bits_are_those_of_bfloat16(backend, crops):
    torch = pytest.importorskip("torch")
    images, partner = crops(3, 9, 10), np.array([1, 2, 0])
    for memory_format in ("contiguous", "channels_last"):
        given = {"dtype": "bfloat16", "memory_format": memory_format, "backend": backend}
        expected = apr_dali.pair(torch.from_numpy(images), partner, **given)
        got = apr_dali.pair(images, partner, bits=True, **given)
        assert got.dtype == np.int16
        assert torch.equal(torch.from_numpy(got).view(torch.bfloat16), expected)


def test_options_of_the_result_that_have_no_effect_are_refused(crops):
    torch = pytest.importorskip("torch")
    images, partner = crops(2, 8, 8), np.array([1, 0])
    with pytest.raises(InputError, match="bits has no effect with float32 of numpy"):
        apr_dali.pair(images, partner, bits=True)
    with pytest.raises(InputError, match="bits has no effect with bfloat16 of torch"):
        apr_dali.pair(torch.from_numpy(images), partner, dtype="bfloat16", bits=True)
    with pytest.raises(InputError, match="memory_format must be one of contiguous, channels_last, got 'NHWC'"):
        apr_dali.pair(images, partner, memory_format="NHWC")


@pytest.mark.usefixtures("level")
def test_half_precision_of_what_is_no_number():
    values = np.array([np.nan, np.inf, -np.inf, 65519.0, 65520.0, -1e-8, 2.0**-25, -0.0], np.float32)
    images = np.broadcast_to(values, (1, 3, 1, 8)).copy()
    got = apr_dali.pair(images, np.array([0]), False, dtype="float16", backend="native")
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, images.astype(np.float16))


def test_torch_tensors_of_every_type(crops):
    torch = pytest.importorskip("torch")
    images = torch.from_numpy(planes(crops(4, 9, 10))) / 255
    partner = torch.tensor([1, 0, 3, 2])
    expected = spectral.pair(images.numpy(), partner.numpy(), True)
    for dtype, tolerance in ((torch.float64, 5e-6), (torch.float32, 5e-6), (torch.bfloat16, 0.1)):
        given = images.to(dtype)
        got = apr_dali.pair(given, partner, backend="native")
        assert got.dtype == torch.float32
        assert relative(got, expected) < tolerance
        again = apr_dali.recombine(given, given[partner], backend="native")
        assert again.dtype == dtype
        assert relative(again.double(), expected) < tolerance


def test_a_tensor_is_not_copied_on_its_way_in(crops):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(crops(2, 8, 8))
    assert arrays.as_input(tensor, "native").ctypes.data == tensor.data_ptr()


# ---- batches and threads ----


def test_a_batch_of_one_or_none(crops):
    one = crops(1, 10, 11)
    alone = apr_dali.pair(one, np.array([0]), in_scale=1 / 255, backend="native")
    assert relative(alone, one.transpose(0, 3, 1, 2) / 255.0) < tolerances.RECOMBINE_FLOAT32
    none = one[:0]
    assert apr_dali.pair(none, np.array([], int), backend="native").shape == (0, 3, 10, 11)
    assert apr_dali.pair(none, np.array([], int), with_clean=True, backend="native").shape == (0, 2, 3, 10, 11)
    assert apr_dali.single(none, SingleDraws.sample(0, 10, 11, 0), backend="native").shape == (0, 10, 11, 3)
    empty = np.empty((0, 3, 5, 5), np.float32)
    assert apr_dali.recombine(empty, empty, backend="native").shape == (0, 3, 5, 5)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("size", [(32, 32), (21, 22)], ids=str)
def test_the_number_of_threads_changes_no_bit(size, crops):
    images = crops(13, *size)
    rng = np.random.default_rng(2)
    draws = SingleDraws.sample(13, *size, seed=4)
    floats = planes(images)
    for partner in (rng.permutation(13), rng.integers(0, 13, 13)):
        results = []
        for threads in range(1, 9):
            given = {"backend": "native", "threads": threads}
            results.append(
                (
                    apr_dali.pair(images, partner, with_clean=True, **given),
                    apr_dali.single(images, draws, **given),
                    apr_dali.recombine(floats, floats[partner], **given),
                )
            )
        for other in results[1:]:
            for expected, got in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(got, expected)


def test_inputs_are_left_as_they_are(crops):
    images = crops(6, 16, 16)
    kept = images.copy()
    apr_dali.single(images, SingleDraws.sample(6, 16, 16, 3), backend="native")
    floats = planes(images)
    apr_dali.pair(floats, np.arange(6)[::-1].copy(), backend="native")
    np.testing.assert_array_equal(images, kept)
    np.testing.assert_array_equal(floats, planes(kept))


def test_the_interpreters_lock_is_free_meanwhile(crops):
    images = np.repeat(crops(1, 224, 224), 100, axis=0)

    def longest_wait() -> float:
        """For how long this thread stood still at the most, as a share of the call's time."""
        took = []

        def work():
            start = time.perf_counter()
            apr_dali.pair(images, np.arange(100), dtype="float16", backend="native", threads=1)
            took.append(time.perf_counter() - start)

        worker = threading.Thread(target=work)
        last, longest = time.perf_counter(), 0.0
        worker.start()
        while worker.is_alive():
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        return longest / took[0]

    # Other processes may hold this thread up now and then; the lock would each time.
    assert any(longest_wait() < 0.5 for _ in range(50))


def test_fuzz_over_shapes_and_draws():
    rng = np.random.default_rng(9)
    for _ in range(60):
        count, height, width = (int(v) for v in (rng.integers(1, 6), *rng.integers(1, 70, 2)))
        axes, overflow = rng.choice(spectral.AXES), rng.choice(spectral.OVERFLOWS)
        threads = int(rng.integers(1, 5))
        # Noise keeps every bin well away from 0, where a phase means nothing.
        images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        partner = rng.integers(0, count, count)
        got = apr_dali.pair(images, partner, axes=axes, backend="native", threads=threads)
        error = relative(got, spectral.pair(images, partner, True, axes=axes))
        assert error < tolerances.RECOMBINE_FLOAT32, (count, height, width, axes)
        draws = SingleDraws.sample(count, height, width, rng)
        mixed = apr_dali.single(images, draws, overflow=overflow, axes=axes, backend="native", threads=threads)
        expected = apr_dali.single(images, draws, overflow=overflow, axes=axes, backend="reference")
        np.testing.assert_array_equal(mixed[~draws.mix], expected[~draws.mix])
