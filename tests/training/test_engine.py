"""The parts of the training loop: loss, schedule, accuracy, the trainer."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from helpers.forked import in_two
from helpers.run_files import ALONE
from helpers.trainers import Batches, assert_same_weights, load, new_trainer, train
from torch import nn

from apr_dali.errors import InputError
from apr_dali.eval.clean import correct_within, evaluate
from apr_dali.runtime.checkpoint import Position
from apr_dali.runtime.interrupts import Interrupted, Interrupts
from apr_dali.training.engine import Trainer, view_loss
from apr_dali.training.logger import Logger
from apr_dali.training.optimizer import make_optimizer
from apr_dali.training.options import CifarOptions, ImageNetOptions, TrainingOptions
from apr_dali.training.schedule import learning_rate

# ---- the loss --------------------------------------------------------------------------------------------------------


def test_loss_is_the_sum_of_the_views_means():
    # Two images with two views each, adjacent; two classes. -log softmax by hand: log(1 + e^(other - own)).
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    targets = torch.tensor([0, 0, 1, 1])
    clean = (math.log(1 + math.exp(-1)) + math.log(2)) / 2
    mixed = (math.log(1 + math.exp(2)) + math.log(1 + math.exp(3))) / 2
    assert float(view_loss(logits, targets, views=2)) == pytest.approx(clean + mixed, rel=1e-6)
    assert float(view_loss(logits[::2], targets[::2], views=1)) == pytest.approx(clean, rel=1e-6)


def test_loss_with_label_smoothing():
    # Half of 0.2 goes to each of two classes: 0.9 of the target's loss and 0.1 of the other's.
    loss = view_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), views=1, label_smoothing=0.2)
    own, other = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert float(loss) == pytest.approx(0.9 * own + 0.1 * other, rel=1e-6)


# ---- the learning rate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.1), (29, 0.1), (30, 0.01), (59, 0.01), (60, 1e-3), (89, 1e-3), (90, 1e-4), (99, 1e-4)]
)
def test_published_schedule(epoch, rate):
    options = ImageNetOptions(data="x")
    for step in (0, 4):
        assert learning_rate(options, epoch, step, 5) == pytest.approx(rate, rel=1e-12)


def test_warm_up_rises_in_equal_parts_and_ends_at_the_peak():
    options = ImageNetOptions(data="x", warmup_epochs=2)
    rates = [learning_rate(options, epoch, step, 4) for epoch in range(3) for step in range(4)]
    assert rates == pytest.approx([0.1 * n / 8 for n in range(1, 9)] + [0.1] * 4)


def test_scaled_learning_rate():
    assert learning_rate(ImageNetOptions(data="x", scale_lr=True, batch_size=1024), 0, 0, 5) == pytest.approx(0.4)
    assert learning_rate(ImageNetOptions(data="x", batch_size=1024), 0, 0, 5) == pytest.approx(0.1)


# ---- accuracy --------------------------------------------------------------------------------------------------------


def test_ties_go_to_the_lower_class():
    logits = torch.tensor([[1.0, 1.0, 0.0]] * 3)
    assert correct_within(logits, torch.tensor([0, 1, 2]), 1).tolist() == [True, False, False]
    assert correct_within(logits, torch.tensor([0, 1, 2]), 2).tolist() == [True, True, False]


def test_a_diverged_network_is_wrong():
    logits = torch.tensor([[math.nan, math.nan], [1.0, math.nan], [1.0, 0.0]])
    assert correct_within(logits, torch.zeros(3, dtype=torch.long), 2).tolist() == [False, False, True]


class _Given(nn.Module):
    """Gives its input's first column of pixels as logits: what evaluate sums is then known."""

    def forward(self, images):
        assert not self.training
        return images[:, 0, :, 0]


def test_evaluate_by_hand_with_a_partial_batch():
    # The target's rank in the seven rows: 0, 0, 1, 4, 5, 6, 0.
    targets = torch.tensor([6, 5, 5, 2, 1, 0, 6])
    rows = torch.arange(7.0).repeat(7, 1)
    rows[1, 5] = 9.0
    images = rows[:, None, :, None]
    batches = [(images[:4], targets[:4]), (images[4:], targets[4:])]
    model = _Given().train()
    result = evaluate(model, batches, "cpu")
    assert model.training
    assert (result.images, result.top1, result.top5) == (7, 3 / 7, 5 / 7)
    soft = torch.log_softmax(rows.double(), 1)
    assert result.loss == pytest.approx(-float(soft[torch.arange(7), targets].mean()), rel=1e-6)


