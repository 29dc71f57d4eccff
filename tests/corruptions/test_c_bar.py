"""The corruptions of ImageNet-C-bar and CIFAR-10-C-bar: next to what their authors' code made, and beyond its sizes."""

import numpy as np
import pytest
from helpers.reference_cells import C_BAR_KINDS, SHOWN, is_the_reference, photograph, piece_of, seed_of
from scipy import stats

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.corruptions import C_BAR, CIFAR_C_BAR, NAMES, corruptions_of, find, names_in, set_for
from apr_dali.corruptions.c_bar import RECORDS, perlin
from apr_dali.corruptions.counter import CounterRandom
from apr_dali.corruptions.parameters import SEVERITIES
from apr_dali.errors import InputError
from apr_dali.kernels.cpu import backend as native_backend

ALL = tuple(dict.fromkeys((*C_BAR, *CIFAR_C_BAR)))
ODD = ("brownish_noise", "blue_noise_sample")
CELLS = [
    *(("chelsea", name) for name in C_BAR),
    *(("astronaut", name) for name in CIFAR_C_BAR),
    *(("coffee", name) for name in ODD),
]
# All 110 are equal where they were made. A sine may have another last bit elsewhere, which may end in another level.
LEAST_EQUAL = 4
GRAY = 128


def corrupted(images, name, severity=3, seed=4, first=0, **options):
    n, height, width = images.shape[:3]
    draws = CorruptionDraws.sample(name, severity, n, height, width, seed, first, set_for([name]))
    return apr_dali.corrupt(images, name, severity, draws, **options)


@pytest.mark.parametrize(("image", "name"), CELLS)
def test_with_the_references_draws(image, name):
    parameter_set, side = C_BAR_KINDS[image]
    pixels = photograph(image, side)
    equal = 0
    for severity in SEVERITIES:
        random = np.random.RandomState(seed_of(image, name, severity))
        draws = CorruptionDraws.from_reference(name, severity, side, side, random, parameter_set)
        got = apr_dali.corrupt(pixels[None], name, severity, draws, backend="numpy")[0]
        apart = np.abs(got[SHOWN].astype(int) - piece_of(image, name, severity))
        assert apart.max() <= 1, f"severity {severity}"
        equal += is_the_reference(got, image, name, severity)
    assert equal >= LEAST_EQUAL


def test_all_are_there():
    assert (len(C_BAR), len(CIFAR_C_BAR), len(ALL)) == (10, 10, 15)
    assert {record.name for record in RECORDS} == set(ALL)
    assert not set(ALL) & set(NAMES)
    assert corruptions_of("c-bar", "imagenet") == C_BAR
    assert corruptions_of("c-bar", "cifar") == CIFAR_C_BAR
    assert len(corruptions_of("c", "cifar")) == 15
    assert set(names_in("tiny-imagenet")) == set(NAMES)
    for parameter_set, names in (("imagenet", C_BAR), ("cifar", CIFAR_C_BAR)):
        for name in names:
            strengths = [find(name, severity, parameter_set)[1] for severity in SEVERITIES]
            assert strengths == sorted(set(strengths))
            assert 0 < strengths[0] < strengths[-1] <= 10
    # As published: the first and the last, and one that both have.
    assert [find("caustic_refraction", severity)[1] for severity in (1, 5)] == [2.35, 9.15]
    assert [find("sparkles", 3, parameter_set)[1] for parameter_set in ("imagenet", "cifar")] == [3.0, 5.6]


def test_what_no_set_has_is_refused():
    with pytest.raises(InputError, match="ripple has parameters of the set cifar, none of imagenet"):
        find("ripple")
    with pytest.raises(InputError, match="sparkles has parameters of the set imagenet and cifar, none of tiny-im"):
        CorruptionDraws.sample("sparkles", 1, 1, 64, 64, 0, parameter_set="tiny-imagenet")
    with pytest.raises(InputError, match=r"no corruption is named 'sparkle': there are .*fog.*sparkles.*ripple"):
        find("sparkle")
    with pytest.raises(InputError, match="set of corruptions must be one of c, c-bar, got 'C-bar'"):
        corruptions_of("C-bar", "imagenet")
    assert [set_for(names) for names in (["ripple", "fog"], ["fog"], ["ripple", "perlin_noise"])] == [
        "cifar",
        "imagenet",
        "imagenet",
    ]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("height", "width"), [(47, 36), (33, 90)])
def test_images_of_any_size_in_any_batch(name, height, width, crops):
    images = crops(4, height, width)
    before = images.copy()
    images.flags.writeable = False
    whole = corrupted(images, name)
    assert (whole.dtype, whole.shape) == (np.uint8, images.shape)
    np.testing.assert_array_equal(images, before)
    assert (whole != images).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(corrupted(images, name, backend="numpy"), whole)
    np.testing.assert_array_equal(corrupted(images, name, threads=3), whole)
    for first, last in ((0, 1), (1, 4)):
        np.testing.assert_array_equal(corrupted(images[first:last], name, first=first), whole[first:last])


