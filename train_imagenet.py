"""Train an ImageNet classifier with Amplitude-Phase Recombination in the data pipeline.

    python train_imagenet.py --data sample --aug apr-sp --model resnet18 --epochs 20 --batch-size 32
    torchrun --standalone --nproc-per-node=8 train_imagenet.py --data /path/imagenet --aug apr-sp --amp bf16
    torchrun --standalone --nproc-per-node=8 train_imagenet.py --data /path/imagenet --aug apr-sp --amp bf16 \\
        --output runs/first --resume auto

The defaults are the published recipe: ResNet-50, 100 epochs, batch 256 over all processes, SGD with learning rate 0.1,
divided by 10 every 30 epochs, momentum 0.9, weight decay 1e-4. Training parts may be folders of class folders, folders
of WebDataset tars, or file lists written by `apr-dali check-data`.

The run folder gets latest.pt, previous.pt and best.pt, metrics.jsonl, TensorBoard files, config.json, curves.png and
samples.png. Ctrl-C and SIGTERM save first; --resume auto continues, in mid-epoch with the very same batches.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apr_dali.eval.clean import evaluate
from apr_dali.models import canonical_name, check_input, create_model, name_of_channels
from apr_dali.pillow_ops import gray_levels
from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.recipes import IMAGENET, AprRecipe
from apr_dali.runtime import checkpoint, torch_threads
from apr_dali.runtime.decoration import decoration
from apr_dali.runtime.distributed import Group, on_main, start
from apr_dali.runtime.exit_status import run
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.runtime.precision import LOADER_TYPES
from apr_dali.training import datasets, plots, run_dir
from apr_dali.training.command_line import parse
from apr_dali.training.engine import Trainer, check_batch, restore, run_epochs, start_from_weights
from apr_dali.training.logger import Logger
from apr_dali.training.options import ImageNetOptions

_SHOWN = 6  # photographs in samples.png


def main() -> None:
    options = parse(ImageNetOptions, __doc__ or "")
    with start(options.device) as group:
        if options.eval_only:
            evaluate_only(options, group)
        else:
            train(options, group)


# ---- training --------------------------------------------------------------------------------------------------------


def train(options: ImageNetOptions, group: Group) -> None:
    """The whole run. What can be wrong is looked at first, before the run folder is made."""
    name = architecture(options)
    output, source = on_main(group, lambda: run_dir.choose(options, name))
    trained, validated = datasets.open_parts(options, group)
    assert trained is not None
    state = checkpoint.load(source, name, trained.classes) if source else None
    model = new_model(options, len(trained.classes))
    torch_threads.choose(model, options.image_size, options.in_chans, group.device)
    if state is None:
        start_from_weights(model, canonical_name(options.model), len(trained.classes), options, group)
    trainer = Trainer(model, options, group, name)
    loader = restore(trainer, state, lambda seed: train_loader(options, group, trained, seed), group)
    check_batch(trainer, loader.views, options.image_size)
    val_loader = validation_loader(options, group, validated)
    datasets.check([trained, validated], options, group)

    with loader, val_loader, run_dir.occupied(output, options, group, source):
        logger = Logger(output, group.main, options.epochs, trainer.position)
        if group.main:
            with decoration(f"drawing {plots.SAMPLES}"):
                draw_samples(output, trained, options)
            counts = f"{loader.num_images} training images, {val_loader.num_images} for validation"
            print(f"{name}: {counts}, in {output}")
        with logger, Interrupts(announce=group.main) as interrupts:
            result = run_epochs(trainer, loader, val_loader, output, logger, interrupts)
    tell_left_out(group, loader, val_loader)
    if group.main:
        print(f"run folder: {output}\ntop-1 {result.top1:.2%} on {result.images} validation images")
        print(f"{trainer.images_per_second:.0f} training images/s")


# ---- parts -----------------------------------------------------------------------------------------------------------


def architecture(options: ImageNetOptions) -> str:
    """The name that checkpoints keep."""
    return name_of_channels(canonical_name(options.model), options.in_chans)


def new_model(options: ImageNetOptions, classes: int) -> torch.nn.Module:
    """The network with weights from the seed, once it has shown that it takes images of this size."""
    torch.manual_seed(options.seed)
    model = create_model(options.model, classes, options.in_chans)
    check_input(model, options.image_size, classes, options.in_chans)
    return model


def recipe(options: ImageNetOptions) -> AprRecipe:
    """The published recipe with what the options change in it."""
    return replace(IMAGENET, overflow=options.overflow, axes=options.axes, pair_probability=options.pair_probability)


def train_loader(options: ImageNetOptions, group: Group, part: datasets.Images, seed: int) -> ImageNetLoader:
    """Training batches. The last one of an epoch is left out unless it is full: batch norm wants equal batches."""
    return ImageNetLoader(
        part,
        aug=options.aug,
        seed=seed,
        drop_last=True,
        recipe=recipe(options),
        scale=options.scale,
        ratio=options.ratio,
        hflip=options.hflip,
        sampler=options.sampler,
        **common(options, group),
    )


def validation_loader(options: ImageNetOptions, group: Group, part: datasets.Images) -> ImageNetLoader:
    """Every validation image once, in any number of processes."""
    return ImageNetLoader(part, train=False, **common(options, group))


def common(options: ImageNetOptions, group: Group) -> dict[str, Any]:
    """What both loaders are told."""
    return {
        "batch_size": group.share(options.batch_size),
        "device": "gpu" if group.device.type == "cuda" else "cpu",
        "device_id": group.device.index or 0,
        "shard": (group.rank, group.world),
        "dtype": LOADER_TYPES[options.amp],
        "memory_format": options.memory_format,
        "image_size": options.image_size,
        "threads": options.threads or None,
        "on_error": options.on_error,
        "hw_decoder_load": options.hw_decoder_load,
        "in_chans": options.in_chans,
    }


def tell_left_out(group: Group, *loaders: ImageNetLoader) -> None:
    """Say how many images no process could decode, if any."""
    count = datasets.left_out(group, [path for loader in loaders for path in loader.skipped])
    if count and group.main:
        print(f"{count} images were left out because they cannot be decoded")


def draw_samples(output: Path, part: datasets.Images, options: ImageNetOptions) -> None:
    """samples.png: what the recipe makes of a few training photographs."""
    chosen = datasets.some_images(part, _SHOWN)
    crops = np.stack([plots.center_crop(image, options.image_size) for image, _ in chosen])
    if options.in_chans == 1:
        crops = gray_levels(crops)
    plots.draw_samples(output / plots.SAMPLES, crops, [name for _, name in chosen], options, recipe(options))


# ---- validation alone ------------------------------------------------------------------------------------------------


def evaluate_only(options: ImageNetOptions, group: Group) -> None:
    """Validate a checkpoint as its run did, whose options are the defaults here, and print the result."""
    state = checkpoint.load(Path(options.eval_only), architecture(options))
    classes = tuple(state["classes"])
    _, validated = datasets.open_parts(options, group, classes)
    datasets.check([validated], options, group)
    model = new_model(options, len(classes))
    torch_threads.choose(model, options.image_size, options.in_chans, group.device)
    trainer = Trainer(model, options, group, state["architecture"])
    trainer.load(state)
    with validation_loader(options, group, validated) as loader:
        result = evaluate(trainer.evaluated, loader, group.device, trainer.amp)
    tell_left_out(group, loader)
    if group.main:
        print(f"top-1 {result.top1:.2%}, top-5 {result.top5:.2%}, loss {result.loss:.4f} on {result.images} images")


if __name__ == "__main__":
    sys.exit(run(main))