def test_top5_of_three_classes_is_always_right_and_of_nothing_is_nan():
    images = torch.rand(4, 1, 3, 1)
    assert evaluate(_Given(), [(images, torch.tensor([0, 1, 2, 0]))], "cpu").top5 == 1.0
    assert math.isnan(evaluate(_Given(), [], "cpu").top1)


# ---- the trainer on a loader made by hand ----------------------------------------------------------------------------


def test_a_step_is_that_of_sgd_on_the_published_loss():
    trainer = new_trainer(weight_decay=0.01)
    trainer.model.eval()  # no dropout, no batch statistics: the step is then known
    weight = trainer.model[4].weight.detach().clone()
    images, targets = next(iter(Batches()))
    logits = trainer.model(images)
    views = [nn.functional.cross_entropy(logits[view::2], targets[view::2]) for view in (0, 1)]
    (gradient,) = torch.autograd.grad(views[0] + views[1], trainer.model[4].weight)
    loss = trainer.step(images, targets, views=2)
    assert float(loss) == pytest.approx(float((views[0] + views[1]).detach()), rel=1e-6)
    expected = weight - 0.1 * (gradient + 0.01 * weight)
    torch.testing.assert_close(trainer.model[4].weight.detach(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_interrupted_training_ends_as_uninterrupted(tmp_path, amp):
    whole = new_trainer(amp=amp)
    losses = train(whole, Batches(), tmp_path, 3)

    class Interrupting(Batches):
        def __iter__(self):
            for number, batch in enumerate(super().__iter__()):
                if self.epoch == 1 and number == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    stopped = new_trainer(amp=amp)
    with pytest.raises(Interrupted):
        train(stopped, Interrupting(), tmp_path, 3)
    state = load(tmp_path / "latest.pt")
    position = {"epoch": 1, "step": 2, "trained": False, "loss": 0.0, "best": 0.5, "stream": 0}
    assert position.items() <= state["position"].items()

    resumed, loader = new_trainer(amp=amp), Batches()
    torch.manual_seed(99)  # dropout must continue from the checkpoint
    resumed.load(state)
    assert resumed.load_stream(state, loader) is None
    assert train(resumed, loader, tmp_path, 3) == losses[1:]
    assert_same_weights(resumed, whole)


def test_stopped_in_validation_goes_on_with_it(tmp_path):
    whole = new_trainer()
    losses = train(whole, Batches(), tmp_path, 3)
    stopped, loader = new_trainer(), Batches()
    with Logger(tmp_path, False, 3, stopped.position) as logger, Interrupts(announce=False) as interrupts:
        loss = stopped.train_epoch(loader, tmp_path, logger, interrupts)
    resumed, loader = new_trainer(), Batches()
    state = load(tmp_path / "latest.pt")
    resumed.load(state)
    assert resumed.load_stream(state, loader) is None
    assert (loss, resumed.position.trained) == (losses[0], True)
    assert train(resumed, loader, tmp_path, 3) == losses
    assert_same_weights(resumed, whole)


def test_the_optimiser_follows_the_options_of_the_run_that_continues(tmp_path):
    first = new_trainer(momentum=0.9, weight_decay=1e-4)
    train(first, Batches(), tmp_path, 1)
    state = load(tmp_path / "latest.pt")
    resumed = new_trainer(momentum=0.5, weight_decay=0.25)
    resumed.load(state)
    (group,) = resumed.optimizer.param_groups
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.5, 0.25, False)
    kept = [entry["momentum_buffer"] for entry in resumed.optimizer.state.values()]
    for mine, theirs in zip(kept, first.optimizer.state.values(), strict=True):
        assert torch.equal(mine, theirs["momentum_buffer"])


def test_without_momentum_nesterov_is_plain():
    (group,) = make_optimizer(nn.Linear(2, 2), CifarOptions(momentum=0.0)).param_groups
    assert (group["momentum"], group["nesterov"]) == (0.0, False)


def test_a_loader_of_another_length_than_it_says(tmp_path):
    trainer, loader = new_trainer(), Batches()
    loader.batch = 1
    with pytest.raises(RuntimeError, match="the epoch had 2 batches, the loader's length is 3"):
        train(trainer, loader, tmp_path, 1)


def test_saved_within_the_epoch_when_time_is_up(tmp_path):
    trainer, positions = new_trainer(checkpoint_minutes=0), []
    save = trainer.save
    trainer.save = lambda *given, **named: (save(*given, **named), positions.append(replace(trainer.position)))
    train(trainer, Batches(), tmp_path, 1)
    assert [(p.epoch, p.step, p.trained) for p in positions] == [
        (0, 1, False),
        (0, 2, False),
        (0, 3, True),
        (1, 0, False),
    ]


@pytest.mark.parametrize("processes", [1, 2], ids=["other batches", "other number of processes"])
def test_what_cannot_continue_in_mid_epoch_restarts_it(tmp_path, processes):
    trainer = new_trainer(checkpoint_minutes=0)
    trainer.position = Position(epoch=2, step=2)
    trainer.save(Batches(), tmp_path)
    state = load(tmp_path / "latest.pt")
    state["processes"] *= processes
    other = new_trainer()
    other.load(state)
    reason = other.load_stream(state, Batches(factor=2.0))
    assert reason == ("other batches" if processes == 1 else "it was saved by 2 processes, now there are 1")
    other.restart_epoch()
    assert (other.position, other.loader_seed()) == (Position(epoch=2, step=0, stream=3), 3)


def test_restart_after_the_last_step_leaves_the_epoch_to_validation():
    trainer = new_trainer()
    trainer.position = Position(epoch=2, step=3, trained=True)
    trainer.restart_epoch()
    assert trainer.position == Position(epoch=2, step=3, trained=True, stream=3)


def test_a_single_image_that_is_left_of_a_batch_can_be_trained_on():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    trainer = Trainer(pooled, TrainingOptions(), ALONE, "net")
    trainer.model.train()
    loss = trainer.step(torch.rand(1, 3, 4, 4), torch.tensor([1]), 1)
    bias = trainer.model[3].bias.detach()
    assert float(loss) > 0
    assert bias.isfinite().all()


# ---- what is not finite ----------------------------------------------------------------------------------------------


class _Spoilt(Batches):
    """Batches of which those numbered `bad`, over all epochs, hold a value that is not finite."""

    def __init__(self, *bad: int, value: float = math.nan):
        super().__init__()
        self.bad, self.value = bad, value

    def __iter__(self):
        for images, targets in super().__iter__():
            if 3 * self.epoch + self.batch - 1 in self.bad:
                images[0, 0, 0, 0] = self.value
            yield images, targets


def test_divergence_is_told_and_not_saved(tmp_path):
    """In the first epoch no checkpoint is from before, later the last one is."""
    with pytest.raises(
        InputError, match=r"not finite at epoch 1, step 1;.*\. No checkpoint has been written to .* yet"
    ):
        train(new_trainer(checkpoint_minutes=0), _Spoilt(0), tmp_path, 1)
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match=r"at epoch 2, step 1;.*Continue with --resume .*latest\.pt"):
        train(new_trainer(checkpoint_minutes=0), _Spoilt(3), tmp_path, 2)
    assert load(tmp_path / "latest.pt")["position"]["epoch"] == 1


