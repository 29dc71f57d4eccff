"""Where a network looks, for networks whose answer is known to come from one place."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import apr_dali
from apr_dali.cli import main
from apr_dali.commands.analyses import gradcam as command
from apr_dali.data.small_corruptions import SHOWN
from apr_dali.errors import InputError
from apr_dali.eval.analyses import gradcam
from apr_dali.eval.analyses.gradcam import agreement, joined, looks, target_layer
from apr_dali.models import create_model
from apr_dali.runtime import checkpoint
from apr_dali.training.options import CifarOptions


class Corners(nn.Module):
    """Class 0 grows with the brightness of the top left, class 1 with that of the bottom right, each 4×4 of 16×16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        nn.init.constant_(self.conv.weight, 1 / 3)
        places = torch.zeros(2, 16, 16)
        places[0, :4, :4], places[1, -4:, -4:] = 1, 1
        self.places = nn.Parameter(places)
        self.masked = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images):
        return self.pool(self.masked(self.conv(images) * self.places)).flatten(1)


def test_the_map_is_where_the_class_comes_from():
    model, images = Corners().eval(), torch.rand(2, 3, 16, 16) + 0.5
    target = target_layer(model, images)
    assert target.name == "masked"
    found = looks(model, target, images, np.array([0, 1]))
    assert found.maps.shape == (2, 16, 16)
    for seen, corner in ((found.maps[0], (slice(4), slice(4))), (found.maps[1], (slice(-4, None), slice(-4, None)))):
        assert seen[corner].min() > 0.3
        assert seen.max() == pytest.approx(1, abs=1e-3)
        outside = seen.copy()
        outside[corner] = 0
        assert outside.max() == 0
    with torch.no_grad():
        probabilities = model(images).softmax(1)
    assert found.answers.tolist() == probabilities.argmax(1).tolist()
    assert np.allclose(found.confidence, probabilities.max(1).values.numpy())
    frozen = looks(model.requires_grad_(False), target, images, np.array([0, 1]))
    assert np.array_equal(frozen.maps, found.maps)
    both = joined([found.take(np.array([1])), found.take(np.array([0]))])
    assert np.array_equal(both.maps, found.maps[::-1])
    assert np.array_equal(both.confidence, found.confidence[::-1])


def timms_transformer(**given):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=64, embed_dim=24, depth=2, num_heads=2, num_classes=5, weight_init="jax", **given)


def timms_swin():
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(img_size=64, embed_dim=24, depths=(1, 1), num_heads=(1, 2), window_size=4, num_classes=5)


def timms_mixer():
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(img_size=64, embed_dim=24, num_blocks=2, num_classes=5)


def timms_levit(use_conv=False):
    from timm.models.levit import Levit

    return Levit(64, embed_dim=(16, 32), key_dim=8, depth=(1, 1), num_heads=(2, 2), num_classes=5, use_conv=use_conv)


def torchvisions_transformer():
    from torchvision.models import VisionTransformer

    return VisionTransformer(64, 16, 2, 2, 24, 48, num_classes=5)


def torchvisions_densenet():
    from torchvision.models import DenseNet

    return DenseNet(8, (2, 2), 8, num_classes=5)


