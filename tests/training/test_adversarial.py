"""Attacks on networks in training, their loss, and the watch for catastrophic overfitting."""

from __future__ import annotations

import pytest
import torch
from helpers.run_files import ALONE
from torch import nn
from torch.nn import functional as F

from apr_dali.recipes import CIFAR_ADVERSARIAL
from apr_dali.runtime.checkpoint import Position
from apr_dali.training import adversarial, losses
from apr_dali.training.adversarial import Ball, CatastrophicOverfitting, fast_attack, pgd_accuracy
from apr_dali.training.engine import Trainer
from apr_dali.training.logger import Logger
from apr_dali.training.options import CifarOptions

MEAN, STD = (torch.tensor(value).view(1, 3, 1, 1) for value in (CIFAR_ADVERSARIAL.mean, CIFAR_ADVERSARIAL.std))
BALL = Ball(8.0, CIFAR_ADVERSARIAL.mean, CIFAR_ADVERSARIAL.std)


def in_0_to_1(images: torch.Tensor) -> torch.Tensor:
    return images * STD + MEAN


@pytest.fixture
def attacked():
    """A network, normalized images with many values at the ends of the range, and their classes."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    images = torch.rand(16, 3, 8, 8).mul(1.4).sub(0.2).clamp(0, 1)
    return network, (images - MEAN) / STD, torch.arange(16) % 4


@pytest.mark.parametrize("epsilon", [0.0, 8.0])
def test_fgsm_stays_in_the_ball_and_the_range(attacked, epsilon):
    network, images, targets = attacked
    ball = Ball(epsilon, CIFAR_ADVERSARIAL.mean, CIFAR_ADVERSARIAL.std)
    found = in_0_to_1(fast_attack(network, images, targets, ball, 10.0 if epsilon else 0.0, "fgsm"))
    apart = (found - in_0_to_1(images)).abs()
    assert apart.max() <= epsilon / 255 + 1e-6
    assert found.min() >= -1e-6
    assert found.max() <= 1 + 1e-6
    if epsilon:
        assert (apart > (epsilon - 0.01) / 255).float().mean() > 0.4, "most values go to the border of the ball"


def test_attacks_take_one_step_along_the_gradients_sign(attacked, monkeypatch):
    network, images, targets = attacked
    # No noise: the start is the image itself.
    monkeypatch.setattr(torch, "rand_like", lambda images: torch.full_like(images, 0.5))
    inner = (images * 0.5).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(inner), targets), inner)
    for kind, alpha, step in (("fgsm", 10.0, 8.0), ("fgsm", 5.0, 5.0), ("n-fgsm", 10.0, 10.0)):
        found = fast_attack(network, inner.detach(), targets, BALL, alpha, kind)
        expected = inner.detach() + step / 255 / STD * gradient.sign()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert not found.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_noise_of_the_start(attacked):
    network, images, targets = attacked
    middle = (torch.full_like(images, 0.5) - MEAN) / STD
    fgsm, noisy = (in_0_to_1(fast_attack(network, middle, targets, BALL, 0.0, kind)) for kind in ("fgsm", "n-fgsm"))
    for found, radius in ((fgsm, 8 / 255), (noisy, 16 / 255)):
        assert 0.95 * radius < (found - 0.5).abs().max() <= radius + 1e-6
        assert abs((found - 0.5).mean()) < 0.1 * radius


def test_what_apr_p_made_is_brought_into_the_range(attacked):
    network, images, targets = attacked
    found = in_0_to_1(fast_attack(network, 3 * images, targets, BALL, 10.0, "fgsm"))
    assert found.min() >= -1e-6
    assert found.max() <= 1 + 1e-6


def test_adversarial_loss_is_one_mean_over_both_views(attacked, monkeypatch):
    network, images, targets = attacked
    monkeypatch.setattr(losses, "fast_attack", lambda *_: images)
    loss = losses.adversarial_loss(network, BALL, 10.0, "fgsm", 0.0, network, images, targets, 2, 2)
    assert float(loss.detach()) == pytest.approx(float(F.cross_entropy(network(images), targets).detach()))


def test_pgd_finds_what_a_linear_network_gives(attacked):
    network, images, targets = attacked
    weight = network[1].weight
    assert pgd_accuracy(network, images, targets, Ball(0.0, CIFAR_ADVERSARIAL.mean, CIFAR_ADVERSARIAL.std)) == float(
        (network(images).argmax(1) == targets).float().mean()
    )
    with torch.no_grad():
        weight.mul_(30)
    strong = Ball(64.0, CIFAR_ADVERSARIAL.mean, CIFAR_ADVERSARIAL.std)
    clean = float((network(images).argmax(1) == targets).float().mean())
    assert pgd_accuracy(network, images, targets, strong) <= clean
    network.train()
    pgd_accuracy(network, images, targets, BALL)
    assert network.training


# ---- catastrophic overfitting ----------------------------------------------------------------------------------------


def watched(tmp_path, accuracies, monkeypatch, stop):
    options = CifarOptions(adversarial="fgsm", epochs=9)
    trainer = Trainer(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), options, ALONE, "net")
    coming = iter(accuracies)
    monkeypatch.setattr("apr_dali.training.adversarial.pgd_accuracy", lambda *_: next(coming))
    logger = Logger(tmp_path, True, 9, Position())
    watch = CatastrophicOverfitting(
        trainer, torch.zeros(1, 3, 2, 2), torch.zeros(1, dtype=torch.long), BALL, tmp_path, logger, stop
    )
    return trainer, logger, watch


@pytest.mark.parametrize("stop", [False, True])
def test_a_collapse_is_told_and_stopped(tmp_path, monkeypatch, capsys, stop):
    trainer, logger, watch = watched(tmp_path, [0.4, 0.45, 0.26, 0.05], monkeypatch, stop)
    values = {"train_loss": 1.0, "val_loss": 1.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
    for epoch in range(4):
        trainer.position.epoch = epoch
        with torch.no_grad():
            trainer.model[1].weight.fill_(epoch)
        row = dict(values)
        assert watch(row, trainer.model) == row["pgd_top1"] == [0.4, 0.45, 0.26, 0.05][epoch]
        logger.epoch(epoch, row)
    message = capsys.readouterr().out
    assert message.count("warning: catastrophic overfitting") == 1
    assert "in epoch 4: the accuracy under PGD fell from 26.0% to 5.0%" in message
    assert watch.stopped is stop
    # The epoch that collapsed is the fourth; the weights of the third are the last good ones.
    assert trainer.model[1].weight.unique().tolist() == [2.0 if stop else 3.0]
    assert trainer.position.epoch == (8 if stop else 3)


def test_the_look_leaves_the_generator_alone(tmp_path, monkeypatch):
    _, _, watch = watched(tmp_path, [], monkeypatch, False)
    monkeypatch.setattr("apr_dali.training.adversarial.pgd_accuracy", lambda *_: float(torch.rand(())))
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = watch({}, nn.Identity())
    assert torch.equal(torch.rand(2), expected)
    assert watch({}, nn.Identity()) == first


def test_the_attacks_constants():
    assert (adversarial._PGD_STEPS, adversarial._PGD_ALPHA, adversarial.DROP, adversarial._NOISE) == (5, 2.0, 0.2, 2.0)
