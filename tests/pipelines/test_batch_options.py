"""What both loaders are asked for: devices by every name, and signatures that show all arguments."""

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest
import torch

from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.errors import InputError
from apr_dali.pipelines.batch_options import BatchArguments, BatchOptions
from apr_dali.recipes import CIFAR, IMAGENET

LOADERS = {ImageNetLoader: IMAGENET, CifarLoader: CIFAR}


def options(**given) -> BatchOptions:
    return BatchOptions(batch_size=4, aug="none", recipe=CIFAR, **given)


@pytest.fixture
def two_gpus(monkeypatch):
    """torch says that it sees two GPUs, of which the second is the current one."""
    for name, value in (("is_available", True), ("device_count", 2), ("current_device", 1)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)


@pytest.mark.parametrize(("given", "expected", "dalis"), [
    ({}, "cpu", "cpu"),
    ({"device": "cpu"}, "cpu", "cpu"),
    ({"device": torch.device("cpu")}, "cpu", "cpu"),
    ({"device": "gpu"}, "cuda:0", "gpu"),
    ({"device": "gpu", "device_id": 1}, "cuda:1", "gpu"),
    ({"device": "cuda"}, "cuda:1", "gpu"),
    ({"device": torch.device("cuda")}, "cuda:1", "gpu"),
    ({"device": "cuda", "device_id": 0}, "cuda:0", "gpu"),
    ({"device": "cuda:0"}, "cuda:0", "gpu"),
    ({"device": torch.device("cuda", 1)}, "cuda:1", "gpu"),
    ({"device": "cuda:1", "device_id": 1}, "cuda:1", "gpu"),
])  # fmt: skip
@pytest.mark.usefixtures("two_gpus")
def test_every_way_to_name_a_device(given, expected, dalis):
    found = options(**given)
    assert (found.torch_device, found.dali_device) == (torch.device(expected), dalis)
    assert found.for_graph()["device"] == dalis


@pytest.mark.parametrize(("given", "told"), [
    ({"device": "tpu"}, 'device must be a torch.device, "cpu", "cuda", "cuda:1" or DALI\'s "gpu", got \'tpu\''),
    ({"device": "cuda:2"}, "asks for GPU 2, and torch sees 2, counted from 0"),
    ({"device": "gpu", "device_id": 5}, "asks for GPU 5, and torch sees 2"),
    ({"device": "cuda:1", "device_id": 0}, "device cuda:1 is not device_id 0: leave one of the two out"),
])  # fmt: skip
@pytest.mark.usefixtures("two_gpus")
def test_devices_that_cannot_be_are_refused(given, told):
    with pytest.raises(InputError) as error:
        options(**given)
    assert told in str(error.value)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda", 0), "gpu"])
def test_without_a_gpu(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"device={device} needs a CUDA device, and torch sees none"):
        options(device=device)


def test_a_loader_takes_a_torch_device(tmp_path):
    from PIL import Image

    (tmp_path / "only").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "only" / "a.png")
    with ImageNetLoader(tmp_path, 1, device=torch.device("cpu"), image_size=16, threads=1) as loader:
        ((images, targets),) = loader
    assert images.device == targets.device == torch.device("cpu")


@pytest.mark.parametrize("loader", LOADERS)
def test_the_signature_shows_every_argument_and_its_default(loader):
    shown, hints = inspect.signature(loader).parameters, get_type_hints(BatchOptions)
    assert "batch" not in shown
    assert list(shown)[1:3] == ["batch_size", "aug"]
    assert shown["recipe"].default == LOADERS[loader]
    for field in fields(BatchOptions):
        assert field.name in shown
        if field.name not in ("batch_size", "aug", "recipe"):
            assert shown[field.name].default == field.default
            assert shown[field.name].kind == inspect.Parameter.KEYWORD_ONLY
            assert shown[field.name].annotation == hints[field.name]  # not its name, which the loader's module lacks


def test_type_checkers_know_the_same_arguments():
    ours = get_type_hints(BatchOptions)
    own = ("batch_size", "aug", "recipe")
    assert get_type_hints(BatchArguments) == {name: hint for name, hint in ours.items() if name not in own}


def test_an_unknown_argument_is_named(tmp_path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'bach'"):
        ImageNetLoader(tmp_path, 1, bach=1)