def test_a_gradient_alone_stops_the_run_too(tmp_path):
    """Its loss is finite, the weights after it are not: none of them may reach a checkpoint."""
    trainer = new_trainer(checkpoint_minutes=0)
    trainer.model[4].weight.register_hook(lambda gradient: gradient / 0)
    with pytest.raises(InputError, match="not finite at epoch 1, step 1"):
        train(trainer, Batches(), tmp_path, 1)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_skipped_step_leaves_the_network_as_it_was(tmp_path, value, capsys):
    trainer, other = (new_trainer(on_nonfinite="skip") for _ in range(2))
    for each in (trainer, other):
        each.model[3].p = 0.0  # what dropout draws at the skipped step would be missing
    losses = train(trainer, _Spoilt(1, value=value), tmp_path, 1)
    assert "epoch 1: 1 of 3 steps skipped, the loss or a gradient was not finite" in capsys.readouterr().out
    batches = list(Batches())
    other.model.train()
    expected = [float(other.step(*batches[n], 2)) for n in (0, 2)]
    assert losses == [pytest.approx(sum(expected) / 2, rel=1e-6)]
    assert_same_weights(trainer, other)
    assert (trainer.position.skipped, trainer.position.in_a_row) == (0, 0)


def test_a_run_that_skips_passes_the_batch_at_which_it_stopped(tmp_path):
    train(new_trainer(), Batches(), tmp_path, 1)
    for _ in range(2):
        state, trainer, loader = load(tmp_path / "latest.pt"), new_trainer(), _Spoilt(4)
        trainer.load(state)
        assert trainer.load_stream(state, loader) is None
        with pytest.raises(InputError, match="at epoch 2, step 2"):
            train(trainer, loader, tmp_path, 3)
    state, trainer, loader = load(tmp_path / "latest.pt"), new_trainer(on_nonfinite="skip"), _Spoilt(4)
    trainer.load(state)
    assert trainer.load_stream(state, loader) is None
    assert all(map(math.isfinite, train(trainer, loader, tmp_path, 3)))


