"""`apr_dali.corrupt` on batches: every backend, however the batch is cut, and what is refused."""

import multiprocessing
import re

import numpy as np
import pytest
from helpers import tolerances

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.corruptions import NAMES, find
from apr_dali.corruptions.parameters import SETS, SEVERITIES
from apr_dali.errors import InputError

BACKENDS = ["numpy", "native"]
EXACT = {
    "brightness",
    "contrast",
    "defocus_blur",
    "fog",
    "frost",
    "gaussian_blur",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "saturate",
    "shot_noise",
    "snow",
    "zoom_blur",
}
"""Where native and truth are the same operations in the same order. Elsewhere they may be tolerances.LEVELS apart:
noise makes its normal numbers in float32, others need fused roundings that not every processor has."""
# Not square, wider and higher than a vector's pixels by some.
SIZES = [(32, 32), (33, 71), pytest.param(97, 50, marks=pytest.mark.slow)]


def levels(name: str) -> int:
    return 0 if name in EXACT else tolerances.LEVELS


def has_native(name: str) -> bool:
    return find(name)[0].native


def sampled(name, severity, images, seed=4, first=0, parameter_set="imagenet"):
    n, height, width = images.shape[:3]
    return CorruptionDraws.sample(name, severity, n, height, width, seed, first, parameter_set)


def by_reference(name, severity, images, parameter_set="imagenet"):
    n, height, width = images.shape[:3]
    make = np.random.default_rng if name == "impulse_noise" else np.random.RandomState
    return CorruptionDraws.join(
        [CorruptionDraws.from_reference(name, severity, height, width, make(k), parameter_set) for k in range(n)]
    )


def various(crops, height, width):
    """A photograph, the same in gray, one color, black, white, and noise."""
    photo = crops(1, height, width)[0]
    rng = np.random.default_rng(1)
    one_color = np.broadcast_to(np.array([93, 10, 201], np.uint8), photo.shape)
    return np.stack(
        [
            photo,
            np.repeat(photo[..., :1], 3, axis=2),
            one_color,
            np.zeros_like(photo),
            np.full_like(photo, 255),
            rng.integers(0, 256, photo.shape, np.uint8),
        ]
    )


def apart(name, severity, images, draws):
    truth = apr_dali.corrupt(images, name, severity, draws, backend="numpy")
    got = apr_dali.corrupt(images, name, severity, draws, backend="native", threads=2)
    return np.abs(got.astype(int) - truth)


def assert_is_the_truth(name, severity, images, draws, each_level):
    truth = apr_dali.corrupt(images, name, severity, draws, backend="numpy")
    for level in each_level():
        got = apr_dali.corrupt(images, name, severity, draws, backend="native", threads=2)
        differs = np.abs(got.astype(int) - truth)
        assert differs.max() <= levels(name), (severity, level)
        assert (differs > 0).mean() <= tolerances.CORRUPTION_LEVELS_SHARE, (severity, level)


@pytest.mark.parametrize("name", [name for name in NAMES if has_native(name)])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_native_is_the_truth(name, height, width, crops, each_level):
    images = various(crops, height, width)
    for severity in SEVERITIES:
        for draws in (sampled(name, severity, images), by_reference(name, severity, images)):
            assert_is_the_truth(name, severity, images, draws, each_level)


@pytest.mark.parametrize("parameter_set", SETS)
@pytest.mark.parametrize("name", [name for name in NAMES if has_native(name)])
def test_native_is_the_truth_in_every_set(name, parameter_set, crops, each_level):
    images = various(crops, 64, 64)[:3]
    for severity in SEVERITIES:
        draws = sampled(name, severity, images, parameter_set=parameter_set)
        assert_is_the_truth(name, severity, images, draws, each_level)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", [name for name in NAMES if has_native(name)])
def test_native_is_the_truth_at_224(name, crops):
    images = crops(2, 224, 224)
    differs = apart(name, 3, images, sampled(name, 3, images))
    assert differs.max() <= levels(name)
    # A level falls to the other side of a whole number by an error of float32 of 255: once in 10⁴ at most.
    assert (differs > 0).mean() < 1e-4


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Each backend that a test's `name` has."""
    if request.param == "native":
        request.getfixturevalue("native")
        if not has_native(request.getfixturevalue("name")):
            pytest.skip("has no native operator")
    return request.param


