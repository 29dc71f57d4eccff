"""Trainers of a small network on batches made by hand."""

from __future__ import annotations

from pathlib import Path

import torch
from helpers.run_files import ALONE
from torch import nn

from apr_dali.errors import InputError
from apr_dali.runtime import checkpoint
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.training.engine import Objective, Trainer
from apr_dali.training.logger import Logger
from apr_dali.training.options import TrainingOptions


class Batches:
    """Batches, three an epoch, that come from the epoch's and the batch's number; its state is where it stands."""

    views, batch_views, classes = 2, 2, ("a", "b")

    def __init__(self, factor: float = 1.0, length: int = 3):
        self.epoch = self.batch = 0
        self.factor, self.length = factor, length

    def __len__(self):
        return self.length

    def __iter__(self):
        while self.batch < len(self):
            generator = torch.Generator().manual_seed(10 * self.epoch + self.batch)
            self.batch += 1
            yield self.factor * torch.randn(8, 3, 4, 4, generator=generator), torch.arange(8) // 2 % 2
        self.epoch, self.batch = self.epoch + 1, 0

    def state_dict(self):
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state):
        if self.factor != 1.0:
            raise InputError("other batches")
        self.epoch, self.batch = state["epoch"], state["batch"]


def new_trainer(objective: Objective | None = None, **given) -> Trainer:
    """A small network with batch norm and dropout, three epochs of `Batches` before it."""
    options = TrainingOptions(**{"lr": 0.1, "epochs": 3} | given)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
    return Trainer(model, options, ALONE, "net", objective)


def load(path: Path) -> dict:
    """The checkpoint of a run on `Batches`."""
    return checkpoint.load(path, ("a", "b"))


def train(trainer: Trainer, loader, path: Path, epochs: int) -> list[float]:
    """Train up to `epochs` epochs; the losses of those that were left."""
    losses = []
    with Logger(path, False, 3, trainer.position) as logger, Interrupts(announce=False) as interrupts:
        while trainer.position.epoch < epochs:
            losses.append(trainer.train_epoch(loader, path, logger, interrupts))
            trainer.end_epoch(loader, path, top1=0.5)
    return losses


def assert_same_weights(found: Trainer, expected: Trainer) -> None:
    for name, value in expected.model.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name]), name
