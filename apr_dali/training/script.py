"""What the training scripts share: the way in, the network, what loaders are given, the first and the last lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from apr_dali import models
from apr_dali.errors import InputError
from apr_dali.eval.clean import CleanResult, evaluate
from apr_dali.models.build import model_name, options_of
from apr_dali.recipes import recipe_of
from apr_dali.runtime import checkpoint, torch_threads
from apr_dali.runtime.best_effort import best_effort, say
from apr_dali.runtime.distributed import Group, on_main, start
from apr_dali.runtime.precision import LOADER_TYPES
from apr_dali.training import plots, run_dir
from apr_dali.training.boards import check_logger
from apr_dali.training.command_line import parse
from apr_dali.training.engine import Trainer
from apr_dali.training.epochs import networks
from apr_dali.training.logger import Logger
from apr_dali.training.options import Recipe, TrainingOptions, flag
from apr_dali.training.start import start_from_weights

Options = TypeVar("Options", bound=TrainingOptions)
_OF_THE_NETWORK = ("model", "in_chans", "first_layer", "phase_weight", "spectrum", "radii")


class Sized(Protocol):
    """A loader that knows how many images it has."""

    num_images: int

    def __iter__(self) -> Any: ...
    def __len__(self) -> int: ...


def main(
    kind: type[Options],
    description: str,
    train: Callable[[Options, Group], None],
    evaluate_only: Callable[[Options, Group], None],
    recipes: Mapping[str, Recipe],
) -> None:
    """Parse the command line as `kind`, join the other processes, and train or, with --eval-only, validate."""
    options = parse(kind, description, recipes=recipes)
    check_logger(options.logger)
    with start(options.device) as group:
        (evaluate_only if options.eval_only else train)(options, group)


def choose(options: TrainingOptions, group: Group) -> tuple[Path, Path | None]:
    """The run folder and the checkpoint to continue from, see `run_dir.choose`; the same on every process."""
    return on_main(group, lambda: run_dir.choose(options, models.describe(vars(options))))


def load(path: Path, options: TrainingOptions, classes: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The checkpoint `path`; InputError if it cannot be read, or is of another network than the options describe.

    classes: those that it must have, None for any.
    """
    state = checkpoint.load(path, classes)
    theirs, ours = options_of(state), vars(options)
    if models.describe(theirs) != models.describe(ours):
        ours = {**ours, "model": model_name(ours)}
        told = [flag(name) for name in _OF_THE_NETWORK if name in ours and theirs.get(name, ours[name]) != ours[name]]
        raise InputError(
            f"{path} is a checkpoint of {models.describe(theirs)}, not of {models.describe(ours)}: "
            f"leave out {', '.join(told)}, or take another checkpoint"
        )
    return state


def new_network(
    options: TrainingOptions, classes: int, image_size: int, group: Group, fresh: bool, sizes: Sequence[int] = ()
) -> nn.Module:
    """The network with weights from the seed, once it has shown that it takes images of this size, and of all `sizes`.

    fresh: training begins with it, so with --weights.
    """

    def begin(model: nn.Module, name: str) -> None:
        for size in sorted({image_size, *sizes}):
            models.check_input(model, size, classes, options.in_chans)
        torch_threads.choose(model, image_size, options.in_chans, group.device)
        if fresh:
            start_from_weights(model, name, classes, options, group)

    torch.manual_seed(options.seed)
    return models.build(vars(options), classes, begin)


def train_options(options: TrainingOptions) -> dict[str, Any]:
    """What the loaders of training are given, whatever the data set."""
    return {
        "aug": options.aug,
        "repeat_unmixed": options.repeats_unmixed,
        # The last batch of an epoch is left out unless it is full: batch norm wants equal batches.
        "drop_last": True,
        "recipe": recipe_of(vars(options)),
        "sampler": options.sampler,
        "policy": options.policy,
        "policy_magnitude": options.policy_magnitude,
        "random_erasing": options.random_erasing,
        "aug_form": options.aug_form,
        "aug_dataset": options.aug_dataset,
    }


def loader_options(options: TrainingOptions, group: Group) -> dict[str, Any]:
    """What the loaders of training and of validation are both given, whatever the data set."""
    return {
        "batch_size": group.share(options.batch_size),
        "device": group.device,
        "shard": (group.rank, group.world),
        "dtype": LOADER_TYPES[options.amp],
        "memory_format": options.memory_format,
        "threads": options.threads or None,
        "in_chans": options.in_chans,
    }


def begin(trainer: Trainer, loader: Sized, val_loader: Sized, output: Path, draw_samples: Callable[[], None]) -> Logger:
    """The logger of a run that begins or goes on, once its first line is printed and samples.png drawn."""
    options, group = trainer.options, trainer.group
    if group.main:
        with best_effort(f"drawing {plots.SAMPLES}"):
            draw_samples()
        counts = f"{loader.num_images} training images, {val_loader.num_images} for validation"
        say(f"{models.describe(vars(options))}: {counts}, in {output}")
        if options.aug_plan is not None and options.aug_plan.told:
            say(options.aug_plan.told)
    return Logger(output, group.main, options.epochs, trainer.position, options.logger, vars(options))


def end(trainer: Trainer, output: Path, result: CleanResult) -> None:
    """Print what a run came to."""
    if trainer.group.main:
        averaged = " of the averaged weights" if trainer.position.averaged else ""
        say(f"run folder: {output}\ntop-1 {result.top1:.2%}{averaged} on {result.images} validation images")
        say(f"{trainer.images_per_second:.0f} training images/s")


def validate_checkpoint(trainer: Trainer, state: dict[str, Any], loader: Iterable[Any]) -> None:
    """Print the result of a checkpoint's network on a validation loader, and of its average if it has one."""
    trainer.load(state)
    for prefix, network in networks(trainer).items():
        result = evaluate(network, loader, trainer.group.device, trainer.amp)
        if trainer.group.main:
            told = f"top-1 {result.top1:.2%}, top-5 {result.top5:.2%}, loss {result.loss:.4f} on {result.images} images"
            print(f"averaged weights: {told}" if prefix else told)
