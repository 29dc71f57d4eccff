"""Train a CIFAR classifier with Amplitude-Phase Recombination, or with what the paper compares it with.

    python train_cifar.py --aug apr-sp --model wrn-16-1 --epochs 20
    python train_cifar.py --dataset cifar10 --data /path/cifar --aug apr-sp --amp bf16 --output runs/first
    python train_cifar.py --dataset cifar10 --data /path/cifar --recipe fgsm-apr-sp --on-overfitting stop
    python train_cifar.py --model wrn-16-1 --epochs 20 --spectrum amplitude=low,phase=full
    torchrun --standalone --nproc-per-node=2 train_cifar.py --dataset cifar100 --data /path/cifar --aug apr-p

The defaults are the published recipe: WRN-40-2, 200 epochs, batch 128, SGD with Nesterov momentum 0.9, learning rate
0.1, times 0.2 after 60, 120, 160 and 190 epochs, weight decay 5e-4; APR-P on 60 % of the batches. --recipe takes the
published settings of adversarial training. Without --dataset it trains on scikit-learn's digits, which need no file.

The run folder gets latest.pt, previous.pt and best.pt, metrics.jsonl, TensorBoard files, config.json, curves.png and
samples.png. Ctrl-C and SIGTERM save first; --resume auto continues, in mid-epoch with the very same batches.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from apr_dali.data.arrays import ArraySet, download, load_set
from apr_dali.errors import InputError
from apr_dali.eval.clean import evaluate
from apr_dali.models import check_input, cifar_first, create_model, name_of_channels
from apr_dali.models.banded import behind, name_behind
from apr_dali.models.cifar import TWO_HEADS, SmallClassifier, TwoHeads
from apr_dali.models.filter_bands import MODULATED, keep_proportion, modulate_first
from apr_dali.pillow_ops import gray_levels
from apr_dali.pipelines.cifar_loader import CifarLoader
from apr_dali.recipes import CIFAR, CIFAR_ADVERSARIAL, AprRecipe
from apr_dali.runtime import checkpoint, torch_threads
from apr_dali.runtime.decoration import decoration
from apr_dali.runtime.distributed import Group, on_main, start
from apr_dali.runtime.exit_status import run
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.runtime.precision import LOADER_TYPES
from apr_dali.training import losses, plots, run_dir
from apr_dali.training.adversarial import Ball, CatastrophicOverfitting
from apr_dali.training.command_line import parse
from apr_dali.training.engine import Trainer, check_batch, restore, run_epochs, start_from_weights, validate
from apr_dali.training.logger import Logger
from apr_dali.training.options import CIFAR_RECIPES, CifarOptions

_SHOWN = 6  # images in samples.png


def main() -> None:
    options = parse(CifarOptions, __doc__ or "", recipes=CIFAR_RECIPES)
    with start(options.device) as group:
        if options.eval_only:
            evaluate_only(options, group)
        else:
            train(options, group)


# ---- training --------------------------------------------------------------------------------------------------------


def train(options: CifarOptions, group: Group) -> None:
    """The whole run. What can be wrong is looked at first, before the run folder is made."""
    name = architecture(options)
    output, source = on_main(group, lambda: run_dir.choose(options, name))
    trained, validated = open_parts(options, group)
    state = checkpoint.load(source, name, trained.classes) if source else None
    trainer = new_trainer(options, group, trained, fresh=state is None)
    loader = restore(trainer, state, lambda seed: train_loader(options, group, trained, seed), group)
    check_batch(trainer, loader.views, options.image_size)
    val_loader = validation_loader(options, group, validated)

    with loader, val_loader, run_dir.occupied(output, options, group, source):
        logger = Logger(output, group.main, options.epochs, trainer.position)
        if group.main:
            with decoration(f"drawing {plots.SAMPLES}"):
                draw_samples(output, trained, options)
            counts = f"{loader.num_images} training images, {val_loader.num_images} for validation"
            print(f"{name}: {counts}, in {output}")
        watch = catastrophic_overfitting(trainer, validated, output, logger)
        with logger, Interrupts(announce=group.main) as interrupts:
            result = run_epochs(trainer, loader, val_loader, output, logger, interrupts, watch)
            if watch is not None and watch.stopped:
                result = validate(trainer, val_loader, output, interrupts)
    if group.main:
        print(f"run folder: {output}\ntop-1 {result.top1:.2%} on {result.images} validation images")
        print(f"{trainer.images_per_second:.0f} training images/s")


def catastrophic_overfitting(
    trainer: Trainer, validated: ArraySet, output: Path, logger: Logger
) -> CatastrophicOverfitting | None:
    """In adversarial training, what looks at the accuracy under attack after each epoch, on a batch of validation."""
    options = trainer.options
    assert isinstance(options, CifarOptions)
    if options.adversarial == "none":
        return None
    used = recipe(options)
    ball = Ball(options.epsilon, used.mean, used.std, trainer.group.device)
    count = min(options.batch_size, len(validated))
    part = ArraySet(validated.images[:count], validated.labels[:count], validated.classes)
    with CifarLoader(part, count, train=False, recipe=used, threads=1) as loader:
        images, targets = next(iter(loader))
    stop = options.on_overfitting == "stop"
    return CatastrophicOverfitting(trainer, images, targets, ball, output, logger, stop)


# ---- parts -----------------------------------------------------------------------------------------------------------


def open_parts(options: CifarOptions, group: Group) -> tuple[ArraySet, ArraySet]:
    """Training and validation images."""
    fetch(options, group)
    trained = load_set(options.dataset, "train", options.data, options.image_size)
    return trained, validation_part(options, trained.classes)


def fetch(options: CifarOptions, group: Group) -> None:
    """Fetch the CIFAR archive if --download says so."""
    if options.download:
        on_main(group, lambda: download(options.dataset, options.data))


def validation_part(options: CifarOptions, classes: tuple[str, ...]) -> ArraySet:
    """The validation images, whose labels refer to `classes`."""
    return load_set(
        options.dataset,
        "val",
        options.data,
        options.image_size,
        classes,
        allow_missing_classes=options.allow_missing_classes,
    )


def architecture(options: CifarOptions) -> str:
    """The name that checkpoints keep."""
    first = MODULATED if options.first_layer == "modulated" else ""
    heads = TWO_HEADS if options.phase_weight != 1 else ""
    name = name_of_channels(cifar_first(options.model), options.in_chans)
    return name_behind(name + first + heads, options.spectrum, options.radii)


def new_trainer(options: CifarOptions, group: Group, trained: ArraySet, fresh: bool = False) -> Trainer:
    """The network with weights from the seed, once it has shown that it takes these images, and its loss.

    fresh: whether training begins with it, so with --weights.
    """
    classes = len(trained.classes)
    torch.manual_seed(options.seed)
    model = create_model(cifar_first(options.model), classes, options.in_chans)
    check_input(model, trained.images.shape[1], classes, options.in_chans)
    torch_threads.choose(model, trained.images.shape[1], options.in_chans, group.device)
    if fresh:
        start_from_weights(model, cifar_first(options.model), classes, options, group)
    if options.first_layer == "modulated":
        modulate_first(model, options.modulation_noise, options.seed)
    if options.phase_weight != 1:
        if not isinstance(model, SmallClassifier):
            raise InputError(f"--phase-weight needs one of the CIFAR networks, such as wrn-40-2, got {options.model}")
        model = TwoHeads(model, options.phase_weight)
    model = behind(model, options.spectrum, options.radii, recipe(options))
    objective = losses.objective(options, model, classes, recipe(options), group.device)
    trainer = Trainer(model, options, group, architecture(options), objective)
    if options.low_filters is not None:
        keep_proportion(trainer.model, trainer.optimizer, options.low_filters)
    return trainer


def recipe(options: CifarOptions) -> AprRecipe:
    """The published recipe with what the options change in it."""
    published = CIFAR if options.adversarial == "none" else CIFAR_ADVERSARIAL
    return replace(published, overflow=options.overflow, axes=options.axes, pair_probability=options.pair_probability)


def train_loader(options: CifarOptions, group: Group, trained: ArraySet, seed: int) -> CifarLoader:
    """Training batches. The last one of an epoch is left out unless it is full: batch norm wants equal batches."""
    return CifarLoader(
        trained,
        aug=options.aug,
        seed=seed,
        drop_last=True,
        # A mirrored digit is another digit, or none.
        flip=options.dataset != "digits",
        # The released adversarial training pads with black.
        fill=128 if options.adversarial == "none" else 0,
        single_probability=options.single_probability,
        amplitude_labels=options.phase_weight != 1,
        sampler=options.sampler,
        **common(options, group),
    )


def validation_loader(options: CifarOptions, group: Group, validated: ArraySet) -> CifarLoader:
    """Every validation image once, in any number of processes."""
    return CifarLoader(validated, train=False, **common(options, group))


def common(options: CifarOptions, group: Group) -> dict[str, Any]:
    """What both loaders are told."""
    return {
        "batch_size": group.share(options.batch_size),
        "device": "gpu" if group.device.type == "cuda" else "cpu",
        "device_id": group.device.index or 0,
        "shard": (group.rank, group.world),
        "dtype": LOADER_TYPES[options.amp],
        "memory_format": options.memory_format,
        "threads": options.threads or None,
        "recipe": recipe(options),
        "in_chans": options.in_chans,
    }


def draw_samples(output: Path, trained: ArraySet, options: CifarOptions) -> None:
    """samples.png: what APR makes of a few training images."""
    chosen = [n * len(trained) // _SHOWN for n in range(_SHOWN)]
    names = [trained.classes[trained.labels[n]] for n in chosen]
    shown = gray_levels(trained.images[chosen]) if options.in_chans == 1 else trained.images[chosen]
    plots.draw_samples(output / plots.SAMPLES, shown, names, options, recipe(options))


# ---- validation alone ------------------------------------------------------------------------------------------------


def evaluate_only(options: CifarOptions, group: Group) -> None:
    """Validate a checkpoint as its run did, whose options are the defaults here, and print the result."""
    path = Path(options.eval_only)
    state = checkpoint.load(path, architecture(options))
    fetch(options, group)
    validated = validation_part(options, tuple(state["classes"]))
    checkpoint.check_classes(state, path, validated.classes)
    trainer = new_trainer(options, group, validated)
    trainer.load(state)
    with validation_loader(options, group, validated) as loader:
        result = evaluate(trainer.evaluated, loader, group.device, trainer.amp)
    if group.main:
        print(f"top-1 {result.top1:.2%}, top-5 {result.top5:.2%}, loss {result.loss:.4f} on {result.images} images")


if __name__ == "__main__":
    sys.exit(run(main))