# A network, where it is looked at, and how many tokens are before those of the patches: None of one of maps.
FAMILIES = {
    "ViT": (timms_transformer, "blocks.1.norm1", 1),
    "ViT with registers": (lambda: timms_transformer(reg_tokens=4), "blocks.1.norm1", 5),
    "ViT without a class token": (
        lambda: timms_transformer(class_token=False, global_pool="avg"), "blocks.1.norm1", 0
    ),
    "torchvision's ViT": (torchvisions_transformer, "encoder.layers.encoder_layer_1.ln_1", 1),
    "Mixer": (timms_mixer, "blocks.1.norm1", 0),
    "LeViT": (timms_levit, "stages.1", 0),
    "LeViT of convolutions": (lambda: timms_levit(use_conv=True), "stages", None),
    "Swin": (timms_swin, "norm", "channels last"),
    "DenseNet": (torchvisions_densenet, "features", None),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_laid_out(family):
    """Against Grad-CAM's formula on the layer's output and its gradient, by autograd."""
    from pytorch_grad_cam.utils.image import scale_cam_image

    make, layer, prefix = FAMILIES[family]
    torch.manual_seed(3)
    model, images = make().eval(), torch.rand(2, 3, 64, 64)
    for parameter in model.parameters():
        # Heads that begin with zeros look at nothing.
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    target = target_layer(model, images)
    assert target.name == layer
    by_hand = (by_formula(model, target.layer, images, number, prefix) for number in range(5))
    number, cam = next((n, cam) for n, cam in enumerate(by_hand) if cam.max((1, 2)).min() > 0)
    cam /= cam.max((1, 2), keepdims=True)
    found = looks(model, target, images, np.array([number, number]))
    # Scaling leaves less than 1 at the top: the package scales to 0..1 again.
    np.testing.assert_allclose(found.maps, scale_cam_image(scale_cam_image(cam, (64, 64))), atol=1e-3)


def by_formula(model, layer, images, number, prefix) -> np.ndarray:
    """Grad-CAM (N, h, w) for the output `number`, not scaled: the layer's output is kept from what works in place."""
    kept = []

    def keep(_, __, output):
        kept.append(output)
        return output.clone()

    hook = layer.register_forward_hook(keep)
    logits = model(images)
    hook.remove()
    parts = [kept[0].detach(), *torch.autograd.grad(logits[:, number].sum(), kept[0])]
    if prefix == "channels last":
        parts = [part.permute(0, 3, 1, 2) for part in parts]
    elif prefix is not None:
        side = round((parts[0].shape[1] - prefix) ** 0.5)
        parts = [part[:, prefix:].mT.reshape(2, -1, side, side) for part in parts]
    values, slopes = parts
    return (values * slopes.mean((2, 3), keepdim=True)).sum(1).clamp_min(0).numpy()


def test_tokens_of_other_families_are_refused():
    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.mix, self.head = nn.Conv2d(3, 8, 16, 16), nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, images):
            return self.head(self.mix(self.patches(images).flatten(2).mT).mean(1))

    model, images = Folded().eval(), torch.rand(1, 3, 64, 64)
    with pytest.raises(InputError, match=r"the last map, of 'patches', becomes tokens in 'mix'.*--layer"):
        target_layer(model, images)
    assert target_layer(model, images, "patches").layer is model.patches
    with pytest.raises(InputError, match="'mix' gives no map"):
        target_layer(model, images, "mix")


def test_a_layer_that_no_answer_depends_on():
    """Behind the last attention the patches' tokens are thrown away."""
    model, images = timms_transformer().eval(), torch.rand(1, 3, 64, 64)
    nn.init.normal_(model.head.weight)
    target = target_layer(model, images, "blocks.1")
    with pytest.raises(InputError, match=r"no answer depends on the map of 'blocks\.1'"):
        looks(model, target, images, np.array([0]))


@pytest.mark.parametrize(("name", "expected"), [("cifar/wrn-16-1", "norm"), ("resnet18", "layer4")])
def test_the_layer_is_the_last_that_gives_a_map(name, expected):
    model = create_model(name, 5).eval()
    assert target_layer(model, torch.rand(1, 3, 64, 64)).name == expected
    assert target_layer(model, torch.rand(1, 3, 64, 64), "bn1" if name == "resnet18" else "first").layer is (
        model.bn1 if name == "resnet18" else model.first
    )


def test_layers_that_are_not_there():
    model, images = create_model("cifar/wrn-16-1", 5).eval(), torch.rand(1, 3, 32, 32)
    with pytest.raises(InputError, match=r"no layer 'block'; the nearest of \d+: .*blocks"):
        target_layer(model, images, "block")
    with pytest.raises(InputError, match="'head' gives no map"):
        target_layer(model, images, "head")
    with pytest.raises(InputError, match="needs a convolutional network"):
        target_layer(nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)), images)


