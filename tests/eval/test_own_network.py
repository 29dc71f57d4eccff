"""Networks of somebody's own file or program: what may fail there, and what may be wrapped around them."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from apr_dali.errors import InputError
from apr_dali.eval.load_model import load_model, seen_as
from apr_dali.recipes import Scaling

CONFIG = {"input_size": (3, 20, 20), "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop_pct": 1.0}

OWN = """
from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Options:
    classes: int = 3


class Net(nn.Module):
    def __init__(self, kind=""):
        super().__init__()
        self.kind, self.fc = kind, nn.Linear(12, Options().classes)

    def forward(self, images):
        logits = self.fc(nn.functional.adaptive_avg_pool2d(images, 2).flatten(1))
        return {"tuple": (logits, logits), "dict": {"logits": logits}, "map": logits[:, :, None]}.get(self.kind, logits)


def network():
    return Net()


def tuple_():
    return Net("tuple")


def dict_():
    return Net("dict")


def map_():
    return Net("map")


def half():
    return Net().half()


def double():
    return Net().double()


def ends():
    sys.exit("give --data")


def of_one_channel():
    made = Net()
    made.pretrained_cfg = {"mean": (0.5,), "std": (0.5,)}
    return made


def named():
    made = Net()
    made.classes = ["u", "v"]
    return made


def named_twice():
    made = Net()
    made.classes = ["u", "v", "u"]
    return made
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "net.py").write_text(OWN)
    return str(tmp_path / "net.py")


def test_a_file_with_a_dataclass(own):
    assert load_model(f"{own}:network").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("ends", "ends fails: SystemExit: give --data"),
        ("tuple_", r"expected logits of the shape \(1, classes\), got tuple; give one that returns its logits alone$"),
        ("dict_", "got dict; give one that returns its logits alone$"),
        ("map_", r"got \(1, 3, 1\); give one that returns its logits alone$"),
        ("half", r"its weights are torch\.float16: give it in float32, after \.float\(\)$"),
        ("double", r"its weights are torch\.float64: give it in float32"),
        ("of_one_channel", r"expected mean and std of three channels, got \[0\.5\]"),
    ],
)
def test_what_fails_is_named(own, function, message):
    with pytest.raises(InputError, match=message):
        load_model(f"{own}:{function}")


@pytest.mark.parametrize("function", ["named", "named_twice"])
def test_names_of_other_classes_are_not_taken(own, function):
    network = load_model(f"{own}:{function}")
    assert network.classes == ("0", "1", "2")
    assert "its classes are 2 different names, so not these" in network.classes_from


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel, lambda made: AveragedModel(nn.DataParallel(made))])
def test_a_wrapped_network_is_seen_as_it_says_itself(wrap):
    made = nn.Sequential(nn.Flatten(), nn.Linear(1200, 3))
    made.pretrained_cfg, made.classes = CONFIG, ["u", "v", "w"]
    found, bare = load_model(wrap(made)), load_model(made)
    assert (found.mean, found.std, found.image_size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 20)
    assert (found.scaling, found.classes) == (Scaling(1.0, "bicubic", "center"), ("u", "v", "w"))
    assert (found.fingerprint, found.name) == (bare.fingerprint, "Sequential")
    images = torch.rand(2, 3, 20, 20)
    assert torch.equal(found.model(images), made(images))


def test_a_module_that_was_saved_whole_is_called_so(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(InputError, match="A module that was saved whole is not read"):
        load_model(tmp_path / "whole.pt")
    (tmp_path / "broken.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match="truncated or no checkpoint"):
        load_model(tmp_path / "broken.pt")


def test_numbers_that_no_image_has():
    made = nn.Sequential(nn.Flatten(), nn.Linear(1200, 3))
    with pytest.raises(InputError, match="image_size must be at least 1, got 0"):
        load_model(made, image_size=0)
    with pytest.raises(InputError, match="three channels"):
        seen_as(load_model(made, image_size=20), mean=(0.5,))