@pytest.mark.parametrize("name", [name for name in ALL if name != "circular_motion_blur"])
def test_other_images_have_other_draws(name):
    draws = CorruptionDraws.sample(name, 2, 2, 40, 33, seed=9, parameter_set=set_for([name]))
    assert any(np.any(draws[0][key] != draws[1][key]) for key in draws[0])
    assert all(isinstance(values, np.ndarray) for values in draws[0].values())


@pytest.mark.parametrize("name", ALL)
def test_severities_grow(name, crops):
    # Strengths grow, but where draws decide most single images need not follow: the mean of many does.
    images = crops(12, 48, 48)
    changed = [np.abs(corrupted(images, name, severity).astype(int) - images).mean() for severity in (1, 5)]
    assert changed[0] < changed[1]


def test_a_transform_knows_them(crops):
    torch = pytest.importorskip("torch")
    from apr_dali.transforms import Corrupt

    images = torch.from_numpy(crops(2, 40, 44)).permute(0, 3, 1, 2)
    torch.manual_seed(3)
    got = Corrupt("ripple", 2, parameter_set="cifar", seed=1)(images)
    assert not torch.equal(got, images)
    with pytest.raises(InputError, match="ripple has parameters of the set cifar"):
        Corrupt("ripple", 2)


def test_the_native_backend_is_refused_by_name(crops):
    with pytest.raises(InputError, match="sparkles has no native operator: take the backend numpy or auto"):
        corrupted(crops(1, 32, 32), "sparkles", backend="native")


def test_threads_are_followed_where_nothing_is_native(crops, monkeypatch):
    asked = []
    real = native_backend.threads_of
    monkeypatch.setattr(native_backend, "threads_of", lambda threads: asked.append(threads) or real(threads))
    corrupted(crops(2, 32, 32), "sparkles", threads=2)
    assert asked == [2]
    corrupted(crops(2, 32, 32), "sparkles", backend="numpy")
    assert asked == [2]


# ---- what each of them does ------------------------------------------------------------------------------------------


def test_permutations_are_as_likely():
    orders = [tuple(CounterRandom(1, image, "ripple", 1).permutation(3)) for image in range(1200)]
    values, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(values) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def power_by_frequency(noise):
    """The mean power of waves along the shorter side 4 to 8, and 16 to 32."""
    height, width = noise.shape
    shorter = min(height, width)
    rows, columns = np.fft.fftfreq(height)[:, None] * shorter, np.fft.fftfreq(width)[None] * shorter
    radius = np.hypot(rows, columns)
    power = np.abs(np.fft.fft2(noise)) ** 2
    return [power[(radius >= low) & (radius < 2 * low)].mean() for low in (4, 16)]


@pytest.mark.parametrize(("height", "width"), [(96, 96), (97, 161), (160, 95)])
def test_noise_has_its_spectrum_on_rectangles_too(height, width):
    gray = np.full((1, height, width, 3), 127, np.uint8)
    brown = corrupted(gray, "brownish_noise", 1)[0].astype(float) - 127
    # A color's mean is a wave, too: the longest.
    np.testing.assert_allclose(brown.std(axis=(0, 1)), 6.4, atol=0.3)
    assert np.abs(np.corrcoef(brown.reshape(-1, 3).T)[0, 1:]).max() < 0.7
    low, high = power_by_frequency(brown[..., 0])
    assert low / high == pytest.approx(4**4, rel=0.6)  # amplitude 1 / f²
    white = np.full((1, height, width, 3), 255, np.uint8)
    kept = corrupted(white, "blue_noise_sample", 3)[0]
    assert set(np.unique(kept)) == {0, 255}
    # Noise of many waves is normal: it is over the threshold -1.78 as often.
    assert (kept[..., 0] > 0).mean() == pytest.approx(stats.norm.sf(2.4 * 3 / 10 - 2.5), abs=0.02)
    low, high = power_by_frequency((kept[..., 0] > 0) - (kept[..., 0] > 0).mean())
    assert low < high


@pytest.mark.parametrize(("height", "width"), [(64, 160), (160, 64)])
def test_noise_is_the_same_in_all_directions(height, width):
    noise = corrupted(np.full((8, height, width, 3), 127, np.uint8), "brownish_noise", 1).astype(float)
    power = (np.abs(np.fft.fft2(noise, axes=(1, 2))) ** 2).mean(axis=(0, 3))
    down, across = np.meshgrid(np.fft.fftfreq(height) * 64, np.fft.fftfreq(width) * 64, indexing="ij")
    near = (np.hypot(down, across) > 4) & (np.hypot(down, across) < 8)
    steep, flat = (power[near & side].mean() for side in (abs(down) > abs(across), abs(down) < abs(across)))
    assert steep == pytest.approx(flat, rel=0.4)


