"""Accuracy of a network in training under ImageNet-C's corruptions, computed of validation images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from apr_dali.data.fingerprint import identity
from apr_dali.data.folders import ImageSet
from apr_dali.errors import InputError
from apr_dali.eval.clean import evaluate
from apr_dali.eval.datasets import Feeding
from apr_dali.eval.load_model import Network
from apr_dali.eval.on_the_fly import Computed, clean_files, computed_cells
from apr_dali.recipes import recipe_of, validation_view
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.training.datasets import Images
from apr_dali.training.engine import Trainer
from apr_dali.training.options import ImageNetOptions


def check_best(state: Mapping[str, Any], options: ImageNetOptions) -> None:
    """Raise InputError for a checkpoint whose best accuracy is not the one that --best-by names."""
    theirs = state["options"].get("best_by", ImageNetOptions.best_by)
    if theirs != options.best_by:
        raise InputError(
            f"best.pt of this run is the best by {theirs}, and cannot be compared by {options.best_by}: continue with "
            f"--best-by {theirs}, or start another run"
        )


class CorruptedValidation:
    """`top1()` is the accuracy on --validate-corrupted N images, evenly taken, over the 15 corruptions × 5 severities.

    It is 1 less the mean error that `apr-dali eval corruption --val … --limit N` gives. The images are the same in
    every epoch. Raises InputError for tars and what cannot be computed.
    """

    def __init__(self, trainer: Trainer, options: ImageNetOptions, part: Images) -> None:
        if not isinstance(part, ImageSet):
            raise InputError(
                "--validate-corrupted takes class folders of image files, the validation set has tar files"
            )
        computed = Computed(limit=options.validate_corrupted)
        size, scaling = validation_view(vars(options))
        computed.check(size, "imagenet")
        recipe, group = recipe_of(vars(options)), trainer.group
        network = Network(trainer.architecture, trainer.model, part.classes, recipe.mean, recipe.std, size, "", scaling)
        share = group.share(options.batch_size)
        feeding = Feeding(network, group, share, options.amp, options.threads or None)
        clean = clean_files(feeding, part, identity(part)).taking(computed.limit)
        self._trainer, self._cells = trainer, computed_cells(feeding, clean, computed)

    def top1(self, network: nn.Module, output: Path, interrupts: Interrupts) -> float:
        """The accuracy of the trainer's network or its average, 0..1, on all processes.

        A signal ends it, since what was trained is saved by now.
        """
        trainer, right, images = self._trainer, 0.0, 0
        # All cells of a part before the next part: it is decoded once.
        for chunk in zip(*(parts for _, parts in self._cells), strict=True):
            for part in chunk:
                with part.open() as batches:
                    watched = interrupts.watch(
                        batches, f"stopped in validation; continue with --resume auto --output {output}"
                    )
                    found = evaluate(network, watched, trainer.group.device, trainer.amp)
                right, images = right + found.top1 * found.images, images + found.images
        return right / images