def test_agreement_is_a_correlation():
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 5, 4)).astype(np.float32), rng.random((3, 5, 4)).astype(np.float32)
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first, second, strict=True)]
    assert np.allclose(agreement(first, second), expected)
    assert np.allclose(agreement(first, 2 - 3 * first), -1)
    assert np.isnan(agreement(first, np.ones_like(first))).all()


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    found = []
    for seed in range(2):
        folder = tmp_path_factory.mktemp("runs") / f"run{seed}"
        folder.mkdir()
        torch.manual_seed(seed)
        state = {"architecture": "cifar/wrn-16-1", "classes": list("0123456789")}
        state |= {"model": create_model("cifar/wrn-16-1", 10).state_dict(), "options": vars(CifarOptions())}
        checkpoint.save(folder, state, best=False)
        found.append(str(folder / checkpoint.LATEST))
    return found


def test_the_command_with_two_networks(networks, tmp_path, capsys):
    given = ["analyze", "gradcam", networks[0], "--compare", networks[1], "--limit", 3, "--batch-size", 2]
    assert main([*map(str, given), "--corruption", "blur", "--output", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "gradcam.json").read_text())["result"]
    assert set(result["networks"]) == {"run0", "run1"}
    assert (result["corruption"], result["strength"]) == ("blur", 2.5)
    for row in result["networks"].values():
        assert row["layer"] == "norm"
        assert all(share in (0, 1 / 3, 2 / 3, 1) for share in row["right"])
        assert -1 <= row["agreement"] <= 1
    assert "right, corrupted" in capsys.readouterr().out
    assert (tmp_path / "gradcam-maps.png").is_file()


@pytest.mark.parametrize("true", [True, False])
def test_only_true_labels_make_right_and_wrong(networks, tmp_path, true, monkeypatch, capsys):
    message = []
    monkeypatch.setattr(gradcam, "fitted", lambda text, *_: message.append(text) or text)
    for label in "ab0" if not true else "012":
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.fromarray(np.full((32, 32, 3), 40 * ord(label) % 256, np.uint8)).save(tmp_path / "set" / label / "x.png")
    given = ["analyze", "gradcam", networks[0], "--data", tmp_path / "set", "--output", tmp_path]
    assert main(list(map(str, given))) == 0
    (row,) = json.loads((tmp_path / "gradcam.json").read_text())["result"]["networks"].values()
    shown = capsys.readouterr().out
    note = "no true labels: maps of MODEL's own answers on the clean images"
    assert ("right" in row, "same_answer" in row) == (true, not true)
    assert any("✓" in text or "✗" in text for text in message) == true
    assert (note in message, note in shown) == (not true, not true)
    assert ("right, clean" in shown) == true
    if not true:
        assert row["same_answer"][0] == 1


def test_every_corruption_is_offered():
    assert tuple(SHOWN) == command._CORRUPTIONS


def test_bad_input(networks, tmp_path, capsys):
    for given, message in (
        (["--layer", "conv"], "no layer 'conv'"),
        (["--compare", "none.pt"], "no checkpoint none.pt"),
    ):
        assert main(["analyze", "gradcam", networks[0], *given, "--output", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def fogged(image, severity):
    random = np.random.RandomState(0)
    draws = apr_dali.CorruptionDraws.from_reference("fog", severity, *image.shape[:2], random)
    return apr_dali.corrupt(image[None], "fog", severity, draws)[0]


def test_fog_is_the_published_one(crops):
    images = crops(2, 96, 80)
    function, severities = SHOWN["fog"]
    before = np.random.get_state()[1].copy()
    for severity in severities:
        foggy = function(images, severity)
        # The first cloud of a seed; the second image has another one.
        expected, same_cloud = (fogged(image, int(severity)) for image in images)
        assert np.abs(foggy[0].astype(int) - expected).max() <= 1
        assert np.abs(foggy[1].astype(int) - same_cloud).max() > 10
    assert np.array_equal(np.random.get_state()[1], before), "others that draw from it are not disturbed"
    small = crops(2, 32, 32)
    assert [function(small, severity).astype(float).std() for severity in severities] == sorted(
        (function(small, severity).astype(float).std() for severity in severities), reverse=True
    ), "ever less is seen"
