"""Train an ImageNet classifier with Amplitude-Phase Recombination.

    python train_imagenet.py --data sample --aug apr-sp --model resnet18 \\
        --epochs 20 --batch-size 32
    torchrun --standalone --nproc-per-node=8 train_imagenet.py \\
        --data /path/imagenet --aug apr-sp --amp bf16 \\
        --output runs/first --resume auto

The defaults are the published recipe: ResNet-50, 100 epochs, batch 256 over
all processes, SGD with learning rate 0.1, divided by 10 every 30 epochs,
momentum 0.9, weight decay 1e-4. Training parts may be folders of class
folders, folders of WebDataset tars, or file lists written by `apr-dali
check-data`. --recipe help prints other recipes.

The run folder gets latest.pt, previous.pt and best.pt, metrics.jsonl,
TensorBoard files, config.json, curves.png and samples.png. Ctrl-C and SIGTERM
save first; --resume auto continues, in mid-epoch with the very same batches.
"""

from __future__ import annotations

import apr_dali.runtime.spin_count  # isort: skip  # noqa: F401  before torch

import sys
from pathlib import Path

import numpy as np
from torch import nn

from apr_dali.models.build import model_name
from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.recipes import recipe_of, validation_view
from apr_dali.runtime.distributed import Group
from apr_dali.runtime.exit_status import run
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.training import datasets, losses, plots, run_dir, script
from apr_dali.training.corrupted import CorruptedValidation, check_best
from apr_dali.training.engine import Trainer
from apr_dali.training.epochs import run_epochs
from apr_dali.training.options import IMAGENET_RECIPES, ImageNetOptions
from apr_dali.training.progressive import ProgressiveLoader
from apr_dali.training.start import check_batch, restore


def main() -> None:
    script.main(ImageNetOptions, __doc__ or "", train, evaluate_only, IMAGENET_RECIPES)


def train(options: ImageNetOptions, group: Group) -> None:
    """The whole run. What can be wrong is looked at first, before the run folder is made."""
    output, source = script.choose(options, group)
    trained, validated = datasets.open_parts(options, group)
    assert trained is not None
    state = script.load(source, options, trained.classes) if source else None
    if state is not None:
        check_best(state, options)
    trainer = new_trainer(options, group, trained.classes, fresh=state is None)
    loader = restore(trainer, state, lambda seed: train_loader(options, group, trained, seed, trainer), group)
    check_batch(trainer, loader.views, min(options.all_sizes))
    val_loader = validation_loader(options, group, validated)
    datasets.check([trained, validated], options, group)
    corrupted = CorruptedValidation(trainer, options, validated) if options.validate_corrupted else None

    with loader, val_loader, run_dir.occupied(output, options, group, source):
        logger = script.begin(trainer, loader, val_loader, output, lambda: draw_samples(output, trained, options))
        with logger, Interrupts(announce=group.main) as interrupts:

            def judge(row: dict[str, float], network: nn.Module) -> float:
                if corrupted is not None:
                    row["corrupted_top1"] = corrupted.top1(network, output, interrupts)
                return row["corrupted_top1" if options.best_by == "corrupted" else "top1"]

            result = run_epochs(trainer, loader, val_loader, output, logger, interrupts, judge)
    datasets.print_left_out(group, loader, val_loader)
    script.end(trainer, output, result)


def evaluate_only(options: ImageNetOptions, group: Group) -> None:
    """Validate a checkpoint as its run did, whose options are the defaults here, and print the result."""
    state = script.load(Path(options.eval_only), options)
    classes = tuple(state["classes"])
    _, validated = datasets.open_parts(options, group, classes)
    datasets.check([validated], options, group)
    trainer = new_trainer(options, group, classes)
    with validation_loader(options, group, validated) as loader:
        script.validate_checkpoint(trainer, state, loader)
    datasets.print_left_out(group, loader)


# ---- parts -----------------------------------------------------------------------------------------------------------


def new_trainer(options: ImageNetOptions, group: Group, classes: tuple[str, ...], fresh: bool = False) -> Trainer:
    """The network with weights from the seed, and its optimizer. fresh: training begins with it, so with --weights."""
    model = script.new_network(options, len(classes), options.image_size, group, fresh, options.all_sizes)
    objective = losses.objective(options, model, len(classes), recipe_of(vars(options)), group.device)
    return Trainer(model, options, group, model_name(vars(options)), objective)


def train_loader(
    options: ImageNetOptions, group: Group, part: datasets.Images, seed: int, trainer: Trainer
) -> ProgressiveLoader:
    """Training batches. trainer: knows the epoch, by which images may grow."""
    return ProgressiveLoader(
        part,
        sizes=options.sizes,
        run_epoch=lambda: trainer.position.epoch,
        seed=seed,
        scale=options.scale,
        ratio=options.ratio,
        hflip=options.hflip,
        on_error=options.on_error,
        hw_decoder_load=options.hw_decoder_load,
        **script.train_options(options) | {"sampler": datasets.sampler(options, part)},
        **script.loader_options(options, group),
    )


def validation_loader(options: ImageNetOptions, group: Group, part: datasets.Images) -> ImageNetLoader:
    """Every validation image once, in any number of processes."""
    size, scaling = validation_view(vars(options))
    return ImageNetLoader(
        part,
        train=False,
        image_size=size,
        scaling=scaling,
        on_error=options.on_error,
        hw_decoder_load=options.hw_decoder_load,
        **script.loader_options(options, group),
    )


def draw_samples(output: Path, part: datasets.Images, options: ImageNetOptions) -> None:
    """samples.png: what the recipe makes of a few training photographs."""
    chosen = datasets.some_images(part, plots.SHOWN)
    crops = np.stack([plots.center_crop(image, options.image_size) for image, _ in chosen])
    plots.draw_samples(output / plots.SAMPLES, crops, [name for _, name in chosen], options, recipe_of(vars(options)))


if __name__ == "__main__":
    sys.exit(run(main))
