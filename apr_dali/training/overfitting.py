"""Catastrophic overfitting of one-step adversarial training: within an epoch the network learns to stop the one step
and falls to any other attack, while clean accuracy and loss look better than before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apr_dali.training import checkpoint
from apr_dali.training.adversarial import DROP, Ball, pgd_accuracy
from apr_dali.training.decoration import say
from apr_dali.training.distributed import on_main
from apr_dali.training.loop import Trainer
from apr_dali.training.records import Records

GOOD = "good.pt"
"""The weights of the last epoch before a collapse."""
ROBUST = "pgd_top1"


class Watch:
    """Called with an epoch's row of results: adds the accuracy under PGD on one batch, which is the epoch's score.

    When it has fallen by more than DROP since the epoch before, it says so; with `stop` it puts the last good weights
    back and ends the run (`stopped`).
    """

    def __init__(
        self,
        trainer: Trainer,
        images: Tensor,
        targets: Tensor,
        ball: Ball,
        output: Path,
        records: Records,
        stop: bool,
    ) -> None:
        """images: (N, 3, H, W), normalised. records: give the epoch before, also in a run that continues."""
        device = trainer.group.device
        self._trainer, self._ball, self._output, self._records = trainer, ball, output, records
        self._images, self._targets = images.to(device), targets.to(device)
        self._stop = stop
        self.stopped = False

    def __call__(self, row: dict[str, float]) -> float:
        group, position = self._trainer.group, self._trainer.position
        # What the look draws must not change what training draws after it.
        with torch.random.fork_rng(devices=[group.device] if group.device.type == "cuda" else []):
            torch.manual_seed(self._trainer.options.seed + position.epoch)
            found = pgd_accuracy(self._trainer.model, self._images, self._targets, self._ball)
        # One number for all processes, or some would stop and some not.
        accuracy, before = on_main(group, lambda: (found, self._before()))
        row[ROBUST] = accuracy
        if before is None or before - accuracy <= DROP:
            on_main(group, self._keep)
        else:
            self._collapsed(position.epoch + 1, before, accuracy)
        return accuracy

    def _before(self) -> float | None:
        """The accuracy of the epoch before, None in the first."""
        found = [row[ROBUST] for row in self._records.rows if ROBUST in row]
        return found[-1] if found else None

    def _keep(self) -> None:
        weights = self._trainer.model.state_dict()
        checkpoint.write_whole(self._output / GOOD, lambda file: torch.save(weights, file))

    def _collapsed(self, epoch: int, before: float, accuracy: float) -> None:
        trainer = self._trainer
        if trainer.group.main:
            say(
                f"warning: catastrophic overfitting in epoch {epoch}: the accuracy under PGD fell from {before:.1%} to "
                f"{accuracy:.1%}. Try --adversarial n-fgsm, a smaller --epsilon or --on-overfitting stop"
            )
        if not self._stop:
            return
        weights: dict[str, Any] = torch.load(self._output / GOOD, map_location="cpu", weights_only=True)
        trainer.model.load_state_dict(weights)
        # The epoch that ends now becomes the last.
        trainer.position.epoch = trainer.options.epochs - 1
        self.stopped = True
        if trainer.group.main:
            say(f"stopped after epoch {epoch}, with the weights of the epoch before")
