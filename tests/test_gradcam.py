"""Where a network looks, for networks whose answer is known to come from one place."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from apr_dali.cli import main
from apr_dali.commands.analyses import gradcam as command
from apr_dali.config import CifarOptions
from apr_dali.data.small_corruptions import SHOWN
from apr_dali.errors import InputError
from apr_dali.eval.gradcam import agreement, joined, looks, target_layer
from apr_dali.models import create_model
from apr_dali.training import checkpoint


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
    name, layer = target_layer(model, images)
    assert name == "masked"
    found = looks(model, layer, images, np.array([0, 1]))
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
    both = joined([found.take(np.array([1])), found.take(np.array([0]))])
    assert np.array_equal(both.maps, found.maps[::-1])
    assert np.array_equal(both.confidence, found.confidence[::-1])


@pytest.mark.parametrize(("name", "expected"), [("cifar/wrn-16-1", "norm"), ("resnet18", "layer4")])
def test_the_layer_is_the_last_that_gives_a_map(name, expected):
    model = create_model(name, 5).eval()
    assert target_layer(model, torch.rand(1, 3, 64, 64))[0] == expected
    assert target_layer(model, torch.rand(1, 3, 64, 64), "bn1" if name == "resnet18" else "first")[1] is (
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
    given = ["analyze", "gradcam", networks[0], "--other", networks[1], "--limit", 3, "--batch-size", 2]
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


def test_every_corruption_is_offered():
    assert tuple(SHOWN) == command._CORRUPTIONS


def test_bad_input(networks, tmp_path, capsys):
    for given, told in ((["--layer", "conv"], "no layer 'conv'"), (["--other", "none.pt"], "no checkpoint none.pt")):
        assert main(["analyze", "gradcam", networks[0], *given, "--output", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


def test_fog_is_the_published_one(crops):
    from apr_dali.data.make_c import corrupted

    images = crops(2, 96, 80)
    function, severities = SHOWN["fog"]
    before = np.random.get_state()[1].copy()
    for severity in severities:
        foggy = function(images, severity)
        # The first cloud of a seed; the second image has another one.
        expected = corrupted(images[0], "fog", int(severity), 0)
        assert np.abs(foggy[0].astype(int) - expected).max() <= 1
        same_cloud = corrupted(images[1], "fog", int(severity), 0)
        assert np.abs(foggy[1].astype(int) - same_cloud).max() > 10
    assert np.array_equal(np.random.get_state()[1], before), "whoever else draws from it is not disturbed"
    small = crops(2, 32, 32)
    assert [function(small, severity).astype(float).std() for severity in severities] == sorted(
        (function(small, severity).astype(float).std() for severity in severities), reverse=True
    ), "ever less is seen"
