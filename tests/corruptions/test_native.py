"""The corruptions in C++ next to their definition."""

import numpy as np
import pytest
from helpers.native_levels import LEVELS, MISSING
from scipy import ndimage

from apr_dali.corruptions import NAMES, find
from apr_dali.kernels.cpu import backend as native_backend

pytestmark = pytest.mark.skipif(not LEVELS, reason=MISSING)

NATIVE = tuple(name for name in NAMES if find(name)[0].native)
NUMBERS = np.zeros(1, np.uint64)  # of one image


@pytest.fixture
def mixed(crops):
    """A function (height, width) → seven images: natural, noise, gray, one color, black, white."""

    def make(height: int, width: int) -> np.ndarray:
        images = crops(7, height, width)
        random = np.random.default_rng(0)
        images[1] = random.integers(0, 256, images[1].shape)
        images[2] = images[2][..., :1]
        images[3], images[4], images[5] = [13, 90, 200], 0, 255
        return images

    return make


def test_all_are_native():
    assert NATIVE == NAMES


@pytest.mark.parametrize("reach", [1, 2, 5, 31])
def test_defocus_takes_any_disk(reach, mixed, each_level):
    images = mixed(35, 61)
    half = np.random.default_rng(reach).random((reach + 1, 2 * reach + 1)) ** 4
    # Below 1: what is one color then lies between two levels.
    disk = np.concatenate([half[:0:-1], half])
    disk *= 0.997 / disk.sum()
    truth = np.stack([ndimage.correlate(each, disk[..., None], mode="mirror") for each in images.astype(np.float64)])
    numbers = np.arange(len(images), dtype=np.uint64)
    for level in each_level():
        got = native_backend.corrupt("defocus_blur", images, [disk], [], (0, 0), numbers)
        assert np.array_equal(got, truth.astype(np.uint8)), level


def table_of(places) -> np.ndarray:
    """32 rows or columns of an enlargement, at these places in turn."""
    return np.stack([[place, 0.5, 0.5] for place in (*places,) * 32][:32])


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("brightness", []),
        ("frost", [np.ones(2)]),
        ("frost", [np.ones(2), np.array([32.0, 900.0]), np.ones(32 * 900 * 3 // 8)]),
        ("frost", [np.ones(2), np.array([40.0, 40.0]), np.ones(40 * 40 * 3 // 8 - 1)]),
        ("elastic_transform", [np.ones(2)]),
        ("pixelate", [np.array([0.01])]),
        ("spatter", [np.ones(4), np.ones(3)]),
        ("defocus_blur", [np.zeros((3, 3))]),
        ("defocus_blur", [np.array([[0, -1, 0], [0, 3, 0], [0, -1.0, 0]])]),
        ("defocus_blur", [np.array([[0, 0, 0], [0, 0.5, 0], [0, 0.5, 0]])]),
        ("zoom_blur", [table_of(range(31)), table_of(range(0, 31, 10))]),
        ("zoom_blur", [table_of(range(31)), table_of(range(30, -1, -1))]),
    ],
)
def test_constants_that_do_not_fit_are_refused(name, constants):
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"must|needs|leave"):
        native_backend.corrupt(name, images, constants, [], (0, 0), NUMBERS)


def test_frost_keeps_given_places_inside_its_photographs():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    record, parameters = find("frost", 3)
    constants = record.constants(parameters, 32, 32)
    far = [np.array([value]) for value in (9.0, 1e6, -1e6)]
    near = [np.array([value]) for value in (4.0, 495.0 - 32 - 1, 0.0)]
    got, expected = (
        native_backend.corrupt("frost", images, constants, given, (0, 0), NUMBERS) for given in (far, near)
    )
    assert np.array_equal(got, expected)
