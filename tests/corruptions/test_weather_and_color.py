"""What must hold of frost, fog, the colors, elastic, pixelate, JPEG and spatter on any image."""

import numpy as np
import pytest

import apr_dali
from apr_dali.corruptions import fog, frost
from apr_dali.errors import InputError

NAMES = (
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "spatter",
    "saturate",
)
ONE = np.zeros(1, np.uint64)
"""The number of one image."""
SIZES = [(32, 32), (33, 65), (201, 147)]


def corrupted(image, name, severity=3, seed=1, parameter_set="imagenet"):
    height, width = image.shape[:2]
    draws = apr_dali.CorruptionDraws.sample(name, severity, 1, height, width, seed, parameter_set=parameter_set)
    return apr_dali.corrupt(image[None], name, severity, draws, backend="numpy")[0]


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_is_a_function_of_image_and_draws(name, height, width):
    image = noise(height, width)
    image.flags.writeable = False
    first = corrupted(image, name)
    assert (first.shape, first.dtype) == (image.shape, np.uint8)
    assert np.array_equal(first, corrupted(image, name))
    assert not np.array_equal(first, image)


@pytest.mark.parametrize("name", ["frost", "fog", "elastic_transform", "spatter"])
def test_other_draws_give_another_image(name):
    image = noise(64, 80)
    assert not np.array_equal(corrupted(image, name, seed=1), corrupted(image, name, seed=2))


@pytest.mark.parametrize(
    ("name", "levels"), [("contrast", 1), ("pixelate", 0), ("elastic_transform", 1), ("jpeg_compression", 8)]
)
def test_one_color_stays(name, levels):
    image = np.broadcast_to(np.array([40, 120, 200], np.uint8), (48, 64, 3))
    assert np.abs(corrupted(image, name).astype(int) - image).max() <= levels


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("frost", "spatter")])
def test_gray_stays_gray(name):
    image = np.repeat(noise(48, 64)[..., :1], 3, axis=2)
    got = corrupted(image, name, severity=3)
    assert np.array_equal(got[..., 0], got[..., 1])
    assert np.array_equal(got[..., 0], got[..., 2])


def test_brightness_of_black_is_a_gray():
    assert set(corrupted(np.zeros((32, 32, 3), np.uint8), "brightness", 5).reshape(-1)) == {127}


def test_more_of_it_at_each_severity():
    image = noise(96, 96) // 2 + 64
    for name in ("brightness", "contrast", "pixelate", "jpeg_compression"):
        apart = [np.abs(corrupted(image, name, s).astype(int) - image).mean() for s in (1, 3, 5)]
        assert apart == sorted(apart), name


def test_elastic_with_no_displacement_is_the_image():
    image = noise(40, 56)
    given = {"corners": np.zeros((3, 2)), "across": np.zeros((40, 56)), "down": np.zeros((40, 56))}
    draws = apr_dali.CorruptionDraws("elastic_transform", 3, 40, 56, "imagenet", None, ONE, (given,))
    got = apr_dali.corrupt(image[None], "elastic_transform", 3, draws, backend="numpy")[0]
    assert np.abs(got.astype(int) - image).max() <= 1


@pytest.mark.parametrize("severity", [3, 5])
def test_spatter_without_a_drop_is_the_image(severity):
    image = noise(40, 56)
    draws = apr_dali.CorruptionDraws(
        "spatter", severity, 40, 56, "imagenet", None, ONE, ({"liquid": np.zeros((40, 56))},)
    )
    got = apr_dali.corrupt(image[None], "spatter", severity, draws, backend="numpy")[0]
    assert np.abs(got.astype(int) - image).max() <= (0 if severity == 3 else 1)


@pytest.mark.parametrize(("height", "width", "side"), [(32, 32, 32), (33, 32, 64), (224, 224, 256), (200, 257, 512)])
def test_fog_covers_the_image(height, width, side):
    assert fog.side(height, width) == side
    cloud = fog.cloud(np.random.default_rng(0).random(side**2 - 1), 2.0)
    assert cloud.shape == (side, side)
    assert (cloud.min(), cloud.max()) == (0, 1)


def test_fog_is_as_rough_as_its_decay_says():
    uniform = np.random.default_rng(0).random(128**2 - 1)
    steps = [np.abs(np.diff(fog.cloud(uniform, decay), axis=0)).mean() for decay in (1.4, 2.0, 3.0)]
    assert steps == sorted(steps, reverse=True)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (314, 559), (315, 560), (640, 950)])
def test_frost_photographs_cover_the_image(height, width):
    for index in range(len(frost.PHOTOGRAPHS)):
        pixels = frost.covering(index, 1.0, height, width)
        own = frost.photograph(index, 1.0).shape
        assert pixels.shape[0] > height
        assert pixels.shape[1] > width
        assert (pixels.shape == own) == (own[0] > height and own[1] > width)


def test_frost_draws_every_photograph_and_place():
    drawn = [
        apr_dali.CorruptionDraws.sample("frost", 1, 400, 312, 556, seed=0)[k] for k in range(400)
    ]  # the smallest photographs leave 3 × 4 places
    assert {int(each["photograph"]) for each in drawn} == {0, 1, 2, 3, 4}
    small = [each for each in drawn if each["photograph"] in (1, 2)]
    assert {(int(each["top"]), int(each["left"])) for each in small} == {(y, x) for y in range(3) for x in range(4)}


def test_frost_without_its_photographs_says_what_to_install(monkeypatch):
    for read in (frost.photograph, frost.covering):
        read.cache_clear()
    monkeypatch.setattr(frost, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"imagecorruptions-imaug: .*pip install"):
        corrupted(noise(32, 32), "frost")
