"""How a run starts, from new weights or given ones, and how it goes on from a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from apr_dali.errors import InputError
from apr_dali.models.weights import begin_with, pretrained
from apr_dali.models.weights_file import read_weights
from apr_dali.recipes import recipe_of, uses_pair
from apr_dali.runtime import checkpoint
from apr_dali.runtime.best_effort import say
from apr_dali.runtime.distributed import Group, on_main
from apr_dali.training.command_line import changes
from apr_dali.training.engine import ClosableLoader, Trainer
from apr_dali.training.options import PRETRAINED, TrainingOptions

Kind = TypeVar("Kind", bound=ClosableLoader)


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
        say(told)


def check_batch(trainer: Trainer, views: int, image_size: int) -> None:
    """Raise InputError if a process's batch may be a single row and the network's batch norm takes none.

    views: the loader's. image_size: pixels per side.
    """
    options = trainer.options
    if options.mixes and trainer.group.share(options.batch_size) < 2:
        raise InputError(
            "--mixup and --cutmix mix the images of a process with one another, and a batch of one has no other: "
            "give a larger --batch-size, or start fewer processes"
        )
    once = _may_come_once(options)
    # Batch norm sees each view by itself where some have their own.
    if trainer.group.share(options.batch_size) * (1 if once or options.has_auxiliary else views) > 1:
        return
    model = copy.deepcopy(trainer.model).train()
    channels = next((layer.in_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)), 3)
    try:
        with torch.no_grad():
            model(torch.zeros(1, channels, image_size, image_size, device=trainer.group.device))
    except ValueError as error:
        raise InputError(
            f"one image is too small a batch for this network's batch norm ({error}): "
            "give a larger --batch-size, or start fewer processes" + (", or --repeat-unmixed" if once else "")
        ) from error


def _may_come_once(options: TrainingOptions) -> bool:
    """Whether there are batches that a coin leaves unmixed, and whose views are given once."""
    mixes_all = uses_pair(options.aug) and recipe_of(vars(options)).pair_probability == 1
    return options.may_be_unmixed and not (options.repeats_unmixed or mixes_all)


def restore(trainer: Trainer, state: dict[str, Any] | None, make: Callable[[int], Kind], group: Group) -> Kind:
    """The training loader that `make` gives for a seed, with trainer and loader where `state` was saved.

    Raises InputError where an update would need more batches than an epoch has.
    """
    loader = _restored(trainer, state, make, group)
    batches = len(loader)
    if trainer.options.accumulate > max(1, batches):
        loader.close()
        raise InputError(
            f"--accumulate {trainer.options.accumulate} is more than the {batches} batches of an epoch, whose end "
            f"moves the weights in any case: give at most {batches}, or a smaller --batch-size"
        )
    return loader


def _restored(trainer: Trainer, state: dict[str, Any] | None, make: Callable[[int], Kind], group: Group) -> Kind:
    if state is None:
        return make(trainer.loader_seed())
    trainer.load(state)
    loader = make(trainer.loader_seed())
    reason = trainer.load_stream(state, loader)
    if group.main:
        say(f"continuing at {checkpoint.where(state)}")
        if changed := changes(state["options"], trainer.options):
            say(f"changed since then: {', '.join(changed)}")
    if reason is None:
        return loader
    loader.close()
    trainer.restart_epoch()
    if group.main:
        say(f"the checkpoint's place within its epoch cannot be used: {reason}.")
        first = trainer.position.epoch + 1 + trainer.position.trained
        say(f"epoch {first} starts from its beginning, in a new order of images")
    return make(trainer.loader_seed())
