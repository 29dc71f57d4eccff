"""The native CPU backend against the float64 reference and Pillow, at every level that this machine can run."""

import importlib
import threading
import time

import numpy as np
import pytest
import tolerances
from PIL import Image, ImageOps

import apr_dali
from apr_dali import backend, spectral
from apr_dali.draws import OPERATIONS, SingleDraws
from apr_dali.kernels import native_backend

try:
    LEVELS = native_backend.load("baseline").supported()
except ImportError as error:
    pytest.skip(f"the extension is not there: {error}", allow_module_level=True)

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
    (224, 224),
]


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    monkeypatch.setenv(native_backend.LEVEL_VARIABLE, request.param)
    return request.param


def relative(got, expected) -> float:
    return float(np.abs(np.asarray(got, np.float64) - expected).max() / max(np.abs(expected).max(), 1e-30))


def planes(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)


# ---- recombine ----


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_recombine_is_the_reference(size, axes, crops):
    images = crops(4, *size).transpose(0, 3, 1, 2) / 255.0 + 0.1
    first, second = images[:2], images[2:]
    expected = spectral.recombine(first, second, axes)
    single = [x.astype(np.float32) for x in (first, second)]
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
    got = apr_dali.recombine(images[:2], images[2:], axes, backend="native")
    assert relative(got, expected) < tolerances.RECOMBINE_FLOAT64
    levels = (images * 200).astype(np.uint8).transpose(0, 2, 3, 1)
    partner = np.array([2, 3, 0, 1])
    got = apr_dali.pair(levels, partner, axes=axes, backend="native")
    assert relative(got, spectral.pair(levels, partner, True, axes=axes)) < tolerances.RECOMBINE_FLOAT32


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", [(8, 8), (9, 14), (11, 5), (32, 32)], ids=str)
def test_grey_images_keep_their_exact_zeros(size, axes, crops):
    grey, colour = crops(2, *size, seed=2)
    grey = np.repeat(grey[..., :1], 3, axis=-1)
    for first, second in ((grey, colour), (colour, grey)):
        given = [planes(x[None]) / 255 for x in (first, second)]
        got = apr_dali.recombine(*given, axes=axes, backend="native")
        assert relative(got, spectral.recombine(*given, axes)) < tolerances.RECOMBINE_FLOAT32


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


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("given", ["uint8", "float32", "strided"])
@pytest.mark.parametrize("size", [(9, 14), (32, 32), (224, 224)], ids=str)
def test_pair_scales_mixes_and_scales_again(size, given, crops):
    images = crops(7, *size, seed=3)  # a bin that happens to be tiny costs every float32 transform digits
    if given == "float32":
        images = images.transpose(0, 3, 1, 2).astype(np.float32)
    if given == "strided":
        images = np.repeat(images, 2, axis=2)[:, ::-1, ::2]
    partner = np.random.default_rng(1).permutation(7)
    scales = {"in_scale": 1 / (255 * STD), "in_bias": -MEAN / STD, "out_scale": (0.5, 2, 1), "out_bias": 0.25}
    expected = spectral.pair(images, partner, True, *scales.values())
    got = apr_dali.pair(images, partner, **scales, backend="native")
    assert got.dtype == np.float32
    assert relative(got, expected) < tolerances.RECOMBINE_FLOAT32
    both = apr_dali.pair(images, partner, **scales, views="both", backend="native")
    np.testing.assert_array_equal(both[:, 1], got)
    assert relative(both[:, 0], spectral.pair(images, partner, False, *scales.values())) < 1e-6
    unmixed = apr_dali.pair(images, partner, False, **scales, views="both", backend="native")
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
    assert backend._as_input(tensor, "native").ctypes.data == tensor.data_ptr()


# ---- single ----


