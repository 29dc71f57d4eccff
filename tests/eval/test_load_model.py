"""The network that a command evaluates, from a checkpoint of either trainer."""

import argparse
import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from apr_dali import cli, recipes
from apr_dali.commands.analyses import common
from apr_dali.data.arrays import load_set
from apr_dali.errors import InputError
from apr_dali.eval.analyses.samples import load_samples
from apr_dali.eval.load_model import load_model
from apr_dali.eval.views import view_of_timm
from apr_dali.models import create_model
from apr_dali.models.auxiliary import add_auxiliary
from apr_dali.models.cifar import TwoHeads
from apr_dali.runtime import checkpoint
from apr_dali.training.options import CifarOptions, ImageNetOptions

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
    (CifarOptions(aug="apr-p"), recipes.CIFAR, 32),
    (CifarOptions(aug="apr-p", adversarial="fgsm"), recipes.CIFAR_ADVERSARIAL, 32),
    (ImageNetOptions(data="sample", image_size=48), recipes.IMAGENET, 48),
], ids=["cifar", "adversarial", "imagenet"])  # fmt: skip
def test_a_checkpoint_brings_its_trainers_normalization(tmp_path, options, recipe, size):
    network = load_model(saved(tmp_path, "cifar/wrn-16-1", options, small()))
    assert (network.mean, network.std, network.image_size) == (recipe.mean, recipe.std, size)
    assert network.classes == tuple(CLASSES)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.model(images), small().eval()(images))


def test_two_heads_answer_together(tmp_path):
    options = CifarOptions(aug="apr-p", phase_weight=0.75)
    network = load_model(saved(tmp_path, "cifar/wrn-16-1", options, small(0.75)))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.model(images), small(0.75).eval()(images))
    assert not torch.equal(network.model(images), small().eval()(images))


def test_auxiliary_batch_norms_are_left_out_with_a_word(tmp_path):
    model = small()
    add_auxiliary(model)
    for name, value in model.state_dict().items():
        if "auxiliary" in name:
            value.fill_(7)
    path = saved(tmp_path, "cifar/wrn-16-1", CifarOptions(aug="afa"), model)
    network = load_model(path)
    assert network.name == f"cifar/wrn-16-1 of {path}, without its auxiliary batch norms"
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.model(images), small().eval()(images))
    plain = load_model(saved(tmp_path / "plain", "cifar/wrn-16-1", CifarOptions(aug="afa"), small()))
    assert network.fingerprint == plain.fingerprint, "its evaluations are those of the network without them"
    assert plain.name.endswith("latest.pt")
    by_name = load_model(f"cifar/wrn-16-1:{path}")
    assert by_name.name.endswith("(its part model, without its auxiliary batch norms)")
    assert torch.equal(by_name.model(images), network.model(images))


def test_classes_are_found_by_name(tmp_path):
    options = CifarOptions(aug="apr-p")
    network = load_model(saved(tmp_path, "cifar/wrn-16-1", options, small()))
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
        load_model(saved(tmp_path / name, "cifar/wrn-16-1", CifarOptions(aug=aug), model)).fingerprint
        for name, aug, model in (("a", "apr-p", small()), ("b", "none", small()), ("c", "apr-p", changed))
    )
    assert first == same != other


@pytest.mark.parametrize("size", [32, 48])
def test_evaluation_and_analyses_see_what_validation_saw(tmp_path, photos, size):
    """Of a folder's images train_cifar.py makes squares, whatever their shape and its size."""
    for part, name, height, width in itertools.product(("train", "val"), CLASSES, (50, 90), (60,)):
        (tmp_path / "data" / part / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photos[1][:height, :width]).save(tmp_path / "data" / part / name / f"{height}.png")
    trained_on = load_set("folder", "val", tmp_path / "data", size, CLASSES)
    options = CifarOptions(dataset="folder", data=str(tmp_path / "data"), image_size=size)
    arguments = argparse.ArgumentParser()
    common.add_subject(arguments, 10)
    path = saved(tmp_path / "run", "cifar/wrn-16-1", options, small())
    given = [path, "--device", "cpu", "--output", str(tmp_path / "out")]
    with common.open_subject(arguments.parse_args(given)) as session:
        with session.labeled(str(tmp_path / "data" / "val")).open() as batches:
            images, labels = next(iter(batches))
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (recipes.CIFAR.mean, recipes.CIFAR.std))
        seen = ((images * std + mean) * 255).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(np.rint(seen), trained_on.images)
        assert labels.tolist() == trained_on.labels.tolist()
        assert np.array_equal(load_samples(session, str(tmp_path / "data" / "val"), 10).images, trained_on.images)
        assert f"both sides scaled to {size} (bilinear)" in session.settings()["seen"]


