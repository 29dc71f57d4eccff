"""Accumulation: the weights are those of one batch of all the images, with APR's batches too and in two processes."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.forked import in_two
from helpers.run_files import ALONE
from helpers.tolerances import STEPS_FLOAT64
from helpers.trainers import Batches, new_trainer, train
from torch import nn

from apr_dali.errors import InputError
from apr_dali.training.engine import Trainer
from apr_dali.training.options import TrainingOptions
from apr_dali.training.start import restore

IMAGES = 4
"""Of a batch."""


def network(**given) -> Trainer:
    """Without batch norm, whose statistics are of a batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.ReLU(), nn.Linear(64, 3)).double()
    given = {"lr": 0.2, "epochs": 2, "schedule": "cosine", "weight_decay": 0.01} | given
    return Trainer(model, TrainingOptions(**given), ALONE, "net")


def shown_twice(rows: torch.Tensor) -> torch.Tensor:
    """Images or targets of a batch with two rows an image, whether it has one or two."""
    return rows.repeat_interleave(2 * IMAGES // len(rows), 0)


class Mixing:
    """Batches of APR-P: two views of each image where the coin mixes, one where it does not, in turns of seven.

    joined: so many batches in one, all of them shown in two views.
    """

    views, classes = 2, ("a", "b", "c")

    def __init__(self, length: int, joined: int = 1):
        self.length, self.joined, self.batch_views = length, joined, 2

    def __len__(self):
        return math.ceil(self.length / self.joined)

    def __iter__(self):
        batches = [self._batch(number) for number in range(self.length)]
        for start in range(0, self.length, self.joined):
            parts = batches[start : start + self.joined]
            if self.joined == 1:
                self.batch_views = len(parts[0][1]) // IMAGES
                yield parts[0]
            else:
                self.batch_views = 2
                yield tuple(torch.cat([shown_twice(part[n]) for part in parts]) for n in (0, 1))

    def _batch(self, number: int):
        generator = torch.Generator().manual_seed(number)
        views = 2 if number % 7 in (0, 1, 3) else 1
        targets = torch.randint(3, (IMAGES,), generator=generator).repeat_interleave(views)
        return torch.randn(IMAGES * views, 3, 4, 4, generator=generator, dtype=torch.float64), targets

    def state_dict(self):
        return {}


def assert_close(found: Trainer, expected: Trainer) -> None:
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value, **STEPS_FLOAT64)


# The last cycle of an epoch has four batches, two or three.
@pytest.mark.parametrize("length", [12, 10, 11])
@pytest.mark.parametrize("given", [{}, {"optimizer": "adamw", "lr": 0.01, "clip_grad": 0.1, "ema": 0.9}])
def test_a_cycle_is_one_large_batch(tmp_path, length, given):
    found, expected = network(accumulate=4, **given), network(**given)
    start = found.model[3].weight.detach().clone()
    losses = train(found, Mixing(length), tmp_path, 2)
    whole = train(expected, Mixing(length, joined=4), tmp_path, 2)
    assert_close(found, expected)
    assert not torch.allclose(found.model[3].weight, start, rtol=1e-3)
    if length == 12:  # else the last cycle has fewer images than its part of the mean
        assert losses == pytest.approx(whole, rel=1e-9)
    if found.average is not None:
        for mine, theirs in zip(found.average.model.parameters(), expected.average.model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, **STEPS_FLOAT64)


def test_weights_move_once_a_cycle(tmp_path):
    trainer, moved = network(accumulate=3), []
    step = trainer.step

    def spying(*given):
        before = trainer.model[3].weight.detach().clone()
        loss = step(*given)
        moved.append(not torch.equal(before, trainer.model[3].weight))
        return loss

    trainer.step = spying
    train(trainer, Mixing(8), tmp_path, 1)
    assert moved == [False, False, True] * 2 + [False, True]


