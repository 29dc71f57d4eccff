"""Intervals of the bootstrap, against draws of whole sets of images and against closed forms."""

import numpy as np
import pytest
from scipy.stats import binom

from apr_dali.errors import InputError
from apr_dali.eval.bootstrap import auroc_interval, ece_interval, mean_intervals, share_interval
from apr_dali.eval.calibration import ece
from apr_dali.eval.corruption import ALEXNET, CORRUPTIONS, CorruptionTable, mce
from apr_dali.eval.corruption_intervals import intervals_of


def redrawn(number, images, statistic, rng):
    """The percentiles 2.5 and 97.5 of a number over draws of whole sets, each made anew."""
    found = [statistic(rng.integers(images, size=images)) for _ in range(number)]
    return np.quantile(found, (0.025, 0.975))


def test_shares_are_binomial():
    low, high = share_interval(0.3, 200, resamples=20_000)
    expected = binom.ppf((0.025, 0.975), 200, 0.3) / 200
    np.testing.assert_allclose((low, high), expected, atol=1 / 200)
    assert share_interval(0.0, 50) == [0, 0]
    assert share_interval(1.0, 50) == [1, 1]
    assert share_interval(0.3, 200) == share_interval(0.3, 200)
    assert share_interval(0.3, 200) != share_interval(0.3, 200, seed=1)


def test_means_of_the_same_images_are_drawn_together():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 2))
    values = np.column_stack([values, values[:, 0] - values[:, 0]])
    first, second, nothing = mean_intervals(values, resamples=4000)
    # Of many images a mean is as good as normal.
    for ends, column in ((first, values[:, 0]), (second, values[:, 1])):
        half = 1.96 * column.std() / np.sqrt(300)
        np.testing.assert_allclose(ends, (column.mean() - half, column.mean() + half), atol=0.1 * half)
    assert nothing == [0, 0]
    assert mean_intervals(values, resamples=50) == mean_intervals(values, resamples=50)


def test_parts_make_no_difference(monkeypatch):
    values = np.random.default_rng(0).random((40, 3))
    whole = mean_intervals(values, resamples=101)
    monkeypatch.setattr("apr_dali.eval.bootstrap._PART", 7 * 40)
    np.testing.assert_allclose(mean_intervals(values, resamples=101), whole, rtol=1e-12)


def test_ece():
    rng = np.random.default_rng(1)
    sure = rng.random(250)
    right = rng.random(250) < sure**2
    # Of two classes, whose probabilities say how sure it is.
    rows = np.stack([sure, 1 - sure], 1)
    labels = np.where(right, 0, 1)
    flipped = np.where(rows.argmax(1) == 1, 1 - labels, labels)
    confidence = rows.max(1)
    correct = rows.argmax(1) == flipped
    expected = redrawn(2000, 250, lambda drawn: ece(rows[drawn], flipped[drawn]), np.random.default_rng(5))
    np.testing.assert_allclose(ece_interval(confidence, correct, resamples=2000), expected, atol=0.01)


def test_auroc_with_ties():
    rng = np.random.default_rng(2)
    inside, outside = rng.integers(3, 12, 80), rng.integers(0, 9, 60)

    def area(_):
        one, other = rng.choice(inside, 80)[:, None], rng.choice(outside, 60)
        return (one > other).mean() + (one == other).mean() / 2

    expected = redrawn(2000, 1, area, rng)
    np.testing.assert_allclose(auroc_interval(inside, outside, resamples=2000), expected, atol=0.01)
    assert auroc_interval([2, 3], [0, 1]) == [1, 1]
    assert auroc_interval([1, 1], [1, 1]) == [0.5, 0.5]


def test_corruptions_have_the_same_images():
    rng = np.random.default_rng(3)
    hard = rng.random(60)  # images that are hard are so under every corruption
    wrong = {name: [rng.random(60) < hard for _ in range(5)] for name in CORRUPTIONS}
    table = CorruptionTable(
        {name: tuple(cell.mean() for cell in row) for name, row in wrong.items()}, 60, 0.25, "own", 60
    )
    table = CorruptionTable(table.errors, 60, 0.25, "imagenet-c-listed", 60)
    found = intervals_of(table, wrong)

    def of(drawn):
        return mce({name: [cell[drawn].mean() for cell in row] for name, row in wrong.items()})

    expected = redrawn(1000, 60, of, np.random.default_rng(9))
    np.testing.assert_allclose(found["listed_mce"], expected, atol=1.0)
    low, high = found["listed_mce"]
    apart = (
        1.96
        * 100
        * np.sqrt(sum((np.mean(row) * (1 - np.mean(row)) / 300) / ALEXNET[n] ** 2 for n, row in wrong.items()))
    )
    assert high - low > 1.5 * 2 * apart / 15, "drawn one by one the corruptions would even out"
    assert set(found["errors"]) == set(CORRUPTIONS)
    assert found["clean_error"] == share_interval(0.25, 60)
    assert found["mean_error"][0] < table.summary()["mean_error"] < found["mean_error"][1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share_interval(1.5, 10), "share in 0..1"),
        (lambda: share_interval(0.5, 0), "images must be at least 1"),
        (lambda: mean_intervals([1.0, 2.0]), "expected values"),
        (lambda: mean_intervals([[1.0]], resamples=0), "resamples must be at least 1"),
        (lambda: ece_interval([], []), "images must be at least 1"),
        (lambda: auroc_interval([1.0], []), "images must be at least 1"),
    ],
)
def test_nothing_to_draw_from(call, message):
    with pytest.raises(InputError, match=message):
        call()