def test_a_mid_epoch_checkpoint_knows_what_was_skipped(tmp_path):
    """The mean loss of the epoch is that of the steps that count, also where it was stopped between them."""
    whole = new_trainer(on_nonfinite="skip")
    losses = train(whole, _Spoilt(0), tmp_path, 1)

    class Interrupting(_Spoilt):
        def __iter__(self):
            for batch in super().__iter__():
                if self.batch == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    with pytest.raises(Interrupted):
        train(new_trainer(on_nonfinite="skip"), Interrupting(0), tmp_path, 1)
    state, resumed, loader = load(tmp_path / "latest.pt"), new_trainer(on_nonfinite="skip"), _Spoilt(0)
    assert (state["position"]["step"], state["position"]["skipped"]) == (2, 1)
    resumed.load(state)
    assert resumed.load_stream(state, loader) is None
    assert train(resumed, loader, tmp_path, 1) == losses
    assert_same_weights(resumed, whole)


def test_too_many_skipped_steps_in_a_row_stop_the_run(tmp_path):
    bad = (2, 3, 4, 5)  # over the border of two epochs
    limited = new_trainer(on_nonfinite="skip", skip_limit=3)
    with pytest.raises(InputError, match="at epoch 2, step 3, as in the 3 steps before"):
        train(limited, _Spoilt(*bad), tmp_path, 3)
    losses = train(new_trainer(on_nonfinite="skip", skip_limit=4), _Spoilt(*bad), tmp_path, 3)
    assert [math.isnan(loss) for loss in losses] == [False, True, False], "no step of the second epoch counted"


def test_fp16_goes_on_after_what_its_scaler_skips(tmp_path):
    """65,504 is float16's largest value."""
    trainer = new_trainer(amp="fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)  # too small to overflow by itself
    losses = train(trainer, _Spoilt(1, value=1e6), tmp_path, 1)
    assert all(map(math.isfinite, losses))
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())
    assert trainer.scaler.get_scale() == 8.0, "it has skipped one step"


_IN_TWO = """
import math, torch
from torch import nn
from apr_dali.training.options import TrainingOptions
from apr_dali.runtime.distributed import gather, start
from apr_dali.training.engine import Trainer, view_loss

def steps(group):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    added = 0.0
    def objective(network, images, targets, views, _):
        return view_loss(network(images), targets, views) + added
    trainer = Trainer(model, TrainingOptions(on_nonfinite="skip"), group, "net", objective)
    for step in range(3):
        added = math.inf if (step, group.rank) == (1, 1) else 0.0  # a loss with sound gradients
        trainer.step(torch.randn(4, 3, 4, 4), torch.tensor([0, 1, 0, 1]), 1)
    return trainer.model[3].weight.tolist(), trainer.position.skipped

with start("cpu") as group:
    found = gather(group, steps(group))
    assert found[0] == found[1] and found[0][1] == 1, found
"""


@pytest.mark.slow
def test_processes_skip_together(tmp_path):
    (tmp_path / "two.py").write_text(_IN_TWO)
    done = in_two("two.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
