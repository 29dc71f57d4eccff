"""train_cifar.py from end to end, on small digits, as a user runs it."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.forked import in_two
from helpers.processes import script_of, torchrun, train_in_two
from helpers.project import ROOT
from helpers.run_files import assert_same, networks_of, rows_of
from helpers.tolerances import BF16_LOSS
from PIL import Image

from apr_dali import cli
from apr_dali.augmentations.plan import TRAINABLE, form_here
from apr_dali.data.arrays import load_set
from apr_dali.draws import SEEDS
from apr_dali.eval.analyses.filters import filter_spectra
from apr_dali.models import create_model
from apr_dali.training.engine import Trainer

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "train_cifar.py"
SMALL = ["--model", "wrn-16-1", "--image-size", "16", "--batch-size", "16", "--threads", "1", "--device", "cpu"]
CLASSES, TRAINING, VALIDATION = 3, 32, 8  # images of a class
STEPS = CLASSES * TRAINING // 16
# Its rate is one for steps of 1024 images.
AIRBENCH = ["--recipe", "airbench", "--epochs", 12, "--warmup-epochs", 1.2, "--lr", 0.05, "--warmup-lr", 0.01]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A slice of the digits as folders of images of 16×16."""
    folder = tmp_path_factory.mktemp("digits")
    for split, count in (("train", TRAINING), ("val", VALIDATION)):
        part = load_set("digits", split)
        for label in range(CLASSES):
            (folder / split / str(label)).mkdir(parents=True)
            for n, image in enumerate(part.images[part.labels == label][:count]):
                Image.fromarray(image).resize((16, 16)).save(folder / split / str(label) / f"{n:02d}.png")
    return folder


@pytest.fixture
def train(run_script):
    """Run the script in this process, in an empty folder; gives (exit status, stdout, stderr)."""
    return partial(run_script, script_of(SCRIPT).main, SCRIPT.name)


def on(tree: Path) -> list[object]:
    return [*SMALL, "--dataset", "folder", "--data", tree]


# APR-P's views mixed with others, held together, and erased.
MIXED = ["--mixup", "0.4", "--cutmix", "1", "--label-smoothing", "0.1", "--jsd", "2"]
MIXED += ["--policy", "randaugment", "--policy-magnitude", "5", "--random-erasing", "0.5"]
SMOOTH = ["--schedule", "cosine", "--warmup-epochs", "0.5", "--no-decay", "norms-and-biases", "--clip-grad", "1"]
SMOOTH += ["--ema", "0.9", "--accumulate", "2"]
METHODS = {
    "none": [],
    "cutout": [],
    "mixup": ["--in-chans", "1", "--low-filters", "0.5"],
    "cutmix": ["--sampler", "balanced"],
    "autoaugment": [],
    "augmix": ["--in-chans", "1"],
    "apr-p": ["--phase-weight", "0.5"],
    "apr-s": ["--adversarial", "n-fgsm"],
    "apr-sp": ["--adversarial", "fgsm", "--on-overfitting", "stop", "--amp", "bf16"],
    **{name: ["--aug-form", form_here(name, "cifar10")] for name in TRAINABLE},
}


@pytest.mark.parametrize("aug", METHODS)
def test_each_method_runs_an_epoch_and_its_checkpoint_validates(aug, tree, train):
    given = [*on(tree), "--aug", aug, *METHODS[aug]]
    status, told, errors = train(*given, "--epochs", 1, "--output", "run")
    assert status == 0, errors
    row = rows_of(Path("run"))[0]
    assert 0.1 < row["train_loss"] < 20
    assert len(rows_of(Path("run"), "step")) == STEPS
    assert f" on {CLASSES * VALIDATION} validation images\n" in told
    assert ("pgd_top1" in row) == (aug in ("apr-s", "apr-sp"))
    assert (Path("run") / "good.pt").exists() == (aug in ("apr-s", "apr-sp"))
    status, told, errors = train(*given, "--eval-only", "run/latest.pt")
    assert status == 0, errors
    found = re.fullmatch(r"top-1 ([\d.]+)%, top-5 ([\d.]+)%, loss ([\d.]+) on 24 images\n", told)
    assert found is not None, told
    assert float(found[1]) == round(100 * row["top1"], 2)
    assert float(found[3]) == pytest.approx(row["val_loss"], abs=1e-4)