def by_pillow(image: np.ndarray, operation: str, parameters: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image)
    if operation in ("autocontrast", "equalize"):
        return np.asarray(getattr(ImageOps, operation)(picture))
    if operation in ("posterize", "solarize"):
        return np.asarray(getattr(ImageOps, operation)(picture, int(parameters[0])))
    matrix = tuple(parameters)
    return np.asarray(picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


def only_first(draws: SingleDraws) -> SingleDraws:
    return SingleDraws(draws.operation, draws.parameters, np.zeros_like(draws.mix), draws.amplitude_of_second)


def various(rng: np.random.Generator, crops, count: int, height: int, width: int) -> np.ndarray:
    """Noise, two levels, flat, dark and natural images in turn."""
    images = crops(count, height, width, seed=int(rng.integers(1 << 30))).copy()
    images[0::5] = rng.integers(0, 256, images[0::5].shape)
    images[1::5] = rng.integers(0, 2, images[1::5].shape) * rng.integers(1, 256) // 2
    images[2::5] = rng.integers(0, 256, (len(images[2::5]), 1, 1, 3))
    images[3::5] = images[3::5] // 3 + 20
    return images


@pytest.mark.parametrize("cases", [10_000])
def test_operations_are_pillows_bit_for_bit(cases, crops):
    rng = np.random.default_rng(5)
    batch = 50
    wrong = []
    for _ in range(cases // batch):
        height, width = (int(v) for v in rng.integers(8, 301, 2) // rng.integers(1, 5))
        height, width = max(height, 8), max(width, 8)
        images = various(rng, crops, batch, height, width)
        draws = only_first(SingleDraws.sample(batch, height, width, rng))
        got = apr_dali.single(images, draws, backend="native")
        for n in range(batch):
            name = OPERATIONS[draws.operation[n, 0]]
            expected = by_pillow(images[n], name, draws.parameters[n, 0])
            if not np.array_equal(got[n], expected):
                wrong.append((name, height, width, n % 5))
    assert wrong == []


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (17, 16), (40, 56)], ids=str)
def test_operations_are_the_references_bit_for_bit(size, crops):
    rng = np.random.default_rng(3)
    images = various(rng, crops, 90, *size)
    draws = only_first(SingleDraws.sample(90, *size, seed=8))
    assert set(draws.operation[:, 0]) == set(range(len(OPERATIONS)))
    expected = apr_dali.single(images, draws, backend="reference")
    np.testing.assert_array_equal(apr_dali.single(images, draws, backend="native"), expected)


@pytest.mark.usefixtures("level")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # the reference, far outside the image
@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0.25, 0, 1, 0),  # between pixels along x, and along y
        (1, 0, 0, 0, 1, -3.75),
        (1, 0, 300, 0, 1, 0),  # everything outside
        (1, 0, 2, 0, 1, -3),
        (1, 0.4, 3, 0, 1, 0),
        (1, 0, 0, -2.5, 1, 7),
        (1, 0.3, 0, 0.2, 1, 0),
        (-1, 0, 21, 0, -1, 17),
        (0.5, 0, 0, 0, 2, 0),
        (1e30, 0, 0, 0, 1, 0),
        (1, 0, 1e300, 0, 1, 0),
        (np.nan, 0, 0, 0, 1, 0),
        (1, 0, np.inf, 0, 1, -np.inf),
    ],
)
def test_any_affine_warp_is_the_references(matrix, crops):
    images = crops(2, 17, 21)
    draws = SingleDraws.sample(2, 17, 21, 0)
    draws.operation[:] = OPERATIONS.index("shear_x")
    draws.parameters[:] = matrix
    draws = only_first(draws)
    got = apr_dali.single(images, draws, backend="native")
    if np.isfinite(matrix).all():
        np.testing.assert_array_equal(got, apr_dali.single(images, draws, backend="reference"))
    else:
        np.testing.assert_array_equal(got, 0)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 128.0, 255.5, 256.0, 300.0, np.nan])
def test_solarize_at_any_threshold(threshold, crops):
    images = various(np.random.default_rng(0), crops, 5, 16, 16)
    draws = only_first(SingleDraws.sample(5, 16, 16, 0))
    draws.operation[:] = OPERATIONS.index("solarize")
    draws.parameters[:] = threshold
    expected = apr_dali.single(images, draws, backend="reference")
    np.testing.assert_array_equal(apr_dali.single(images, draws, backend="native"), expected)


