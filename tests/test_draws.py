"""The draws: their distributions, their parameters and what is refused."""

import math

import numpy as np
import pytest

from apr_dali import single
from apr_dali.draws import OPERATIONS, PairDraws, SingleDraws, check_partner, rotation
from apr_dali.errors import InputError

N = 60_000


@pytest.fixture(scope="module")
def many() -> SingleDraws:
    return SingleDraws.sample(N, 224, 320, seed=5)


def of(many: SingleDraws, name: str) -> np.ndarray:
    return many.parameters[:, 0][many.operation[:, 0] == OPERATIONS.index(name)]


def test_operations_are_equally_likely_first_and_second(many):
    for column in range(2):
        counts = np.bincount(many.operation[:, column], minlength=9)
        assert np.abs(counts / N - 1 / 9).max() < 0.006


def test_half_of_the_images_are_mixed_and_half_of_the_directions_swapped(many):
    assert abs(many.mix.mean() - 0.5) < 0.01
    assert abs(many.amplitude_of_second.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(many.mix, many.amplitude_of_second)[0, 1]) < 0.02


def shares(values: np.ndarray) -> dict[float, float]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts / counts.sum(), strict=True))


def test_posterize_keeps_4_or_3_bits(many):
    # ⌊0.4 l⌋ is 1 from l = 2.5 on: 0.5 of the 2.9 wide range.
    got = shares(of(many, "posterize")[:, 0])
    assert set(got) == {3.0, 4.0}
    assert abs(got[3.0] - 0.5 / 2.9) < 0.015


def test_solarize_thresholds(many):
    thresholds = of(many, "solarize")[:, 0]
    assert thresholds.min() == 256 - 76
    assert thresholds.max() == 256 - 2
    assert abs(thresholds.mean() - (256 - 25.6 * 1.55 + 0.5)) < 1


def test_translation_follows_the_extent_of_its_axis(many):
    x, y = of(many, "translate_x"), of(many, "translate_y")
    assert np.abs(x[:, 2]).max() == math.floor(0.1 * 320 - 1e-9)
    assert np.abs(y[:, 5]).max() == math.floor(0.1 * 224 - 1e-9)
    np.testing.assert_array_equal(x[:, [0, 1, 3, 4, 5]], np.tile([1, 0, 0, 1, 0], (len(x), 1)))
    assert abs((x[:, 2] > 0).mean() - (x[:, 2] < 0).mean()) < 0.03


def test_shear_is_continuous_up_to_9_percent(many):
    for name, column in (("shear_x", 1), ("shear_y", 3)):
        shear = of(many, name)[:, column]
        assert 0.0899 < np.abs(shear).max() <= 0.09
        assert 0.003 <= np.abs(shear).min() < 0.0031
        assert len(np.unique(shear)) > 1000


def test_rotation_is_by_whole_degrees_up_to_8(many):
    matrices = of(many, "rotate")
    degrees = np.degrees(np.arctan2(matrices[:, 1], matrices[:, 0]))
    assert set(np.round(degrees).astype(int)) == set(range(-8, 9))
    np.testing.assert_allclose(degrees, np.round(degrees), atol=1e-9)


def test_rotation_keeps_the_center():
    a, b, c, d, e, f = rotation(np.array(7), height=50, width=80)
    np.testing.assert_allclose([a * 40 + b * 25 + c, d * 40 + e * 25 + f], [40, 25], atol=1e-9)


def test_the_same_seed_draws_the_same_and_another_seed_something_else():
    one, two, other = (SingleDraws.sample(64, 32, 32, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.parameters, two.parameters)
    np.testing.assert_array_equal(one.operation, two.operation)
    assert (one.operation != other.operation).any()
    first, again, third = (PairDraws.sample(64, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.partner, again.partner)
    assert (first.partner != third.partner).any()


def test_columns_of_the_uniform_numbers():
    # operation 3 (rotate) at level 0.1 + 2.9·0.9 = 2.71 → 8 degrees, negative; not stopped; then 2 (posterize).
    row = np.array([[3.5 / 9, 0.9, 0.7, 0.2, 2.5 / 9, 0.1, 0.0, 0.9]])
    draws = SingleDraws.from_uniform(row, 32, 32)
    assert [OPERATIONS[k] for k in draws.operation[0]] == ["rotate", "posterize"]
    np.testing.assert_array_equal(draws.parameters[0, 0], rotation(np.array(-8), 32, 32))
    np.testing.assert_array_equal(draws.parameters[0, 1], [4, 0, 0, 0, 0, 0])
    assert draws.mix[0]
    assert not draws.amplitude_of_second[0]


def test_a_uniform_number_that_rounds_up_to_one_is_the_last_operation():
    assert SingleDraws.from_uniform(np.ones((1, 8), np.float32), 8, 8).operation.max() == 8


def test_pair_is_a_permutation_and_a_coin():
    draws = [PairDraws.sample(50, seed=seed, p=0.3) for seed in range(2000)]
    assert all((np.sort(draw.partner) == np.arange(50)).all() for draw in draws[:20])
    assert abs(np.mean([draw.mix for draw in draws]) - 0.3) < 0.03
    assert not PairDraws.sample(4, seed=0, p=0).mix
    assert PairDraws.sample(4, seed=0, p=1).mix


def test_wrong_draws_are_refused():
    good = SingleDraws.sample(2, 8, 8, 0)
    with pytest.raises(ValueError, match=r"parameters must have the shape \(2, 2, 6\)"):
        SingleDraws(good.operation, good.parameters[:1], good.mix, good.amplitude_of_second)
    with pytest.raises(ValueError, match=r"operation must be in 0\.\.8, got 9"):
        SingleDraws(good.operation * 0 + 9, good.parameters, good.mix, good.amplitude_of_second)
    with pytest.raises(ValueError, match=r"\(N, 8\)"):
        SingleDraws.from_uniform(np.zeros((2, 7)), 8, 8)
    with pytest.raises(ValueError, match=r"partner must be in 0\.\.3, got 4 at index 2"):
        check_partner(np.array([0, 1, 4, 2]), 4)
    with pytest.raises(ValueError, match="got -1 at index 0"):
        PairDraws(np.array([-1, 0]), True)
    with pytest.raises(TypeError, match="integers"):
        check_partner(np.zeros(3), 3)
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        check_partner(np.zeros(3, int), 4)
    with pytest.raises(TypeError, match="draws must be SingleDraws for 1 images, got NoneType"):
        single(np.zeros((1, 8, 8, 3), np.uint8), None)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: SingleDraws.sample(-1, 8, 8), "batch must be at least 0, got -1"),
    (lambda: SingleDraws.sample(2.5, 8, 8), r"batch must be a whole number, got 2\.5"),
    (lambda: SingleDraws.sample(2, 0, 8), "height must be at least 1, got 0"),
    (lambda: SingleDraws.sample(2, 8, 8.0), r"width must be a whole number, got 8\.0"),
    (lambda: PairDraws.sample(-1), "batch must be at least 0, got -1"),
    (lambda: PairDraws.sample(None), "batch must be a whole number, got None"),
    (lambda: PairDraws.sample(2, p=2), r"p must be in 0\.\.1, got 2"),
    (lambda: PairDraws.sample(2, p=float("nan")), r"p must be in 0\.\.1, got nan"),
])  # fmt: skip
def test_draws_for_what_is_no_batch_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
