"""The truth of noise, blurs and snow: by slow twins, by the libraries of the reference, and by what must hold."""

import numpy as np
import pytest
from scipy import ndimage, stats

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.corruptions import blur, find, snow
from apr_dali.corruptions.parameters import SETS, SEVERITIES, TABLES

SIZES = [(32, 32), (33, 48), (64, 35)]


def corrupted(image, name, severity=3, seed=1, backend="numpy", parameter_set="imagenet"):
    height, width = image.shape[:2]
    draws = CorruptionDraws.sample(name, severity, 1, height, width, seed, parameter_set=parameter_set)
    return apr_dali.corrupt(image[None], name, severity, draws, backend=backend)[0]


def one_color(*levels, side=128):
    return np.broadcast_to(np.array(levels, np.uint8), (side, side, 3))


def expected_of_noise(name, severity, level):
    """Mean and standard deviation of one level under noise, before it is clipped; None where clipping matters."""
    strength = TABLES["imagenet"][name][severity - 1]
    unit = level / 255
    if name == "gaussian_noise":
        return 255 * unit, 255 * strength
    if name == "speckle_noise":
        return 255 * unit, 255 * unit * strength
    return 255 * unit, 255 * np.sqrt(unit / strength)


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise", "shot_noise"])
def test_mean_and_variance_of_noise(name, backend):
    # In the middle of the levels, at severity 1: nothing is clipped.
    level = 110
    got = corrupted(one_color(level, level, level), name, 1, backend=backend).astype(float)
    assert got.min() > 0
    assert got.max() < 255
    mean, deviation = expected_of_noise(name, 1, level)
    count = got.size
    # Truncation takes half a level away, and adds the variance of 1/12 of a uniform number; a Poisson number of this
    # size is lattice-like in steps of 255/60 levels, whose truncation takes between 0 and 1.
    within = 1.0 if name == "shot_noise" else 3 * deviation / np.sqrt(count)
    assert abs(got.mean() + 0.5 - mean) < within
    excess = 3 * np.sqrt(2 / count) if name != "shot_noise" else 0.03
    assert abs(got.var() - 1 / 12 - deviation**2) < excess * deviation**2


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_has_poissons_distribution(severity, backend):
    photons = TABLES["imagenet"]["shot_noise"][severity - 1]
    for level in (0, 1, 40, 128, 255):
        got = corrupted(one_color(level, level, level), "shot_noise", severity, seed=level, backend=backend)
        values = (np.minimum(np.arange(photons + 1) / photons, 1) * 255).astype(int)
        chances = stats.poisson.pmf(np.arange(photons), level / 255 * photons)
        chances = np.append(chances, 1 - chances.sum())
        counts = np.array([(got == value).sum() for value in values])
        assert counts.sum() == got.size
        often = chances * got.size > 5
        assert (counts[~often] <= 30).all()
        if often.sum() > 1:
            expected = chances[often] / chances[often].sum() * counts[often].sum()
            assert stats.chisquare(counts[often], expected).pvalue > 1e-3


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_noise_by_seed_has_the_references_distribution(backend, crops):
    """Histograms of the counter's numbers next to those of NumPy's legacy generator."""
    images = crops(1, 96, 96)
    for name in ("gaussian_noise", "speckle_noise", "shot_noise"):
        for severity in (1, 5):
            reference = CorruptionDraws.from_reference(name, severity, 96, 96, np.random.RandomState(5))
            expected = apr_dali.corrupt(images, name, severity, reference, backend=backend).astype(int) - images
            got = corrupted(images[0], name, severity, backend=backend).astype(int) - images[0]
            assert stats.ks_2samp(got.reshape(-1), expected.reshape(-1)).pvalue > 1e-3


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulses_are_salt_and_pepper_in_equal_parts(severity, backend):
    share = TABLES["imagenet"]["impulse_noise"][severity - 1]
    got = corrupted(one_color(100, 128, 101), "impulse_noise", severity, backend=backend)
    for value in (0, 255):
        expected = got.size * share / 2
        assert abs((got == value).sum() - expected) < 3 * np.sqrt(expected * (1 - share / 2))
    for c, level in enumerate((100, 128, 101)):
        assert set(np.unique(got[..., c])) == {0, level, 255}


