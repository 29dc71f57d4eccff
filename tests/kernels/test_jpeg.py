"""JPEG files that nobody writes next to those that Pillow writes and reads."""

import io

import numpy as np
import pytest
from helpers.blocky import pictures
from helpers.native_levels import EachLevel
from PIL import Image

import apr_dali
from apr_dali.corruptions.digital import jpeg_steps, through_jpeg
from apr_dali.kernels import jpeg
from apr_dali.kernels.cpu import backend as native_backend
from apr_dali.kernels.jpeg import round_trip

QUALITIES = range(1, 101)
# Chroma of up to two columns has another filter; of a block, a vector and a strip the last, the next and one between.
SIDES = [*range(1, 19), 31, 32, 33, 47, 63, 64, 65, 79, 97, 128, 130, 161]


def is_pillows(images: np.ndarray, quality: int, each_level: EachLevel) -> None:
    expected = np.stack([through_jpeg(image, quality) for image in images])
    for _ in each_level():
        np.testing.assert_array_equal(round_trip(images, quality), expected, err_msg=f"{images.shape}, {quality}")


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_steps_are_those_of_pillows_files(quality):
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8)).save(encoded, "JPEG", quality=quality)
    written = Image.open(encoded).quantization
    for table, steps in enumerate(jpeg_steps(quality)):
        assert steps.reshape(-1).tolist() == list(written[table])


@pytest.mark.parametrize("height", SIDES)
def test_every_size_is_pillows(height, each_level):
    for place, width in enumerate(SIDES):
        is_pillows(pictures(height, width, seed=place), 1 + (37 * height + 11 * width) % 100, each_level)


def test_every_quality_is_pillows(crops, each_level):
    for quality in QUALITIES:
        is_pillows(pictures(35, 50, seed=quality), quality, each_level)
        is_pillows(crops(4, 61, 47, seed=quality), quality, each_level)


def test_levels_beyond_black_and_white_are_pillows(each_level):
    """Coarse steps throw the largest blocks far out of 0..255; steps of 1 leave the largest points of the DCT."""
    x = np.arange(8)
    waves = np.cos(np.pi * np.outer(np.arange(8), 2 * x + 1) / 16)
    signs = np.where(waves >= -1e-9, 255, 0)
    blocks = np.stack([np.minimum.outer(a, b) for a in signs for b in signs] + [np.bitwise_xor.outer(*2 * [signs[4]])])
    image = np.concatenate(list(blocks), axis=1)
    colors = np.stack([image, 255 - image, np.roll(image, 5, axis=1)], axis=2).astype(np.uint8)
    for quality in (1, 2, 10, 50, 99, 100):
        for some in (colors, np.repeat(colors[..., :1], 3, axis=2)):
            is_pillows(some[None], quality, each_level)


@pytest.mark.usefixtures("native")
def test_optimized_files_have_the_same_pixels(crops):
    (image,) = crops(1, 50, 70)
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=85, optimize=True)
    np.testing.assert_array_equal(round_trip(image[None], 85)[0], np.array(Image.open(encoded)))


@pytest.mark.usefixtures("native")
def test_however_many_threads(crops):
    images = crops(7, 40, 72)
    whole = round_trip(images, 85, threads=1)
    for threads in (2, 3, None):
        np.testing.assert_array_equal(round_trip(images, 85, threads), whole)
    np.testing.assert_array_equal(np.concatenate([round_trip(images[k : k + 1], 85) for k in range(7)]), whole)
    assert round_trip(images[:0], 85).shape == (0, 40, 72, 3)


@pytest.mark.usefixtures("native")
def test_the_corruption_is_the_file_of_its_quality(crops):
    images = crops(3, 45, 37)
    for severity, quality in enumerate((25, 18, 15, 10, 7), 1):
        draws = apr_dali.CorruptionDraws.sample("jpeg_compression", severity, 3, 45, 37, seed=0)
        got = apr_dali.corrupt(images, "jpeg_compression", severity, draws, backend="native")
        np.testing.assert_array_equal(got, round_trip(images, quality))


def test_without_the_extension_pillow_serves(monkeypatch, crops):
    def missing():
        raise ImportError("the extension was not built")

    def unexpected(*_):
        raise AssertionError("no native operator is there")

    monkeypatch.setattr(jpeg.native_backend, "check", missing)
    monkeypatch.setattr(jpeg.native_backend, "corrupt", unexpected)
    images = crops(5, 33, 40)
    expected = np.stack([through_jpeg(image, 85) for image in images])
    for threads in (1, 2, None):
        np.testing.assert_array_equal(round_trip(images, 85, threads), expected)
    assert round_trip(images[:0], 85).shape == (0, 33, 40, 3)


@pytest.mark.usefixtures("native")
def test_what_no_file_can_hold_is_refused():
    def call(steps, shape=(1, 8, 8, 3)):
        images = np.zeros(shape, np.uint8)
        native_backend.corrupt("jpeg_compression", images, steps, [], (0, 0), np.zeros(1, np.uint64))

    good = np.ones(64)
    for wrong in (0, 256, 1.5, np.nan):
        for place in (0, 63):
            steps = np.where(np.arange(64) == place, wrong, good)
            for pair in ([steps, good], [good, steps]):
                with pytest.raises(ValueError, match="must be whole numbers from 1 to 255"):
                    call(pair)
    with pytest.raises(ValueError, match=r"constants 1 must be 64 to 64 numbers"):
        call([good])
    with pytest.raises(ValueError, match="constants 0 must be 64 to 64 numbers"):
        call([good[:63], good])
    with pytest.raises(ValueError, match="must be at most 65500"):
        call([good, good], (1, 65501, 1, 3))
