"""States in files: they continue exactly, belong to one set, and are refused where they are damaged."""

import copy
import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.gray_sets import BATCH, BATCHES, same, small_set

from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.errors import InputError


def through_json(state, path):
    path.write_text(json.dumps(state))
    return json.loads(path.read_text())


def through_torch(state, path):
    torch.save(state, path)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("through", [through_json, through_torch])
@pytest.mark.parametrize(("left", "stop"), [(0, 0), (0, 2), (2, 0), (2, 3), (1, BATCHES)])
def test_a_state_in_a_file_continues_exactly(make, tmp_path, through, left, stop):
    """Also after epochs that were left, whose pipelines began later."""
    loader = make(aug="apr-s", seed=5)
    for _ in range(left):
        list(itertools.islice(loader, 2))
    list(itertools.islice(loader, stop))
    state = through(loader.state_dict(), tmp_path / "state")
    loader.close()
    assert loader.state_dict() == state, "closed, its state is what it was"
    first, second = make(aug="apr-s", seed=5), make(aug="apr-s", seed=5)
    for _ in range(left):
        list(itertools.islice(first, 2))
    batches = iter(first)
    for _ in range(stop):
        next(batches)
    expected = [*batches, *first]
    second.load_state_dict(state)
    assert second.state_dict() == state, "a state that was taken is given again"
    resumed = iter(second)
    assert same([*resumed, *second], expected)


def test_an_evaluations_state_continues(make):
    loader = make(train=False)
    expected = list(loader)
    list(itertools.islice(loader, 2))
    state = loader.state_dict()
    other = make(train=False)
    other.load_state_dict(state)
    assert same(list(other), expected[2:])


def test_a_state_of_images_as_they_are_continues(folder):
    given = {"train": False, "scaling": None, "image_size": 24, "threads": 1}
    with ImageNetLoader(folder, BATCH, **given) as loader:
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        expected, _ = next(batches)
    with ImageNetLoader(folder, BATCH, **given) as loader:
        loader.load_state_dict(state)
        assert torch.equal(next(iter(loader))[0], expected)


def test_states_of_other_versions_and_other_things_are_refused(make):
    loader = make()
    ours = loader.state_dict()["version"]
    for version in (1, None):
        with pytest.raises(InputError, match=f"must have version {ours}, got {version}: another version of apr_dali"):
            loader.load_state_dict({"version": version, "epoch_start": b""})
    with pytest.raises(InputError, match="lacks batch, epoch, pipeline, signature, skipped, stream"):
        loader.load_state_dict({"version": ours})
    with pytest.raises(InputError, match="is damaged: its pipeline is no base64 text"):
        loader.load_state_dict(loader.state_dict() | {"pipeline": "AP8A*"})


@pytest.mark.parametrize("change", ["renamed", "relabeled", "moved"])
def test_a_state_is_of_the_set_by_its_names(folder, tmp_path, change):
    def copied(name: str) -> Path:
        for path in folder.rglob("*.png"):
            label = path.parent.name
            if change == "relabeled" and name == "b" and path.stem == "00":
                label = "class1"
            (tmp_path / name / label).mkdir(parents=True, exist_ok=True)
            stem = "other" if change == "renamed" and name == "b" and path.stem == "07" else path.stem
            (tmp_path / name / label / f"{stem}.png").write_bytes(path.read_bytes())
        return tmp_path / name

    loaders = [ImageNetLoader(copied(name), BATCH, threads=1, image_size=16) for name in "ab"]
    state = loaders[0].state_dict()
    if change == "moved":
        loaders[1].load_state_dict(state)
    else:
        with pytest.raises(InputError, match=r"other settings: names \d+, now \d+$"):
            loaders[1].load_state_dict(state)


def test_a_state_is_of_the_tars_by_their_names_and_sizes(tars, tmp_path):
    def copied(name: str) -> Path:
        (tmp_path / name).mkdir()
        for path in tars.iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
        return tmp_path / name

    state = ImageNetLoader(tars, BATCH, threads=1, image_size=16).state_dict()
    ImageNetLoader(copied("same"), BATCH, threads=1, image_size=16).load_state_dict(state)
    longer, renamed = copied("longer"), copied("renamed")
    with open(longer / "0.tar", "ab") as file:
        file.write(bytes(512))
    for suffix in (".tar", ".idx"):
        (renamed / f"0{suffix}").rename(renamed / f"1{suffix}")
    for other in (longer, renamed):
        with pytest.raises(InputError, match=r"other settings: names \d+, now \d+$"):
            ImageNetLoader(other, BATCH, threads=1, image_size=16).load_state_dict(state)


def test_a_state_is_of_the_images_in_memory():
    state = CifarLoader(small_set(), BATCH, threads=1).state_dict()
    other = small_set()
    other.images[7, 0, 0, 0] += 1
    with pytest.raises(InputError, match=r"other settings: data \d+, now \d+$"):
        CifarLoader(other, BATCH, threads=1).load_state_dict(state)


def test_numpys_numbers_are_numbers(make):
    loader = make(batch_size=np.int64(BATCH), seed=np.uint32(5), shard=(np.int64(0), np.int64(1)))
    state = json.loads(json.dumps(loader.state_dict()))
    make(seed=5).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "must be what state_dict\\(\\) gave, got NoneType"),
        ({"batch": BATCHES + 1}, f"damaged: its batch must be at most {BATCHES}, got {BATCHES + 1}"),
        ({"batch": 1.5}, "damaged: its batch must be a whole number"),
        ({"epoch": -1}, "damaged: its epoch must be at least 0"),
        ({"stream": 1}, "damaged: its stream must be at most 0"),
        ({"skipped": None}, "damaged: skipped must be a list of paths, got None"),
        ({"signature": None}, "damaged: its signature must be a dict, got None"),
        ({"pipeline": 5}, "damaged: its pipeline is no base64 text"),
        ({"pipeline": "AAAA"}, "damaged: DALI cannot go on from it"),
    ],
)
def test_a_damaged_state_is_refused(make, change, said):
    loader = make(seed=5)
    next(iter(loader))
    state = loader.state_dict()
    other = make(seed=5)

    def rest(state: dict | None) -> list:
        other.load_state_dict(state)
        return list(other)

    with pytest.raises(InputError, match=said):
        rest(change and state | change)
    assert len(rest(state)) == BATCHES - 1


def test_a_loader_that_runs_cannot_be_pickled(make):
    loader = make(seed=5)
    waiting = pickle.loads(pickle.dumps(loader))
    next(iter(loader))
    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(InputError, match="cannot be pickled or copied"):
            send(loader)
    waiting.load_state_dict(loader.state_dict())
    assert len(list(waiting)) == BATCHES - 1
