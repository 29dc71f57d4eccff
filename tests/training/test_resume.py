"""What a run is asked for survives a kill bit for bit: the run that continues ends as the uninterrupted one."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from helpers.run_files import ALONE, assert_same
from helpers.trainers import Batches, load, new_trainer, train

from apr_dali.errors import InputError
from apr_dali.recipes import IMAGENET
from apr_dali.runtime.interrupts import Interrupted
from apr_dali.training import losses
from apr_dali.training.engine import Trainer

LENGTH = 5
OPTIONS = {
    "cosine": {"schedule": "cosine", "warmup_epochs": 1.5, "min_lr": 0.001},
    "cyclic": {"schedule": "cyclic"},
    "ema": {"ema": 0.9},
    "nesterov": {"optimizer": "nesterov", "no_decay": "norms-and-biases"},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "no_decay": "norms-and-biases"},
    "lamb": {"optimizer": "lamb", "lr": 0.02, "warmup_epochs": 1, "warmup_lr": 0.001},
    "clip": {"clip_grad": 0.1, "on_nonfinite": "skip"},
    "accumulate": {"accumulate": 2, "schedule": "cosine"},
    "all": {
        **{"optimizer": "lamb", "lr": 0.02, "no_decay": "norms-and-biases", "clip_grad": 0.5},
        **{"schedule": "cosine", "warmup_epochs": 1, "accumulate": 3, "ema": 0.9, "amp": "fp16"},
    },
    "auxiliary": {"aug": "afa"},
    "auxiliary-jsd": {"aug": "afa", "aug_form": "jsd", "ema": 0.9, "accumulate": 2},
    "teacher": {"aug": "amplitude-mix", "accumulate": 2},
    "teacher-fp16": {"aug": "amplitude-mix", "ema": 0.9, "amp": "fp16"},
}


class Killed(Batches):
    """A signal comes with batch `at`, counted over all epochs."""

    def __init__(self, at: int):
        super().__init__(length=LENGTH)
        self.at = at

    def __iter__(self):
        for batch in super().__iter__():
            if LENGTH * self.epoch + self.batch - 1 == self.at:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def with_loss_of(**given) -> Trainer:
    """A trainer with the loss that the options ask for, and the batch norms and the teacher of it."""
    plain = new_trainer(**given)
    objective = losses.objective(plain.options, plain.model, 2, IMAGENET, ALONE.device)
    return new_trainer(objective=objective, **given)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_killed_run_ends_as_the_whole_one(tmp_path, name):
    given = OPTIONS[name]
    whole = with_loss_of(**given)
    found = train(whole, Batches(length=LENGTH), tmp_path, 3)
    for at in (1, 4, 5, 7, 8):
        print(f"killed at {at}")  # which pytest shows of a test that fails
        with pytest.raises(Interrupted):
            train(with_loss_of(**given), Killed(at), tmp_path, 3)
        state, resumed, loader = load(tmp_path / "latest.pt"), with_loss_of(**given), Batches(length=LENGTH)
        torch.manual_seed(99)  # dropout must continue from the checkpoint
        resumed.load(state)
        assert resumed.load_stream(state, loader) is None
        assert train(resumed, loader, tmp_path, 3) == found[state["position"]["epoch"] :]
        for mine, theirs in zip(resumed._networks(), whole._networks(), strict=True):
            assert_same(mine.state_dict(), theirs.state_dict())
    assert any("auxiliary" in key for key in whole.model.state_dict()) == (given.get("aug") == "afa")


def test_batch_norms_that_do_not_fit_are_refused(tmp_path):
    train(with_loss_of(aug="afa"), Batches(), tmp_path, 1)
    with pytest.raises(InputError, match="has auxiliary batch norms: continue with the --aug"):
        new_trainer().load(load(tmp_path / "latest.pt"))
    train(new_trainer(), Batches(), tmp_path, 1)
    with pytest.raises(InputError, match=r"has no auxiliary batch norms.*--weights"):
        with_loss_of(aug="afa").load(load(tmp_path / "latest.pt"))


@pytest.mark.parametrize(("accumulate", "saved"), [(1, 2), (2, 2), (3, 3)])
def test_a_cycle_is_ended_before_a_run_stops(tmp_path, accumulate, saved):
    with pytest.raises(Interrupted):
        train(new_trainer(accumulate=accumulate), Killed(1), tmp_path, 1)
    assert load(tmp_path / "latest.pt")["position"]["step"] == saved


def test_an_optimizer_that_does_not_fit_is_refused(tmp_path):
    train(new_trainer(), Batches(), tmp_path, 1)
    state = load(tmp_path / "latest.pt")
    for given in ({"optimizer": "adamw", "lr": 0.01}, {"no_decay": "norms-and-biases"}):
        with pytest.raises(InputError, match=r"state of SGD over groups of \[6\] .*--optimizer and the --no-decay"):
            new_trainer(**given).load(state)
