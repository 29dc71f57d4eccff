"""The draws of the corruptions: what they depend on, how they are distributed, and what the reference would draw."""

import zlib

import numpy as np
import pytest
from scipy import stats

from apr_dali import CorruptionDraws
from apr_dali.corruptions import CORRUPTIONS, EXTRA, NAMES, find
from apr_dali.corruptions.counter import CounterRandom
from apr_dali.corruptions.parameters import SETS, SEVERITIES, TABLES
from apr_dali.errors import InputError

MASK = 2**64 - 1


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4 × 64 with 10 rounds by whole numbers of Python, as Salmon et al. (SC 2011) define it."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [b >> 64 ^ c[1] ^ k[0], b & MASK, a >> 64 ^ c[3] ^ k[1], a & MASK]
        k = [k[0] + 0x9E3779B97F4A7C15 & MASK, k[1] + 0xBB67AE8584CAA73B & MASK]
    return c


def random(image=0, seed=1, name="fog", severity=1) -> CounterRandom:
    return CounterRandom(seed, image, name, severity)


def test_the_stream_is_philoxs():
    numbers = random(image=7, seed=2**63 + 5, name="snow", severity=4)
    numbers.words(1)
    key = [2**63 + 5, zlib.crc32(b"snow/4")]
    expected = []
    for block in (1, 2):  # of field 1
        for word in philox([block, 1, 7, 0], key):
            expected += [word & 0xFFFFFFFF, word >> 32]
    assert numbers.words(13).tolist() == expected[:13]


def test_uniform_numbers_are_uniform_and_never_at_an_end():
    drawn = random().random((500, 400))
    assert stats.kstest(drawn.reshape(-1), "uniform").pvalue > 1e-3
    assert 0 < drawn.min() < 1e-4
    assert 1 - 1e-4 < drawn.max() < 1
    scaled = random().uniform(-3, 5, (500, 400))
    np.testing.assert_allclose(scaled, 8 * drawn - 3)


def test_normal_numbers_are_normal():
    count = 200_001
    drawn = random().normal(2, 3, count)
    assert drawn.shape == (count,)
    assert stats.kstest(drawn, "norm", (2, 3)).pvalue > 1e-3
    assert abs(drawn.mean() - 2) < 3 * 3 / np.sqrt(count)
    assert abs(drawn.var() - 9) < 3 * 9 * np.sqrt(2 / count)
    # The two of a pair, and pairs that follow each other, have nothing to do with each other.
    for apart in (1, 2):
        assert abs(np.corrcoef(drawn[:-apart], drawn[apart:])[0, 1]) < 3 / np.sqrt(count)


@pytest.mark.parametrize(("low", "high"), [(-4, 4), (0, 3)])
def test_whole_numbers_are_uniform(low, high):
    drawn = random().randint(low, high, 90_000)
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == list(range(low, high))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_streams_of_images_corruptions_severities_and_seeds_are_strangers():
    count = 20_000
    kinds = [{}, {"image": 1}, {"seed": 2}, {"name": "frost"}, {"severity": 2}]
    drawn = [random(**kind).random(count) for kind in kinds]
    another_field = random()
    another_field.random(count)
    drawn.append(another_field.random(count))
    together = np.corrcoef(drawn)
    assert np.abs(together[np.triu_indices(len(drawn), 1)]).max() < 4 / np.sqrt(count)


@pytest.mark.parametrize("name", NAMES)
def test_images_have_the_same_draws_in_every_batch(name):
    whole = CorruptionDraws.sample(name, 2, 5, 40, 33, seed=9)
    assert len(whole) == 5
    for first, count in ((0, 2), (2, 3), (4, 1)):
        part = CorruptionDraws.sample(name, 2, count, 40, 33, seed=9, first=first)
        for k in range(count):
            assert part[k].keys() == whole[first + k].keys()
            for key, values in part[k].items():
                np.testing.assert_array_equal(values, whole[first + k][key])


def test_images_may_be_asked_for_by_their_numbers(crops):
    import apr_dali

    whole = CorruptionDraws.sample("snow", 2, 6, 40, 33, seed=9)
    some = CorruptionDraws.of_images("snow", 2, [4, 0, 4, 2**40], 40, 33, seed=9)
    assert len(some) == 4
    for k, number in enumerate((4, 0, 4)):
        np.testing.assert_array_equal(some[k]["flakes"], whole[number]["flakes"])
    far = CorruptionDraws.sample("snow", 2, 1, 40, 33, seed=9, first=2**40)
    np.testing.assert_array_equal(some[3]["flakes"], far[0]["flakes"])
    images = crops(6, 40, 33)
    expected = apr_dali.corrupt(images, "snow", 2, whole)[[4, 0]]
    asked = CorruptionDraws.of_images("snow", 2, np.array([4, 0]), 40, 33, seed=9)
    np.testing.assert_array_equal(apr_dali.corrupt(images[[4, 0]], "snow", 2, asked), expected)
    for wrong in ([0.5], [[1]], [-1, 2], 3):
        with pytest.raises(InputError, match=r"numbers must be whole numbers \(N,\) from 0 on, got"):
            CorruptionDraws.of_images("snow", 2, wrong, 40, 33, seed=9)


