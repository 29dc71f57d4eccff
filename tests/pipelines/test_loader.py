"""The loader: every image once, orders, lengths, shards, state, views and what is refused."""

import gc
import itertools
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.loaders import STEP, flat_epoch, flat_jpeg, orders_of, which, write_flat
from helpers.tar_files import add
from PIL import Image

from apr_dali import ImageNetLoader
from apr_dali.data.folders import open_set
from apr_dali.errors import InputError

COUNT = 19
SETTINGS = {"image_size": 16, "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_flat(tmp_path_factory.mktemp("folder"), COUNT)


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    root = tmp_path_factory.mktemp("tars")
    (root / "classes.txt").write_text("class0\nclass1\n")
    for start in range(0, COUNT, 7):
        tar = root / f"{start:02d}.tar"
        with tarfile.open(tar, "w") as archive:
            for index in range(start, min(start + 7, COUNT)):
                add(archive, f"{index:04d}.jpg", flat_jpeg(index))
                add(archive, f"{index:04d}.cls", str(index % 2).encode())
        indexer = Path(sys.executable).with_name("wds2idx")
        subprocess.run([indexer, tar, tar.with_suffix(".idx")], check=True, stdout=subprocess.DEVNULL)
    return root


@pytest.fixture(params=["folder", "tars"])
def source(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_image_once_an_epoch(source, world, train):
    loaders = [ImageNetLoader(source, 4, train=train, shard=(rank, world), seed=3, **SETTINGS) for rank in range(world)]
    orders_of(loaders, flat_epoch, COUNT, train)
    assert [loader.epoch for loader in loaders] == [3] * world


def test_validation_follows_the_order_of_the_set(folder):
    expected = [*range(0, COUNT, 2), *range(1, COUNT, 2)]  # class by class
    assert flat_epoch(ImageNetLoader(folder, 5, train=False, **SETTINGS)) == expected


def test_a_set_that_is_open_already_is_taken_as_it_is(source):
    opened = open_set(source, classes=("class0", "class1"))
    with ImageNetLoader(opened, 5, train=False, **SETTINGS) as loader:
        assert sorted(flat_epoch(loader)) == list(range(COUNT))
    with pytest.raises(InputError, match="classes has no effect"):
        ImageNetLoader(opened, 5, classes=("class0", "class1"), **SETTINGS)
    with pytest.raises(InputError, match="classes has no effect"):
        ImageNetLoader(opened, 5, allow_missing_classes=True, **SETTINGS)


def test_the_order_follows_the_seed(source):
    first, again, other = (ImageNetLoader(source, 4, seed=seed, **SETTINGS) for seed in (1, 1, 2))
    orders = [flat_epoch(loader) + flat_epoch(loader) for loader in (first, again, other)]
    assert orders[0] == orders[1] != orders[2]


def test_batches_and_length(folder):
    with ImageNetLoader(folder, 4, **SETTINGS) as loader:
        assert (len(loader), loader.num_images, loader.classes) == (5, COUNT, ("class0", "class1"))
        sizes = [len(images) for images, _ in loader]
    assert sizes == [4, 4, 4, 4, 3]
    with ImageNetLoader(folder, 4, drop_last=True, **SETTINGS) as loader:
        batches = [[images for images, _ in loader] for _ in range(2)]
    assert [[len(images) for images in epoch] for epoch in batches] == [[4] * 4] * 2
    assert all(len(set(which(torch.cat(epoch), STEP))) == 16 for epoch in batches)


def test_ranks_have_the_same_number_of_batches_when_one_shard_is_short(folder):
    # Shards of 9 and 10 images in batches of 3: the shorter one repeats its last image in a fourth batch.
    short, long = (ImageNetLoader(folder, 3, shard=(rank, 2), **SETTINGS) for rank in range(2))
    assert len(short) == len(long) == 4
    seen = flat_epoch(short)
    assert len(seen) == 10
    assert seen[9] == seen[8]
    assert sorted(set(seen) | set(flat_epoch(long))) == list(range(COUNT))
    # Evaluation repeats nothing: three batches and four.
    assert [len(ImageNetLoader(folder, 3, train=False, shard=(rank, 2), **SETTINGS)) for rank in range(2)] == [3, 4]


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_state_continues_in_mid_epoch_with_identical_batches(source, stop, drop_last):
    def make_loader():
        return ImageNetLoader(source, 2, "apr-sp", seed=5, shard=(1, 2), drop_last=drop_last, **SETTINGS)

    uninterrupted = make_loader()
    batches = list(uninterrupted)
    batches += list(uninterrupted)
    interrupted = make_loader()
    ahead = list(itertools.islice(interrupted, stop))
    state = interrupted.state_dict()
    interrupted.close()
    resumed = make_loader()
    resumed.load_state_dict(state)
    rest = [*resumed, *resumed]
    assert len(ahead) + len(rest) == len(batches)
    for (images, targets), (expected, labels) in zip(rest, batches[stop:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(targets, labels)
    assert resumed.epoch == 2


def test_an_iterator_ends_when_its_loader_is_iterated_anew(folder):
    loader = ImageNetLoader(folder, 4, **SETTINGS)
    old = iter(loader)
    next(old)
    next(iter(loader))
    with pytest.raises(RuntimeError, match="iterated anew"):
        next(old)
    loader.close()
    with pytest.raises(RuntimeError, match="closed"):
        iter(loader)


def test_state_of_other_settings_is_refused(folder):
    state = ImageNetLoader(folder, 4, seed=1, **SETTINGS).state_dict()
    with pytest.raises(InputError, match="seed 1, now 2"):
        ImageNetLoader(folder, 4, seed=2, **SETTINGS).load_state_dict(state)
    with pytest.raises(InputError, match="batch_size 4, now 5"):
        ImageNetLoader(folder, 5, seed=1, **SETTINGS).load_state_dict(state)


def test_views_dtype_and_memory_format(folder):
    common = {"seed": 2, **SETTINGS}
    images, targets = next(iter(ImageNetLoader(folder, 4, "apr-p", **common)))
    assert images.shape == (8, 3, 16, 16)
    assert targets.tolist() == [t for t in targets[::2].tolist() for _ in range(2)]
    half, _ = next(iter(ImageNetLoader(folder, 4, "apr-p", dtype="float16", memory_format="channels_last", **common)))
    assert half.dtype == torch.float16
    assert half.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(half.float(), images, rtol=1e-3, atol=1e-3)
    brain, _ = next(iter(ImageNetLoader(folder, 4, "apr-p", dtype="bfloat16", **common)))
    torch.testing.assert_close(brain.float(), images, rtol=8e-3, atol=1e-6)


@pytest.mark.usefixtures("native")
def test_every_backend_gives_the_same_batches(photos, tmp_path):
    (tmp_path / "only").mkdir()
    for index in range(4):
        Image.fromarray(photos[index][:200, :200]).save(tmp_path / "only" / f"{index}.png")
    batches = {}
    for backend in ("native", "torch", "reference"):
        with ImageNetLoader(tmp_path, 4, "apr-p", backend=backend, seed=1, **SETTINGS) as loader:
            batches[backend] = torch.cat([images for _ in range(4) for images, _ in loader])
    assert not torch.equal(batches["torch"][::2], batches["torch"][1::2])
    for backend in ("native", "torch"):
        torch.testing.assert_close(batches[backend], batches["reference"], rtol=0, atol=1e-4)


def test_augmentation_leaves_labels_and_order_alone(folder):
    labels = {}
    for aug in ("none", "apr-p", "apr-s", "apr-sp"):
        loader = ImageNetLoader(folder, 4, aug, seed=2, **SETTINGS)
        assert loader.views == (2 if aug in ("apr-p", "apr-sp") else 1)
        labels[aug] = [t for _, targets in loader for t in targets[:: loader.batch_views].tolist()]
    assert len({tuple(v) for v in labels.values()}) == 1


@pytest.mark.parametrize(("options", "message"), [
    ({"batch_size": 20, "drop_last": True}, "batch_size 20 gives no batch: a process has 19"),
    ({"batch_size": 0}, "batch_size must be at least 1"),
    ({"aug": "apr"}, "aug must be one of none, apr-p, apr-s, apr-sp"),
    ({"aug": "apr-p", "train": False}, "no effect"),
    ({"device": "mps"}, "device must be a torch.device, .*, got 'mps'"),
    ({"dtype": "float64"}, "dtype must be one of"),
    ({"memory_format": "nhwc"}, "memory_format must be one of contiguous, channels_last"),
    ({"shard": (2, 2)}, "rank < world size"),
    ({"shard": (0, 20)}, "19 images cannot be shared out among 20"),
    ({"image_size": 0}, "image_size must be at least 1"),
    ({"classes": ["class0", "other"]}, "other"),
    ({"classes": 1000}, "classes must be a list of names, got 1000"),
    ({"classes": (0, 1)}, r"classes must be a list of names, got \(0, 1\)"),
    ({"allow_missing_classes": None}, "allow_missing_classes must be one of True, False, got None"),
    ({"aug": np.arange(2)}, r"aug must be one of none, .*, got array\(\[0, 1\]\)"),
    ({"on_error": ["skip"]}, r"on_error must be one of raise, skip, got \['skip'\]"),
    ({"classes": "class0"}, "classes must be a list of names, got the text 'class0'"),
    ({"classes": ["class0", "class1", "class0"]}, "name each class once, got several times class0"),
])  # fmt: skip
def test_wrong_arguments_are_refused(folder, options, message):
    arguments = {"batch_size": 4, **SETTINGS, **options}
    with pytest.raises(InputError, match=message):
        ImageNetLoader(folder, **arguments)


def test_gpu_without_a_gpu_is_refused(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="needs a CUDA device"):
        ImageNetLoader(folder, 4, device="gpu")


@pytest.mark.parametrize("content", [flat_jpeg(3)[:-200], b"hello", b""], ids=["truncated", "text", "empty"])
def test_a_corrupt_image_is_named_by_its_path(tmp_path, content):
    (tmp_path / "only").mkdir()
    for index in range(3):
        (tmp_path / "only" / f"{index}.jpg").write_bytes(flat_jpeg(index))
    bad = tmp_path / "only" / "bad.jpg"
    bad.write_bytes(content)
    with pytest.raises(InputError, match=rf"{bad} cannot be decoded( \(.+\))?: .*check-data"):
        list(ImageNetLoader(tmp_path, 2, train=False, **SETTINGS))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_batch_stays_as_it_is(photos, tmp_path, dtype):
    """It lies in memory that DALI gave out: later batches, the end of the loader and its memory must not touch it."""
    (tmp_path / "only").mkdir()
    for index in range(24):
        Image.fromarray(photos[index % len(photos)]).save(tmp_path / "only" / f"{index}.jpg")
    loader = ImageNetLoader(tmp_path, 4, "apr-sp", image_size=128, threads=1, dtype=dtype)
    batches, copies = [], []
    for images, _ in loader:
        batches.append(images)
        copies.append(images.clone())
    loader.close()
    del loader
    gc.collect()
    for images, copy in zip(batches, copies, strict=True):
        assert torch.equal(images, copy)
        images.add_(1)  # it is ours to write to
        assert torch.equal(images, copy + 1)


def test_images_are_resized_between_epochs_alone(folder):
    with ImageNetLoader(folder, 4, **SETTINGS, seed=2) as loader:
        seen = [which(images, STEP) for images, _ in loader]
        loader.resize(24)
        ongoing = iter(loader)
        assert next(ongoing)[0].shape[2:] == (24, 24)
        with pytest.raises(InputError, match="between epochs, this one has given 1 batches"):
            loader.resize(16)
        loader.resize(24)
        list(ongoing)
        loader.resize(16)
        again = [which(images, STEP) for images, _ in loader]
        assert sorted(itertools.chain(*again)) == list(range(COUNT))
        assert (loader.image_size, loader.epoch) == (16, 3)
        assert again != seen
        with pytest.raises(InputError, match="image_size must be at least 1"):
            loader.resize(0)