def no_channel_is_flat(images: np.ndarray, draws: SingleDraws) -> np.ndarray:
    """Which images have a spectrum to speak of after the first operation: a flat one has the phases of roundings."""
    first = apr_dali.single(images, only_first(draws), backend="reference")
    return (np.ptp(first, axis=(1, 2)) > 0).all(axis=-1)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("overflow", spectral.OVERFLOWS)
@pytest.mark.parametrize("size", [(32, 32), (45, 30), (224, 224)], ids=str)
def test_single_is_the_reference(size, overflow, axes, crops):
    images = crops(40 if size[0] < 100 else 8, *size, seed=6)
    draws = SingleDraws.sample(len(images), *size, seed=2)
    well_posed = no_channel_is_flat(images, draws)
    assert well_posed.sum() > 0.9 * len(images)
    got = apr_dali.single(images, draws, overflow, axes, backend="native").astype(int)
    expected = apr_dali.single(images, draws, overflow, axes, backend="reference")
    apart = np.abs(got - expected)[well_posed]
    apart = np.minimum(apart, 256 - apart) if overflow == "wrap" else apart
    assert apart.max() <= tolerances.LEVELS
    if overflow == "clamp":
        assert (apart > 0).mean() < tolerances.LEVELS_SHARE_CLAMP
    np.testing.assert_array_equal(got[~draws.mix], expected[~draws.mix])


# ---- batches and threads ----


def test_a_batch_of_one_or_none(crops):
    one = crops(1, 10, 11)
    alone = apr_dali.pair(one, np.array([0]), in_scale=1 / 255, backend="native")
    assert relative(alone, one.transpose(0, 3, 1, 2) / 255.0) < tolerances.RECOMBINE_FLOAT32
    none = one[:0]
    assert apr_dali.pair(none, np.array([], int), backend="native").shape == (0, 3, 10, 11)
    assert apr_dali.pair(none, np.array([], int), views="both", backend="native").shape == (0, 2, 3, 10, 11)
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
                    apr_dali.pair(images, partner, views="both", **given),
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
    images = np.repeat(crops(1, 224, 224), 300, axis=0)
    took = []

    def work():
        start = time.perf_counter()
        apr_dali.pair(images, np.arange(300), dtype="float16", backend="native", threads=1)
        took.append(time.perf_counter() - start)

    worker = threading.Thread(target=work)
    last, longest = time.perf_counter(), 0.0
    worker.start()
    while worker.is_alive():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    assert longest < took[0] / 2


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
        mixed = apr_dali.single(images, draws, overflow, axes, backend="native", threads=threads)
        expected = apr_dali.single(images, draws, overflow, axes, backend="reference")
        np.testing.assert_array_equal(mixed[~draws.mix], expected[~draws.mix])


# ---- choice, levels, wrong arguments ----


def test_auto_takes_native_on_the_cpu():
    assert backend.availability("native").available
    assert backend.choose("auto", "cpu") == "native"


def test_levels_agree(crops):
    images, partner = crops(4, 32, 32), np.array([3, 0, 1, 2])
    results = []
    for name in LEVELS:
        out = np.empty((4, 3, 32, 32), np.float32)
        ones, zeros = np.ones(3), np.zeros(3)
        native_backend.load(name).pair(images, partner, True, ones, zeros, ones, zeros, "float32", "chw", False, out, 1)
        results.append(out)
    for other in results[1:]:
        assert relative(other, results[0].astype(np.float64)) < tolerances.RECOMBINE_FLOAT32


def test_a_level_is_forced_by_the_environment(level):
    assert native_backend.check() == (True, f"C++, {level}")


def test_an_unknown_level_is_refused(monkeypatch):
    monkeypatch.setenv(native_backend.LEVEL_VARIABLE, "v9")
    with pytest.raises(ImportError, match="must be one of v3, baseline, got 'v9'"):
        native_backend.check()