# ---- others' networks ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_download(monkeypatch):
    import torchvision

    get_model, asked = torchvision.models.get_model, []
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, **given: asked.append(given) or get_model(name))
    return asked


def test_torchvisions_networks_see_what_their_weights_were_tested_with(no_download):
    network = load_model("swin_v2_t")
    assert (network.image_size, network.scaling) == (256, recipes.Scaling(260 / 256, "bicubic"))
    assert load_model("resnet18", image_size=112).image_size == 112
    first, second = load_model("resnet50:IMAGENET1K_V1"), load_model("resnet50", "IMAGENET1K_V2")
    assert (first.scaling.over_crop, second.scaling.over_crop) == (256 / 224, 232 / 224)
    assert (first.name, first.seen_from) == ("resnet50:IMAGENET1K_V1", "torchvision's IMAGENET1K_V1")
    assert [str(given["weights"]) for given in no_download[-2:]] == [
        "ResNet50_Weights.IMAGENET1K_V1",
        "ResNet50_Weights.IMAGENET1K_V2",
    ]


def test_timms_networks_too(tmp_path):
    import timm

    torch.save(timm.create_model("edgenext_xx_small").state_dict(), tmp_path / "weights.pt")
    made = timm.create_model("edgenext_xx_small").pretrained_cfg
    network = load_model("timm/edgenext_xx_small", str(tmp_path / "weights.pt"))
    assert network.scaling.filter == made["interpolation"] == "bicubic"
    assert network.image_size == made["test_input_size"][-1] == 288
    assert round(network.scaling.over_crop * 288) == int(288 / made["test_crop_pct"])
    assert (network.mean, network.std) == (made["mean"], made["std"])


@pytest.mark.parametrize("mode", recipes.GEOMETRIES)
def test_timms_crop_modes_are_followed(mode):
    given = {"input_size": (3, 64, 64), "test_input_size": (3, 96, 96), "crop_pct": 0.9, "test_crop_pct": 1.15}
    given |= {"crop_mode": mode, "interpolation": "bilinear", "mean": (0.5,) * 3, "std": (0.25,) * 3}
    view = view_of_timm(given)
    assert (view.size, view.scaling) == (96, recipes.Scaling(83 / 96, "bilinear", mode))
    assert view_of_timm(given, 128).scaling.over_crop == 111 / 128
    # A run of one's own is at its own size.
    assert view_of_timm(given, None, {"img_size": 64}).scaling.over_crop == 71 / 64
    with pytest.raises(InputError, match="takes images of 3×64×48"):
        view_of_timm(given | {"input_size": (3, 64, 48), "test_input_size": None})
    with pytest.raises(InputError, match="filter must be one of bilinear, bicubic, got 'lanczos'"):
        view_of_timm(given | {"interpolation": "lanczos"})


