"""APR-S of the native CPU backend against the float64 reference and Pillow, at every level of this machine."""

import numpy as np
import pytest
from helpers.singles import assert_agrees, by_pillow, only_first, various

import apr_dali
from apr_dali import spectral
from apr_dali.draws import OPERATIONS, SingleDraws

pytestmark = pytest.mark.usefixtures("native")


@pytest.mark.slow
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


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (17, 16), (40, 56)], ids=str)
def test_operations_are_the_references_bit_for_bit(size, crops, each_level):
    rng = np.random.default_rng(3)
    images = various(rng, crops, 90, *size)
    draws = only_first(SingleDraws.sample(90, *size, seed=8))
    assert set(draws.operation[:, 0]) == set(range(len(OPERATIONS)))
    expected = apr_dali.single(images, draws, backend="reference")
    for _ in each_level():
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


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("overflow", spectral.OVERFLOWS)
@pytest.mark.parametrize("size", [(32, 32), (45, 30), (224, 224)], ids=str)
def test_single_is_the_reference(size, overflow, axes, crops, each_level):
    images = crops(40 if size[0] < 100 else 8, *size, seed=6)
    draws = SingleDraws.sample(len(images), *size, seed=2)
    well_posed = no_channel_is_flat(images, draws)
    assert well_posed.sum() > 0.9 * len(images)
    expected = apr_dali.single(images, draws, overflow=overflow, axes=axes, backend="reference")
    for _ in each_level():
        got = apr_dali.single(images, draws, overflow=overflow, axes=axes, backend="native")
        assert_agrees(got[well_posed], expected[well_posed], draws.mix[well_posed], overflow)
        np.testing.assert_array_equal(got[~draws.mix], expected[~draws.mix])
