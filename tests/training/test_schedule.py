"""The learning rate, value by value against torch's schedulers and timm's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.tolerances import SCHEDULE
from torch.optim import SGD, lr_scheduler

from apr_dali.training.options import CifarOptions, ImageNetOptions
from apr_dali.training.schedule import learning_rate

EPOCHS, STEPS = 6, 5


def rates(length: int = STEPS, **given) -> list[float]:
    """Of every batch of a run of EPOCHS epochs."""
    options = ImageNetOptions(data="x", **{"lr": 0.4, "epochs": EPOCHS} | given)
    return [learning_rate(options, epoch, step, length) for epoch in range(EPOCHS) for step in range(length)]


def torchs(make, lr: float = 0.4, steps: int = EPOCHS * STEPS) -> list[float]:
    """The rates of the scheduler that `make` gives for an optimizer, stepped after each update."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_is_torchs():
    expected = torchs(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * STEPS, eta_min=0.01))
    assert rates(schedule="cosine", min_lr=0.01) == pytest.approx(expected, rel=SCHEDULE)


@pytest.mark.parametrize("start", [None, 0.004])
def test_cosine_after_a_warm_up_is_torchs(start):
    warming = 2 * STEPS

    def make(optimizer):
        # Without --warmup-lr the first of W updates has 1 / W of the peak, the last of them the peak.
        factor, length = (1 / warming, warming - 1) if start is None else (start / 0.4, warming)
        rising = lr_scheduler.LinearLR(optimizer, factor, total_iters=length)
        falling = lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * STEPS - warming, eta_min=0.01)
        return lr_scheduler.SequentialLR(optimizer, [rising, falling], [warming])

    found = rates(schedule="cosine", min_lr=0.01, warmup_epochs=2, warmup_lr=start)
    assert found == pytest.approx(torchs(make), rel=SCHEDULE)


def test_a_line_is_torchs():
    """With a warm-up from a ten-thousandth of the peak it is the schedule that ffcv calls cyclic."""
    warming, total = 2 * STEPS, EPOCHS * STEPS

    def make(optimizer):
        rising = lr_scheduler.LinearLR(optimizer, 1e-4, total_iters=warming)
        falling = lr_scheduler.LinearLR(optimizer, 1.0, end_factor=0.0, total_iters=total - warming)
        return lr_scheduler.SequentialLR(optimizer, [rising, falling], [warming])

    found = rates(schedule="linear", warmup_epochs=2, warmup_lr=0.4e-4)
    assert found == pytest.approx(torchs(make), rel=SCHEDULE, abs=SCHEDULE)
    ffcvs = np.interp(np.arange(total) / STEPS, [0, 2, EPOCHS], [0.4e-4, 0.4, 0.0])
    assert found == pytest.approx(ffcvs.tolist(), rel=SCHEDULE, abs=SCHEDULE)


@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_cosine_is_timms_by_step(warmup_epochs):
    from timm.scheduler import CosineLRScheduler

    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    warming = warmup_epochs * STEPS
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=EPOCHS * STEPS - warming,
        lr_min=0.01,
        warmup_t=warming,
        warmup_lr_init=0.004,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    expected = []
    for update in range(EPOCHS * STEPS):
        scheduler.step_update(update)
        expected.append(optimizer.param_groups[0]["lr"])
    start = {"warmup_lr": 0.004} if warmup_epochs else {}
    found = rates(schedule="cosine", min_lr=0.01, warmup_epochs=warmup_epochs, **start)
    assert found == pytest.approx(expected, rel=SCHEDULE)


def test_cosine_begins_at_the_peak_and_ends_near_the_floor():
    found = rates(schedule="cosine", min_lr=0.01, warmup_epochs=0.5)
    assert (max(found), found[2]) == pytest.approx((0.4, 0.4), rel=0.05)
    assert found[3:] == sorted(found[3:], reverse=True)
    assert 0.01 < found[-1] < 0.012


def test_steps_are_torchs():
    expected = torchs(lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [10, 20], gamma=0.3))
    assert rates(lr_steps=(2, 4), lr_factor=0.3) == pytest.approx(expected, rel=SCHEDULE)


def test_the_cycle_is_torchs():
    half = EPOCHS * STEPS // 2
    expected = torchs(lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.0, 0.4, half, cycle_momentum=False))
    assert rates(schedule="cyclic") == pytest.approx(expected, rel=SCHEDULE, abs=SCHEDULE)


def test_a_warm_up_of_steps_begins_where_it_is_told_to():
    found = rates(warmup_epochs=1, warmup_lr=0.1)
    assert found[:6] == pytest.approx([0.1 + 0.3 * n / STEPS for n in range(STEPS)] + [0.4])


@pytest.mark.parametrize("schedule", ["step", "cosine", "cyclic"])
def test_the_batches_of_an_update_have_its_rate(schedule):
    """Eight batches, three to an update: the rates are those of an epoch of three batches, two and two."""
    given = {"schedule": schedule} | ({"lr_steps": (2,)} if schedule == "step" else {})
    by_update = rates(3, **given)
    expected = [by_update[3 * epoch + n] for epoch in range(EPOCHS) for n in (0, 0, 0, 1, 1, 1, 2, 2)]
    assert rates(8, accumulate=3, **given) == expected


def test_a_scaled_rate_counts_all_images_of_an_update():
    options = {"scale_lr": True, "batch_size": 128, "lr_steps": (9,)}
    assert rates(accumulate=4, **options)[0] == pytest.approx(0.8)
    assert rates(**options)[0] == pytest.approx(0.2)


def test_adversarial_training_keeps_its_cycle_unless_told_otherwise():
    cyclic = CifarOptions(adversarial="fgsm", epochs=4)
    assert cyclic.chosen_schedule == "cyclic"
    assert learning_rate(cyclic, 0, 0, 2) == 0.0
    cosine = CifarOptions(adversarial="fgsm", epochs=4, schedule="cosine")
    assert learning_rate(cosine, 1, 0, 2) == pytest.approx(0.05 * (1 + math.cos(math.pi / 4)))