@pytest.mark.parametrize("name", NAMES)
def test_however_the_batch_is_cut(name, backend, crops):
    images = crops(4, 47, 36)
    whole = apr_dali.corrupt(images, name, 2, sampled(name, 2, images), backend=backend)
    for threads in (1, 2, 3) if backend == "native" else (None,):
        again = apr_dali.corrupt(images, name, 2, sampled(name, 2, images), backend=backend, threads=threads)
        np.testing.assert_array_equal(again, whole)
    for first, last in ((0, 1), (1, 4)):
        some = images[first:last]
        part = apr_dali.corrupt(some, name, 2, sampled(name, 2, some, first=first), backend=backend)
        np.testing.assert_array_equal(part, whole[first:last])


def _in_a_process(part):
    return apr_dali.corrupt(*part)


def test_in_two_processes(crops):
    images = crops(2, 40, 40)
    names = [name for name in NAMES if has_native(name)]
    parts = [(images, name, 3, sampled(name, 3, images)) for name in names]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for name, got, part in zip(names, pool.map(_in_a_process, parts), parts, strict=True):
            np.testing.assert_array_equal(got, apr_dali.corrupt(*part), err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_stays_and_may_lie_anyhow(name, backend, crops):
    images = crops(2, 38, 45)
    draws = by_reference(name, 3, images)
    for values in draws[0].values():
        values.flags.writeable = False
    mirrored = images[:, :, ::-1]  # negative strides
    mirrored.flags.writeable = False
    before = mirrored.copy()
    expected = apr_dali.corrupt(before, name, 3, draws, backend=backend)
    np.testing.assert_array_equal(apr_dali.corrupt(mirrored, name, 3, draws, backend=backend), expected)
    np.testing.assert_array_equal(mirrored, before)
    assert expected.flags.writeable
    assert not np.shares_memory(expected, before)


@pytest.mark.parametrize("name", NAMES)
def test_no_images_give_no_images(name):
    none = np.empty((0, 40, 50, 3), np.uint8)
    assert apr_dali.corrupt(none, name, 1, sampled(name, 1, none)).shape == none.shape


def test_tensors_give_tensors(crops):
    torch = pytest.importorskip("torch")
    images = crops(2, 40, 36)
    expected = apr_dali.corrupt(images, "snow", 1, sampled("snow", 1, images))
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    got = apr_dali.corrupt(planes.permute(0, 2, 3, 1), "snow", 1, sampled("snow", 1, images))
    assert got.dtype == torch.uint8
    np.testing.assert_array_equal(got.numpy(), expected)


def test_severities_grow_where_they_are_one_number(crops):
    images = crops(1, 64, 64)
    for name in ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur", "zoom_blur"):
        changed = [
            np.abs(apr_dali.corrupt(images, name, s, sampled(name, s, images)).astype(int) - images).mean()
            for s in SEVERITIES
        ]
        assert changed == sorted(changed), name
        assert changed[0] > 1, name


def refused(message, images, name="fog", severity=1, draws=None, error=InputError, **options):
    with pytest.raises(error, match=message):
        apr_dali.corrupt(images, name, severity, draws, **options)


def test_wrong_images_are_refused(crops):
    images = crops(1, 32, 32)
    draws = sampled("fog", 1, images)
    refused(r"uint8 \(N, H, W, 3\), .*got float32 \(1, 32, 32, 3\)", images.astype(np.float32), draws=draws)
    refused(r"got uint8 \(1, 32, 32, 1\)", images[..., :1], draws=draws)
    refused(r"got uint8 \(32, 32, 3\)", images[0], draws=draws)
    refused(r"at least 32 pixels per side, got uint8 \(1, 31, 32, 3\)", images[:, :31], draws=draws)
    refused("side, got list", images.tolist(), draws=draws)


def test_wrong_names_draws_and_options_are_refused(crops):
    images = crops(2, 40, 50)
    draws = sampled("fog", 1, images)
    refused("no corruption is named 'mist': there are .*fog", images, name="mist", draws=draws)
    refused("1 to 5, got 7", images, severity=7, draws=draws)
    refused("draws must be CorruptionDraws, got dict", images, draws={})
    refused("CorruptionDraws, got NoneType", images, draws=None)
    words = "draws must be for fog 1 of 2 images of 40 × 50, got those for "
    for other, rest in (
        (sampled("snow", 1, images), "snow 1 of 2 images of 40 × 50"),
        (sampled("fog", 2, images), "fog 2 of 2 images of 40 × 50"),
        (sampled("fog", 1, images[:1]), "fog 1 of 1 images of 40 × 50"),
        (sampled("fog", 1, images[:, :, :45]), "fog 1 of 2 images of 40 × 45"),
    ):
        refused(re.escape(words + rest), images, draws=other)
    refused("backend must be one of auto, numpy, native, cupy, got 'cuda'", images, draws=draws, backend="cuda")
    refused("'cupy' is for images on a CUDA device: take native or auto", images, draws=draws, backend="cupy")
    refused("threads must be at least 1, got 0", images, draws=draws, threads=0)
    refused("threads is for the native backend, got backend='numpy'", images, draws=draws, backend="numpy", threads=2)
    refused("threads is for the native backend, got backend='cupy'", images, draws=draws, backend="cupy", threads=2)


def test_without_the_extension_numpy_serves(monkeypatch, crops):
    from apr_dali.kernels import corruptions

    def missing():
        raise ImportError("the extension was not built")

    images = crops(1, 32, 32)
    draws = sampled("contrast", 1, images)
    expected = apr_dali.corrupt(images, "contrast", 1, draws, backend="numpy")
    monkeypatch.setattr(corruptions.native_backend, "check", missing)
    np.testing.assert_array_equal(apr_dali.corrupt(images, "contrast", 1, draws), expected)
    refused(
        "'native' cannot run here: the extension was not built",
        images,
        name="contrast",
        draws=draws,
        backend="native",
        error=RuntimeError,
    )


@pytest.mark.usefixtures("native")
def test_the_extension_looks_after_its_memory():
    """What reaches it by another way than `apr_dali.corrupt` is refused before it is read."""
    from apr_dali.kernels.cpu import backend as native_backend

    images = np.zeros((2, 32, 40, 3), np.uint8)

    def call(name, constants, given=()):
        native_backend.corrupt(name, images, constants, given, (0, 0), np.arange(2, dtype=np.uint64), 1)

    with pytest.raises(ValueError, match="no native corruption named mist"):
        call("mist", [])
    with pytest.raises(ValueError, match="constants 0 must be 1 to 1 numbers"):
        call("gaussian_noise", [])
    with pytest.raises(ValueError, match="has 1 kinds of draws, got 2"):
        call("gaussian_noise", [np.ones(1)], [np.ones((2, 32, 40, 3))] * 2)
    with pytest.raises(ValueError, match="draws must have 7680 entries"):
        call("gaussian_noise", [np.ones(1)], [np.ones((1, 32, 40, 3))])
    for reach, times in ((0, 1), (16, 1), (1, 0)):
        with pytest.raises(ValueError, match="glass blur reaches 1 to 15 pixels"):
            call("glass_blur", [np.array([reach, times], float), np.ones(1)])
    with pytest.raises(ValueError, match="a disk must be symmetric"):
        call("defocus_blur", [np.arange(9.0)])
    with pytest.raises(ValueError, match="constants 0 must be 9 to 9 numbers"):
        call("defocus_blur", [np.ones(10)])
    rows = np.zeros((1, 32, 3))
    rows[0, 3, 0] = 31  # the row after it would be the 33rd
    with pytest.raises(ValueError, match="a source lies outside"):
        call("zoom_blur", [rows, np.zeros((1, 40, 3))])
    # Shifts that lead out of the image are kept inside of it.
    call("glass_blur", [np.array([1, 1.0]), np.ones(1)], [np.full((2, 1, 30, 38, 2), 1e9)])