def test_more_batches_than_an_epoch_has_are_refused():
    closed = []

    class Closing(Mixing):
        def close(self):
            closed.append(self)

    assert len(restore(network(accumulate=8), None, lambda _: Closing(8), ALONE)) == 8
    with pytest.raises(InputError, match=r"--accumulate 9 is more than the 8 batches of an epoch.*at most 8"):
        restore(network(accumulate=9), None, lambda _: Closing(8), ALONE)
    assert len(closed) == 1


def test_fp16_is_scaled_alike_in_a_cycle(tmp_path):
    trainer, scales = new_trainer(amp="fp16", accumulate=2), []
    scale = trainer.scaler.scale
    trainer.scaler.scale = lambda loss: (scales.append(trainer.scaler.get_scale()), scale(loss))[1]
    trainer.scaler.set_growth_interval(1)
    train(trainer, Batches(length=6), tmp_path, 1)
    assert scales[::2] == scales[1::2]
    assert len(set(scales)) > 1


def test_a_bad_batch_leaves_out_its_cycle(tmp_path):
    class Spoilt(Mixing):
        def __iter__(self):
            for number, (images, targets) in enumerate(super().__iter__()):
                yield (images * math.nan if number == 2 else images), targets

    found, other = (network(accumulate=2, on_nonfinite="skip", schedule="step") for _ in range(2))
    losses = train(found, Spoilt(6), tmp_path, 1)
    batches = list(Mixing(6))
    kept = [float(other.step(*batches[n], 2, 2)) for n in (0, 1, 4, 5)]
    assert losses == [pytest.approx(sum(kept) / 4)]
    assert_close(found, other)


def test_a_mid_cycle_batch_in_a_row_is_one_update(tmp_path):
    trainer = network(accumulate=2, on_nonfinite="skip", skip_limit=2)

    class Bad(Mixing):
        def __iter__(self):
            for number, (images, targets) in enumerate(super().__iter__()):
                yield (images * math.nan if number < 4 else images), targets

    (loss,) = train(trainer, Bad(6), tmp_path, 1)
    assert math.isfinite(loss)


_IN_TWO = """
import sys, torch
from pathlib import Path
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from apr_dali.training.options import TrainingOptions
from apr_dali.runtime.distributed import gather, start
from apr_dali.training.engine import Trainer

def batch(number):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(4, 3, 4, 4, generator=generator), torch.randint(2, (4,), generator=generator)

def trained(group, batches, cycle):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(64, 2))
    trainer = Trainer(model, TrainingOptions(accumulate=cycle, ema=0.9), group, "net")
    sent = []
    if group.world > 1:
        def counting(state, bucket):
            sent.append(1)
            return allreduce_hook(state, bucket)
        trainer._exchanging.register_comm_hook(None, counting)
    for number in batches:
        trainer.step(*batch(number), 1, cycle)
    return trainer, len(sent)

with start("cpu") as group:
    # Four batches of each process make up an update: eight in all.
    mine = [8 * update + 2 * n + group.rank for update in range(3) for n in range(4)]
    trainer, sent = trained(group, mine, 4)
    found = [value.tolist() for net in (trainer.model, trainer.average.model) for value in net.state_dict().values()]
    assert gather(group, found)[0] == gather(group, found)[1]
    assert sent == 3, sent
    torch.save([trainer.model.state_dict(), trainer.average.model.state_dict()], f"rank{group.rank}.pt")
    del trainer  # it holds the group, whose threads would end with the interpreter: that may abort the process
"""


@pytest.mark.slow
def test_two_processes_exchange_once_a_cycle(tmp_path):
    (tmp_path / "two.py").write_text(_IN_TWO)
    done = in_two("two.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(64, 2))
    alone = Trainer(model, TrainingOptions(accumulate=8, ema=0.9), ALONE, "net")
    for number in range(24):
        generator = torch.Generator().manual_seed(number)
        images = torch.randn(4, 3, 4, 4, generator=generator)
        alone.step(images, torch.randint(2, (4,), generator=generator), 1, 8)
    weights, average = torch.load(tmp_path / "rank0.pt", weights_only=True)
    for found, network_ in ((weights, alone.model), (average, alone.average.model)):
        for name, value in network_.state_dict().items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
