"""Arguments and images that loaders refuse, and that no DataLoader takes one."""

import pytest
from helpers.gray_sets import BATCH
from PIL import Image
from torch.utils.data import DataLoader

from apr_dali import ImageNetLoader
from apr_dali.errors import InputError


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


@pytest.mark.parametrize("size", [(32, 48), 32.5, "32", None])
def test_an_image_size_is_one_whole_number(folder, size):
    with pytest.raises(InputError, match="image_size must be a whole number, got"):
        ImageNetLoader(folder, BATCH, image_size=size)


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
