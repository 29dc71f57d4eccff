"""The network that a command evaluates, from a checkpoint of either trainer."""

from dataclasses import asdict

import pytest
import torch

from apr_dali import config
from apr_dali.commands.networks import load_network
from apr_dali.models import create_model
from apr_dali.models.cifar import TWO_HEADS, TwoHeads
from apr_dali.training import checkpoint

CLASSES = ["cat", "dog", "emu"]


def saved(folder, architecture, options, model) -> str:
    state = {"architecture": architecture, "classes": CLASSES, "options": asdict(options), "model": model.state_dict()}
    checkpoint.save(folder, state, best=False)
    return str(folder / checkpoint.LATEST)


def small(phase_weight: float = 1.0) -> torch.nn.Module:
    torch.manual_seed(0)
    model = create_model("cifar/wrn-16-1", len(CLASSES))
    return model if phase_weight == 1 else TwoHeads(model, phase_weight)


@pytest.mark.parametrize(("options", "recipe", "size"), [
    (config.CifarOptions(aug="apr-p"), config.CIFAR, 32),
    (config.CifarOptions(aug="apr-p", adversarial="fgsm"), config.CIFAR_ADVERSARIAL, 32),
    (config.ImageNetOptions(data="sample", image_size=48), config.IMAGENET, 48),
], ids=["cifar", "adversarial", "imagenet"])  # fmt: skip
def test_a_checkpoint_brings_its_trainers_normalisation(tmp_path, options, recipe, size):
    network = load_network(saved(tmp_path, "cifar/wrn-16-1", options, small()))
    assert (network.mean, network.std, network.image_size) == (recipe.mean, recipe.std, size)
    assert network.classes == tuple(CLASSES)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.model(images), small().eval()(images))


def test_two_heads_answer_together(tmp_path):
    options = config.CifarOptions(aug="apr-p", phase_weight=0.75)
    network = load_network(saved(tmp_path, "cifar/wrn-16-1" + TWO_HEADS, options, small(0.75)))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.model(images), small(0.75).eval()(images))
    assert not torch.equal(network.model(images), small().eval()(images))
