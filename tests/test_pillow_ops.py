"""The nine operations of the reference against Pillow itself, and APR-S against the published steps."""

import numpy as np
import pytest
from helpers.singles import by_pillow
from PIL import Image

from apr_dali import pillow_ops
from apr_dali.draws import OPERATIONS, SingleDraws, rotation

CASES_PER_OPERATION = 240


def an_image(rng: np.random.Generator, crops, case: int) -> np.ndarray:
    """A natural crop, noise, two levels, a flat image or a dark one, of a random size from 1 to 70."""
    height, width = (int(v) for v in rng.integers(1, 71, size=2))
    kind = case % 6
    if kind == 0:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == 1:
        return (rng.integers(0, 2, (height, width, 3)) * rng.integers(1, 256) // 2).astype(np.uint8)
    if kind == 2 and case % 4 == 0:
        return np.full((height, width, 3), rng.integers(256, size=3), np.uint8)
    image = np.ascontiguousarray(crops(1, height, width, seed=case)[0])
    return image // 3 + 20 if kind == 3 else image


@pytest.mark.parametrize("index", range(len(OPERATIONS)), ids=OPERATIONS)
def test_operation_is_pillows_bit_for_bit(index, crops):
    rng = np.random.default_rng(index)
    changed = 0
    for case in range(CASES_PER_OPERATION):
        image = an_image(rng, crops, case)
        uniform = rng.random((1, 8))
        uniform[0, 0] = (index + 0.5) / len(OPERATIONS)
        draws = SingleDraws.from_uniform(uniform, *image.shape[:2])
        got = pillow_ops.apply(image, OPERATIONS[index], draws.parameters[0, 0])
        expected = by_pillow(image, OPERATIONS[index], draws.parameters[0, 0])
        np.testing.assert_array_equal(got, expected, err_msg=f"case {case}, {image.shape}")
        changed += (got != image).any()
    assert changed > CASES_PER_OPERATION / 3


@pytest.mark.parametrize("size", [(31, 32), (64, 64), (7, 90), (1, 1)])
def test_rotation_is_pillows_rotate(size, crops):
    image = np.ascontiguousarray(crops(1, *size)[0])
    for degrees in [*range(-9, 10), 45, -90, 180, 271]:
        got = pillow_ops.affine(image, rotation(np.array(degrees), *size))
        turned = Image.fromarray(image).rotate(degrees, resample=Image.Resampling.BILINEAR)
        if degrees % 90 or not degrees:  # Pillow turns by right angles without interpolating
            np.testing.assert_array_equal(got, np.asarray(turned), err_msg=f"{degrees} degrees")


def published_single(image: np.ndarray, draws: SingleDraws, n: int, overflow: str) -> np.ndarray:
    """APR-S of one image as released: Pillow's operations, NumPy's full complex transforms over all three axes."""
    names = [OPERATIONS[k] for k in draws.operation[n]]
    first = by_pillow(image, names[0], draws.parameters[n, 0])
    if not draws.mix[n]:
        return first
    second = by_pillow(first, names[1], draws.parameters[n, 1])
    f, g = np.fft.fftn(first), np.fft.fftn(second)
    if draws.amplitude_of_second[n]:
        mixed = np.fft.ifftn(np.abs(g) * np.exp(1j * np.angle(f))).real
    else:
        mixed = np.fft.ifftn(np.abs(f) * np.exp(1j * np.angle(g))).real
    if overflow == "clamp":
        return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return mixed.astype(np.int64).astype(np.uint8)


@pytest.mark.parametrize("overflow", ["clamp", "wrap"])
def test_single_is_the_published_composition(overflow, crops):
    images = crops(24, 40, 56, seed=9)
    draws = SingleDraws.sample(24, 40, 56, seed=4)
    got = pillow_ops.single(images, draws, overflow)
    assert 6 < draws.mix.sum() < 18
    for n, image in enumerate(images):
        expected = published_single(image, draws, n, overflow)
        if not draws.mix[n]:
            np.testing.assert_array_equal(got[n], expected)
        else:
            apart = np.abs(got[n].astype(int) - expected)
            # Truncation of a whole number plus rounding error may fall either way, and wrap round at 0.
            assert np.minimum(apart, 256 - apart).max() <= 1


def test_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="must be one of autocontrast"):
        pillow_ops.apply(np.zeros((2, 2, 3), np.uint8), "sharpness", np.zeros(6))