# ---- a run that is stopped ends as one that is not -------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        ["--aug", "apr-sp"],
        ["--aug", "cutmix"],
        ["--aug", "apr-s", "--sampler", "balanced", "--in-chans", "1"],
        ["--aug", "apr-p", "--adversarial", "fgsm"],
        ["--first-layer", "modulated", "--modulation-noise", "0.5"],
        ["--aug", "apr-sp", *MIXED, "--accumulate", "2"],
        ["--optimizer", "lamb", "--lr", "0.02", *SMOOTH],
        ["--aug", "apr-p", "--mixup", "0.4", "--mix-views", "clean", "--loss", "bce", "--bce-threshold", "0.2"],
        ["--aug", "hybrid++-ps"],
        ["--aug", "prime"],
        ["--aug", "afa", "--aug-form", "both", "--jsd", "10"],
        ["--aug", "fda"],
        ["--aug", "afa+prime", "--aug-form", "jsd", "--ema", "0.9"],
        ["--aug", "amplitude-mix", "--ema", "0.9"],
    ],
    ids=[
        *("apr-sp", "cutmix", "balanced", "fgsm", "modulated", "mixed", "lamb", "bce", "coin", "jsd", "both", "one"),
        *("auxiliary", "teacher"),
    ],
)
def test_stopped_and_resumed_ends_with_the_same_weights(method, tree, train, monkeypatch):
    given = [*on(tree), *method, "--epochs", 2, "--resume", "auto", "--output"]
    assert train(*given, "whole")[0] == 0
    whole_step, steps = Trainer.step, itertools.count(1)

    def step(*batch):
        if next(steps) == STEPS + 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole_step(*batch)

    monkeypatch.setattr(Trainer, "step", step)
    assert train(*given, "run")[0] == 128 + signal.SIGTERM
    position = torch.load("run/latest.pt", weights_only=True)["position"]
    assert (position["epoch"], position["step"]) == (1, 2)
    torch.manual_seed(99)  # what is drawn at random must continue from the checkpoint
    status, told, errors = train(*given, "run")
    assert status == 0, errors
    assert "continuing at epoch 2, step 2" in told
    found, expected = (torch.load(Path(path) / "latest.pt", weights_only=True) for path in ("run", "whole"))
    assert_same(networks_of(found), networks_of(expected))
    own = ["pgd_top1"] * ("fgsm" in method) + ["ema_val_loss", "ema_top1"] * ("--ema" in method)
    for mine, theirs in zip(rows_of(Path("run")), rows_of(Path("whole")), strict=True):
        for key in ("train_loss", "val_loss", "top1", "lr", *own):
            assert mine[key] == theirs[key], key


@pytest.mark.parametrize(
    ("method", "start"),
    [
        (["--aug", "apr-sp", "--adversarial", "fgsm"], torchrun),
        (["--recipe", "modern", *SMOOTH], in_two),
        (["--aug", "hybrid-ps"], in_two),
        (["--aug", "afa"], in_two),
        (["--aug", "amplitude-mix"], in_two),
    ],
)
def test_two_processes_agree(method, start, tree, tmp_path):
    given = [*on(tree), *method, "--epochs", 1, "--output", "run"]
    done = train_in_two(SCRIPT, *given, cwd=tmp_path, start=start)
    assert done.returncode == 0, done.stderr
    first, second, kept = (torch.load(tmp_path / path) for path in ("rank0.pt", "rank1.pt", "run/latest.pt"))
    assert any(name.endswith("running_mean") for name in first), "buffers are part of it"
    for name, value in first.items():
        assert torch.equal(second[name], value), name
        assert torch.equal(networks_of(kept)["weights"][name], value), name
    # The batch is that of both together.
    assert len(rows_of(tmp_path / "run", "step")) == STEPS // (2 if "--accumulate" in method else 1)


