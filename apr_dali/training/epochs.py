"""The epochs of a run: training, validation of the weights and of their average, and what is kept of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from apr_dali.eval.clean import CleanResult, evaluate
from apr_dali.runtime.best_effort import best_effort
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.training import plots
from apr_dali.training.engine import ClosableLoader, Trainer
from apr_dali.training.logger import Logger

AVERAGED = "ema_"
"""What the names of the averaged weights' numbers begin with."""

Judge = Callable[[dict[str, float], nn.Module], float]
"""(row of a network's results, the network) → the score of the network, 0..1; it may add to the row."""


def run_epochs(
    trainer: Trainer,
    loader: ClosableLoader,
    val_loader: ClosableLoader,
    output: Path,
    logger: Logger,
    interrupts: Interrupts,
    judge: Judge | None = None,
) -> CleanResult:
    """Train the epochs that are left; the result of the last validation, of the weights that did better in it.

    judge: the score that decides on the better and on best.pt; default top-1.
    """
    result = None
    while trainer.position.epoch < trainer.options.epochs:
        epoch = trainer.position.epoch
        loss = trainer.train_epoch(loader, output, logger, interrupts)
        row = {"train_loss": loss, "lr": trainer.rate, "images_per_second": trainer.images_per_second}
        if trainer.position.skipped:
            row["skipped_steps"] = trainer.position.skipped
        scores, results = [], []
        for prefix, network in networks(trainer).items():
            found = validate(trainer, val_loader, output, interrupts, network)
            own = {"val_loss": found.loss, "top1": found.top1, "top5": found.top5}
            scores.append(found.top1 if judge is None else judge(own, network))
            results.append(found)
            row |= {prefix + name: value for name, value in own.items()}
        better = scores.index(max(scores))
        result = results[better]
        logger.epoch(epoch, row)
        if trainer.group.main:
            with best_effort(f"drawing {plots.CURVES}"):
                summed = loader.views if trainer.options.sums_views else 1
                plots.draw_curves(output / plots.CURVES, logger.rows, summed)
        trainer.end_epoch(loader, output, scores[better], better > 0)
    # A finished run that is started again has nothing left to train.
    return result or validate(trainer, val_loader, output, interrupts)


def networks(trainer: Trainer) -> dict[str, nn.Module]:
    """The networks to validate by the beginning of their numbers' names: that of the weights, and of their average."""
    average = trainer.evaluated_average
    return {"": trainer.evaluated} | ({} if average is None else {AVERAGED: average})


def validate(
    trainer: Trainer,
    loader: ClosableLoader,
    output: Path,
    interrupts: Interrupts,
    network: nn.Module | None = None,
) -> CleanResult:
    """The result of a network on `loader`, default of what did better in the last validation.

    A signal ends it at any batch, since what was trained is saved by now.
    """
    if network is None:
        network = networks(trainer)[AVERAGED if trainer.position.averaged else ""]
    batches = interrupts.watch(loader, f"stopped in validation; continue with --resume auto --output {output}")
    return evaluate(network, batches, trainer.group.device, trainer.amp)
