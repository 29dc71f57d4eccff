"""Measures of draws, each against the measure itself on the images that were drawn."""

import tracemalloc

import numpy as np
import pytest
from helpers.tolerances import FLOAT32_SUMS

from apr_dali.errors import InputError
from apr_dali.eval.bootstrap import counted, drawn, draws_of, ends_of
from apr_dali.eval.calibration import aurra_of, classwise_ece, ece_of, reliability, rms_of
from apr_dali.eval.calibration_draws import CalibrationDraws, ClassBinDraws
from apr_dali.eval.ood import ood_metrics, oscr
from apr_dali.eval.ood_draws import CurveDraws, ood_intervals
from apr_dali.eval.openood import openood_metrics


def confidences(ties):
    rng = np.random.default_rng(1)
    sure = rng.random(237)
    if ties:
        sure = np.round(sure * 12) / 12
    return sure, rng.random(237) < sure**2


@pytest.mark.parametrize("ties", [False, True])
def test_calibration(ties):
    sure, right = confidences(ties)
    draws = CalibrationDraws(sure, right)
    (counts,) = counted(237, 20, resamples=20)
    found = [draws.ece(counts), draws.rms(counts), draws.rms(counts, as_published=True), draws.aurra(counts)]
    for number, row in enumerate(counts):
        one, other = np.repeat(sure, row), np.repeat(right, row)
        if ties:  # RMS cuts ties by the order of the images, in which those that were drawn come
            order = np.argsort(one, kind="stable")
            one, other = one[order], other[order]
        expected = [
            ece_of(reliability(one, other)),
            rms_of(one, other),
            rms_of(one, other, as_published=True),
            aurra_of(one, other),
        ]
        np.testing.assert_allclose([of[number] for of in found], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("together", [1, 5, 12])
@pytest.mark.parametrize("classes", [3, 40])
def test_classwise_calibration(classes, together, monkeypatch):
    monkeypatch.setattr("apr_dali.eval.calibration_draws._NUMBERS", together * max(90, 15 * classes))
    rng = np.random.default_rng(3)
    rows = rng.dirichlet(np.full(classes, 0.3), 90)
    labels = rng.integers(classes, size=90)
    draws = ClassBinDraws(90, classes, resamples=12)
    for part in np.split(np.arange(90), (20, 50)):
        draws.add(rows[part], labels[part])
    expected = [classwise_ece(rows[numbers], labels[numbers]) for numbers in drawn(90, resamples=12)]
    np.testing.assert_allclose(draws.errors(), expected, rtol=FLOAT32_SUMS)


def test_memory_of_classwise_calibration_with_many_classes():
    rows, labels = np.random.default_rng(0).dirichlet(np.full(5000, 0.01), 40), np.arange(40)
    tracemalloc.start()
    try:
        draws = ClassBinDraws(40, 5000)
        draws.add(rows, labels)
        draws.errors()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100e6  # the sums of all bins of all draws would be 300 MB


def scores(ties):
    rng = np.random.default_rng(2)
    inside, outside = rng.normal(1, 1, 83), rng.normal(0, 1, 61)
    if ties:
        inside, outside = np.round(2 * inside), np.round(2 * outside)
    return inside, outside, rng.random(83) < 0.7


@pytest.mark.parametrize("ties", [False, True])
def test_curves(ties):
    inside, outside, right = scores(ties)
    own, other = list(drawn(83, resamples=20)), list(drawn(61, resamples=20, seed=1))
    found = CurveDraws(inside, outside, right).measures(own, other, True)
    for number in range(20):
        one, two = inside[own[number]], outside[other[number]]
        expected = {
            **ood_metrics(one, two),
            **openood_metrics(one, two),
            "oscr": oscr(one, right[own[number]], two),
        }
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key][number] == pytest.approx(value, abs=1e-12), key


def test_intervals_of_sets_and_their_means():
    inside, near, right = scores(False)
    far = near - 1
    found = ood_intervals(inside, right, {"near": near, "far": far}, {"mean": ["near", "far"]}, resamples=400)
    rng = np.random.default_rng(7)

    def rate(own, other):
        passing = np.sort(own)[::-1][int(np.ceil(0.95 * len(own))) - 1]
        return (own[:, None] > other).mean(), (other >= passing).mean()

    rates = []
    for _ in range(1000):
        own, *others = (
            inside[rng.integers(83, size=83)],
            near[rng.integers(61, size=61)],
            far[rng.integers(61, size=61)],
        )
        rates.append([rate(own, other) for other in others])
    expected = np.quantile(np.concatenate([rates, np.mean(rates, 1)[:, None]], 1), (0.025, 0.975), 0)
    for place, name in enumerate(("near", "far", "mean")):
        for column, key in enumerate(("auroc", "fpr95")):
            np.testing.assert_allclose(found[name][key], expected[:, place, column], atol=0.05)
    low, high = found["mean"]["auroc"]
    assert high - low < np.mean([np.diff(found[name]["auroc"]) for name in ("near", "far")])


def test_more_scores_than_levels(monkeypatch):
    inside, outside, right = scores(False)
    own, other = list(drawn(83, resamples=20)), list(drawn(61, resamples=20, seed=1))
    exact = CurveDraws(inside, outside, right).measures(own, other, True)
    monkeypatch.setattr("apr_dali.eval.ood_draws.LEVELS", 48)
    curve = CurveDraws(inside, outside, right)
    assert curve.levels == 48
    found = curve.measures(own, other, True)
    assert any(np.any(found[key] != exact[key]) for key in exact)
    # Of a level's three images, drawn some times, all can be of one set.
    for key, values in exact.items():
        np.testing.assert_allclose(found[key], values, atol=0.15 if "fpr" in key else 0.03)
        assert abs(np.mean(found[key] - values)) < 0.03


def test_parts_and_seeds():
    inside, outside, right = scores(True)
    whole = ood_intervals(inside, right, {"far": outside}, {}, resamples=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apr_dali.eval.bootstrap._PART", 7 * 20)
        for key, ends in ood_intervals(inside, right, {"far": outside}, {}, resamples=50)["far"].items():
            np.testing.assert_allclose(ends, whole["far"][key], rtol=1e-12)
    assert ood_intervals(inside, right, {"far": outside}, {}, resamples=50, seed=1) != whole
    assert set(whole["far"]) == {*ood_metrics(inside, outside), "oscr"}


def test_without_images():
    with pytest.raises(InputError, match="images must be at least 1"):
        ood_intervals([1.0], [True], {"far": []}, {})
    with pytest.raises(InputError, match="images must be at least 1"):
        draws_of(0, CalibrationDraws([0.5], [True]).ece)


def test_draws_that_are_all_alike():
    sure, right = np.full(100, 0.75), np.arange(100) % 4 > 0
    low, high = ends_of(draws_of(100, lambda counts: CalibrationDraws(sure, right).rms(counts)[:, None]))
    shares = np.abs(0.75 - np.random.default_rng(0).binomial(100, 0.75, 50_000) / 100)
    np.testing.assert_allclose((low, high), np.quantile(shares, (0.025, 0.975)), atol=0.011)
