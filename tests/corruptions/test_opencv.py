"""What the corruptions take from OpenCV, next to OpenCV."""

import numpy as np
import pytest
from helpers import tolerances

from apr_dali.corruptions import affine, edges, resize

cv2 = pytest.importorskip("cv2")


def drops(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth shapes of 0 to 255 on black, as the spatter has them."""
    noise = np.random.default_rng(seed).normal(0.65, 0.3, (height, width))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return (np.where(smooth < 0.68, 0, smooth) * 255).astype(np.uint8)


SIZES = [(64, 96), (33, 32), (47, 151)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_canny(height, width):
    for image in (drops(1, height, width), np.random.default_rng(2).integers(0, 256, (height, width), np.uint8)):
        expected = cv2.Canny(image, 50, 150) > 0
        assert 0 < expected.sum() < expected.size
        assert np.array_equal(edges.canny(image, 50, 150), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_distance(height, width):
    found = cv2.Canny(drops(3, height, width), 50, 150) > 0
    expected = cv2.distanceTransform(np.where(found, 0, 255).astype(np.uint8), cv2.DIST_L2, 5)
    assert expected.max() > 5
    # Not bit for bit everywhere: with IPP OpenCV adds up float32, without it fixed point.
    assert np.allclose(edges.distance(found), expected, rtol=0, atol=tolerances.DISTANCE_STEPS)


def test_distance_without_edges_is_far():
    assert (edges.distance(np.zeros((40, 50), bool)) >= 1e6).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_means_and_histograms(height, width):
    image = np.random.default_rng(4).integers(3, 60, (height, width), np.uint8)
    assert np.array_equal(edges.mean_of_nine(image), cv2.blur(image, (3, 3)))
    assert np.array_equal(edges.equalized(image), cv2.equalizeHist(image))
    depth = (image / np.float32(3)).astype(np.float32)
    mean = (edges.sum_of_nine(depth, np.float64) * (1 / 9)).astype(np.float32)
    assert np.allclose(mean, cv2.blur(depth, (3, 3)), rtol=1e-6)


def test_one_level_has_nothing_to_equalize():
    image = np.full((32, 32), 77, np.uint8)
    assert np.array_equal(edges.equalized(image), cv2.equalizeHist(image))


@pytest.mark.parametrize("scale", [0.2, 0.3])
def test_bilinear_resize(scale):
    image = np.random.default_rng(5).integers(0, 256, (315, 527, 3), np.uint8)
    assert np.array_equal(resize.bilinear(image, scale), cv2.resize(image, (0, 0), fx=scale, fy=scale))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_affine_through_points(height, width):
    random = np.random.default_rng(6)
    source, target = random.uniform(0, min(height, width), (2, 3, 2)).astype(np.float32)
    assert np.allclose(affine.through_points(source, target), cv2.getAffineTransform(source, target), rtol=1e-12)


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="before OpenCV 5 sources lie on 1/32 of a pixel")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_warp(height, width):
    random = np.random.default_rng(7)
    image = random.random((height, width, 3), np.float32)
    matrix = np.array([[1.1, -0.2, 5.3], [0.15, 0.9, -7.7]]) + random.normal(0, 0.05, (2, 3))
    expected = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    got = affine.warp(image, matrix)
    assert np.abs(expected - image).mean() > 0.1
    assert np.allclose(got, expected, rtol=0, atol=tolerances.WARP_FLOAT32)
    whole = width // 16 * 16  # the columns past them are computed one by one, and round otherwise
    assert (got[:, :whole] == expected[:, :whole]).mean() > 0.99
