"""Optimizers, groups of parameters and clipping against torch's and timm's, in ten steps."""

from __future__ import annotations

import sys

import pytest
import torch
from helpers.tolerances import STEPS_FLOAT64, STEPS_FP16
from helpers.trainers import Batches, new_trainer
from torch import nn
from torch.optim import SGD, AdamW

from apr_dali.errors import InputError
from apr_dali.training.engine import Trainer
from apr_dali.training.optimizer import make_optimizer, parameter_groups
from apr_dali.training.options import CifarOptions, TrainingOptions


def network() -> nn.Sequential:
    """The weights of `new_trainer`'s network, without its dropout."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Identity(), nn.Linear(64, 2))


def trained(steps: int = 10, **given) -> Trainer:
    trainer = new_trainer(**given)
    trainer.model[3].p = 0.0
    # The bias in front of batch norm has no gradient but rounding, which Adam and LAMB make a step of: without it.
    trainer.model[0].bias.requires_grad_(False)
    trainer.model.double().train()
    for images, targets in Batches(length=steps):
        trainer.step(images.double(), targets, 2)
    return trainer


def by_hand(optimizer_of, clip: float | None = None, steps: int = 10) -> nn.Module:
    """The network after as many steps of a loop without any of our code."""
    model = network().double()
    model[0].bias.requires_grad_(False)
    optimizer = optimizer_of(model)
    for images, targets in Batches(length=steps):
        optimizer.zero_grad()
        (2 * nn.functional.cross_entropy(model(images.double()), targets)).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return model


def assert_equal_weights(trainer: Trainer, expected: nn.Module) -> None:
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], value, **STEPS_FLOAT64)


# ---- ten steps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov):
    found = trained(optimizer="nesterov" if nesterov else "sgd", weight_decay=0.01)
    assert_equal_weights(
        found, by_hand(lambda model: SGD(model.parameters(), 0.1, 0.9, weight_decay=0.01, nesterov=nesterov))
    )


def test_adamw_is_torchs_and_timms():
    from timm.optim import create_optimizer_v2

    found = trained(optimizer="adamw", lr=0.01, weight_decay=0.05)
    assert_equal_weights(found, by_hand(lambda model: AdamW(model.parameters(), 0.01, weight_decay=0.05)))
    timms = by_hand(
        lambda model: create_optimizer_v2(model, "adamw", lr=0.01, weight_decay=0.05, filter_bias_and_bn=False)
    )
    assert_equal_weights(found, timms)


@pytest.mark.parametrize("no_decay", ["none", "norms-and-biases"])
def test_lamb_is_timms(no_decay):
    from timm.optim import create_optimizer_v2

    found = trained(optimizer="lamb", lr=0.05, weight_decay=0.1, no_decay=no_decay)
    filtered = no_decay != "none"
    assert_equal_weights(
        found,
        by_hand(
            lambda model: create_optimizer_v2(model, "lamb", lr=0.05, weight_decay=0.1, filter_bias_and_bn=filtered)
        ),
    )


def test_a_given_limit_takes_the_place_of_lambs_own():
    from timm.optim import Lamb

    found = trained(optimizer="lamb", lr=0.05, clip_grad=0.3)
    expected = by_hand(lambda model: Lamb(model.parameters(), 0.05, weight_decay=1e-4, max_grad_norm=None), clip=0.3)
    assert_equal_weights(found, expected)
    assert [group["max_grad_norm"] for group in found.optimizer.param_groups] == [None]
    assert make_optimizer(nn.Linear(2, 2), TrainingOptions(optimizer="lamb", lr=0.05)).defaults["max_grad_norm"] == 1.0


def test_lamb_without_timm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    with pytest.raises(InputError, match=r"--optimizer lamb is timm's, which is not installed: pip install .*\[eval\]"):
        make_optimizer(nn.Linear(2, 2), TrainingOptions(optimizer="lamb", lr=0.05))


# ---- clipping --------------------------------------------------------------------------------------------------------


def test_clipping_is_torchs():
    found = trained(clip_grad=0.05)
    expected = by_hand(lambda model: SGD(model.parameters(), 0.1, 0.9, weight_decay=1e-4), clip=0.05)
    assert_equal_weights(found, expected)
    unclipped = trained()
    assert not torch.allclose(found.model[4].weight, unclipped.model[4].weight, rtol=1e-3)


def test_clipping_sees_gradients_without_the_scale_of_fp16():
    """Its scale is a power of two: with the gradient unscaled before it is measured, the weights are the same."""
    made = []
    for scale in (1.0, 2.0**12):
        trainer = new_trainer(amp="fp16", clip_grad=0.05)
        trainer.model[3].p = 0.0
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.model.train()
        for images, targets in Batches(length=5):
            trainer.step(images, targets, 2)
        made.append(trainer)
    for mine, other in zip(*(each.model.parameters() for each in made), strict=True):
        torch.testing.assert_close(mine, other, **STEPS_FP16)
    norms = [float(nn.utils.get_total_norm([p.grad for p in each.model.parameters()])) for each in made]
    assert norms == pytest.approx([0.05, 0.05], rel=1e-4)


# ---- what is not decayed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "timm/test_vit", "timm/test_convnext"])
def test_groups_are_timms(name):
    from timm.optim import create_optimizer_v2

    from apr_dali.models import create_model

    model = create_model(name, 10)
    found = parameter_groups(model, TrainingOptions(no_decay="norms-and-biases", weight_decay=0.02))
    expected = create_optimizer_v2(model, "sgd", lr=0.1, weight_decay=0.02).param_groups
    assert [[id(p) for p in group["params"]] for group in found] == [
        [id(p) for p in group["params"]] for group in expected
    ]
    optimizer = make_optimizer(model, TrainingOptions(no_decay="norms-and-biases", weight_decay=0.02))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.02]
    assert [group["weight_decay"] for group in expected] == [0.0, 0.02]


def test_every_parameter_is_decayed_as_published():
    model = network()
    (group,) = parameter_groups(model, TrainingOptions())
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_what_is_not_decayed_does_not_shrink():
    trainer = new_trainer(no_decay="norms-and-biases", weight_decay=0.5, momentum=0.0)
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
        parameter.data.fill_(1.0)
    trainer.optimizer.step()
    shrunk = {name for name, p in trainer.model.named_parameters() if torch.allclose(p, torch.full_like(p, 0.95))}
    kept = {name for name, p in trainer.model.named_parameters() if torch.all(p == 1.0)}
    assert shrunk == {"0.weight", "4.weight"}
    assert kept == {"0.bias", "1.weight", "1.bias", "4.bias"}


# ---- auto ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "nesterov"), [({}, True), ({"adversarial": "fgsm"}, False), ({"optimizer": "sgd"}, False)]
)
def test_auto_is_the_published_optimizer(given, nesterov):
    (group,) = make_optimizer(nn.Linear(2, 2), CifarOptions(**given)).param_groups
    assert group["nesterov"] is nesterov
    (group,) = make_optimizer(nn.Linear(2, 2), TrainingOptions()).param_groups
    assert group["nesterov"] is False
