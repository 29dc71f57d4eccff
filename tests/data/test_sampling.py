"""Images drawn by weights: how often each comes, over epochs, processes and states, and which weights are refused."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.data.arrays import ArraySet
from apr_dali.data.sample import write_sample
from apr_dali.data.sampling import draw, evenly, weights_of
from apr_dali.errors import InputError

LABELS = np.array([0] * 14 + [1] * 4 + [2] * 1)
CLASSES = ("many", "some", "one")
COUNT = len(LABELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    # In the order of the names, the classes' numbers are others.
    for index, label in enumerate(LABELS):
        (root / CLASSES[label]).mkdir(exist_ok=True)
        Image.new("RGB", (24, 24), (index * 13,) * 3).save(root / CLASSES[label] / f"{index:02d}.png")
    return root


@pytest.fixture(params=["files", "memory"])
def make(request, folder):
    """A function that makes a loader, with the number of each image."""
    if request.param == "files":
        options = {"batch_size": 4, "threads": 1, "image_size": 16, "with_index": True}
        return lambda **given: ImageNetLoader(folder, **options | given)
    images = np.empty((COUNT, 12, 12, 3), np.uint8)
    images[:] = (np.arange(COUNT) * 13)[:, None, None, None]
    options = {"batch_size": 4, "threads": 1, "with_index": True}
    return lambda **given: CifarLoader(ArraySet(images, LABELS, CLASSES), **options | given)


def numbers(loader) -> list[int]:
    return [number for _, _, index in loader for number in index[:: loader.batch_views].tolist()]


def names(loader) -> list[str]:
    """The class of each image of an epoch, as its label says."""
    return [loader.classes[label] for _, targets, _ in loader for label in targets[:: loader.batch_views].tolist()]


def test_shares_are_those_of_the_weights():
    weights = weights_of("balanced", LABELS, CLASSES)
    np.testing.assert_allclose([weights[label == LABELS].sum() for label in range(3)], 1)
    drawn = np.concatenate([draw(weights, 5, epoch) for epoch in range(200)])
    counts = np.bincount(LABELS[drawn], minlength=3)
    # A third of n draws, four standard deviations.
    assert np.abs(counts - len(drawn) / 3).max() < 4 * np.sqrt(len(drawn) * 2 / 9)
    within = np.bincount(drawn, minlength=COUNT)[:14]
    assert np.abs(within - counts[0] / 14).max() < 4 * np.sqrt(counts[0] / 14)
    weighted = weights_of({"many": 0, "some": 3, "one": 1}, LABELS, CLASSES)
    drawn = np.concatenate([draw(weighted, 5, epoch) for epoch in range(200)])
    assert not (LABELS[drawn] == 0).any()
    assert abs((LABELS[drawn] == 1).mean() - 12 / 13) < 4 * np.sqrt(12 / 169 / len(drawn))


def test_what_has_no_weight_never_comes():
    only = np.zeros(COUNT)
    only[7] = 1e-300
    assert set(draw(weights_of(only, LABELS, CLASSES), 1, 0)) == {7}


def test_a_class_without_images_takes_nothing():
    weights = weights_of("balanced", np.zeros(3, np.int64), ("there", "not there"))
    np.testing.assert_allclose(weights, 1 / 3)


@pytest.mark.parametrize("aug", ["none", "apr-sp"])
def test_classes_come_alike_often(make, aug):
    loader = make(aug=aug, sampler="balanced", seed=5)
    found = [names(loader) for _ in range(12)]
    assert all(len(epoch) == COUNT for epoch in found)
    counts = np.array([sum(epoch.count(name) for epoch in found) for name in CLASSES])
    total = 12 * COUNT
    assert np.abs(counts - total / 3).max() < 4 * np.sqrt(total * 2 / 9)
    assert len(set(map(tuple, found))) == 12, "every epoch draws anew"


def test_images_come_by_their_weights(make):
    with make() as loader:
        by_name = {number: loader.classes[label] for _, targets, index in loader for number, label in
                   zip(index.tolist(), targets.tolist(), strict=True)}  # fmt: skip
    weights = [1.0 if by_name[number] == "one" else 0.0 for number in range(COUNT)]
    assert set(names(make(sampler=weights))) == {"one"}
    assert set(names(make(sampler={"many": 0.0, "some": 1.0, "one": 0.0}))) == {"some"}


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_what_one_would_draw(make, world):
    alone = make(sampler="balanced", seed=5, batch_size=19)
    ranks = [make(sampler="balanced", seed=5, shard=(rank, world), batch_size=1) for rank in range(world)]
    for _ in range(3):
        expected = numbers(alone)
        assert [len(loader) for loader in ranks] == [-(-COUNT // world)] * world
        found = []
        for rank, loader in enumerate(ranks):
            size = COUNT * (rank + 1) // world - COUNT * rank // world
            found += numbers(loader)[:size]
        assert found == expected


@pytest.mark.parametrize("stop", [0, 2, 5, 7])
def test_a_state_continues_with_the_same_draws(make, stop):
    with make(aug="apr-s", sampler="balanced", seed=5) as loader:
        expected = [images for _ in range(3) for images, *_ in loader]
    loader = make(aug="apr-s", sampler="balanced", seed=5)
    list(itertools.islice(itertools.chain(loader, loader), stop))
    state = json.loads(json.dumps(loader.state_dict()))
    loader.close()
    assert json.loads(json.dumps(loader.state_dict())) == state
    loader = make(aug="apr-s", sampler="balanced", seed=5)
    loader.load_state_dict(state)
    rest = []
    while loader.epoch < 3:
        rest += [images for images, *_ in loader]
    assert all(torch.equal(one, other) for one, other in zip(rest, expected[stop:], strict=True))


def test_an_epoch_that_was_left_is_not_repeated(make):
    loader = make(sampler="balanced", seed=5)
    seen = [next(iter(loader))[2].tolist() for _ in range(4)]
    assert len(set(map(tuple, seen))) == 4
    with make(sampler="balanced", seed=5) as other:
        assert [numbers(other)[:4] for _ in range(4)] == seen


def test_a_state_is_of_its_weights(make):
    state = make(sampler="balanced").state_dict()
    for other in ("shuffle", {"many": 1, "some": 1, "one": 2}):
        with pytest.raises(InputError, match="other settings: sampler"):
            make(sampler=other).load_state_dict(state)
    # The same weights, written otherwise.
    make(sampler=weights_of("balanced", *_set_of(make))).load_state_dict(state)


def _set_of(make):
    loader = make()
    labels = np.empty(COUNT, np.int64)
    for _, targets, index in loader:
        labels[index.numpy()] = targets.numpy()
    return labels, loader.classes


@pytest.mark.filterwarnings("ignore:left out")
def test_broken_images_are_left_out(folder, tmp_path):
    for path in folder.rglob("*.png"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).write_bytes(b"" if path.stem in ("03", "15") else path.read_bytes())
    options = {"threads": 1, "image_size": 16, "with_index": True, "on_error": "skip", "sampler": "balanced"}
    with ImageNetLoader(tmp_path, 4, **options) as loader:
        seen = [loader.files[number] for _ in range(6) for number in numbers(loader)]
        assert len(loader.skipped) == 2
        assert not set(seen) & set(loader.skipped)


@pytest.mark.parametrize(("sampler", "message"), [
    ("random", "sampler must be one of shuffle, balanced, got 'random'"),
    ({"many": 1, "some": 1}, "for each of the 3 classes: it lacks one"),
    ({"many": 1, "some": 1, "one": 1, "two": 1}, "for each of the 3 classes: it has unknown two"),
    ([1.0, 2.0], rf"for each of the {COUNT} images, got \(2,\)"),
    ([0.0] * COUNT, "finite, not negative, and not all 0"),
    ([-1.0] + [1.0] * (COUNT - 1), "finite, not negative, and not all 0"),
    ([float("nan")] + [1.0] * (COUNT - 1), "finite, not negative, and not all 0"),
    (["heavy"] * COUNT, "weights must be numbers"),
    (None, "weight for each"),
])  # fmt: skip
def test_wrong_weights_are_refused(make, sampler, message):
    with pytest.raises(InputError, match=message):
        make(sampler=sampler)


def test_samplers_are_for_training_on_files(make, tmp_path):
    with pytest.raises(InputError, match="sampler has no effect with train=False"):
        make(sampler="balanced", train=False)
    write_sample(tmp_path / "tars", "webdataset")
    with pytest.raises(InputError, match="sampler by class needs image files"):
        ImageNetLoader(tmp_path / "tars" / "train", 4, sampler="balanced")


@pytest.mark.parametrize(
    ("count", "limit", "taken"), [(6, 4, [0, 1, 3, 4]), (3, 10, [0, 1, 2]), (5, 1, [0]), (0, 3, [])]
)
def test_evenly(count, limit, taken):
    assert evenly(count, limit).tolist() == taken
