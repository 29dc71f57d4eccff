"""Nothing is done to a batch after the operator that writes it: no copy, no conversion, no transposition."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.image_sets import noise, noise_set, write_classes
from helpers.passes import Passes, written
from nvidia.dali import fn, pipeline_def

from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.errors import InputError
from apr_dali.pipelines import base, operators
from apr_dali.pipelines.batch_options import MEMORY_FORMATS
from apr_dali.pipelines.handover import Handover

SIDE, BATCH, COUNT = 16, 4, 18
TYPES = ("float32", "float16", "bfloat16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("images"), noise(COUNT, 20, 24))


@pytest.fixture(params=["files", "memory"])
def make(request, folder):
    """A function that makes a loader of each kind."""
    common = {"threads": 1, "seed": 5}
    if request.param == "files":
        return lambda aug, **given: ImageNetLoader(folder, BATCH, aug, image_size=SIDE, **common | given)
    small = noise_set(COUNT, SIDE)
    return lambda aug, **given: CifarLoader(small, BATCH, aug, **common | given)


def passes_of(loader, monkeypatch, channels: int = 3) -> tuple[list[int], set[int]]:
    """The passes over each batch of an epoch, and the numbers of views that came."""
    counts, views = [], set()
    least = 2 * channels * SIDE * SIDE  # the smallest batch
    with written(monkeypatch) as addresses:
        batches = iter(loader)
        while True:
            with Passes(least) as passes:
                batch = next(batches, None)
            if batch is None:
                return counts, views
            moved = batch[0].data_ptr() not in addresses and not passes.found
            counts.append(len(passes.found) + moved)
            views.add(loader.batch_views)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("aug", ["none", "apr-p", "apr-s", "apr-sp"])
def test_no_pass_follows_the_operator(aug, dtype, memory_format, make, monkeypatch):
    with make(aug, dtype=dtype, memory_format=memory_format) as loader:
        counts, views = passes_of(loader, monkeypatch)
        assert views == ({1, 2} if loader.views == 2 else {1})
        assert counts == [0] * len(loader)


@pytest.mark.parametrize("dtype", TYPES)
def test_no_pass_follows_in_evaluation(dtype, make, monkeypatch):
    with make("none", train=False, dtype=dtype, memory_format="channels_last") as loader:
        assert passes_of(loader, monkeypatch)[0] == [0] * len(loader)


@pytest.mark.parametrize("aug", ["none", "apr-p"])
def test_gray_images_are_taken_out_of_three_channels_in_one_pass(aug, make, monkeypatch):
    with make(aug, in_chans=1, dtype="bfloat16") as loader:
        assert passes_of(loader, monkeypatch, channels=1)[0] == [1] * len(loader)


@pytest.mark.parametrize("aug", ["none", "apr-p", "apr-s", "apr-sp"])
def test_the_values_are_the_same_in_every_memory_format_and_type(aug, make):
    batches = {}
    for dtype, memory_format in itertools.product(TYPES, MEMORY_FORMATS):
        with make(aug, dtype=dtype, memory_format=memory_format) as loader:
            batches[dtype, memory_format] = list(loader)
    for (dtype, memory_format), got in batches.items():
        for (images, targets), (expected, labels) in zip(got, batches["float32", "contiguous"], strict=True):
            assert images.dtype == getattr(torch, dtype)
            assert images.is_contiguous(memory_format=MEMORY_FORMATS[memory_format])
            assert torch.equal(targets, labels)
            if dtype == "float16" and aug in ("none", "apr-s"):
                torch.testing.assert_close(images, expected.half(), rtol=2**-9, atol=0)  # DALI's rounding
            else:
                assert torch.equal(images, expected.to(images.dtype))


@pytest.mark.parametrize("aug", ["augmix", "cutout", "autoaugment"])
def test_other_augmentations_have_the_same_values_too(aug):
    small = noise_set(8, 12)
    expected, _ = next(iter(CifarLoader(small, 8, aug, threads=1)))
    got, _ = next(iter(CifarLoader(small, 8, aug, threads=1, dtype="bfloat16", memory_format="channels_last")))
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(got, expected.bfloat16())


@pytest.mark.parametrize("aug", ["none", "apr-sp"])
def test_what_follows_in_the_graph_has_the_same_values_too(aug, make):
    with make(aug, random_erasing=1.0) as loader:
        expected = [images for images, _ in loader]
    with make(aug, random_erasing=1.0, dtype="bfloat16", memory_format="channels_last") as loader:
        for planes, (images, _) in zip(expected, loader, strict=True):
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert (images == 0).all(dim=1).any()
            assert torch.equal(images, planes.bfloat16())


@pytest.mark.parametrize("aug", ["none", "apr-sp"])
@pytest.mark.parametrize("stop", [0, 3, 5])
def test_a_state_continues_in_another_memory_format(aug, stop, make):
    loader = make(aug, dtype="bfloat16")
    expected = [images for _ in range(2) for images, _ in loader]
    loader = make(aug, dtype="bfloat16")
    list(itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), stop))
    state = json.loads(json.dumps(loader.state_dict()))
    again = make(aug, dtype="bfloat16", memory_format="channels_last")
    again.load_state_dict(state)
    rest = [images for _ in range(2) for images, _ in again][: len(expected) - stop]
    assert all(map(torch.equal, rest, expected[stop:]))


def test_a_state_of_graphs_that_normalized_otherwise_is_refused_by_name(make):
    state = make("none", dtype="bfloat16").state_dict()
    del state["signature"]["normalized"]
    with pytest.raises(InputError, match="normalized None, now 'bfloat16'"):
        make("none", dtype="bfloat16").load_state_dict(state)
    # DALI takes up the others.
    for aug, dtype in (("none", "float32"), ("apr-p", "bfloat16")):
        assert "normalized" not in make(aug, dtype=dtype).state_dict()["signature"]


def test_batches_that_are_kept_stay_as_they_are(make):
    """The memory of a batch is used again, but by nobody while it is held."""
    with make("apr-sp", dtype="bfloat16") as loader:
        kept = [images for _ in range(3) for images, _ in loader]
    with make("apr-sp", dtype="bfloat16") as loader:
        for expected, (images, _) in zip(kept, itertools.chain(*itertools.repeat(loader, 3)), strict=True):
            assert torch.equal(images, expected)
            images.zero_()


def test_targets_go_to_a_gpu_without_a_wait(monkeypatch):
    labels, device = torch.arange(3), torch.device("cuda:1")
    monkeypatch.setattr(base, "put", lambda *given: given)  # from pinned memory: its own tests show that
    assert base.EpochLoader._sent(SimpleNamespace(_device=device), labels) == (labels, device)


# ---- the parts -------------------------------------------------------------------------------------------------------


def test_batches_are_taken_by_their_numbers_and_those_before_are_given_up():
    handover = Handover()
    batches = [np.full((3, 2), n) for n in range(4)]
    numbers = [handover.put(batch) for batch in batches]
    assert [[number.tolist() for number in each] for each in numbers] == [[[n]] * 3 for n in range(4)]
    assert handover.take(0) is batches[0]
    assert handover.take(2) is batches[2]
    assert handover.take(3) is batches[3]
    with pytest.raises(IndexError):
        handover.take(1)


@pipeline_def(num_threads=1, device_id=None, seed=5, exec_dynamic=True)
def graph(images, options):
    return operators.apr_pair(fn.external_source(source=lambda: images, batch=True, layout="HWC"), 1.0, **options)


def output(options) -> np.ndarray:
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 9, 3), np.uint8)
    made = graph(images, options, batch_size=3)
    made.build()
    (found,) = made.run()
    return np.array(found.as_array()), found.layout()


def test_the_operator_gives_pixels_and_bits():
    planes, layout = output({})
    assert (planes.shape, layout) == ((3, 2, 3, 8, 9), "FCHW")
    pixels, layout = output({"memory_format": "channels_last"})
    assert (pixels.shape, layout) == ((3, 2, 8, 9, 3), "FHWC")
    np.testing.assert_array_equal(pixels, planes.transpose(0, 1, 3, 4, 2))
    bits, layout = output({"memory_format": "channels_last", "dtype": "bfloat16", "views": "mixed"})
    assert (bits.dtype, layout) == (np.int16, "HWC")
    expected = torch.from_numpy(pixels[:, 1]).bfloat16()
    assert torch.equal(torch.from_numpy(bits).view(torch.bfloat16), expected)
    with pytest.raises(InputError, match="memory_format must be one of contiguous, channels_last"):
        output({"memory_format": "nhwc"})


def test_normalization_is_dalis_bit_for_bit():
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 3)).reshape(1, 16, 16, 3)
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

    @pipeline_def(num_threads=1, device_id=None, batch_size=1, exec_dynamic=True)
    def both():
        images = fn.external_source(source=lambda: np.ascontiguousarray(levels), batch=True, layout="HWC")
        ours = operators.normalized(images, mean, std, dtype="float32")
        return ours, fn.crop_mirror_normalize(images, mean=mean, std=std)

    made = both()
    made.build()
    ours, dalis = (np.array(found.as_array()) for found in made.run())
    np.testing.assert_array_equal(ours, dalis)