def test_the_proportion_of_low_filters_is_kept(tree, train):
    """That of the checkpoint after an epoch of steps, with momentum and weight decay."""
    given = [*on(tree), "--low-filters", "0.25"]
    assert train(*given, "--epochs", 1, "--output", "run")[0] == 0
    shares = filter_spectra(torch.load("run/latest.pt", weights_only=True)["model"]["first.weight"]).low
    assert (shares > 0.5).tolist() == [True] * 4 + [False] * 12
    assert train(*given, "--eval-only", "run/latest.pt")[0] == 0


@pytest.mark.parametrize("method", [["--aug", "apr-p", "--epochs", 8, "--lr", 0.05], AIRBENCH])
def test_learns(method, tree, train, tmp_path):
    # Validated on what it was trained on, too: of few images chance alone gives many right.
    (tmp_path / "both" / "val").mkdir(parents=True)
    (tmp_path / "both" / "train").symlink_to(tree / "train")
    for label in range(CLASSES):
        (tmp_path / "both" / "val" / str(label)).symlink_to(tree / "train" / str(label))
    status, _, errors = train(*on(tmp_path / "both"), *method, "--output", "run")
    assert status == 0, errors
    rows = rows_of(Path("run"))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    chance, images = 1 / CLASSES, CLASSES * TRAINING
    deviation = (chance * (1 - chance) / images) ** 0.5
    assert max(row["top1"] for row in rows[-3:]) > chance + 4 * deviation


def test_a_checkpoint_is_validated_as_it_was_trained(tree, train, tmp_path):
    """Trainer and command take network, image size and scaling from the checkpoint: images that are not square tell."""
    wide = tmp_path / "wide"
    for path in tree.rglob("*.png"):
        target = wide / path.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.resize((24, 20)).save(target)
    method = ["--aug", "apr-p", "--phase-weight", 0.5, "--amp", "bf16"]
    assert train(*on(wide), *method, "--epochs", 1, "--output", "run")[0] == 0
    row = rows_of(Path("run"))[0]
    status, told, errors = train("--data", wide, "--device", "cpu", "--eval-only", "run/latest.pt")
    assert status == 0, errors
    assert told.startswith(f"top-1 {row['top1']:.2%}, ")
    assert float(re.search(r"loss ([\d.]+)", told)[1]) == pytest.approx(row["val_loss"], abs=1e-4)
    command = ["eval", "clean", "run/latest.pt", "--data", str(wide / "val"), "--device", "cpu", "--output", "report"]
    assert cli.main(command) == 0
    record = json.loads(Path("report/clean.json").read_text())
    assert (record["settings"]["image_size"], record["settings"]["amp"]) == (16, "bf16")
    assert record["result"]["loss"] == pytest.approx(row["val_loss"], rel=BF16_LOSS)


def test_a_run_starts_from_weights_of_another_number_of_classes(tree, train):
    """Below what this run puts round the network, and before its first layer is modulated."""
    torch.manual_seed(5)
    theirs = create_model("cifar/wrn-16-1", 11)
    torch.save({"state_dict": {f"module.{name}": value for name, value in theirs.state_dict().items()}}, "theirs.pt")
    given = [*on(tree), "--lr", 0, "--spectrum", "amplitude=full,phase=full", "--epochs", 1, "--output", "run"]
    status, told, errors = train(*given, "--weights", "theirs.pt")
    assert status == 0, errors
    head = "the head (head.bias, head.weight) is new, for 3 classes, there it has 11"
    assert f"starting from theirs.pt (its part state_dict.module); {head}" in told
    found = torch.load("run/latest.pt", weights_only=True)["model"]
    for name in (name for name, _ in theirs.named_parameters() if not name.startswith("head.")):
        assert torch.equal(found[f"network.{name}"], theirs.state_dict()[name]), name
    status, _, errors = train(*given[:-1], "other", "--weights", "missing.pt")
    assert (status, Path("other").exists()) == (2, False)
    assert "there are no weights missing.pt" in errors


