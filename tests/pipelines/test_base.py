"""What all loaders share: epochs that are left early, states in files, what is refused, and where loaders cannot go."""

import copy
import itertools
import json
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.data.arrays import ArraySet
from apr_dali.errors import InputError

COUNT, BATCH = 19, 4
BATCHES = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images of one gray level each, which tells which one it is; those of odd numbers are of another class."""
    root = tmp_path_factory.mktemp("folder")
    for index in range(COUNT):
        (root / f"class{index % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (index * 13,) * 3).save(root / f"class{index % 2}" / f"{index:02d}.png")
    return root


@pytest.fixture(scope="module")
def tars(folder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tars")
    (root / "classes.txt").write_text("class0\nclass1\n")
    with tarfile.open(root / "0.tar", "w") as archive:
        for path in sorted(folder.rglob("*.png"), key=lambda path: path.stem):
            archive.add(path, f"{path.stem}.png")
            label = root / "label"
            label.write_text(path.parent.name[-1])
            archive.add(label, f"{path.stem}.cls")
    indexer = Path(sys.executable).with_name("wds2idx")
    subprocess.run([indexer, root / "0.tar", root / "0.idx"], check=True, stdout=subprocess.DEVNULL)
    return root


def small_set() -> ArraySet:
    images = np.empty((COUNT, 12, 12, 3), np.uint8)
    images[:] = (np.arange(COUNT) * 13)[:, None, None, None]
    return ArraySet(images, np.arange(COUNT) % 2, ("class0", "class1"))


@pytest.fixture(params=["folder", "tars", "small"])
def make(request):
    """A function that makes a loader of the set."""
    if request.param == "small":
        return lambda **options: CifarLoader(small_set(), **{"batch_size": BATCH, "threads": 1, **options})
    source = request.getfixturevalue(request.param)
    return lambda **options: ImageNetLoader(source, **{"batch_size": BATCH, "threads": 1, "image_size": 16, **options})


def numbers(images: torch.Tensor, loader) -> list[int]:
    recipe = loader._graph.recipe
    levels = (images[:, 0, 6, 6] * recipe.std[0] + recipe.mean[0]) * 255
    return (levels / 13).round().int().tolist()


def orders(loader, batches) -> list[list[int]]:
    found = []
    for images, targets in batches:
        found.append(numbers(images, loader))
        assert [number % 2 for number in found[-1]] == targets.tolist()
    return found


def same(found, expected) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(a, b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)
    )


# ---- an epoch that is left -------------------------------------------------------------------------------------------


def by_islice(loader):
    return list(itertools.islice(loader, 2))


def by_zip(loader):
    return [batch for batch, _ in zip(loader, range(1), strict=False)]


def by_break(loader):
    found = []
    for batch in loader:
        found.append(batch)
        if len(found) == 3:
            break
    return found


def by_next(loader):
    batches = iter(loader)
    return [next(batches)]


@pytest.mark.parametrize("leave", [by_islice, by_zip, by_break, by_next])
def test_an_epoch_that_was_left_is_not_repeated(make, leave):
    loader = make(aug="apr-s", seed=5)
    seen = [leave(loader) for _ in range(4)]
    assert loader.epoch == 3
    for one, other in itertools.combinations(seen, 2):
        assert not torch.equal(one[0][0], other[0][0])
    again = make(aug="apr-s", seed=5)
    assert all(same(leave(again), expected) for expected in seen)


def test_the_epoch_after_one_that_was_left_is_whole_and_in_another_order(make):
    loader = make(seed=5)
    left = orders(loader, itertools.islice(loader, 2))
    whole = orders(loader, loader)
    assert sorted(itertools.chain(*whole)) == list(range(COUNT))
    assert whole[:2] != left
    assert loader.epoch == 2
    following = orders(loader, loader)
    assert sorted(itertools.chain(*following)) == list(range(COUNT))
    assert following != whole


@pytest.mark.parametrize("kind", [ImageNetLoader, CifarLoader])
@pytest.mark.parametrize("rank", [0, 1])
def test_draws_differ_where_epochs_are_left(crops, tmp_path, kind, rank):
    """All images are one, so that only the draws can differ."""
    images = crops(1, 32, 32).repeat(8, axis=0)
    (tmp_path / "only").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "only" / f"{index}.png")
    source = tmp_path if kind is ImageNetLoader else ArraySet(images, np.zeros(8, np.int64), ("only",))
    size = {"image_size": 32} if kind is ImageNetLoader else {}
    seen = []
    for shard in ((rank, 2), (1 - rank, 2)):
        loader = kind(source, 2, seed=5, threads=1, shard=shard, **size)
        seen += [next(iter(loader))[0].numpy().tobytes() for _ in range(4)]
        assert loader.epoch == 3
    assert len(set(seen)) == 8


def test_all_batches_without_the_end_are_an_epoch(make):
    with make(aug="apr-s", seed=5) as loader:
        expected = [list(loader) for _ in range(3)]
    for on_break in ("new", "resume"):
        loader = make(aug="apr-s", seed=5, on_break=on_break)
        found = []
        for _ in range(3):
            batches = iter(loader)
            found.append([next(batches) for _ in range(len(loader))])
        assert all(same(one, other) for one, other in zip(found, expected, strict=True))


def test_an_epoch_that_was_left_goes_on_where_that_is_asked_for(make):
    with make(aug="apr-s", seed=5) as loader:
        expected = [*loader, *loader]
    loader = make(aug="apr-s", seed=5, on_break="resume")
    found = []
    while loader.epoch < 2:
        found += itertools.islice(loader, 2)
    assert same(found, expected)


def test_an_evaluation_that_was_left_begins_again(make):
    loader = make(train=False)
    with make(train=False) as other:
        expected = list(other)
    next(iter(loader))
    assert same(list(loader), expected)


def test_an_iterator_that_gave_nothing_leaves_nothing(make):
    with make(seed=5) as loader:
        expected = orders(loader, loader)
    loader = make(seed=5)
    iter(loader)
    assert orders(loader, loader) == expected


def test_an_iterator_that_was_left_does_not_end_the_epoch_of_the_next(make):
    loader = make(seed=5, on_break="resume")
    old = iter(loader)
    next(old)
    new = iter(loader)
    for _ in range(BATCHES - 1):
        next(new)
    with pytest.raises(RuntimeError, match="iterated anew"):
        next(old)
    assert loader.epoch == 0
    assert list(new) == []
    assert loader.epoch == 1


# ---- states ----------------------------------------------------------------------------------------------------------


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


# ---- the third output ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aug", ["none", "apr-p"])
def test_the_number_of_each_image_comes_with_it(folder, aug):
    with ImageNetLoader(folder, BATCH, aug, threads=1, image_size=16, seed=5, with_index=True) as loader:
        for images, targets, index in loader:
            assert index.dtype == torch.int64
            assert len(images) == len(targets) == len(index)
            named = [int(Path(loader.files[number]).stem) for number in index]
            assert named[:: loader.views] == numbers(images[:: loader.views], loader)
            assert targets.tolist() == [number % 2 for number in named]
            assert all(len(set(named[n : n + loader.views])) == 1 for n in range(0, len(named), loader.views))


@pytest.mark.parametrize("options", [{}, {"aug": "apr-p", "amplitude_labels": True}, {"aug": "augmix"}])
def test_the_number_of_each_small_image_comes_with_it(options):
    data = small_set()
    with CifarLoader(data, BATCH, threads=1, seed=5, with_index=True, **options) as loader:
        seen = []
        for images, targets, index in loader:
            assert index[:: loader.views].tolist() == numbers(images[:: loader.views], loader)
            own = targets if targets.ndim == 1 else targets[:, 0]
            assert own.tolist() == data.labels[index.numpy()].tolist()
            seen += index[:: loader.views].tolist()
        assert sorted(seen) == list(range(COUNT))


@pytest.mark.filterwarnings("ignore:left out")
def test_the_number_is_that_of_what_stands_in_for_a_broken_image(folder, tmp_path):
    for path in folder.rglob("*.png"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        broken = path.stem in ("04", "06")
        (tmp_path / path.parent.name / path.name).write_bytes(b"broken" if broken else path.read_bytes())
    options = {"threads": 1, "image_size": 16, "on_error": "skip", "with_index": True}
    with ImageNetLoader(tmp_path, 1, **options) as loader:
        for images, targets, index in loader:
            named = [int(Path(loader.files[number]).stem) for number in index]
            assert named == numbers(images, loader)
            assert named[0] not in (4, 6)
            assert targets.tolist() == [named[0] % 2]
        assert len(loader.skipped) == 2


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "message"), [
    ({"seed": 2**64}, f"seed must be at most {2**63 - 1}, got {2**64}"),
    ({"seed": -1}, "seed must be at least 0, got -1"),
    ({"seed": None}, "seed must be a whole number, got None"),
    ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
    ({"batch_size": 8.0}, "batch_size must be a whole number, got 8.0"),
    ({"batch_size": "8"}, "batch_size must be a whole number, got '8'"),
    ({"batch_size": None}, "batch_size must be a whole number, got None"),
    ({"batch_size": True}, "batch_size must be a whole number, got True"),
    ({"threads": 0.5}, "threads must be a whole number, got 0.5"),
    ({"threads": 0}, "threads must be at least 1, got 0"),
    ({"device_id": -1}, "device_id must be at least 0, got -1"),
    ({"shard": 0}, r"shard must be \(rank, world size\), got 0"),
    ({"shard": (0, 1, 2)}, r"shard must be \(rank, world size\), got \(0, 1, 2\)"),
    ({"shard": (0, 1.0)}, "world size of shard must be a whole number, got 1.0"),
    ({"on_break": "again"}, "on_break must be one of new, resume, got 'again'"),
    ({"batch_size": 2**40}, f"batch_size must be at most {2**31 - 1}"),
    ({"train": "no"}, "train must be True or False, got 'no'"),
    ({"drop_last": None}, "drop_last must be True or False, got None"),
    ({"with_index": 2}, "with_index must be True or False, got 2"),
    ({"backend": "cuda"}, "backend must be one of auto, .*, got 'cuda'"),
    ({"recipe": "a"}, "recipe must be an AprRecipe, got 'a'"),
])  # fmt: skip
def test_wrong_arguments_are_refused(make, options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


def test_a_scaling_is_one(folder):
    with pytest.raises(InputError, match="scaling must be a Scaling or None, got 256"):
        ImageNetLoader(folder, BATCH, train=False, scaling=256)


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


@pytest.mark.parametrize("size", [(32, 48), 32.5, "32", None])
def test_an_image_size_is_one_whole_number(folder, size):
    with pytest.raises(InputError, match="image_size must be a whole number, got"):
        ImageNetLoader(folder, BATCH, image_size=size)


def test_the_greatest_seed_works(make):
    loader = make(seed=2**63 - 1)
    by_next(loader)
    assert sorted(itertools.chain(*orders(loader, loader))) == list(range(COUNT))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_image_smaller_than_its_crop_is_named(tmp_path, on_error):
    (tmp_path / "only").mkdir()
    for index in range(7):
        size = (40, 31) if index == 5 else (40, 40)
        Image.new("RGB", size).save(tmp_path / "only" / f"{index}.png")
    options = {"train": False, "image_size": 32, "scaling": None, "threads": 1, "on_error": on_error}
    with ImageNetLoader(tmp_path, 2, **options) as loader, pytest.raises(InputError) as caught:
        list(loader)
    assert f"the image {tmp_path / 'only' / '5.png'} has 40×31 pixels" in str(caught.value)
    assert "cuts 32×32" in str(caught.value)


def test_a_data_loader_is_told_that_it_is_none_too_few(make):
    loader = make()
    with pytest.raises(InputError, match="iterate over it itself, in no DataLoader"):
        next(iter(DataLoader(loader)))


def test_a_loader_that_runs_cannot_be_pickled(make):
    loader = make(seed=5)
    waiting = pickle.loads(pickle.dumps(loader))
    next(iter(loader))
    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(InputError, match="cannot be pickled or copied"):
            send(loader)
    waiting.load_state_dict(loader.state_dict())
    assert len(list(waiting)) == BATCHES - 1
