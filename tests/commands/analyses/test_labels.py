"""`apr-dali analyze labels`: trainings with two heads, what is measured of them, and that finished ones are kept."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from apr_dali import cli
from apr_dali.commands.analyses import small_network
from apr_dali.data import arrays
from apr_dali.data.arrays import ArraySet, load_set
from apr_dali.data.sample import tiles
from apr_dali.data.small_corruptions import CORRUPTIONS
from apr_dali.eval.load_model import load_model
from apr_dali.models.cifar import TwoHeads
from apr_dali.recipes import CIFAR
from apr_dali.runtime.distributed import start
from apr_dali.training import losses
from apr_dali.training.options import CifarOptions


@pytest.fixture
def few(monkeypatch):
    """Of the digits the first 64 training images and every third test image."""
    whole, taken = arrays._digits, {"train": slice(64), "val": slice(None, None, 3)}

    def some(split):
        part = whole(split)
        return replace(part, images=part.images[taken[split]], labels=part.labels[taken[split]])

    monkeypatch.setattr(arrays, "_digits", some)


def predicted(path: str, weight: float, images: np.ndarray) -> torch.Tensor:
    """λ·f_P + (1 − λ)·f_A from the two heads themselves; at λ = 1 there is one."""
    model = load_model(path).model
    seen = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    seen = (seen - torch.tensor(CIFAR.mean).view(3, 1, 1)) / torch.tensor(CIFAR.std).view(3, 1, 1)
    with torch.no_grad():
        if weight == 1:
            return model(seen)
        features = model.network.features(seen)
        return weight * model.network.head(features) + (1 - weight) * model.amplitude_head(features)


def command(output: Path, *more: str) -> int:
    given = ["analyze", "labels", "--epochs", "1", "--threads", "1", "--device", "cpu", "--output", str(output)]
    return cli.main([*given, *more])


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_accuracy_and_auroc_over_the_weight(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights = ["--weights", "1", "0.25", "0"]
    assert command(tmp_path / "out", *weights) == 0
    first = json.loads((tmp_path / "out" / "labels.json").read_text())
    rows, digits = first["result"]["rows"], load_set("digits", "val")
    assert [row["weight"] for row in rows] == [0, 0.25, 1]
    corrupt, strengths = CORRUPTIONS["pixelation"]
    for row in rows:
        logits = predicted(row["network"], row["weight"], digits.images)
        others = predicted(row["network"], row["weight"], tiles(32, 400))
        assert row["clean_error"] == pytest.approx((logits.argmax(1).numpy() != digits.labels).mean())
        sure = np.concatenate([part.double().softmax(1).amax(1).numpy() for part in (logits, others)])
        auroc = roc_auc_score(np.arange(len(sure)) < len(logits), sure)
        assert row["auroc"]["max-softmax"]["photographs"] == pytest.approx(auroc, abs=1e-3)
        corrupted = predicted(row["network"], row["weight"], corrupt(digits.images, strengths[2]))
        error = (corrupted.argmax(1).numpy() != digits.labels).mean()
        assert row["errors"]["pixelation"][2] == pytest.approx(error, abs=1.1 / len(logits))
        assert row["corrupted_error"] == pytest.approx(np.mean(list(row["errors"].values())))
    assert len({row["clean_error"] for row in rows}) > 1
    assert first["result"]["corrupted"] == "corrupted digits (made here, no published set)"
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("0.25 "))
    shown = [rows[1]["clean_error"], rows[1]["corrupted_error"], rows[1]["auroc"]["max-softmax"]["photographs"]]
    assert [float(value) for value in line.split()[1:]] == [round(100 * value, 2) for value in shown]
    with Image.open(tmp_path / "out" / "labels-curves.png") as picture:
        assert picture.size[0] > 400

    # A stopped sweep goes on, and another set asks for no further training.
    trained = []
    monkeypatch.setattr(small_network, "fit", lambda _, options, *__, **___: trained.append(options) or 1 / 0)
    (tmp_path / "black").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "black" / "0.png")
    assert command(tmp_path / "out", *weights, "--ood", f"black={tmp_path}/black") == 0
    second = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert [row["clean_error"] for row in second["result"]["rows"]] == [row["clean_error"] for row in rows]
    assert list(second["result"]["sets"]) == ["black"]
    assert "are of an earlier run" in capsys.readouterr().out
    assert len(second["kept"]) == 3 * (1 + 21 + 1), "clean, corrupted and scores of each network"
    with pytest.raises(ZeroDivisionError):
        command(tmp_path / "out", "--weights", "0.5")
    with pytest.raises(ZeroDivisionError):
        command(tmp_path / "out", "--weights", "1", "--seed", "1")
    assert [options.phase_weight for options in trained] == [0.5, 1]


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_two_heads_learn_from_both_labels(weight, monkeypatch):
    seen = []
    loss = losses.two_head_loss
    monkeypatch.setattr(losses, "two_head_loss", lambda *given: seen.append(given) or loss(*given))
    part = load_set("digits", "train")
    data = ArraySet(part.images[:64], part.labels[:64], part.classes)
    # Of a batch that is not mixed there is one view.
    given = {"epochs": 1, "batch_size": 32, "aug": "apr-p", "pair_probability": 1.0, "phase_weight": weight}
    options = CifarOptions(model="wrn-16-1", threads=1, **given)
    with start("cpu") as group:
        model = small_network.fit(data, options, group)
    assert isinstance(model, TwoHeads) == (weight != 1)
    assert len(seen) == (2 if weight != 1 else 0)
    for logits, targets, views, given, _ in seen:
        assert logits.shape == (64, 2, 10)
        assert (views, given) == (2, weight)
        # The clean view has one label, the mixed one another for its amplitude.
        assert (targets[::2, 0] == targets[::2, 1]).all()
        assert (targets[1::2, 0] != targets[1::2, 1]).any()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--weights", "1.5"], "must be a number from 0 to 1, got '1.5'"),
        (["--weights", "nan"], "must be a number from 0 to 1"),
        (["--ood", "x=nowhere"], "nowhere is not there"),
        (["--corrupted", "nowhere"], "nowhere is not there"),
        (["--model", "resnet50", "--weights", "0.5"], "--phase-weight needs one of the CIFAR networks"),
        (["--dataset", "cifar10", "--data", "nowhere"], "or the folder nowhere/cifar-10-batches-py"),
        (["--data", "somewhere"], "--data changes nothing here"),
    ],
)
def test_bad_input_is_named_before_anything_is_trained(given, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(small_network, "Trainer", lambda *_: pytest.fail("trained"))
    assert command(tmp_path / "out", *given) == 2
    assert told in capsys.readouterr().err