def test_an_extension_that_was_not_built_says_so(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    native_backend.load.cache_clear()
    monkeypatch.setattr(native_backend, "_module", missing)
    with pytest.raises(ImportError, match=r"was not built: install a C\+\+20 compiler"):
        native_backend.load("")
    monkeypatch.undo()
    native_backend.load.cache_clear()
    assert importlib.import_module("apr_dali.kernels._native_baseline").supported() == LEVELS


def test_threads_are_for_the_native_backend(crops):
    images = crops(2, 8, 8)
    with pytest.raises(ValueError, match="threads is for the native backend, got backend='torch'"):
        apr_dali.pair(images, np.array([1, 0]), backend="torch", threads=2)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        apr_dali.pair(images, np.array([1, 0]), backend="native", threads=0)


PAIR = {
    "images": np.zeros((2, 8, 8, 3), np.uint8),
    "partner": np.array([1, 0]),
    "mix": True,
    "in_scale": np.ones(3),
    "in_bias": np.zeros(3),
    "out_scale": np.ones(3),
    "out_bias": np.zeros(3),
    "dtype": "float32",
    "axes": "chw",
    "both": False,
    "out": np.zeros((2, 3, 8, 8), np.float32),
    "threads": 1,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", np.zeros((2, 8, 8, 3), np.int16)),
        ("images", np.zeros((2, 8, 8, 6), np.uint8)[..., ::2]),
        ("images", np.zeros((8, 8, 3), np.uint8)),
        ("images", np.zeros((2, 0, 8, 3), np.uint8)),
        ("partner", np.array([1, 2])),
        ("partner", np.array([-1, 0])),
        ("partner", np.array([0])),
        ("partner", np.array([0, 1], np.int32)),
        ("in_scale", np.ones(2)),
        ("out_bias", np.ones(3, np.float32)),
        ("dtype", "int8"),
        ("dtype", "float16"),
        ("axes", "w"),
        ("both", True),
        ("out", np.zeros((2, 3, 8, 9), np.float32)),
        ("out", np.zeros((2, 3, 8, 16), np.float32)[..., ::2]),
        ("threads", 0),
        ("threads", -3),
    ],
)
def test_wrong_arguments_of_pair_raise(name, value):
    with pytest.raises((ValueError, TypeError)):
        native_backend.load("baseline").pair(*{**PAIR, name: value}.values())


SINGLE = {
    "images": np.zeros((2, 8, 8, 3), np.uint8),
    "operation": np.zeros((2, 2), np.uint8),
    "parameters": np.zeros((2, 2, 6)),
    "mix": np.ones(2, bool),
    "amplitude_of_second": np.ones(2, bool),
    "wrap": True,
    "axes": "chw",
    "out": np.zeros((2, 8, 8, 3), np.uint8),
    "threads": 1,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", np.zeros((2, 8, 8, 4), np.uint8)),
        ("images", np.zeros((2, 8, 7, 3), np.uint8)),
        ("operation", np.full((2, 2), 9, np.uint8)),
        ("operation", np.zeros((1, 2), np.uint8)),
        ("parameters", np.zeros((2, 6))),
        ("mix", np.ones(1, bool)),
        ("amplitude_of_second", np.ones(3, bool)),
        ("axes", "whc"),
        ("out", np.zeros((1, 8, 8, 3), np.uint8)),
        ("threads", 0),
    ],
)
def test_wrong_arguments_of_single_raise(name, value):
    with pytest.raises((ValueError, TypeError)):
        native_backend.load("baseline").single(*{**SINGLE, name: value}.values())


@pytest.mark.parametrize("bits", [-1, 9, np.nan])
def test_bits_that_posterize_cannot_keep_raise(bits):
    draws = {"operation": np.full((2, 2), OPERATIONS.index("posterize"), np.uint8)}
    with pytest.raises(ValueError, match="posterize keeps 0 to 8 bits"):
        native_backend.load("baseline").single(
            *{**SINGLE, **draws, "parameters": np.full((2, 2, 6), float(bits))}.values()
        )


@pytest.mark.parametrize("function", ["recombine", "round_trip"])
def test_wrong_arguments_of_the_others_raise(function):
    run = getattr(native_backend.load("baseline"), function)
    image, other = np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 3, 4, 5), np.float32)
    wrong = [(image, other), (image, image.astype(np.float64)), (image[0], image[0])]
    for first, second in wrong:
        arguments = (first, second, "chw", first, 1) if function == "recombine" else (first, second, 1)
        with pytest.raises((ValueError, TypeError)):
            run(*arguments)
