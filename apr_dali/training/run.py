"""The course of a run, whatever its data: where it starts, its epochs, its validations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from apr_dali.config import PRETRAINED, TrainingOptions
from apr_dali.errors import InputError
from apr_dali.eval.clean import CleanResult, evaluate
from apr_dali.models.weights import begin_with, pretrained
from apr_dali.models.weights_file import read_weights
from apr_dali.training import checkpoint, loop, pictures
from apr_dali.training.decoration import decoration
from apr_dali.training.distributed import Group, on_main
from apr_dali.training.interrupts import Interrupts
from apr_dali.training.loop import Trainer
from apr_dali.training.options import changes
from apr_dali.training.records import Records


class Loader(loop.Loader, Protocol):
    """A loader that holds threads and memory until it is closed."""

    def close(self) -> None: ...


Kind = TypeVar("Kind", bound=Loader)


def run_epochs(
    trainer: Trainer,
    loader: Loader,
    val_loader: Loader,
    output: Path,
    records: Records,
    interrupts: Interrupts,
    judge: Callable[[dict[str, float]], float] | None = None,
) -> CleanResult:
    """Train the epochs that are left; the result of the last validation.

    judge: the score (0..1) of an epoch from its row of results, to which it may add; default its top-1.
    """
    result = None
    while trainer.position.epoch < trainer.options.epochs:
        epoch = trainer.position.epoch
        loss = trainer.train_epoch(loader, output, records, interrupts)
        result = validate(trainer, val_loader, output, interrupts)
        row = {"train_loss": loss, "val_loss": result.loss, "top1": result.top1, "top5": result.top5}
        row |= {"lr": trainer.rate, "images_per_second": trainer.images_per_second}
        if trainer.position.skipped:
            row["skipped_steps"] = trainer.position.skipped
        score = result.top1 if judge is None else judge(row)
        records.epoch(epoch, row)
        if trainer.group.main:
            with decoration(f"drawing {pictures.CURVES}"):
                pictures.draw_curves(output / pictures.CURVES, records.rows, loader.views)
        trainer.end_epoch(loader, output, score)
    # A finished run that is started again has nothing left to train.
    return result or validate(trainer, val_loader, output, interrupts)


def validate(trainer: Trainer, loader: Loader, output: Path, interrupts: Interrupts) -> CleanResult:
    """The result on `loader`; a signal ends it at any batch, since what was trained is saved by now."""
    batches = interrupts.watch(loader, f"stopped in validation; continue with --resume auto --output {output}")
    return evaluate(trainer.evaluated, batches, trainer.group.device, trainer.amp)


def start_from_weights(model: nn.Module, name: str, num_classes: int, options: TrainingOptions, group: Group) -> None:
    """Put what --weights names into a new network, `name` as `canonical_name` gives it, and print what became of it."""
    if not options.weights:
        return
    fetched = options.weights == PRETRAINED
    if fetched and group.world > 1:
        # The first process fetches them, the others then find them.
        on_main(group, lambda: pretrained(name).training)
    # What a network draws to be made anew must not change what comes after it.
    with torch.random.fork_rng(devices=[]):
        if fetched:
            state, source = pretrained(name).state_dict(), f"the pretrained {name}"
        else:
            found = read_weights(options.weights).fitting(model.state_dict())
            state, source = found.state, options.weights + found.said
    told = begin_with(model, name, num_classes, state, source, options.in_chans)
    if group.main:
        print(told)


def check_batch(trainer: Trainer, views: int, image_size: int) -> None:
    """Raise InputError if a process's batch is a single image, which batch norm may not take, and the network neither.

    views: the loader's. image_size: pixels a side.
    """
    if trainer.group.share(trainer.options.batch_size) * views > 1:
        return
    model = copy.deepcopy(trainer.model).train()
    channels = next((layer.in_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)), 3)
    try:
        with torch.no_grad():
            model(torch.zeros(1, channels, image_size, image_size, device=trainer.group.device))
    except ValueError as error:
        raise InputError(
            f"one image is too small a batch for this network's batch norm ({error}): "
            "give a larger --batch-size, or start fewer processes"
        ) from error


def restore(trainer: Trainer, state: dict[str, Any] | None, make: Callable[[int], Kind], group: Group) -> Kind:
    """The training loader that `make` gives for a seed, with trainer and loader where `state` was saved."""
    if state is None:
        return make(trainer.loader_seed())
    trainer.load(state)
    loader = make(trainer.loader_seed())
    reason = trainer.load_stream(state, loader)
    if group.main:
        print(f"continuing at {checkpoint.where(state)}")
        if changed := changes(state["options"], trainer.options):
            print(f"changed since then: {', '.join(changed)}")
    if reason is None:
        return loader
    loader.close()
    trainer.restart_epoch()
    if group.main:
        print(f"the checkpoint's place within its epoch cannot be used: {reason}.")
        first = trainer.position.epoch + 1 + trainer.position.trained
        print(f"epoch {first} starts from its beginning, in a new order of images")
    return make(trainer.loader_seed())
