"""Weights of others' files: how they are read, and what becomes of the head."""

from __future__ import annotations

import argparse
import os
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from apr_dali.errors import InputError
from apr_dali.models.auxiliary import add_auxiliary
from apr_dali.models.registry import create_model
from apr_dali.models.weights import begin_with, pretrained, put_in, torchvision_weights
from apr_dali.models.weights_file import read_weights


def network(classes: int = 7, seed: int = 0, name: str = "wrn-16-1") -> nn.Module:
    torch.manual_seed(seed)
    return create_model(name, classes)


def prefixed(prefix: str, state: dict) -> dict:
    return OrderedDict((prefix + name, value) for name, value in state.items())


class Recorded:
    """Something of a class that only its writer has."""

    def __init__(self) -> None:
        self.lr = 0.1


def other(state: dict) -> dict:
    """Weights of a network of the same kind."""
    return {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}


def of_robustness(state: dict) -> dict:
    """As the package robustness wraps a network: its attacker has the same one, both have the normalization."""
    layers = {"new_mean": torch.full((3, 1, 1), 0.5), "new_std": torch.full((3, 1, 1), 0.25)}
    parts = {"model.": state, "attacker.model.": state, "normalizer.": layers, "attacker.normalize.": layers}
    return {"model": {f"module.{p}{name}": value for p, part in parts.items() for name, value in part.items()}}


FORMS = {
    "state dict": lambda state: state,
    "torchvision": lambda state: {"model": state, "optimizer": {}, "args": argparse.Namespace(lr=0.1, data="d")},
    "torchvision's average": lambda state: {
        "model": other(state),
        "model_ema": prefixed("module.", state) | {"n_averaged": torch.tensor(5)},
    },
    "timm": lambda state: {"epoch": 3, "arch": "x", "state_dict": state, "args": argparse.Namespace(opt="sgd")},
    "timm's average": lambda state: {"epoch": 3, "state_dict": other(state), "state_dict_ema": state},
    "DataParallel": lambda state: {"state_dict": prefixed("module.", state)},
    "compiled": lambda state: prefixed("_orig_mod.", state),
    "compiled and DDP": lambda state: {"model": prefixed("_orig_mod.module.", state)},
    "compiled in part": lambda state: {
        name.replace("blocks.0.", "blocks.0._orig_mod."): v for name, v in state.items()
    },
    "Lightning": lambda state: {"state_dict": prefixed("model.", state), "pytorch-lightning_version": "2"},
    "Lightning, net, and its loss": lambda state: {
        "state_dict": prefixed("net.", state) | {"loss.weight": torch.ones(3)},
        "hyper_parameters": Recorded(),
    },
    "Lightning, compiled": lambda state: {"state_dict": prefixed("model._orig_mod.", state)},
    "average": lambda state: prefixed("module.", state) | {"n_averaged": torch.tensor(5)},
    "robustness": of_robustness,
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": torch.tensor(0.3), "best": np.float64(0.5)},
    "with momentum": lambda state: {"state_dict": state, "optimizer": {"state": {0: {"momentum": torch.ones(3)}}}},
    "ours": lambda state: {"format": 1, "classes": ["a"], "model": state, "options": {"model": "wrn-16-1"}},
}


