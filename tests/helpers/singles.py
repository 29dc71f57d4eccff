"""Images, draws and judgements for the tests of APR-S, whatever the backend."""

from __future__ import annotations

import numpy as np
from helpers import tolerances
from PIL import Image, ImageOps

from apr_dali.draws import SingleDraws


def by_pillow(image: np.ndarray, operation: str, parameters: np.ndarray) -> np.ndarray:
    """The operation as the published code calls it."""
    picture = Image.fromarray(image)
    if operation in ("autocontrast", "equalize"):
        return np.asarray(getattr(ImageOps, operation)(picture))
    if operation in ("posterize", "solarize"):
        return np.asarray(getattr(ImageOps, operation)(picture, int(parameters[0])))
    matrix = tuple(parameters)
    return np.asarray(picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


def only_first(draws: SingleDraws) -> SingleDraws:
    """The same draws without a second operation, and so without mixing."""
    return SingleDraws(draws.operation, draws.parameters, np.zeros_like(draws.mix), draws.amplitude_of_second)


def various(rng: np.random.Generator, crops, count: int, height: int, width: int) -> np.ndarray:
    """Noise, two levels, flat, dark and natural images in turn."""
    images = crops(count, height, width, seed=int(rng.integers(1 << 30))).copy()
    images[0::5] = rng.integers(0, 256, images[0::5].shape)
    images[1::5] = rng.integers(0, 2, images[1::5].shape) * rng.integers(1, 256) // 2
    images[2::5] = rng.integers(0, 256, (len(images[2::5]), 1, 1, 3))
    images[3::5] = images[3::5] // 3 + 20
    return images


def levels_apart(got: np.ndarray, expected: np.ndarray, overflow: str) -> np.ndarray:
    """Gray levels between two uint8 arrays; values that wrap around have 255 and 0 for neighbors."""
    apart = np.abs(got.astype(int) - expected)
    return np.minimum(apart, 256 - apart) if overflow == "wrap" else apart


def assert_agrees(got: np.ndarray, expected: np.ndarray, mixed: np.ndarray, overflow: str) -> None:
    """APR-S within the tolerances, and exact where it is not `mixed`."""
    apart = levels_apart(got, expected, overflow)
    assert apart.max() <= tolerances.LEVELS
    if overflow == "clamp":
        assert (apart > 0).mean() < tolerances.LEVELS_SHARE_CLAMP
    np.testing.assert_array_equal(got[~mixed], expected[~mixed])