def test_a_validation_folder_that_lacks_a_class(tree, train, tmp_path):
    """Where the first is left out, the others keep their labels."""
    for split, names in (("train", "012"), ("val", "12")):
        (tmp_path / "lacking" / split).mkdir(parents=True)
        for name in names:
            (tmp_path / "lacking" / split / name).symlink_to(tree / split / name)
    given = [*on(tmp_path / "lacking"), "--epochs", 3, "--output", "run"]
    status, _, errors = train(*given)
    assert (status, Path("run").exists()) == (2, False)
    assert "1 missing: 0); of a validation set that is meant to lack some: --allow-missing-classes" in errors
    status, _, errors = train(*given, "--allow-missing-classes")
    assert status == 0, errors
    again = train("--eval-only", "run/latest.pt", *on(tmp_path / "lacking"))[1]
    loss = rows_of(Path("run"))[-1]["val_loss"]
    assert f"loss {loss:.4f} on {2 * VALIDATION} images" in again
    data = load_set("folder", "val", tree, 32)
    assert load_set(
        "folder", "val", tmp_path / "lacking", 32, data.classes, allow_missing_classes=True
    ).labels.tolist() == [label for label in data.labels.tolist() if label]


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--dataset", "cifar10"], "put it at data/cifar-10-python.tar.gz"),
        (["--dataset", "folder", "--data", "missing"], "missing is not there"),
        (["--model", "wrn-40"], "unknown model 'wrn-40'"),
        (["--aug", "apr-p", "--phase-weight", "2"], "--phase-weight must be at most 1"),
        (["--aug", "apr-p", "--phase-weight", "0.5", "--model", "timm/test_resnet"], "--phase-weight needs one of"),
        (["--adversarial", "fgsm", "--epsilon", "-1"], "--epsilon must be at least 0"),
        (["--low-filters", "1.5"], "--low-filters must be at most 1"),
        (["--low-filters", "0.5", "--first-layer", "modulated"], "--low-filters changes nothing here: it needs"),
        (["--modulation-noise", "0.5"], "--modulation-noise changes nothing here: it needs"),
        (["--allow-missing-classes"], "--allow-missing-classes changes nothing here: it needs --dataset folder"),
        (["--batch-size", "2000"], "gives no batch"),
        (["--seed", str(2**64)], f"--seed must be at most {SEEDS // 2}, got {2**64}"),
        (["--resume", "missing.pt"], "no checkpoint missing.pt"),
    ],
)
def test_bad_input(given, told, train):
    status, _, errors = train("--model", "wrn-16-1", "--device", "cpu", "--output", "run", *given)
    assert status == 2
    assert re.match(r"error: .*\n$", errors, re.DOTALL)
    assert told in errors
    assert not Path("run").exists()


def test_checkpoint_of_one_head_is_not_one_of_two(tree, train):
    assert train(*on(tree), "--aug", "apr-p", "--epochs", 1, "--output", "run")[0] == 0
    status, _, errors = train(*on(tree), "--aug", "apr-p", "--phase-weight", 0.5, "--eval-only", "run/latest.pt")
    assert status == 2
    assert "is a checkpoint of cifar/wrn-16-1, not of cifar/wrn-16-1 with two heads" in errors


@pytest.mark.usefixtures("pictures")
def test_samples_show_the_recipe(tree, train):
    assert train(*on(tree), "--aug", "cutmix", "--epochs", 1, "--output", "run")[0] == 0
    with Image.open("run/samples.png") as image:
        assert np.asarray(image.convert("L")).std() > 5
