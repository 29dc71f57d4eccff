"""Augmentation policies in the graphs: what they change, what follows them, and that a state goes on with them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.image_sets import noise_set, write_classes
from helpers.loaders import gpu_graph
from nvidia.dali import fn, pipeline_def, types

from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.data.folders import open_set
from apr_dali.errors import InputError
from apr_dali.pipelines import imagenet, policies
from apr_dali.recipes import IMAGENET, POLICIES, policy_magnitude

SIDE, COUNT, BATCH = 24, 24, 4
CHANGING = [name for name in POLICIES if name != "none"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    images = [photos[n % 4][: 60 + n, : 70 + n] for n in range(12)]
    return write_classes(tmp_path_factory.mktemp("images"), images)


def epochs(loader, count: int = 2) -> list[tuple]:
    return [batch for _ in range(count) for batch in loader]


def same(found: list[tuple], expected: list[tuple]) -> bool:
    return all(all(map(torch.equal, one, other)) for one, other in zip(found, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("policy", CHANGING)
def test_a_state_goes_on_with_the_same_images_and_another_seed_has_others(policy, folder):
    def make(seed=1, policy=policy, aug="apr-sp"):
        return ImageNetLoader(folder, BATCH, aug, image_size=32, threads=1, seed=seed, policy=policy)

    with make() as loader:
        first, ongoing = epochs(loader, 1), iter(loader)
        next(ongoing)
        state = json.loads(json.dumps(loader.state_dict()))
        rest = [*ongoing, *loader]
    with make() as again:
        again.load_state_dict(state)
        assert same([*again, *again], rest)
    with make(seed=2) as other, make(policy="none") as plain:
        assert not same(epochs(other, 1), first)
        bare = epochs(plain, 1)
        assert not same(bare, first)
        assert [targets.tolist() for _, targets in bare] == [targets.tolist() for _, targets in first], "nor the order"
        with pytest.raises(InputError, match=f"policy '{policy}', now None"):
            plain.load_state_dict(state)


def run(images: np.ndarray, policy: str, magnitude: int) -> np.ndarray:
    """uint8 (N, H, W, 3) after the policy."""

    @pipeline_def(batch_size=len(images), num_threads=1, device_id=None, seed=3, enable_conditionals=True)
    def graph():
        given = fn.external_source(source=lambda: images, batch=True, dtype=types.UINT8, layout="HWC")
        return policies.apply(given, policy, magnitude, images.shape[1:3])

    with policies.without_dalis_own_warnings():
        made = graph()
        made.build()
    return np.array(made.run()[0].as_array())


@pytest.mark.slow
def test_a_greater_magnitude_changes_more(photos):
    images = np.stack([photos[n % 4][:64, :64] for n in range(32)])
    changed = [np.abs(run(images, "randaugment", m).astype(int) - images).mean() for m in (0, 9, 30)]
    assert changed[0] < changed[1] < changed[2]
    assert np.array_equal(run(images, "none", 0), images)


@pytest.mark.slow
def test_augmix_stays_near_the_image_and_a_greater_severity_leaves_it(photos):
    images = np.stack([photos[n % 4][:48, :48] for n in range(24)])
    mild, severe = (run(images, "augmix", severity).astype(int) for severity in (1, 10))
    for changed in (mild, severe):
        assert changed.shape == images.shape
        assert [np.array_equal(*pair) for pair in zip(changed, images, strict=True)].count(False) > 20
    assert np.abs(mild - images).mean() < np.abs(severe - images).mean()


def test_augmix_has_the_operations_and_levels_of_the_released_code():
    """Levels are from 0.1 to the severity, of 10: of degrees, shares of a side, bits and thresholds."""
    ranges = {operation.name: operation.mag_range for operation in policies.augmix_suite(3)}
    assert set(ranges) == {
        *("auto_contrast", "equalize", "posterize", "rotate", "solarize"),
        *("shear_x", "shear_y", "translate_x", "translate_y"),
    }
    for name, most in (
        ("rotate", 30),
        ("shear_x", 0.3),
        ("shear_y", 0.3),
        ("translate_x", 1 / 3),
        ("translate_y", 1 / 3),
    ):
        assert ranges[name] == pytest.approx((0.01 * most, 0.3 * most))
    assert ranges["solarize"] == pytest.approx((256 * 0.99, 256 * 0.7))
    # 4 - int(level · 4 / 10) bits stay.
    for level in (0.1, 2.4, 2.6, 5.1, 9.9):
        kept = bin(int(policies._kept_bits(4 - 4 * level / 10))).count("1")
        assert kept == max(4 - int(level * 4 / 10), 1)


def test_images_from_memory_have_policies_too():
    with CifarLoader(noise_set(COUNT, SIDE), BATCH, "apr-sp", threads=1, seed=1, policy="randaugment") as loader:
        assert {loader.batch_views for _ in loader} == {1, 2}
        state = loader.state_dict()
        rest = list(loader)
    with CifarLoader(noise_set(COUNT, SIDE), BATCH, "apr-sp", threads=1, seed=1, policy="randaugment") as again:
        again.load_state_dict(state)
        assert same(list(again), rest)
    with pytest.raises(InputError, match=r"settings: .*policy_magnitude 9, now 5"):
        CifarLoader(
            noise_set(COUNT, SIDE), BATCH, "apr-sp", threads=1, seed=1, policy="randaugment", policy_magnitude=5
        ).load_state_dict(state)


@pytest.mark.slow
def test_gpu_graph_of_augmix_is_complete(folder):
    """Every operator and argument is known to DALI; building it needs a driver."""
    given = {"policy": "augmix", "policy_magnitude": 3, "random_erasing": 0.5}
    graph = imagenet.Graph(**gpu_graph("apr-p", IMAGENET), **given, image_size=32)
    options = {"batch_size": 4, "num_threads": 2, "device_id": 0, "enable_conditionals": True}
    with policies.without_dalis_own_warnings():
        made = imagenet.train_pipeline(open_set(folder), graph, 0, **options)
    made._build_graph()
    devices = {op.name: op.outputs[0].device for op in made._ops}
    assert {device for name, device in devices.items() if "Erase" in name} == {"gpu"}
    arithmetic = [op for op in made._ops if "ArithmeticGenericOp" in op.name and op.outputs[0].device == "gpu"]
    assert arithmetic
    assert {node.device for op in arithmetic for node in op.inputs} == {"gpu"}


def test_a_state_without_policies_is_that_of_older_versions():
    with CifarLoader(noise_set(COUNT, SIDE), BATCH, threads=1) as loader:
        signature = loader.state_dict()["signature"]
    assert not {"policy", "policy_magnitude", "random_erasing"} & set(signature)


def test_magnitudes():
    assert [policy_magnitude(name, None) for name in POLICIES] == [0, 0, 9, 0, 3]
    assert policy_magnitude("randaugment", 0) == 0
    assert policy_magnitude("augmix", 10) == 10


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"policy": "augment"}, "policy must be one of none, autoaugment"),
        ({"policy": "trivialaugment", "policy_magnitude": 3}, "policy_magnitude changes nothing with policy trivial"),
        ({"policy_magnitude": 3}, "policy_magnitude changes nothing with policy none"),
        ({"policy": "randaugment", "policy_magnitude": 31}, "policy_magnitude of randaugment must be at most 30"),
        ({"policy": "augmix", "policy_magnitude": 0}, "policy_magnitude of augmix must be at least 1"),
        ({"policy": "randaugment", "train": False}, "policy has no effect with train=False"),
        ({"policy": "randaugment", "aug": "augmix"}, "aug='augmix' is a policy itself"),
    ],
)
def test_what_cannot_be_is_refused(given, told):
    with pytest.raises(InputError, match=told):
        CifarLoader(noise_set(COUNT, SIDE), BATCH, threads=1, **given)
