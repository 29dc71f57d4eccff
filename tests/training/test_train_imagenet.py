"""train_imagenet.py from end to end, on small images, as a user runs it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.imagenet_runs import SMALL, TRAINING
from helpers.run_files import assert_same, rows_of, state_of

from apr_dali.data.folders import open_set
from apr_dali.draws import SEEDS
from apr_dali.errors import InputError
from apr_dali.eval import evaluate_corruption_on_the_fly
from apr_dali.eval.load_model import load_model
from apr_dali.models import create_model
from apr_dali.runtime.checkpoint import Position
from apr_dali.runtime.distributed import Group
from apr_dali.training.command_line import parse
from apr_dali.training.corrupted import CorruptedValidation
from apr_dali.training.options import ImageNetOptions

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--data", "missing"], "--data sample"),
        (["--data", "."], "no folder 'train'"),
        (["--model", "resnet5O"], "resnet50"),
        (["--batch-size", "64"], "gives no batch"),
        (["--model", "alexnet"], "cannot take images of 32×32"),
        (["--resume", "missing.pt"], "no checkpoint missing.pt"),
        (["--aug", "apr-x"], "'apr-x'"),
        (["--data", "a.jpg"], "not a file list"),
        (["--on-error", "skip", "--check", "full"], "choose one"),
        (["--batch-size", "1"], "one image is too small a batch for this network's batch norm"),
        (["--train-weights", "1", "2"], "for each of several sources, --data and every --train: got 2 for 1"),
        (["--train", "x", "--train-weights", "0", "0"], "--train-weights must be finite and not all 0, got 0 0"),
        (["--train", "x", "--train-weights", "1", "inf"], "--train-weights must be finite and not all 0, got 1 inf"),
        (["--train", "x", "--train-weights", "1", "2", "--sampler", "balanced"], "does not go with --sampler balanced"),
        (["--seed", str(2**64)], f"--seed must be at most {SEEDS // 2}, got {2**64}"),
    ],
)
def test_bad_input(given, told, tree, train):
    Path("a.jpg").write_bytes(b"\xff\xd8\xff")
    status, _, errors = train("--data", tree, "--output", "run", *given)
    assert status == 2
    assert re.match(r"error: .*\n$", errors, re.DOTALL)
    assert told in errors
    assert not Path("run").exists()


def test_the_loaders_follow_the_options(tree, trainer):
    given = ["--data", str(tree), *map(str, SMALL), "--scale", "0.3", "0.9", "--ratio", "1", "2", "--hflip", "0"]
    given += ["--sampler", "balanced"]
    options, group = parse(ImageNetOptions, "", given), Group(0, 1, 0, torch.device("cpu"))
    beginning = SimpleNamespace(position=Position())
    with trainer.train_loader(options, group, open_set(tree / "train"), 0, beginning) as loader:
        assert (loader._graph.scale, loader._graph.ratio, loader._graph.hflip) == ((0.3, 0.9), (1.0, 2.0), 0.0)
        np.testing.assert_allclose(loader._weights, 1 / TRAINING)
    with trainer.validation_loader(options, group, open_set(tree / "val")) as loader:
        assert len(loader) > 0
    options = parse(ImageNetOptions, "", [*given, "--hw-decoder-load", "0.9"])
    with pytest.raises(InputError, match="hw_decoder_load has no effect"):
        trainer.train_loader(options, group, open_set(tree / "train"), 0, beginning)


def test_a_gray_network_is_trained_and_evaluated(tree, train):
    status, told, errors = train("--data", tree, "--in-chans", 1, "--epochs", 1, "--aug", "apr-sp", "--output", "run")
    assert status == 0, errors
    assert "shufflenet_v2_x0_5 of gray images: 48 training images" in told
    result = told[told.index("\ntop-1") :].split()[1]
    status, told, errors = train("--data", tree, "--in-chans", 1, "--eval-only", "run/latest.pt")
    assert status == 0, errors
    assert f"top-1 {result}" in told
    network = load_model("run/latest.pt")
    assert network.mean == (network.mean[0],) * 3
    images = torch.randn(4, 1, 32, 32)
    weights = state_of(Path("run/latest.pt"))["model"]
    model = create_model("shufflenet_v2_x0_5", 3, in_chans=1).eval()
    model.load_state_dict(weights)
    torch.testing.assert_close(network.model(images.expand(-1, 3, -1, -1)), model(images), rtol=1e-4, atol=1e-4)
    status, _, errors = train("--data", tree, "--in-chans", 3, "--resume", "run/latest.pt", "--epochs", 2)
    assert status == 2
    assert "is a checkpoint of shufflenet_v2_x0_5 of gray images, not of shufflenet_v2_x0_5" in errors
    # Not given, it is the checkpoint's.
    status, told, errors = train("--data", tree, "--resume", "run/latest.pt", "--epochs", 2)
    assert status == 0, errors
    assert "epoch 2/2" in told


def test_folder_of_another_run_stays_as_it_is(tree, train):
    Path("run").mkdir()
    Path("run/config.json").write_text("theirs")
    status, _, errors = train("--data", tree, "--output", "run")
    assert status == 2
    assert "already has files" in errors
    assert os.listdir("run") == ["config.json"]
    assert Path("run/config.json").read_text() == "theirs"


@pytest.mark.usefixtures("pictures")
def test_decorations_do_not_end_a_run(copy, train):
    """A broken image among those of samples.png, a record that is garbage, curves that cannot be drawn."""
    broken = copy / "train" / "astronaut" / "0.jpg"
    broken.unlink()
    broken.write_bytes(b"\xff\xd8\xff\xe0 no more than a beginning")
    given = ["--data", copy, "--epochs", 2, "--on-error", "skip", "--output", "run"]
    with pytest.warns(UserWarning, match="left out"):
        status, _, errors = train(*given, "--epochs", 1)
    assert status == 0, errors
    assert f"warning: showing {broken} failed" in errors
    assert Path("run/samples.png").is_file(), "the other images are shown"
    with open("run/metrics.jsonl", "a") as file:
        file.write("garbage\n")
    Path("run/curves.png").unlink()
    Path("run/curves.png").mkdir()
    status, _, errors = train(*given, "--resume", "auto")
    assert status == 0, errors
    assert "warning: drawing curves.png failed" in errors
    assert "metrics.jsonl has no row in line" in errors
    assert [row["epoch"] for row in rows_of(Path("run"))] == [1, 2]


# ---- weights of others -----------------------------------------------------------------------------------------------


def test_a_run_starts_from_pretrained_weights_and_goes_on_from_its_own(tree, train, monkeypatch):
    import torchvision

    get_model, made = torchvision.models.get_model, []

    def fetch(name, weights=None, **given):
        model = get_model(name, weights=None, **given)
        if weights is not None:
            made.append(model)
        return model

    monkeypatch.setattr(torchvision.models, "get_model", fetch)
    given = ["--data", tree, "--lr", 0, "--weights", "pretrained", "--output", "run", "--resume", "auto"]
    status, told, errors = train(*given, "--epochs", 1)
    assert status == 0, errors
    expected = (
        "starting from the pretrained shufflenet_v2_x0_5; the head (fc.bias, fc.weight) is new, for 3 classes, "
        "there it has 1000\n"
    )
    assert expected in told
    found, theirs = state_of(Path("run/latest.pt"))["model"], made[0].state_dict()
    for name in (name for name, _ in made[0].named_parameters() if not name.startswith("fc.")):
        assert torch.equal(found[name], theirs[name]), name
    assert found["fc.weight"].shape == (3, 1024)
    status, told, errors = train(*given, "--epochs", 2)
    assert status == 0, errors
    assert "starting from" not in told
    assert len(made) == 1
    status, _, errors = train(*given[:-4], "--weights", "other.pt", "--resume", "run/latest.pt")
    assert status == 2
    assert "began with --weights pretrained: --weights other.pt needs a new run" in errors


# ---- accuracy under corruptions --------------------------------------------------------------------------------------


def test_accuracy_under_corruptions_is_that_of_the_evaluation(train, tree, tmp_path):
    given = ("--data", tree, "--epochs", 2, "--output")
    assert train(*given, "plain")[0] == 0
    status, _, err = train(*given, "run", "--validate-corrupted", 5)
    assert status == 0, err
    rows = rows_of(tmp_path / "run")
    assert [0 <= row["corrupted_top1"] <= 1 for row in rows] == [True, True]
    found = evaluate_corruption_on_the_fly(
        tmp_path / "run" / "latest.pt", tree / "val", limit=5, device="cpu", threads=1
    )
    assert rows[-1]["corrupted_top1"] == pytest.approx(1 - found.mean_error, abs=1e-9)
    # It only looks.
    assert_same(state_of(tmp_path / "run" / "latest.pt")["model"], state_of(tmp_path / "plain" / "latest.pt")["model"])
    assert "corrupted_top1" not in rows_of(tmp_path / "plain")[0]


def test_the_best_checkpoint_may_be_the_best_under_corruptions(train, tree, tmp_path, monkeypatch):
    scores = iter((0.9, 0.5, 0.7))
    monkeypatch.setattr(CorruptedValidation, "top1", lambda *_: next(scores))
    given = ("--data", tree, "--output", "run", "--validate-corrupted", 5)
    best = ("--best-by", "corrupted")
    assert train(*given, *best, "--epochs", 2)[0] == 0
    assert state_of(tmp_path / "run" / "best.pt")["position"]["epoch"] == 1
    assert state_of(tmp_path / "run" / "best.pt")["position"]["best"] == 0.9
    status, _, err = train(*given, "--epochs", 3, "--resume", "auto")
    assert status == 2
    assert "is the best by corrupted, and cannot be compared by top1: continue with --best-by corrupted" in err
    assert train(*given, *best, "--epochs", 3, "--resume", "auto")[0] == 0
    assert state_of(tmp_path / "run" / "best.pt")["position"]["epoch"] == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--in-chans", "1"], "--validate-corrupted does not go with --in-chans 1"),
        (["--image-size", "24"], "images must have at least 32 pixels per side, got 24 × 24"),
        (["--on-error", "skip"], "--validate-corrupted does not go with --on-error skip"),
        (["--validate-corrupted", "0", "--best-by", "corrupted"], "--best-by corrupted needs --validate-corrupted N"),
    ],
)
def test_what_cannot_be_corrupted_is_named_before_training(train, tree, tmp_path, given, told):
    status, _, err = train("--data", tree, "--output", "run", "--validate-corrupted", 5, *given)
    assert status == 2
    assert told in err
    assert not (tmp_path / "run" / "latest.pt").exists()