def glass_as_written(image, shifts, reach, times):
    """The reference's loops over a blurred image, with its assignment through views."""
    x = image.copy()
    shifts = iter(shifts.reshape(-1, 2))
    height, width = image.shape[:2]
    for _ in range(times):
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dx, dy = next(shifts)
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    return x


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_glass_follows_pointers_to_where_the_loops_lead(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for reach, times in ((1, 1), (2, 1), (4, 2)):
        record, _ = find("glass_blur")
        shifts = record.draw(np.random.RandomState(1), height, width, (0.7, reach, times))["shifts"]
        expected = glass_as_written(pixels, shifts, reach, times)
        got = pixels.reshape(-1, 3)
        for one in shifts:
            got = got[blur._origins(one, height, width, reach)]
        np.testing.assert_array_equal(got.reshape(pixels.shape), expected)


def test_gaussian_blur_is_scikit_images():
    from skimage.filters import gaussian

    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    for severity, sigma in zip(SEVERITIES, TABLES["imagenet"]["gaussian_blur"], strict=True):
        expected = np.clip(gaussian(image / 255.0, sigma=sigma, channel_axis=-1), 0, 1) * 255
        np.testing.assert_array_equal(corrupted(image, "gaussian_blur", severity), expected.astype(np.uint8))


@pytest.mark.parametrize("parameter_set", SETS)
def test_the_disk_is_opencvs(parameter_set):
    cv2 = pytest.importorskip("cv2")
    for radius, softness in TABLES[parameter_set]["defocus_blur"]:
        reach, size = (8, 3) if radius <= 8 else (radius, 5)
        across = np.arange(-reach, reach + 1)
        hard = (across[:, None] ** 2 + across**2 <= radius**2).astype(np.float32)
        expected = cv2.GaussianBlur(hard / hard.sum(), ksize=(size, size), sigmaX=softness)
        got = blur.disk(radius, softness)
        assert got.dtype == np.float32
        # To the last bit where OpenCV has fused vectors of float32.
        np.testing.assert_allclose(got, expected, rtol=3e-7, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_defocus_is_opencvs_filter(height, width):
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for severity, parameters in zip(SEVERITIES, TABLES["imagenet"]["defocus_blur"], strict=True):
        kernel = blur.disk(*parameters)
        channels = [cv2.filter2D(np.ascontiguousarray(image[..., c] / 255.0), -1, kernel) for c in range(3)]
        expected = (np.clip(np.stack(channels, -1), 0, 1) * 255).astype(np.uint8)
        np.testing.assert_array_equal(corrupted(image, "defocus_blur", severity), expected)


@pytest.mark.parametrize("degrees", [-45.0, -17.3, 0.0, 12.0, 45.0, -90.0, -135.0])
def test_motion_goes_along_a_line(degrees):
    count = 31
    steps = np.array(blur.line_steps(count, degrees))
    assert steps[0].tolist() == [0, 0]
    direction = np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    assert np.abs(steps - np.arange(count)[:, None] * direction).max() <= 0.5 + 1e-9


def test_motion_weighs_by_half_a_gaussian():
    weights = blur.line_weights(10, 3)
    assert len(weights) == 21
    np.testing.assert_allclose(weights / weights[0], np.exp(-(np.arange(21) ** 2) / 18))
    assert abs(weights.sum() - 1) < 1e-12


def test_motion_smears_what_lies_ahead_of_a_pixel():
    image = np.zeros((40, 60), np.uint8)[..., None]
    image[20, 30] = 255
    got = blur.move(image, 10, 3, 0.0)[..., 0].astype(int)
    weights = blur.line_weights(10, 3)
    # The point shows to its left, as each pixel looks to its right; 16 bits are truncated to 8.
    np.testing.assert_array_equal(got[20, 30 - np.arange(21)], (np.floor(weights * 65535 + 0.5) // 257).astype(int))
    assert got.sum() == got[20, 10:31].sum()


@pytest.mark.parametrize("value", [0, 1, 93, 254, 255])
def test_motion_keeps_one_color(value):
    image = np.full((32, 40, 3), value, np.uint8)
    np.testing.assert_array_equal(blur.move(image, 20, 15, 33.0), image)


@pytest.mark.parametrize(("height", "width"), [*SIZES, (32, 71)])
def test_zoom_is_a_table_of_rows_and_columns(height, width):
    image = np.random.default_rng(0).random((height, width, 2))
    factors = {float(factor) for parameters in TABLES["imagenet"]["zoom_blur"] for factor in parameters}
    for factor in (*sorted(factors), 2.5, 4.0):
        sides = []
        for size in (height, width):
            table = blur.zoom_sources(size, factor)
            first = table[:, 0].astype(int)
            assert (first >= 0).all()
            assert (first < size - 1).all()
            assert (np.diff(first) >= 0).all()
            weights = np.zeros((size, size))
            weights[np.arange(size), first] = table[:, 1]
            weights[np.arange(size), first + 1] = table[:, 2]
            sides.append(weights)
        expected = np.einsum("yi,xj,ijc->yxc", sides[0], sides[1], image, optimize=True)
        np.testing.assert_allclose(blur.zoomed(image, factor), expected, atol=1e-12)


def test_zoom_by_one_is_the_image():
    image = np.random.default_rng(0).random((33, 40, 3))
    np.testing.assert_allclose(blur.zoomed(image, 1.0), image, atol=1e-15)


def test_zoom_of_a_square_enlarges_its_middle():
    image = np.random.default_rng(0).random((64, 64, 1))
    expected = ndimage.zoom(image[16:48, 16:48], (2, 2, 1), order=1)
    np.testing.assert_array_equal(blur.zoomed(image, 2.0), expected)


def test_snow_is_white_above_its_threshold_alone():
    _, parameters = find("snow", 3)
    threshold = parameters[3]
    high, low = np.full((48, 64), threshold + 0.05), np.full((48, 64), threshold - 0.05)
    angle = np.asarray(-90.0)
    np.testing.assert_array_equal(snow.flakes({"flakes": low, "angle": angle}, parameters), 0)
    level = int(min(threshold + 0.05, 1) * 255)
    np.testing.assert_array_equal(snow.flakes({"flakes": high, "angle": angle}, parameters), level)


def test_snow_falls_twice_and_turned_around():
    image = np.zeros((64, 64, 3), np.uint8)
    record, parameters = find("snow", 1)
    draws = CorruptionDraws.sample("snow", 1, 1, 64, 64, seed=3)[0]
    layer = snow.flakes(draws, parameters) / 255.0
    assert 0 < (layer > 0).mean() < 1
    # Black becomes the gray that whitening adds.
    white = np.float32(1 - parameters[-1]) * np.float32(0.5)
    expected = (np.clip(white + layer + layer[::-1, ::-1], 0, 1) * 255).astype(np.uint8)
    got = record.apply(image, draws, parameters)
    for c in range(3):
        np.testing.assert_array_equal(got[..., c], expected)


def test_gray_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.float32) / 255
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    np.testing.assert_allclose(snow.gray(image)[..., 0], expected, rtol=2e-7)


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "gaussian_blur", "motion_blur", "zoom_blur"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_blur_keeps_black_gray_and_the_range(name, height, width, crops):
    photo = crops(1, height, width)[0]
    gray = np.repeat(photo[..., :1], 3, axis=2)
    got = corrupted(gray, name)
    np.testing.assert_array_equal(got[..., 0], got[..., 1])
    np.testing.assert_array_equal(got[..., 0], got[..., 2])
    np.testing.assert_array_equal(corrupted(np.zeros_like(photo), name), 0)
    got = corrupted(photo, name)
    assert (got.min((0, 1)) >= photo.min((0, 1)).astype(int) - 1).all() or name == "zoom_blur"
    assert (got.max((0, 1)) <= photo.max((0, 1))).all()
    assert got.astype(float).std() < photo.astype(float).std()