def test_one_frequency_is_one():
    gray = np.full((3, 64, 128, 3), 127, np.uint8)
    for image in corrupted(gray, "single_frequency_greyscale", 1):
        assert (image[..., :1] == image).all()
        power = np.abs(np.fft.fft2((image[..., 0] - 127.0) * np.hanning(64)[:, None] * np.hanning(128))) ** 2
        # A frequency and its negative, each over the three bins a side that the window leaves it.
        assert np.sort(power.reshape(-1))[-32:].sum() > 0.9 * power.sum()


def test_the_board_covers_half_of_its_dark_fields():
    white = np.full((200, 64, 64, 3), 255, np.uint8)
    for severity in (1, 5):
        covered = corrupted(white, "checkerboard_cutout", severity)
        assert set(np.unique(covered)) == {GRAY, 255}
        fraction = find("checkerboard_cutout", severity)[1] / 10
        assert (covered[..., 0] == GRAY).mean() == pytest.approx(fraction / 2, rel=0.1)


def test_a_board_repeats_on_long_images():
    long = corrupted(np.full((1, 32, 2000, 3), 255, np.uint8), "checkerboard_cutout", 5)
    thirds = [(part == GRAY).mean() for part in np.array_split(long[0, ..., 0], 3, axis=1)]
    assert min(thirds) > 0.15


def test_stars_are_light_at_their_centers():
    black = np.zeros((2, 90, 120, 3), np.uint8)
    draws = CorruptionDraws.sample("sparkles", 3, 2, 90, 120, 0)
    lit = apr_dali.corrupt(black, "sparkles", 3, draws)
    assert {tuple(draws[k]["centers"].shape) for k in range(2)} == {(5, 2)}
    for image, drawn in zip(lit, draws, strict=True):
        for row, column in drawn["centers"]:
            assert image[min(int(row), 89), min(int(column), 119)].min() > 230
        assert 10 < image.mean() < 128
    draws = CorruptionDraws.sample("inverse_sparkles", 5, 2, 90, 120, 0)
    left = apr_dali.corrupt(black, "inverse_sparkles", 5, draws)
    for image, drawn in zip(left, draws, strict=True):
        row, column = drawn["center"].astype(int)
        assert image[row, column].max() < 30
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.min() > 150


def test_no_gradient_of_perlin_noise_is_not_a_number():
    draws = {"gradients": np.full((256, 2), 256), "swaps": np.zeros(256, np.int64)}
    out = perlin.PERLIN.apply(np.full((32, 32, 3), 100, np.uint8), draws, 10.0)
    assert (out == int(100 * 0.5 + 255 * 0.5 * 0.5)).all()


def test_flat_water_leaves_the_image(crops):
    image = crops(1, 40, 40)[0]
    record, _ = find("caustic_refraction")
    draws = {"time": np.asarray(1.0), "size": np.asarray(40.0)}
    # Without strength nothing is displaced or lit.
    np.testing.assert_array_equal(record.apply(image, draws, 0.0), (image.astype(np.float32) / 255.0 * 255).astype(int))


@pytest.mark.parametrize("name", ["ripple", "pinch_and_twirl"])
def test_what_is_not_bent_stays(name, crops):
    image = crops(1, 50, 70)[0]
    record, _ = find(name, 1, "cifar")
    random = CounterRandom(0, 0, name, 1)
    draws = record.draw(random, 50, 70, 10.0)
    out = record.apply(image, draws, 10.0)
    if name == "ripple":
        np.testing.assert_array_equal(record.apply(image, draws, 0.0), image)
    else:
        # 3 × 3 cells of 16 × 23: rows and columns that are left over, and the corners of cells.
        np.testing.assert_array_equal(out[48:], image[48:])
        np.testing.assert_array_equal(out[:, 69:], image[:, 69:])
        np.testing.assert_array_equal(out[[0, 0, 16, 32], [0, 22, 23, 46]], image[[0, 0, 16, 32], [0, 22, 23, 46]])
    assert (out != image).mean() > 0.1


def test_colors_are_enlarged_by_their_factors():
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:40, 30:50] = 255
    record, _ = find("transverse_chromatic_abberation", 1, "cifar")
    out = record.apply(image, {"order": np.array([2, 0, 1])}, 10.0)
    widths = (out[30] > GRAY).sum(axis=0)
    heights = (out[:, 40] > GRAY).sum(axis=0)
    assert np.abs(widths - [30, 20, 25]).max() <= 2
    assert np.abs(heights - [30, 20, 25]).max() <= 2


def test_a_circular_blur_keeps_the_middle_and_lines_are_gray():
    image = np.zeros((65, 65, 3), np.uint8)
    image[::2] = 255
    record, _ = find("circular_motion_blur", 1, "cifar")
    out = record.apply(image, {}, 6.0)
    assert np.ptp(out[30:35, 32, 0].astype(int)) > 150
    assert np.ptp(out[30:35, 4, 0].astype(int)) < 60
    lines = corrupted(np.zeros((1, 40, 60, 3), np.uint8), "lines", 5)[0]
    assert 120 < lines.max() <= GRAY
    assert 0.05 < (lines > 0).mean() < 0.9
