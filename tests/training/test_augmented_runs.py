"""The augmentations beside APR in the ImageNet trainer, on a bit of the sample: resumed, and in two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.imagenet_runs import SCRIPT, SMALL
from helpers.processes import train_in_two
from helpers.run_files import assert_same, networks_of, rows_of

from apr_dali.augmentations.plan import TRAINABLE, form_here
from apr_dali.training.engine import Trainer

pytestmark = pytest.mark.slow

RUN = ["--epochs", "2", "--checkpoint-minutes", "0"]
METHODS = {
    "hybrid-p": ["--random-erasing", "0.5"],
    "afa": ["--ema", "0.9"],
    "afa+prime": ["--aug-form", "jsd"],
    "amplitude-mix": [],
    "prime": [],
    "vipaug": [],
}
EACH = 6  # training images of a class
STEPS = 4 * EACH // 8


@pytest.fixture(scope="module")
def few(sample, tmp_path_factory) -> Path:
    """train/ and val/ with a few images of each of the sample's classes."""
    folder = tmp_path_factory.mktemp("few")
    for split, count in (("train", EACH), ("val", 2)):
        for kind in sorted((Path(sample) / split).iterdir()):
            (folder / split / kind.name).mkdir(parents=True)
            for image in sorted(kind.iterdir())[:count]:
                (folder / split / kind.name / image.name).symlink_to(image)
    return folder


class Killed(BaseException):
    """The end of a process that saves nothing."""


def killed_at(monkeypatch, step: int) -> None:
    """End the next run in its `step`-th step, counted from 1."""
    whole, left = Trainer.step, [step]

    def dying(*given):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return whole(*given)

    monkeypatch.setattr(Trainer, "step", dying)


@pytest.mark.parametrize("name", TRAINABLE)
def test_each_augmentation_trains_and_says_whose_settings_it_has(name, tree, train):
    form = form_here(name, "imagenet")
    status, told, errors = train("--data", tree, "--aug", name, "--aug-form", form, "--epochs", 1, "--output", "run")
    assert status == 0, errors
    assert 0.1 < rows_of(Path("run"))[0]["train_loss"] < 50
    assert ("has no published settings" in told) == (name in ("amplitude-mix", "fda", "randconv"))


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_ends_as_the_whole_one(name, few, train, monkeypatch):
    given = ["--data", few, *RUN, "--aug", name, *METHODS[name], "--resume", "auto", "--output"]
    status, _, errors = train(*given, "whole")
    assert status == 0, errors
    expected = torch.load("whole/latest.pt", weights_only=True)
    with monkeypatch.context() as patch:
        killed_at(patch, STEPS + 3)
        with pytest.raises(Killed):
            train(*given, "run")
    torch.manual_seed(99)  # what is drawn at random must continue from the checkpoint
    status, told, errors = train(*given, "run")
    assert status == 0, errors
    assert "continuing at epoch 2, step 2" in told
    found = torch.load("run/latest.pt", weights_only=True)
    theirs = networks_of(expected)
    assert_same(networks_of(found), theirs)
    assert found["position"] == expected["position"]
    assert any("auxiliary" in key for key in theirs["weights"]) == name.startswith("afa")
    assert ("teacher" in theirs) == (name == "amplitude-mix")


@pytest.mark.parametrize("name", ["hybrid-p", "afa", "amplitude-mix"])
def test_two_processes_agree(name, few, tmp_path):
    given = [*SMALL, "--data", few, "--aug", name, *METHODS[name], "--epochs", 1, "--output", "run"]
    done = train_in_two(SCRIPT, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second, kept = (torch.load(tmp_path / path) for path in ("rank0.pt", "rank1.pt", "run/latest.pt"))
    assert any(name.endswith("running_mean") for name in first), "buffers are part of it"
    for key, value in first.items():
        assert torch.equal(second[key], value), key
        assert torch.equal(networks_of(kept)["weights"][key], value), key