def timms_file(path, classes: int, **options) -> str:
    """A checkpoint as timm's CheckpointSaver writes it."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=classes)
    args = argparse.Namespace(model="test_resnet", **options)
    state = {"epoch": 1, "arch": "test_resnet", "state_dict": model.state_dict(), "args": args, "version": 2}
    torch.save({**state, "state_dict_ema": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    return str(path)


def test_timms_checkpoint_needs_no_name(tmp_path):
    path = timms_file(tmp_path / "last.pth.tar", 7, img_size=48, mean=(0.1, 0.2, 0.3), crop_pct=1.0, interpolation="")
    network = load_model(path)
    assert (network.image_size, network.scaling) == (48, recipes.Scaling(1.0, "bilinear"))
    assert network.mean == (0.1, 0.2, 0.3)
    assert network.classes == tuple("0123456")
    assert "--classes" in network.classes_from
    assert "(its part state_dict_ema.module)" in network.name
    assert "timm's configuration, with the file's img_size, mean, crop_pct" in network.description()
    same = load_model(f"timm/test_resnet:{path}:state_dict", classes=str(class_folders(tmp_path / "train", "gfedcba")))
    assert same.fingerprint == network.fingerprint
    assert same.classes == tuple("abcdefg")


def class_folders(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
    return folder


def test_own_weights_of_torchvisions_networks(tmp_path):
    import torchvision

    model = torchvision.models.shufflenet_v2_x0_5(num_classes=3)
    options = argparse.Namespace(
        model="shufflenet_v2_x0_5", val_crop_size=64, val_resize_size=80, interpolation="bicubic"
    )
    kept = {"model": model.state_dict(), "class_to_idx": {"b": 0, "c": 1, "a": 2}, "args": options}
    torch.save(kept, tmp_path / "model_1.pth")
    network = load_model(str(tmp_path / "model_1.pth"))
    assert network.classes == ("b", "c", "a")
    assert (network.image_size, network.scaling) == (64, recipes.Scaling(80 / 64, "bicubic"))
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(InputError, match=r"does not say which network its weights are of: give NAME:\S+plain\.pth"):
        load_model(str(tmp_path / "plain.pth"))
    with pytest.raises(InputError, match=r"plain\.pth are not of this network: none of their 338 names"):
        load_model(f"mobilenet_v2:{tmp_path / 'plain.pth'}")
    del kept["model"]["fc.bias"]
    torch.save({**kept, "model": kept["model"] | {"extra": torch.ones(1)}}, tmp_path / "model_1.pth")
    with pytest.raises(InputError, match=r"are not of shufflenet_v2_x0_5: fc\.bias missing; extra not in the network"):
        load_model(str(tmp_path / "model_1.pth"))
    with pytest.raises(InputError, match=r"are not of shufflenet_v2_x1_0: of another shape: conv5.0.weight"):
        load_model(f"shufflenet_v2_x1_0:{tmp_path / 'plain.pth'}")


def test_a_small_network_sees_as_cifars_do(tmp_path):
    torch.save({"net": {f"module.{k}": v for k, v in small().state_dict().items()}}, tmp_path / "w.pth")
    network = load_model("cifar/wrn-16-1", str(tmp_path / "w.pth"))
    assert (network.mean, network.std, network.image_size) == (recipes.CIFAR.mean, recipes.CIFAR.std, 32)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.model(images), small().eval()(images))


def test_a_normalization_in_the_file_is_followed(tmp_path):
    """That of the package robustness, whose files have it beside the network."""
    state = {f"module.model.{name}": value for name, value in small().state_dict().items()}
    layer = {"module.normalizer.new_mean": torch.full((3, 1, 1), 0.5), "module.normalizer.new_std": torch.ones(3, 1, 1)}
    torch.save({"model": state | layer}, tmp_path / "w.pt")
    network = load_model(f"cifar/wrn-16-1:{tmp_path / 'w.pt'}")
    assert (network.mean, network.std) == ((0.5,) * 3, (1.0,) * 3)
    assert "normalization from the file" in network.description()


def test_networks_of_a_folder(tmp_path):
    """A repository of Hugging Face's hub, on the disk."""
    import timm
    from timm.models import save_for_hf

    made = timm.create_model("test_resnet", num_classes=3, pretrained_cfg_overlay={"crop_mode": "squash"})
    save_for_hf(made, str(tmp_path / "net"), model_config={"label_names": ["x", "y", "z"]})
    network = load_model(f"local-dir:{tmp_path / 'net'}")
    assert network.scaling.geometry == "squash"
    assert network.classes == ("x", "y", "z")
    assert all(torch.equal(value, made.state_dict()[key]) for key, value in network.model.state_dict().items())


