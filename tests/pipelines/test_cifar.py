"""What the CIFAR pipeline does to images, and how few copies it makes of them."""

from __future__ import annotations

import itertools
import tracemalloc
import weakref

import numpy as np
import pytest
import torch
from helpers.cifar_images import MEAN, STD, levels, normalized
from helpers.loaders import gpu_graph
from nvidia.dali import fn

import apr_dali
from apr_dali import CifarLoader, recipes
from apr_dali.data.arrays import ArraySet
from apr_dali.pipelines import cifar


@pytest.fixture
def natural(crops) -> ArraySet:
    # Odd sides: no frequency but the mean's is real, whose sign would be a matter of rounding where it is small.
    return ArraySet(crops(24, 21, 27), np.arange(24) % 5, tuple("abcde"))


# ---- values ----------------------------------------------------------------------------------------------------------


def all_crops(image: np.ndarray, fill: int = 128) -> dict[tuple, np.ndarray]:
    """(row, column, mirrored) → crop, of all that the published transforms can give, by NumPy."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), constant_values=fill)
    found = {}
    for y, x in itertools.product(range(9), repeat=2):
        crop = padded[y : y + height, x : x + width]
        found[y, x, False], found[y, x, True] = crop, crop[:, ::-1]
    return found


def which_crop(crop: np.ndarray, image: np.ndarray, fill: int = 128) -> tuple:
    """Where `crop` was taken from `image`; exact."""
    places = [place for place, other in all_crops(image, fill).items() if np.array_equal(other, crop)]
    assert places, "not a crop of this image"
    return places[0]


def whole(images: torch.Tensor) -> np.ndarray:
    """Normalized images that hold whole gray levels as uint8 (N, H, W, 3)."""
    found = levels(images)
    assert np.abs(found - found.round()).max() < 1e-3
    return np.moveaxis(found.round().astype(np.uint8), 1, -1)


@pytest.mark.parametrize("fill", [128, 0])
def test_training_crops_and_flips(natural, fill):
    loader = CifarLoader(natural, 24, seed=2, threads=1, fill=fill)
    places = []
    for _ in range(8):
        order = cifar.Batches(natural, 24, (0, 1), 2, True)(loader.epoch)[0]
        for images, _ in loader:
            places += [which_crop(*both, fill) for both in zip(whole(images), order, strict=True)]
    rows, columns, mirrored = np.array(places).T
    assert set(rows) == set(columns) == set(range(9))
    assert 0.35 < mirrored.mean() < 0.65
    assert len(set(places)) > 80


def test_without_flips_nothing_is_mirrored(natural):
    loader = CifarLoader(natural, 24, seed=2, threads=1, flip=False)
    order = cifar.Batches(natural, 24, (0, 1), 2, True)(0)[0]
    for images, _ in loader:
        assert not any(which_crop(*both)[2] for both in zip(whole(images), order, strict=True))


def test_evaluation_is_the_normalized_image(natural):
    images, targets = next(iter(CifarLoader(natural, 24, train=False, threads=1)))
    np.testing.assert_allclose(images.numpy(), normalized(natural.images), atol=1e-5)
    assert targets.tolist() == natural.labels.tolist()


def test_single_comes_before_the_crop(natural, calls):
    loader = CifarLoader(natural, 24, "apr-s", seed=2, threads=1)
    order = cifar.Batches(natural, 24, (0, 1), 2, True)(0)[0]
    images, _ = next(iter(loader))
    given, draws, options, result = calls[0]
    np.testing.assert_array_equal(given, order)
    assert options["overflow"] == "wrap"
    np.testing.assert_array_equal(result, apr_dali.single(order, draws, overflow="wrap"))
    for crop, changed in zip(whole(images), result, strict=True):
        which_crop(crop, changed)


def test_single_on_a_share_of_the_images(natural, calls):
    loader = CifarLoader(natural, 24, "apr-s", seed=2, threads=1, single_probability=0.3)
    changed = []
    for number in range(6):
        order = cifar.Batches(natural, 24, (0, 1), 2, True)(number)[0]
        for images, _ in loader:
            for crop, before, after in zip(whole(images), order, calls[number][-1], strict=True):
                apart = (before != after).any()
                places = all_crops(before).values()
                changed.append(apart and not any(np.array_equal(crop, other) for other in places))
                which_crop(crop, after if changed[-1] else before)
    # A few operations leave an image as it is.
    assert 0.15 < np.mean(changed) < 0.4


def test_pair_mixes_crops_in_0_to_1_and_normalizes_then(natural, calls):
    loader = CifarLoader(natural, 24, "apr-p", seed=2, threads=1, amplitude_labels=True, repeat_unmixed=True)
    mixed = 0
    for number in range(8):
        order, chosen = cifar.Batches(natural, 24, (0, 1), 2, True)(number)
        for images, targets in loader:
            given, partner, mix, *_ = calls[number]
            for crop, image in zip(given, order, strict=True):
                which_crop(crop, image)
            unit = given.astype(np.float64).transpose(0, 3, 1, 2) / 255
            clean = (unit - MEAN) / STD
            other = apr_dali.recombine(unit, unit[partner], backend="reference") if mix else unit
            np.testing.assert_allclose(images[::2].numpy(), clean, atol=1e-5)
            # Of an image with next to nothing at many frequencies, gray ones, the phases there are rounding.
            apart = np.abs(images[1::2].numpy() - (other - MEAN) / STD).max((1, 2, 3))
            assert (apart < 1e-4).sum() >= 22
            labels = natural.labels[chosen.ravel()]
            assert targets[:, 0].tolist() == labels.repeat(2).tolist()
            assert targets[::2, 1].tolist() == labels.tolist()
            assert targets[1::2, 1].tolist() == (labels[partner] if mix else labels).tolist()
            mixed += mix
    assert 2 <= mixed <= 7


def test_cutout_blanks_one_square(crops):
    data = ArraySet(crops(40, 32, 32), np.zeros(40, np.int64), ("a",))
    images, _ = next(iter(CifarLoader(data, 40, "cutout", seed=2, threads=1)))
    blank = (images == 0).all(1).numpy()
    sides = []
    for image in blank:
        rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
        assert image.sum() == len(rows) * len(columns), "one rectangle"
        assert len(rows) == np.ptp(rows) + 1
        sides.append((len(rows), len(columns)))
        # Cut off only by the border.
        for found in (rows, columns):
            assert len(found) == 16 or found[0] == 0 or found[-1] == 31
    assert max(sides) == (16, 16)
    assert min(min(pair) for pair in sides) >= 7
    assert len(set(sides)) > 5


def test_augmix_gives_the_crop_and_two_mixed_views(natural):
    loader = CifarLoader(natural, 8, "augmix", seed=2, threads=1)
    images, targets = next(iter(loader))
    order, chosen = cifar.Batches(natural, 8, (0, 1), 2, True)(0)
    assert targets.tolist() == natural.labels[chosen.ravel()].repeat(3).tolist()
    for crop, image in zip(whole(images[::3]), order, strict=True):
        which_crop(crop, image)
    first, second = (images[view::3] for view in (1, 2))
    assert not torch.equal(first, second)
    assert (images[::3] - first).abs().mean() < 1.0, "a mix with the image itself"


def test_torchvisions_draws_leave_the_generator_alone(natural):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    batches = [images for images, _ in CifarLoader(natural, 8, "autoaugment", seed=2, threads=1)]
    assert torch.equal(torch.rand(3), expected)
    again = [images for images, _ in CifarLoader(natural, 8, "autoaugment", seed=2, threads=1)]
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))


def test_torchvisions_draws_differ_from_batch_to_batch_and_rank_to_rank(natural):
    same = ArraySet(natural.images[:1].repeat(16, axis=0), np.zeros(16, np.int64), ("a",))
    seen = [
        images.numpy().tobytes()
        for rank in range(2)
        for images, _ in CifarLoader(same, 4, "autoaugment", seed=2, shard=(rank, 2), threads=1)
    ]
    assert len(set(seen)) == len(seen) == 4


def test_views_dtype_and_memory_format(natural):
    images, targets = next(iter(CifarLoader(natural, 4, "apr-sp", threads=1)))
    assert images.shape == (8, 3, 21, 27)
    assert targets.shape == (8,)
    options = {"dtype": "float16", "memory_format": "channels_last"}
    half, _ = next(iter(CifarLoader(natural, 4, "apr-sp", threads=1, **options)))
    assert half.dtype == torch.float16
    assert half.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(half.float(), images, rtol=1e-3, atol=2e-3)


# ---- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [True, False])
def test_a_batch_is_copied_once_at_most(crops, monkeypatch, train):
    """The pipeline reads the batch where it was gathered, and in evaluation where the set lies."""
    pictures = ArraySet(crops(24, 32, 32), np.zeros(24, np.int64), ("a",))
    made, read_at, normalize = [], [], cifar.normalize

    class Watched(cifar.Batches):
        def __call__(self, number):
            made.append(super().__call__(number))
            return made[-1]

    def look(image):
        read_at.append((image.ctypes.data, image.tobytes()))
        return image

    def watched(images, *rest, **named):
        return normalize(fn.python_function(images, function=look, output_layouts="HWC"), *rest, **named)

    monkeypatch.setattr(cifar, "Batches", Watched)
    monkeypatch.setattr(cifar, "crop", lambda images, *_: images)
    monkeypatch.setattr(cifar, "normalize", watched)
    with CifarLoader(pictures, 8, train=train, seed=3, threads=1, flip=False) as loader:
        given = torch.cat([images for images, _ in loader])
    expected = [(image.ctypes.data, image.tobytes()) for images, _ in made for image in images]
    assert sorted(read_at[:24]) == sorted(expected[:24])
    images = np.concatenate([images for images, _ in made[:3]])
    np.testing.assert_allclose(given.numpy(), normalized(images), rtol=0, atol=1e-5)
    own = [np.shares_memory(images, pictures.images) for images, _ in made]
    assert own == [not train] * len(made)


@pytest.mark.parametrize("train", [True, False])
def test_gathering_a_batch_takes_the_memory_of_one(crops, train):
    pictures = ArraySet(crops(16, 48, 48), np.zeros(16, np.int64), ("a",))
    batches = cifar.Batches(pictures, 8, (0, 1), 0, train)
    batches(0)
    tracemalloc.start()
    batches(1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < pictures.images[:8].nbytes * (1.2 if train else 0.2)


def test_batches_that_a_pipeline_may_read_stay_as_they_are(natural):
    batches = cifar.Batches(natural, 4, (0, 1), 0, True)
    given = [batches(number) for number in range(3)]
    before = [images.copy() for images, _ in given]
    places = {images.ctypes.data for images, _ in given}
    kept = [weakref.ref(images) for images, _ in given]
    del given
    assert batches(3)[0].ctypes.data not in places
    assert all(np.array_equal(alive(), images) for alive, images in zip(kept, before, strict=True))


@pytest.mark.parametrize("train", [True, False])
def test_sets_in_foreign_memory_give_the_same_batches(natural, train):
    """Of another order of axes, and read-only, as a file mapped to memory is."""
    planes = np.ascontiguousarray(natural.images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    planes.setflags(write=False)
    foreign = ArraySet(planes, natural.labels, natural.classes)
    options = {"train": train, "seed": 1, "threads": 1}
    with CifarLoader(natural, 7, **options) as ours, CifarLoader(foreign, 7, **options) as theirs:
        for (images, _), (others, _) in zip(ours, theirs, strict=True):
            assert torch.equal(images, others)
        assert ours.state_dict()["signature"] == theirs.state_dict()["signature"]


@pytest.mark.parametrize("aug", recipes.CIFAR_AUGMENTATIONS)
def test_gpu_graph_is_complete(aug, natural):
    """Every operator and argument of the GPU graph is known to DALI; building it needs a driver."""
    own = {"flip": True, "fill": 128, "single_probability": 0.9, "amplitude_labels": aug == "apr-p"}
    graph = cifar.Graph(**gpu_graph(aug, recipes.CIFAR), **own)
    source = cifar.Batches(natural, 4, (0, 1), 0, True, cifar.change_of(graph))
    made = cifar.train_pipeline(source, graph, (21, 27), batch_size=4, num_threads=2, device_id=0)
    made._build_graph()
    devices = {op.name: op.outputs[0].device for op in made._ops}
    python = [device for name, device in devices.items() if "DLTensorPythonFunction" in name]
    assert python == ["gpu"] * {"apr-p": 1, "apr-s": 1, "apr-sp": 2}.get(aug, 0)
    kinds = {name.strip("_").rpartition("_")[0]: device for name, device in devices.items()}
    final = {"cutout": "Erase"}.get(
        aug, "DLTensorPythonFunction" if aug in ("apr-p", "apr-sp") else "CropMirrorNormalize"
    )
    assert kinds[final] == "gpu"