@pytest.mark.parametrize("name", [name for name in NAMES if CorruptionDraws.sample(name, 1, 1, 32, 32, 0)[0]])
def test_other_images_have_other_draws(name):
    draws = CorruptionDraws.sample(name, 2, 2, 40, 33, seed=9)
    assert any(np.any(draws[0][key] != draws[1][key]) for key in draws[0])


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "snow", "motion_blur"])
def test_the_references_generator_is_moved_on_as_by_the_reference(name):
    given, expected = np.random.RandomState(3), np.random.RandomState(3)
    CorruptionDraws.from_reference(name, 2, 40, 33, given)
    location, scale, *_ = TABLES["imagenet"]["snow"][1]
    if name == "gaussian_noise":
        expected.normal(size=(40, 33, 3), scale=0.12)
    elif name == "glass_blur":
        for _ in range(36 * 29):
            expected.randint(-2, 2, size=(2,))
    else:
        if name == "snow":
            expected.normal(size=(40, 33), loc=location, scale=scale)
        expected.uniform(-45, 45)
    assert given.random_sample() == expected.random_sample()


def test_shot_noise_leaves_the_generator_and_draws_the_same_each_time(crops):
    import apr_dali

    image = crops(1, 32, 48)
    given = np.random.RandomState(3)
    given.normal()  # half a pair of normal numbers is held
    draws = CorruptionDraws.from_reference("shot_noise", 3, 32, 48, given)
    expected = np.random.RandomState(3)
    expected.normal()
    assert given.normal() == expected.normal()
    expected = np.random.RandomState(3)
    expected.normal()
    levels = np.clip(expected.poisson(image[0] / 255.0 * 12) / 12, 0, 1) * 255
    for _ in range(2):
        got = apr_dali.corrupt(image, "shot_noise", 3, draws, backend="numpy")
        np.testing.assert_array_equal(got[0], levels.astype(np.uint8))


def test_join_keeps_the_order():
    parts = [CorruptionDraws.from_reference("motion_blur", 1, 32, 32, np.random.RandomState(k)) for k in range(3)]
    joined = CorruptionDraws.join(parts)
    assert [float(draws["angle"]) for draws in joined] == [float(part[0]["angle"]) for part in parts]
    sampled = CorruptionDraws.sample("motion_blur", 1, 2, 32, 32, 0)
    assert float(CorruptionDraws.join([parts[0], sampled])[2]["angle"]) == float(sampled[1]["angle"])
    with pytest.raises(InputError, match=r"one kind, got .*'motion_blur', 1.* and .*'motion_blur', 2"):
        CorruptionDraws.join([parts[0], CorruptionDraws.sample("motion_blur", 2, 2, 32, 32, 0)])
    with pytest.raises(InputError, match="at least one batch"):
        CorruptionDraws.join([])


def test_all_are_there():
    assert (len(CORRUPTIONS), len(EXTRA), len(set(NAMES))) == (15, 4, 19)
    for parameter_set in SETS:
        assert set(TABLES[parameter_set]) == set(NAMES)
        for name in NAMES:
            assert len(TABLES[parameter_set][name]) == len(SEVERITIES)
            record, parameters = find(name, 3, parameter_set)
            assert record.name == name
            assert parameters is TABLES[parameter_set][name][2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "gauss"}, "no corruption is named 'gauss': there are gaussian_noise, .*saturate"),
        ({"severity": 0}, "severity must be a whole number from 1 to 5, got 0"),
        ({"severity": 6}, "got 6"),
        ({"severity": 2.5}, "got 2.5"),
        ({"severity": True}, "got True"),
        ({"height": 31}, "at least 32 pixels per side, got 31 × 40"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**64}, "seed must be at most 18446744073709551615"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"height": 40.0}, "height must be a whole number"),
        ({"first": -1}, "first must be at least 0, got -1"),
        ({"n": -1}, "n must be at least 0, got -1"),
        ({"parameter_set": "cifar10"}, "'cifar10': there are imagenet, cifar, tiny-imagenet"),
    ],
    ids=str,
)
def test_wrong_draws_are_refused(wrong, message):
    right = {"name": "fog", "severity": 1, "n": 2, "height": 40, "width": 40, "seed": 0}
    with pytest.raises(InputError, match=message):
        CorruptionDraws.sample(**{**right, **wrong})


@pytest.mark.parametrize("name", ["fog", "impulse_noise"])
def test_the_wrong_kind_of_generator_is_refused(name):
    wrong = np.random.RandomState(0) if name == "impulse_noise" else np.random.default_rng(0)
    with pytest.raises(InputError, match=f"{name} draws from a np.random"):
        CorruptionDraws.from_reference(name, 1, 32, 32, wrong)


def test_beyond_the_last_image_is_an_index_error():
    draws = CorruptionDraws.sample("fog", 1, 2, 32, 32, 0)
    with pytest.raises(IndexError, match="2 images, got the index 2"):
        draws[2]
