"""Broken images that turn up in mid-epoch and are left out: all others keep their order and their batches."""

import itertools
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from helpers.loaders import numbers_of
from PIL import Image

from apr_dali import ImageNetLoader
from apr_dali.data.folders import open_set, with_stand_ins
from apr_dali.errors import InputError
from apr_dali.runtime.distributed import Group
from apr_dali.training import datasets as parts

COUNT, BATCH = 20, 4
SETTINGS = {"image_size": 16, "threads": 1, "seed": 3}


def name(index: int) -> str:
    return f"class{index % 2}/{index:02d}.jpg"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Images of one gray level each, which tells them apart however they are cropped."""
    root = tmp_path_factory.mktemp("whole")
    for index in range(COUNT):
        (root / f"class{index % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (40 + index, 60 - index), (index * 12,) * 3).save(root / name(index), quality=95)
    return root


@pytest.fixture
def spoil(whole, tmp_path):
    """A function: the same folder with some images spoilt, and their paths."""

    def make(*indices: int, content: bytes | str = "within"):
        root = tmp_path / f"spoilt{len(list(tmp_path.iterdir()))}"
        shutil.copytree(whole, root)
        paths = [root / name(index) for index in indices]
        for path in paths:
            jpeg = path.read_bytes()
            spoilt = {"within": jpeg.replace(b"\xff\xc4", b"\xff\xc9", 1), "header": jpeg[:20] + bytes(600) + jpeg[-2:]}
            path.write_bytes(spoilt.get(content, content))
        return root, {str(path) for path in paths}

    return make


def skipping(root, aug="none", **options):
    return ImageNetLoader(root, BATCH, aug, on_error="skip", **SETTINGS, **options)


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("content", ["within", "header", b"hello", b""])
def test_the_others_keep_their_batches(whole, spoil, train, content):
    bad = (1, 8, 12, 18)
    root, paths = spoil(*bad, content=content)
    with ImageNetLoader(whole, BATCH, train=train, **SETTINGS) as loader:
        expected = [numbers_of(loader) for _ in range(3)]
    assert not set(expected[0][0]) & set(bad), "the first broken image comes in mid-epoch"
    with skipping(root, train=train) as loader:
        found = [numbers_of(loader) for _ in range(3)]
        assert set(loader.skipped) == paths
        assert len(loader.skipped) == len(bad)
        assert len(loader) == COUNT // BATCH
    assert found == [[[i for i in batch if i not in bad] for batch in epoch] for epoch in expected]


@pytest.mark.filterwarnings("ignore:left out")
def test_faults_of_several_kinds(spoil):
    """Some are found by their ends, others only once those are left out."""
    root, paths = spoil(1, content=b"hello")
    for index, content in ((8, "header"), (12, "within")):
        other, _ = spoil(index, content=content)
        shutil.copy(other / name(index), root / name(index))
        paths.add(str(root / name(index)))
    with skipping(root) as loader:
        assert sorted(itertools.chain(*numbers_of(loader))) == [i for i in range(COUNT) if i not in (1, 8, 12)]
        assert set(loader.skipped) == paths


@pytest.mark.filterwarnings("ignore:left out")
def test_a_name_that_is_no_text(whole, tmp_path):
    root = tmp_path / "d"
    shutil.copytree(whole, root)
    path = os.fsdecode(os.path.join(os.fsencode(root / name(8)), b"..", b"\xff.jpg"))
    os.rename(root / name(8), os.path.normpath(path))
    with pytest.raises(InputError, match=r"has a name that is not UTF-8.*: remove it"):
        ImageNetLoader(root, BATCH, **SETTINGS)
    with skipping(root) as loader:
        assert loader.skipped == (os.path.normpath(path),)
        assert sorted(itertools.chain(*numbers_of(loader))) == [i for i in range(COUNT) if i != 8]


@pytest.mark.filterwarnings("ignore:left out")
def test_shards_have_the_same_number_of_batches(spoil):
    root, _ = spoil(0, 1, 2, 3, 4, 5, 6, 7, 8)
    loaders = [skipping(root, shard=(rank, 2)) for rank in range(2)]
    for _ in range(2):
        found = [numbers_of(loader) for loader in loaders]
        assert [len(batches) for batches in found] == [3, 3]
        counted = Counter(itertools.chain(*found[0], *found[1]))
        # Where nothing was left of a batch, it has others again: more than once, but nothing is missing or broken.
        assert set(counted) == set(range(9, COUNT))


@pytest.mark.filterwarnings("ignore:left out")
def test_a_training_batch_of_broken_images_gives_others_and_an_evaluation_none(spoil):
    root, _ = spoil(*range(0, COUNT, 2))  # the first class: batches of evaluation follow the classes
    with skipping(root, train=False) as loader:
        assert numbers_of(loader) == [[1, 3], [5, 7, 9, 11], [13, 15, 17, 19]]
    with ImageNetLoader(root, 1, on_error="skip", **SETTINGS) as loader:
        found = numbers_of(loader)
        assert [len(batch) for batch in found] == [1] * COUNT
        assert {i for batch in found for i in batch} == set(range(1, COUNT, 2))


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("stop", [0, 2, 4])
def test_state_continues_with_the_same_batches(spoil, stop):
    root, paths = spoil(2, 7)
    with skipping(root, "apr-sp") as loader:
        found = [(images, len(images) // loader.batch_views) for _ in range(2) for images, _ in loader]
    assert sum(count for _, count in found) == 2 * (COUNT - 2)
    expected = [images for images, _ in found]
    loader = skipping(root, "apr-sp")
    list(itertools.islice(loader, stop))
    state = loader.state_dict()
    loader.close()
    with skipping(root, "apr-sp") as loader:
        loader.load_state_dict(state)
        rest = [images for _ in range(2) for images, _ in loader]
        assert set(loader.skipped) == paths
    assert all(torch.equal(a, b) for a, b in zip(rest, expected[stop:], strict=True))


def test_a_warning_names_the_image(spoil):
    root, paths = spoil(6)
    with skipping(root) as loader, pytest.warns(UserWarning, match=f"left out {paths.pop()}, which cannot"):
        list(loader)


def test_stand_ins_are_the_next_whole_images(whole):
    images = open_set(whole)
    changed = with_stand_ins(images, [images.files[i] for i in (0, 1, 10, 19)])
    taken = [*(2, 2), *range(2, 10), 11, *range(11, 19), 2]
    assert changed.files == tuple(images.files[i] for i in taken)
    labels = images.labels[taken]
    labels[[0, 1, 10, 19]] = -1 - labels[[0, 1, 10, 19]]
    np.testing.assert_array_equal(changed.labels, labels)
    with pytest.raises(InputError, match="none of the 20 images"):
        with_stand_ins(images, images.files)


def test_what_is_no_choice_is_refused(whole):
    with pytest.raises(InputError, match="on_error must be one of raise, skip"):
        ImageNetLoader(whole, BATCH, on_error="ignore", **SETTINGS)


def test_one_view_alone_is_the_mixed_one(whole):
    with ImageNetLoader(whole, BATCH, "apr-sp", repeat_unmixed=True, **SETTINGS) as both:
        expected = [(images[1::2], targets[1::2]) for images, targets in both]
    with ImageNetLoader(whole, BATCH, "apr-sp", views="mixed", **SETTINGS) as mixed:
        assert mixed.views == 1
        found = list(mixed)
    for (images, targets), (wanted, labels) in zip(found, expected, strict=True):
        assert torch.equal(images, wanted)
        assert torch.equal(targets, labels)
    with pytest.raises(InputError, match="views='mixed' has no effect with aug='none'"):
        ImageNetLoader(whole, BATCH, views="mixed", **SETTINGS)


@pytest.mark.filterwarnings("ignore:left out")
def test_an_image_that_several_processes_left_out_counts_once(spoil, monkeypatch):
    root, paths = spoil(1, 8, 12, 18)
    ranks = [(skipping(root, shard=(rank, 2)), skipping(root, train=False, shard=(rank, 2))) for rank in range(2)]
    for _ in range(4):
        for loader in itertools.chain(*ranks):
            list(loader)
    lists = [[path for loader in loaders for path in loader.skipped] for loaders in ranks]
    assert sum(map(len, lists)) > len(paths), "an image came to both processes"
    monkeypatch.setattr(parts, "gather", lambda *_: lists)
    for rank, mine in enumerate(lists):
        assert parts.left_out(Group(rank, 2, rank, torch.device("cpu")), mine) == len(paths)
