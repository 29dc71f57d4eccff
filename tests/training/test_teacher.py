"""FACT's objective and its teacher: against their formulas, in float64, and what a checkpoint has of them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from helpers.run_files import ALONE
from helpers.trainers import Batches, load, train
from torch import nn
from torch.nn import functional as F

from apr_dali.errors import InputError
from apr_dali.recipes import CIFAR
from apr_dali.training import losses
from apr_dali.training.engine import Trainer
from apr_dali.training.options import CifarOptions
from apr_dali.training.teacher import TaughtLoss, Teacher, consistency, rising

WEIGHTS = {"consistency": 2.0, "temperature": 10.0, "warmup_epochs": 5.0, "teacher_momentum": 0.9995}


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2)]
    return nn.Sequential(*layers)


def taught(**given) -> Trainer:
    options = CifarOptions(**{"aug": "amplitude-mix", "epochs": 3, "lr": 0.1} | given)
    model = network()
    return Trainer(model, options, ALONE, "net", losses.objective(options, model, 2, CIFAR, torch.device("cpu")))


def test_consistency_by_hand():
    own, theirs = torch.randn(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = 0.0
    for mine, other in ((1, 0), (0, 1)):  # the changed view to the teacher's of the clean one, and the other way
        p = [math.exp(v / 10) / sum(math.exp(w / 10) for w in own[mine].tolist()) for v in own[mine].tolist()]
        t = [math.exp(v / 10) / sum(math.exp(w / 10) for w in theirs[other].tolist()) for v in theirs[other].tolist()]
        expected += sum(b * math.log(b / a) for a, b in zip(p, t, strict=True))
    assert float(consistency(own, theirs, 10.0)) == pytest.approx(expected, rel=1e-9)
    # Two images: the mean of both.
    twice = [torch.cat([rows, torch.zeros(2, 3, dtype=torch.float64)]) for rows in (own, theirs)]
    assert float(consistency(*twice, 10.0)) == pytest.approx(expected / 2, rel=1e-9)


def test_the_weight_rises_over_whole_epochs():
    assert [rising(epoch, 5.0) for epoch in range(7)] == pytest.approx(
        [math.exp(-5), math.exp(-3.2), math.exp(-1.8), math.exp(-0.8), math.exp(-0.2), 1.0, 1.0]
    )
    assert rising(0, 0.0) == 1.0


def test_the_teacher_follows_by_the_released_momentum():
    model = network().double()
    teacher = Teacher(model, 0.6)
    expected = [parameter.detach().clone() for parameter in model.parameters()]
    statistics = teacher.model[1].running_mean.clone()
    for momentum in (1 / 2, 0.6, 0.6):  # the first is 1 - 1 / 2, the second 1 - 1 / 3 above 0.6
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        model[1].running_mean.add_(1.0)
        teacher.update(model)
        expected = [
            momentum * old + (1 - momentum) * new for old, new in zip(expected, model.parameters(), strict=True)
        ]
        torch.testing.assert_close(list(teacher.model.parameters()), expected)
    assert torch.equal(teacher.model[1].running_mean, statistics), "its statistics are those of what it sees"
    teacher(torch.randn(4, 3, 4, 4, dtype=torch.float64) + 1)
    assert not torch.equal(teacher.model[1].running_mean, statistics)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert teacher.model.training


@pytest.mark.parametrize("epoch", [0, 3, 9])
def test_the_loss_of_a_step(epoch):
    model = network()[:3].append(nn.Linear(64, 2)).double()
    other = network(5)[:3].append(nn.Linear(64, 2)).double()
    loss = TaughtLoss(WEIGHTS, 0.1)
    teacher = loss.begin(model, lambda: epoch)
    teacher.model.load_state_dict(other.state_dict())
    images, targets = torch.randn(8, 3, 4, 4, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    logits, theirs = copy.deepcopy(model)(images).float(), other.train()(images).float()
    clean, changed = logits[::2], logits[1::2]
    divergences = [
        F.kl_div((mine / 10).softmax(1).log(), (held / 10).softmax(1), reduction="batchmean")
        for mine, held in ((changed, theirs[::2]), (clean, theirs[1::2]))
    ]
    halves = sum(0.5 * F.cross_entropy(rows, targets[::2], label_smoothing=0.1) for rows in (clean, changed))
    weight = 2 * math.exp(-5 * (1 - min(epoch, 5) / 5) ** 2)
    found = loss(model, images, targets, 2, 2)
    torch.testing.assert_close(found, halves + weight * sum(divergences), rtol=1e-5, atol=1e-7)
    found.backward()
    assert model[0].weight.grad is not None


def test_a_run_moves_the_teacher_and_keeps_it(tmp_path):
    trainer = taught(on_nonfinite="skip")

    class Spoilt(Batches):
        def __iter__(self):
            for number, (images, targets) in enumerate(super().__iter__()):
                yield (images * math.nan if number == 1 else images), targets

    train(trainer, Spoilt(length=5), tmp_path, 2)
    state = load(tmp_path / "latest.pt")
    assert state["teacher"]["steps"] == 8, "steps that are left out do not count"
    assert all(value.isfinite().all() for value in state["teacher"]["model"].values())
    assert not torch.equal(state["teacher"]["model"]["4.weight"], state["model"]["4.weight"])
    other = taught()
    other.load(state)
    for name, value in trainer.teacher.model.state_dict().items():
        assert torch.equal(other.teacher.model.state_dict()[name], value), name


def test_a_teacher_that_a_checkpoint_lacks_begins_with_its_weights_and_another_is_refused(tmp_path):
    train(taught(aug_form="both"), Batches(), tmp_path, 1)
    state = load(tmp_path / "latest.pt")
    trainer = taught()
    trainer.load(state)
    for name, value in state["model"].items():
        assert torch.equal(trainer.teacher.model.state_dict()[name], value), name
    train(taught(), Batches(), tmp_path, 1)
    with pytest.raises(InputError, match="has the weights of a teacher: continue with the --aug"):
        taught(aug_form="both").load(load(tmp_path / "latest.pt"))
    state = {"steps": 1, "model": nn.Linear(2, 2).state_dict()}
    with pytest.raises(InputError, match="the teacher of the checkpoint is of another network"):
        Teacher(network(), 0.9).load_state_dict(state)
