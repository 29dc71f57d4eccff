"""The average of the weights: against torch's and timm's, in training, in checkpoints, and which of both is kept."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers.tolerances import STEPS_FLOAT64
from helpers.trainers import Batches, load, new_trainer, train
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from apr_dali.errors import InputError
from apr_dali.eval.clean import CleanResult
from apr_dali.models.weights_file import read_weights
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.training import epochs
from apr_dali.training.ema import Average
from apr_dali.training.epochs import run_epochs
from apr_dali.training.logger import Logger


class Indexed(nn.Module):
    """A weight, batch norm, and a buffer of indices as Swin transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.register_buffer("index", torch.tensor([0, 7, 13]))

    def forward(self, rows):
        return self.norm(self.linear(rows))


def step(model: nn.Module) -> None:
    """A change of weights and buffers."""
    model.train()
    model(torch.randn(4, 3, dtype=torch.float64))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_ten_steps_are_torchs_and_timms():
    from timm.utils import ModelEmaV3

    torch.manual_seed(0)
    model = Indexed().double()
    found = Average(model, 0.9)
    torchs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    timms = ModelEmaV3(model, decay=0.9)
    for number in range(1, 11):
        step(model)
        found.update(model)
        torchs.update_parameters(model)
        timms.update(model, step=number)
    own, ours = model.state_dict(), found.model.state_dict()
    for name, value in ours.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, torchs.module.state_dict()[name], rtol=0, atol=0)
            torch.testing.assert_close(value, timms.module.state_dict()[name], **STEPS_FLOAT64)
            assert not torch.allclose(value, own[name]), name
        else:
            assert torch.equal(value, own[name]), name
    assert ours["index"].tolist() == [0, 7, 13]
    assert int(ours["norm.num_batches_tracked"]) == 10


def test_the_average_of_a_run_is_that_of_its_steps(tmp_path):
    """Steps that are left out do not count, and the average takes no gradient."""
    trainer, reference = new_trainer(ema=0.8, on_nonfinite="skip"), None
    update = trainer._update

    def spying(cycle):
        nonlocal reference
        skipped = trainer.position.skipped
        update(cycle)
        weight = trainer.model[4].weight.detach().clone()
        if trainer.position.skipped == skipped:
            reference = weight if reference is None else 0.8 * reference + 0.2 * weight

    trainer._update = spying

    class Spoilt(Batches):
        def __iter__(self):
            for number, (images, targets) in enumerate(super().__iter__()):
                yield (images * math.nan if number == 1 else images), targets

    train(trainer, Spoilt(length=5), tmp_path, 2)
    torch.testing.assert_close(trainer.average.model[4].weight, reference, rtol=1e-5, atol=1e-7)
    assert trainer.average.state_dict()["steps"] == 8
    assert not any(parameter.requires_grad for parameter in trainer.average.model.parameters())


def test_an_average_of_another_network_is_refused():
    state = Average(nn.Linear(2, 3), 0.9).state_dict()
    with pytest.raises(InputError, match="the average of the checkpoint is of another network"):
        Average(nn.Linear(2, 2), 0.9).load_state_dict(state)


def test_an_average_can_begin_in_a_run_that_continues(tmp_path):
    train(new_trainer(), Batches(), tmp_path, 1)
    resumed = new_trainer(ema=0.9)
    resumed.load(load(tmp_path / "latest.pt"))
    assert resumed.average.state_dict()["steps"] == 0
    resumed.step(*next(iter(Batches())), 2)
    for mine, theirs in zip(resumed.average.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_run_cannot_drop_its_average(tmp_path):
    train(new_trainer(ema=0.9), Batches(), tmp_path, 1)
    with pytest.raises(InputError, match="--ema"):
        new_trainer().load(load(tmp_path / "latest.pt"))


# ---- which of both is kept -------------------------------------------------------------------------------------------

TOP1 = {"raw": [0.5, 0.6, 0.7], "averaged": [0.4, 0.8, 0.7]}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Three epochs whose validations give TOP1; the trainer, its folder, the last result and what was printed."""
    trainer = new_trainer(ema=0.9)

    def evaluate(model, batches, *_):
        assert [len(batch) for batch in batches] == [2, 2, 2]
        averaged = model is trainer.evaluated_average
        assert averaged or model is trainer.evaluated
        return CleanResult(8, 1.0, TOP1["averaged" if averaged else "raw"][trainer.position.epoch], 1.0)

    monkeypatch.setattr(epochs, "evaluate", evaluate)
    monkeypatch.setattr(epochs.plots, "draw_curves", lambda *_: None)
    with Logger(tmp_path, True, 3, trainer.position, "none") as logger, Interrupts(announce=False) as interrupts:
        kept = []
        end_epoch = trainer.end_epoch
        trainer.end_epoch = lambda *given, **named: (
            end_epoch(*given, **named),
            kept.append(load(tmp_path / "best.pt")),
        )
        result = run_epochs(trainer, Batches(), Batches(), tmp_path, logger, interrupts)
    return trainer, tmp_path, result, kept, capsys.readouterr().out


def test_both_are_in_the_metrics_and_the_better_is_the_epochs(run):
    trainer, folder, result, _, told = run
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    shown = [(row["top1"], row["ema_top1"]) for row in rows if row["kind"] == "epoch"]
    assert shown == list(zip(*TOP1.values(), strict=True))
    assert {"ema_val_loss", "ema_top5"} <= rows[-1].keys()
    assert (trainer.position.best, trainer.position.averaged) == (0.8, False), "a tie goes to the weights"
    assert result.top1 == 0.7
    assert "top-1 60.00%  top-5 100.00%" in told
    assert "averaged: top-1 80.00%" in told


def test_best_has_the_better_weights_first_and_both(run):
    _, _, _, kept, _ = run
    assert [state["position"]["averaged"] for state in kept] == [False, True, True]
    for state in kept:
        raw, averaged = state["raw"], state["average"]["model"]
        chosen = averaged if state["position"]["averaged"] else raw
        assert all(torch.equal(value, chosen[name]) for name, value in state["model"].items())
        assert not torch.equal(raw["4.weight"], averaged["4.weight"])


def test_others_who_read_the_file_get_the_better_weights(run):
    _, folder, _, kept, _ = run
    assert [state["position"]["averaged"] for state in (kept[0], kept[1])] == [False, True]
    for state in kept[:2]:
        torch.save(state, folder / "kept.pt")
        found = read_weights(folder / "kept.pt").fitting(state["model"]).state
        assert all(torch.equal(value, state["model"][name]) for name, value in found.items())


def test_training_goes_on_with_the_weights_themselves(run):
    _, _, _, kept, _ = run
    state = kept[1]
    resumed = new_trainer(ema=0.9)
    resumed.load(state)
    assert torch.equal(resumed.model[4].weight, state["raw"]["4.weight"])
    assert torch.equal(resumed.average.model[4].weight, state["average"]["model"]["4.weight"])


def test_weights_are_in_a_file_once(run):
    _, folder, *_ = run
    wide = new_trainer(ema=0.9)
    wide.model[4] = nn.Linear(64, 20000)
    wide = type(wide)(wide.model, wide.options, wide.group, "net")
    wide.position.averaged = True
    wide.save(Batches(), folder)
    weights = 4 * 65 * 20000
    assert 2 * weights < (folder / "latest.pt").stat().st_size < 2.5 * weights
