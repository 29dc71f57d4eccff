"""Intervals of the bootstrap, against draws of whole sets of images and against closed forms."""

import numpy as np
import pytest
from scipy.stats import binom

from apr_dali.errors import InputError
from apr_dali.eval.bootstrap import mean_intervals, share_interval
from apr_dali.eval.corruption import ALEXNET, CORRUPTIONS, CorruptionTable, mce, relative_mce
from apr_dali.eval.corruption_intervals import intervals_of
from apr_dali.eval.recorded import Images


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


def test_corruptions_have_the_same_images():
    rng = np.random.default_rng(3)
    hard = rng.random(120)  # images that are hard are so under every corruption
    clean = rng.random(120) > hard / 2
    cells = {
        name: [Images(rng.random(120) > hard, rng.uniform(0.3, 1, 120), np.zeros(120)) for _ in range(5)]
        for name in CORRUPTIONS
    }
    wrong = {name: [~images.right for images in row] for name, row in cells.items()}
    table = CorruptionTable(
        {name: tuple(cell.mean() for cell in row) for name, row in wrong.items()},
        120,
        1 - clean.mean(),
        "imagenet-c-listed",
        120,
        ece={name: tuple(images.ece for images in row) for name, row in cells.items()},
        rms={name: tuple(images.rms for images in row) for name, row in cells.items()},
    )
    found = intervals_of(table, cells, clean)

    def of(drawn):
        errors = {name: [cell[drawn].mean() for cell in row] for name, row in wrong.items()}
        fog = cells["fog"][2]
        gaps = fog.confidence[drawn] - fog.right[drawn]
        bins = np.ceil(fog.confidence[drawn] * 15)
        calibration = [
            sum(abs(gaps[bins == number].sum()) for number in range(1, 16)) / 120,
            abs(gaps.mean()),  # one bin has all of them
        ]
        cell = [errors["fog"][2], np.mean(errors["fog"]), 100 * np.mean(errors["fog"]) / ALEXNET["fog"], *calibration]
        return [mce(errors), relative_mce(errors, 1 - clean[drawn].mean()), *cell]

    one = np.random.default_rng(9)
    draws = np.array([of(one.integers(120, size=120)) for _ in range(1000)])
    expected = np.quantile(draws, (0.025, 0.975), 0).T
    each = found["by_severity"]
    got = [
        *(found["listed_mce"], found["listed_relative_mce"], each["errors"]["fog"][2], found["errors"]["fog"]),
        *(found["listed_ce"]["fog"], each["ece"]["fog"][2], each["rms"]["fog"][2]),
    ]
    for ends, (low, high), values in zip(got, expected, draws.T, strict=True):
        np.testing.assert_allclose(ends, (low, high), atol=0.4 * values.std())
    low, high = found["listed_mce"]
    apart = (
        1.96
        * 100
        * np.sqrt(sum((np.mean(row) * (1 - np.mean(row)) / 600) / ALEXNET[n] ** 2 for n, row in wrong.items()))
    )
    assert high - low > 1.5 * 2 * apart / 15, "drawn one by one the corruptions would even out"
    numbers = table.summary()
    for key in ("errors", "ece", "rms", "listed_ce"):
        assert set(found[key]) == set(CORRUPTIONS)
    for key in ("mean_error", "listed_mce", "listed_relative_mce"):
        assert found[key][0] < numbers[key] < found[key][1]
    assert {"mean_ece", "mean_rms", "clean_error"} <= set(found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share_interval(1.5, 10), "share in 0..1"),
        (lambda: share_interval(0.5, 0), "images must be at least 1"),
        (lambda: mean_intervals([1.0, 2.0]), "expected values"),
        (lambda: mean_intervals([[1.0]], resamples=0), "resamples must be at least 1"),
    ],
)
def test_nothing_to_draw_from(call, message):
    with pytest.raises(InputError, match=message):
        call()