def found_in(path, state: dict, entry: str = "") -> dict:
    return read_weights(f"{path}{entry}").fitting(state).state


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read(tmp_path, form):
    state = network().state_dict()
    torch.save(FORMS[form](state), tmp_path / "w.pt")
    found = found_in(tmp_path / "w.pt", state)
    assert found.keys() >= state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert begin_with(network(seed=1), "wrn-16-1", 7, found, "w.pt")


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read_as_it_was_written_before_zip(tmp_path, form):
    state = network().state_dict()
    torch.save(FORMS[form](state), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert all(torch.equal(value, state[name]) for name, value in found_in(tmp_path / "w.pt", state).items())


def test_safetensors_are_read(tmp_path):
    state = network().state_dict()
    save_file(prefixed("model.", state), tmp_path / "w.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in found_in(tmp_path / "w.safetensors", state).items())


def test_what_was_taken_is_said_and_can_be_chosen(tmp_path):
    state = network().state_dict()
    torch.save({"state_dict": prefixed("module.", other(state)), "state_dict_ema": state}, tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt").fitting(state)
    assert found.said == " (its part state_dict_ema, an average of weights, not state_dict.module)"
    chosen = found_in(tmp_path / "w.pt", state, ":state_dict")
    assert all(torch.equal(value, other(state)[name]) for name, value in chosen.items())
    with pytest.raises(InputError, match=r"has no part net; it has state_dict, state_dict_ema"):
        read_weights(f"{tmp_path / 'w.pt'}:net")


def test_a_run_with_auxiliary_batch_norms_and_a_teacher_gives_its_plain_weights(tmp_path):
    model = network()
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    add_auxiliary(model)
    state = {"model": model.state_dict(), "teacher": {"steps": 3, "model": network(seed=1).state_dict()}}
    torch.save(state, tmp_path / "run.pt")
    found = read_weights(tmp_path / "run.pt").fitting(plain)
    assert found.said.startswith(" (its part model")
    assert found.said.endswith("without its auxiliary batch norms)")
    assert list(found.state) == list(plain)
    assert all(torch.equal(found.state[name], value) for name, value in plain.items())


def test_two_networks_of_one_kind_are_not_confused(tmp_path):
    """Such as the two encoders of contrastive training."""
    state = network().state_dict()
    pair = prefixed("module.encoder_q.", state) | prefixed("module.encoder_k.", other(state))
    torch.save({"state_dict": pair}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"give one of \S+w\.pt:state_dict\.module\.encoder_q, \S+encoder_k"):
        read_weights(tmp_path / "w.pt").fitting(state)
    chosen = found_in(tmp_path / "w.pt", state, ":state_dict.module.encoder_q")
    assert all(torch.equal(value, state[name]) for name, value in chosen.items())


def test_a_normalization_in_the_file_is_found(tmp_path):
    state = network().state_dict()
    torch.save(of_robustness(state), tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt").fitting(state)
    assert found.normalization == ((0.5,) * 3, (0.25,) * 3)
    torch.save(state, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt").fitting(state).normalization is None


def test_weights_of_nothing_like_it(tmp_path):
    torch.save({"state_dict": {"encoder.w": torch.ones(2)}}, tmp_path / "w.pt")
    with pytest.raises(
        InputError, match=r"none of their 1 names \(state_dict\.encoder\.w\) is one of its \d+ \(blocks"
    ):
        found_in(tmp_path / "w.pt", network().state_dict())


class _Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_Evil(), "cannot be read as weights"),
        ({"model": nn.Linear(2, 2)}, "holds no weights"),
        (nn.Linear(2, 2), r"saved whole is not read.*save its state_dict"),
        ({"a": 3}, "holds no weights"),
        ({}, "holds no weights"),
        ([1], "no weights"),
        (torch.ones(2), "no weights"),
    ],
    ids=["code", "a module", "a whole module", "numbers", "nothing", "list", "a tensor"],
)
def test_what_is_no_weights_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "w.pt")
    with pytest.raises(InputError, match=message) as error:
        read_weights(Path("w.pt"))
    assert "weights_only" not in str(error.value), "the error does not say how to run it"
    assert not Path("evil").exists()


@pytest.mark.parametrize("content", [None, b"", b"text"])
def test_a_file_that_is_missing_or_broken_is_named(tmp_path, content):
    path = tmp_path / "w.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_weights(path)


@pytest.mark.parametrize("name", ["wrn-16-1", "shufflenet_v2_x0_5", "squeezenet1_1", "timm/test_resnet"])
def test_a_head_for_other_classes_is_made_anew(name):
    theirs, ours = network(11, seed=1, name=name), network(7, seed=2, name=name)
    fresh = {key: value.clone() for key, value in ours.state_dict().items()}
    message = begin_with(ours, name, 7, theirs.state_dict(), "w.pt")
    state = theirs.state_dict()
    changed = [key for key, value in ours.state_dict().items() if value.shape != state[key].shape]
    new = [key for key in changed if torch.equal(ours.state_dict()[key], fresh[key])]
    assert len(new) == 2
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items() if key not in new)
    assert message == f"starting from w.pt; the head ({', '.join(sorted(new))}) is new, for 7 classes, there it has 11"


