"""Networks from the options of a trainer, as its checkpoints hold them, and the words for them."""

import pytest
import torch
from torch import nn

from apr_dali import models
from apr_dali.errors import InputError
from apr_dali.eval.load_model import load_model
from apr_dali.models.banded import Banded
from apr_dali.models.build import model_name, options_of
from apr_dali.models.cifar import TwoHeads
from apr_dali.models.filter_bands import FrequencyModulatedConv2d, first_convolution
from apr_dali.recipes import CIFAR, CIFAR_ADVERSARIAL, IMAGENET, recipe_of
from apr_dali.runtime import checkpoint
from apr_dali.training.options import CifarOptions, ImageNetOptions

CLASSES = ["cat", "dog", "emu"]
SMALL = {"model": "wrn-16-1"}
EVERYTHING = {
    **SMALL,
    **{"aug": "apr-p", "phase_weight": 0.75, "first_layer": "modulated", "spectrum": "phase=band", "seed": 5},
}
# Options and the name that the trainers of earlier versions gave to the networks that they describe.
NETWORKS = {
    "plain": (CifarOptions(**SMALL), "cifar/wrn-16-1"),
    "cifar first": (CifarOptions(model="resnet18"), "cifar/resnet18"),
    "torchvision": (ImageNetOptions(data="x", model="squeezenet1_1"), "squeezenet1_1"),
    "gray": (CifarOptions(**SMALL, in_chans=1), "cifar/wrn-16-1 of gray images"),
    "gray photographs": (
        ImageNetOptions(data="x", model="squeezenet1_1", in_chans=1),
        "squeezenet1_1 of gray images",
    ),
    "modulated": (CifarOptions(**SMALL, first_layer="modulated"), "cifar/wrn-16-1 with a modulated first layer"),
    "two heads": (CifarOptions(**SMALL, aug="apr-p", phase_weight=0.5), "cifar/wrn-16-1 with two heads"),
    "gray, modulated, two heads": (
        CifarOptions(**SMALL, in_chans=1, aug="apr-sp", phase_weight=0.5, first_layer="modulated"),
        "cifar/wrn-16-1 of gray images with a modulated first layer with two heads",
    ),
    "bands": (
        CifarOptions(**SMALL, spectrum="amplitude=low,phase=full"),
        "cifar/wrn-16-1 seeing amplitude=low,phase=full about 0.125 and 0.25",
    ),
    "everything": (
        CifarOptions(**EVERYTHING),
        "cifar/wrn-16-1 with a modulated first layer with two heads "
        "seeing amplitude=full,phase=band about 0.125 and 0.25",
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_words_for_a_network(case):
    options, words = NETWORKS[case]
    assert models.describe(vars(options)) == words


def test_everything_is_built_around_the_network_in_the_order_of_training():
    seen = []

    def begin(model: nn.Module, name: str) -> None:
        seen.append((name, sorted(dict(model.named_children()))))
        model.head.weight.data.fill_(2.0)

    options = vars(CifarOptions(**EVERYTHING))
    torch.manual_seed(0)
    model = models.build(options, 3, begin)
    assert seen == [("cifar/wrn-16-1", ["blocks", "first", "head", "norm"])]
    assert isinstance(model, Banded)
    assert isinstance(model.network, TwoHeads)
    assert model.network.phase_weight == 0.75
    assert (model.network.network.head.weight == 2).all()
    _, layer = first_convolution(model)
    assert isinstance(layer, FrequencyModulatedConv2d)
    assert (layer.noise, layer.seed) == (0.1, 5)
    assert torch.equal(model.mean.flatten(), torch.tensor(CIFAR.mean))
    # The weights are those of the bare network, drawn first.
    torch.manual_seed(0)
    assert torch.equal(layer.weight, models.create_model("cifar/wrn-16-1", 3).first.weight)


def test_two_heads_need_a_network_of_ours():
    options = vars(CifarOptions(model="squeezenet1_1", aug="apr-p", phase_weight=0.5))
    with pytest.raises(InputError, match="needs one of the CIFAR networks, such as wrn-40-2, got squeezenet1_1"):
        models.build(options, 3)


def saved(folder, options, architecture):
    """A checkpoint of a network with random weights, and what it answers to some images."""
    folder.mkdir()
    torch.manual_seed(1)
    model = models.build(vars(options), len(CLASSES))
    # Weights that the network was not built with.
    for layer in model.modules():
        if isinstance(layer, FrequencyModulatedConv2d):
            layer.root.data.copy_(torch.linspace(0, 2, len(layer.root)))
    state = {"architecture": architecture, "classes": CLASSES, "options": vars(options), "model": model.state_dict()}
    checkpoint.save(folder, state, best=False)
    images = torch.randn(2, options.in_chans, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return folder / checkpoint.LATEST, images, model.eval()(images)


@pytest.mark.parametrize("former", [True, False])
@pytest.mark.parametrize("case", [name for name in NETWORKS if name != "cifar first"])
def test_a_checkpoint_holds_what_its_network_is_built_from(case, former, tmp_path):
    """Today's say the registry's name, those of earlier versions said all that is known of the network there."""
    options, words = NETWORKS[case]
    path, images, expected = saved(tmp_path / "run", options, words if former else model_name(vars(options)))
    state = checkpoint.load(path)
    assert options_of(state) == {**vars(options), "model": model_name(vars(options))}
    assert models.describe(options_of(state)) == words
    network = load_model(str(path))
    assert network.name == f"{words} of {path}"
    with torch.no_grad():
        answers = network.model(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4)


def test_a_checkpoints_name_wins_over_that_of_the_command_line():
    """A plain name may be another network in a later version of torchvision."""
    state = {"architecture": "timm/resnet18", "options": vars(ImageNetOptions(data="x", model="resnet18"))}
    assert model_name(options_of(state)) == "timm/resnet18"


def test_options_of_an_earlier_version_lack_what_came_later():
    assert models.describe({"model": "resnet18"}) == "resnet18"
    assert models.describe({"model": "resnet18", "dataset": "digits"}) == "cifar/resnet18"
    assert recipe_of({"dataset": "digits"}) == CIFAR


@pytest.mark.parametrize(("options", "recipe"), [
    (ImageNetOptions(data="x"), IMAGENET),
    (CifarOptions(), CIFAR),
    (CifarOptions(adversarial="fgsm", aug="apr-p"), CIFAR_ADVERSARIAL),
])  # fmt: skip
def test_the_recipe_is_the_published_one_with_what_the_options_change(options, recipe):
    found = recipe_of(vars(options))
    assert (found.mean, found.std, found.pair_after_normalise) == (recipe.mean, recipe.std, recipe.pair_after_normalise)
    changed = recipe_of({**vars(options), "overflow": "clamp", "axes": "hw", "pair_probability": 0.25})
    assert (changed.overflow, changed.axes, changed.pair_probability) == ("clamp", "hw", 0.25)
