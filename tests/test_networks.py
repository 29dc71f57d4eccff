"""The network that a command evaluates, from a checkpoint of either trainer."""

from dataclasses import asdict

import pytest
import torch

from apr_dali import cli, config
from apr_dali.commands import networks
from apr_dali.commands.networks import load_network
from apr_dali.errors import InputError
from apr_dali.models import create_model
from apr_dali.models.cifar import TWO_HEADS, TwoHeads
from apr_dali.training import checkpoint

CLASSES = ["cat", "dog", "emu"]


def saved(folder, architecture, options, model) -> str:
    folder.mkdir(exist_ok=True)
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


def test_classes_are_found_by_name(tmp_path):
    options = config.CifarOptions(aug="apr-p")
    network = load_network(saved(tmp_path, "cifar/wrn-16-1", options, small()))
    assert not network.model.training
    assert network.indices(("emu", "cat")) == [2, 0]
    with pytest.raises(InputError, match="has no class w: 1 of 2 classes"):
        network.indices(("emu", "w"))


def test_the_fingerprint_is_of_the_weights(tmp_path):
    """A resumed evaluation must go on with the same weights, wherever they lie and however they were trained."""
    changed = small()
    with torch.no_grad():
        next(changed.parameters())[0] += 1
    first, same, other = (
        load_network(saved(tmp_path / name, "cifar/wrn-16-1", config.CifarOptions(aug=aug), model)).fingerprint
        for name, aug, model in (("a", "apr-p", small()), ("b", "none", small()), ("c", "apr-p", changed))
    )
    assert first == same != other


def test_torchvisions_networks_see_what_their_weights_were_tested_with(monkeypatch):
    import torchvision

    get_model = torchvision.models.get_model
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, **_: get_model(name))  # no network here
    network = load_network("swin_v2_t")
    assert (network.image_size, network.scaling) == (256, config.Scaling(260 / 256, "bicubic"))
    assert load_network("resnet18", image_size=112).image_size == 112


def test_timms_networks_too(tmp_path):
    import timm

    torch.save(timm.create_model("edgenext_xx_small").state_dict(), tmp_path / "weights.pt")
    made = timm.create_model("edgenext_xx_small").pretrained_cfg
    network = load_network("timm/edgenext_xx_small", str(tmp_path / "weights.pt"))
    assert network.scaling.filter == made["interpolation"] == "bicubic"
    assert round(network.scaling.over_crop * network.image_size) == int(network.image_size / made["crop_pct"])
    assert (network.mean, network.std) == (made["mean"], made["std"])


def test_an_attack_is_not_rounded(digits_checkpoints, tmp_path, capsys):
    command = ["eval", "autoattack", digits_checkpoints[0], "--data", str(tmp_path), "--output", str(tmp_path / "out")]
    assert cli.main([*command, "--device", "cpu", "--amp", "bf16"]) == 2
    assert "--amp bf16 does not go with autoattack" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["eval", "clean"], ["analyze", "swap"]])
def test_a_network_of_one_size_refuses_another(command, tmp_path, capsys):
    name = "vit_tiny_patch16_224"
    torch.save(create_model(name, 1000).state_dict(), tmp_path / "weights.pth")
    given = [name, "--weights", str(tmp_path / "weights.pth"), "--image-size", "256", "--data", str(tmp_path)]
    assert cli.main([*command, *given, "--device", "cpu", "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "vit_tiny_patch16_224: the model cannot take images of 256×256: Input height (256) doesn't match" in error
    assert "give another --image-size, or none" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_second_network_must_take_the_images_of_the_first(digits_checkpoints, tmp_path, monkeypatch, capsys):
    name = "vit_tiny_patch16_224"
    vit = load_network(digits_checkpoints[0])
    object.__setattr__(vit, "model", create_model(name, 10).eval())
    real = networks.load_network
    monkeypatch.setattr(networks, "load_network", lambda model, **k: vit if model == name else real(model, **k))
    given = [digits_checkpoints[0], "--other", name, "--device", "cpu", "--output", str(tmp_path / "out")]
    assert cli.main(["analyze", "gradcam", *given]) == 2
    assert "cannot take images of 32×32" in capsys.readouterr().err