FACTORY = """
from torch import nn

def network():
    made = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))
    made.classes = ["u", "v", "w"]
    made.pretrained_cfg = {"input_size": (3, 20, 20), "mean": (0, 0, 0), "std": (1, 1, 1), "crop_pct": 1.0}
    return made

def broken():
    raise KeyError("layers")

def text():
    return "network"
"""


def test_a_function_makes_a_network(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(FACTORY)
    torch.save({"2.weight": torch.full((3, 12), 0.5), "2.bias": torch.arange(3.0)}, tmp_path / "w.pt")
    network = load_model(f"{file}:network:{tmp_path / 'w.pt'}")
    assert (network.image_size, network.mean, network.std) == (20, (0, 0, 0), (1, 1, 1))
    assert network.classes == ("u", "v", "w")
    assert network.model(torch.ones(1, 3, 20, 20)).tolist() == [[6, 7, 8]]
    for given, told in (
        ("broken", "broken fails: KeyError: 'layers'"),
        ("text", "must return a torch.nn.Module, got str"),
        ("nothing", "has no function nothing"),
    ):
        with pytest.raises(InputError, match=told):
            load_model(f"{file}:{given}")
    with pytest.raises(InputError, match="is not there"):
        load_model(f"{tmp_path / 'other.py'}:network")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("names.txt", "u\nv\n", "names 2 classes, the network has 3"),
        ("names.txt", "u\nv\nv\n", "must name each class once"),
        ("names.json", '["u", "v", 3]', "expected a list of names"),
        ("names.json", "[", "is no JSON"),
        ("names.csv", None, "is not there"),
    ],
)
def test_names_that_do_not_serve(tmp_path, name, text, told):
    (tmp_path / "mine.py").write_text(FACTORY)
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=told):
        load_model(f"{tmp_path / 'mine.py'}:network", classes=str(tmp_path / name))


def test_a_size_that_the_network_cannot_take(tmp_path):
    import timm

    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match="the model cannot take images of 200×200: "):
        load_model(f"timm/test_vit:{tmp_path / 'w.pt'}", image_size=200)
    options = ImageNetOptions(data="sample", image_size=160)
    path = saved(tmp_path / "run", "timm/test_vit", options, create_model("timm/test_vit", 3))
    assert load_model(path).image_size == 160
    with pytest.raises(InputError, match="the model cannot take images of 200×200: "):
        load_model(path, image_size=200)


def test_a_comparison_takes_what_a_model_is(tmp_path, digits_checkpoints, capsys):
    state = torch.load(digits_checkpoints[1], weights_only=True)["model"]
    torch.save({"state_dict": {f"model.{k}": v for k, v in state.items()}}, tmp_path / "other.ckpt")
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(10))))
    command = ["analyze", "heatmap", digits_checkpoints[0], "--compare", f"cifar/wrn-16-1:{tmp_path / 'other.ckpt'}"]
    command += ["--size", "3", "--limit", "4", "--device", "cpu", "--output", str(tmp_path / "out")]
    assert cli.main([*command, "--classes", str(tmp_path / "names.txt")]) == 0
    told = capsys.readouterr().out
    assert "(its part state_dict.model)\n10 classes, their names: " in told
    maps = json.loads((tmp_path / "out" / "heatmap.json").read_text())["result"]["maps"]
    assert [one["fingerprint"] for one in maps] == [load_model(path).fingerprint for path in digits_checkpoints]
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij"))
    assert cli.main([*command, "--classes", str(tmp_path / "names.txt")]) == 2
    assert "are not those that" in capsys.readouterr().err


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
    assert "the model cannot take images of 256×256: Input height (256) doesn't match" in error
    assert "give another --image-size, or none" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_second_network_must_take_the_images_of_the_first(digits_checkpoints, tmp_path, capsys):
    torch.save(create_model("vit_tiny_patch16_224", 10).state_dict(), tmp_path / "w.pth")
    other = f"vit_tiny_patch16_224:{tmp_path / 'w.pth'}"
    given = [digits_checkpoints[0], "--compare", other, "--device", "cpu", "--output", str(tmp_path / "out")]
    assert cli.main(["analyze", "gradcam", *given]) == 2
    assert "cannot take images of 32×32" in capsys.readouterr().err
