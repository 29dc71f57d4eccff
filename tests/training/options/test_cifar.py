"""The options of train_cifar.py: the published recipes, and what is refused by name."""

from __future__ import annotations

from dataclasses import fields

import pytest
from torch import nn

from apr_dali.errors import InputError
from apr_dali.recipes import CIFAR
from apr_dali.training.command_line import build_parser, parse
from apr_dali.training.optimizer import make_optimizer
from apr_dali.training.options import CIFAR_RECIPES, CifarOptions
from apr_dali.training.schedule import learning_rate


def options(given: str) -> CifarOptions:
    return parse(CifarOptions, "", given.split(), CIFAR_RECIPES)


def test_defaults_are_the_published_recipe():
    found = options("")
    names = ("model", "epochs", "batch_size", "lr", "lr_steps", "lr_factor", "momentum", "weight_decay")
    assert [getattr(found, name) for name in names] == ["wrn-40-2", 200, 128, 0.1, (60, 120, 160, 190), 0.2, 0.9, 5e-4]
    assert (found.pair_probability, found.chosen_optimizer) == (CIFAR.pair_probability, "nesterov")
    assert found.dataset == "digits"
    optimizer = make_optimizer(nn.Linear(1, 1), found)
    assert optimizer.defaults["nesterov"] is True
    rates = [learning_rate(found, epoch, 0, 10) for epoch in (0, 59, 60, 120, 160, 190)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.004, 0.0008, 0.00016])


@pytest.mark.parametrize(
    ("recipe", "aug", "lr", "epochs", "pair", "single"),
    [
        ("fgsm", "none", 0.2, 30, 0.6, 1.0),
        ("fgsm-apr-p", "apr-p", 0.22, 55, 0.16, 1.0),
        ("fgsm-apr-s", "apr-s", 0.23, 65, 0.6, 1.0),
        ("fgsm-apr-sp", "apr-sp", 0.2, 90, 0.16, 0.9),
    ],
)
def test_adversarial_recipes_are_the_published_ones(recipe, aug, lr, epochs, pair, single):
    found = options(f"--recipe {recipe}")
    assert (found.aug, found.lr, found.epochs, found.pair_probability) == (aug, lr, epochs, pair)
    assert (found.single_probability, found.adversarial, found.model) == (single, "fgsm", "preactresnet18")
    assert (found.epsilon, found.step_of_attack) == (8.0, 10.0)
    assert (found.chosen_optimizer, found.chosen_schedule) == ("sgd", "cyclic")
    assert options(f"--recipe {recipe} --lr 0.5").lr == 0.5


def test_cyclic_learning_rate():
    found = options("--adversarial fgsm --epochs 4 --lr 0.2")
    rates = [learning_rate(found, epoch, step, 2) for epoch in range(4) for step in range(2)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2, 0.15, 0.1, 0.05])


def test_help_names_every_option():
    text = build_parser(CifarOptions, "").format_help()
    for item in fields(CifarOptions):
        assert f"--{item.name.replace('_', '-')}" in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--phase-weight 1.2 --aug apr-p", "--phase-weight must be at most 1, got 1.2"),
        ("--phase-weight -0.1 --aug apr-p", "--phase-weight must be at least 0"),
        ("--phase-weight 0.5 --aug apr-s", "--phase-weight changes nothing here: it needs --aug apr-p or apr-sp"),
        ("--phase-weight 0.5 --aug apr-p --adversarial fgsm", "does not go with --phase-weight"),
        ("--adversarial fgsm --epsilon -1", "--epsilon must be at least 0, got -1"),
        ("--adversarial pgd", "'pgd'"),
        ("--epsilon 4", "--epsilon changes nothing here: it needs --adversarial"),
        ("--on-overfitting stop", "--on-overfitting changes nothing here"),
        ("--adversarial fgsm --aug cutmix", "--adversarial goes with --aug none, apr-p, apr-s, apr-sp, got cutmix"),
        ("--adversarial fgsm --amp fp16", "use --amp bf16"),
        ("--adversarial fgsm --lr-steps 3", "--lr-steps changes nothing here"),
        ("--aug cutout --overflow clamp", "--overflow changes nothing with --aug cutout"),
        ("--aug mixup --axes hw", "--axes changes nothing with --aug mixup"),
        ("--single-probability 0.5", "--single-probability changes nothing here"),
        ("--download", "--download changes nothing here"),
        ("--data there", "--data changes nothing here: it needs another --dataset"),
        ("--dataset cifar10 --image-size 64", "--image-size changes nothing here"),
        ("--dataset mnist", "'mnist'"),
        ("--recipe fast", "'fast'"),
        ("--aug apr", "'apr'"),
    ],
)
def test_senseless_options_are_refused(given, message):
    with pytest.raises(InputError) as error:
        options(given)
    assert message in str(error.value)