def test_a_head_for_as_many_classes_is_kept():
    theirs, ours = network(seed=1), network(seed=2)
    assert (
        begin_with(ours, "wrn-16-1", 7, theirs.state_dict(), "w.pt")
        == "starting from w.pt, with its head for 7 classes"
    )
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_weights_without_a_head_get_one():
    theirs = network(seed=1)
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("head.")}
    ours = network(seed=2)
    message = begin_with(ours, "wrn-16-1", 7, state, "w.pt")
    assert "the head (head.bias, head.weight) is new, for 7 classes, there it has none" in message
    assert all(torch.equal(ours.state_dict()[key], value) for key, value in state.items())


@pytest.mark.parametrize("change", ["another width", "missing", "foreign", "another network", "head of another width"])
def test_what_is_not_of_the_network_is_refused_and_leaves_it(change):
    ours, state = network(16, seed=2), dict(network(11, seed=1).state_dict())
    name = "first.weight"
    if change == "another width":
        state[name] = state[name][:, :2]
    elif change == "missing":
        del state[name]
    elif change == "foreign":
        name = "extra.weight"
        state[name] = torch.zeros(1)
    elif change == "another network":
        state, name = network(16, name="resnet18").state_dict(), "conv1.weight"
    else:
        name = "head.weight"
        state[name] = state[name][:, :3]
    shape = tuple(state[name].shape) if change.endswith("width") else ""
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    with pytest.raises(InputError, match=r"the weights w\.pt are not of this network") as error:
        begin_with(ours, "wrn-16-1", 16, state, "w.pt")
    assert change == "another network" or f"{name} {shape}".strip() in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize(("theirs", "ours", "kinds"), [(1, 3, ("gray", "color")), (3, 1, ("color", "gray"))])
def test_weights_for_gray_images_and_a_network_for_color_ones(theirs, ours, kinds):
    state, model = create_model("resnet18", 7, theirs).state_dict(), create_model("resnet18", 7, ours)
    why = "they are for {} images, the network for {} ones: give".format(*kinds)
    with pytest.raises(InputError, match=rf"conv1\.weight .*; {why} --in-chans {theirs}$"):
        begin_with(model, "resnet18", 7, state, "w.pt", ours)
    with pytest.raises(InputError, match=rf"{why} NET\.py:FUNCTION that returns a network which makes its"):
        put_in(model, state, "w.pt", "resnet18")


def test_weights_that_nobody_has_published(monkeypatch):
    import torchvision

    with pytest.raises(InputError, match="nobody has published weights of cifar/wrn-40-2"):
        pretrained("cifar/wrn-40-2")
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(InputError, match=r"the weights of resnet18 cannot be fetched \(no network\)"):
        pretrained("resnet18")


def test_versions_of_torchvisions_weights(monkeypatch):
    import torchvision

    asked = []
    monkeypatch.setattr(torchvision.models, "get_model", lambda _, weights: asked.append(weights) or network())
    pretrained("resnet50", "IMAGENET1K_V1")
    pretrained("resnet50")
    versions = torchvision.models.ResNet50_Weights
    assert asked == [versions.IMAGENET1K_V1, versions.IMAGENET1K_V2]
    with pytest.raises(InputError, match=r"no weights V3 of resnet50: expected a file, or one of IMAGENET1K_V1, IMAG"):
        torchvision_weights("resnet50", "V3")


def test_auxiliary_heads_of_pretrained_networks_are_left_out():
    import torchvision

    theirs = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    message = begin_with(network(5, name="googlenet"), "googlenet", 5, theirs.state_dict(), "the pretrained one")
    assert "is new, for 5 classes, there it has 1000" in message
