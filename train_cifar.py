"""Train a CIFAR classifier with Amplitude-Phase Recombination, or its rivals.

    python train_cifar.py --aug apr-sp --model wrn-16-1 --epochs 20
    python train_cifar.py --dataset cifar10 --data /path/cifar --aug apr-sp \\
        --amp bf16 --output runs/first
    python train_cifar.py --dataset cifar10 --data /path/cifar \\
        --recipe fgsm-apr-sp --on-overfitting stop
    python train_cifar.py --model wrn-16-1 --epochs 20 \\
        --spectrum amplitude=low,phase=full
    torchrun --standalone --nproc-per-node=2 train_cifar.py \\
        --dataset cifar100 --data /path/cifar --aug apr-p

The defaults are the published recipe: WRN-40-2, 200 epochs, batch 128, SGD
with Nesterov momentum 0.9, learning rate 0.1, times 0.2 after 60, 120, 160
and 190 epochs, weight decay 5e-4; APR-P on 60 % of the batches. --recipe
takes the published settings of adversarial training. Without --dataset it
trains on scikit-learn's digits, which need no file.

The run folder gets latest.pt, previous.pt and best.pt, metrics.jsonl,
TensorBoard files, config.json, curves.png and samples.png. Ctrl-C and SIGTERM
save first; --resume auto continues, in mid-epoch with the very same batches.
"""

from __future__ import annotations

import apr_dali.runtime.spin_count  # isort: skip  # noqa: F401  before torch

import sys
from pathlib import Path

from apr_dali.data.arrays import ArraySet, download, load_set
from apr_dali.data.sampling import evenly
from apr_dali.models.build import model_name
from apr_dali.models.filter_bands import keep_proportion
from apr_dali.pipelines.cifar_loader import CifarLoader
from apr_dali.recipes import recipe_of
from apr_dali.runtime.distributed import Group, on_main
from apr_dali.runtime.exit_status import run
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.training import adversarial, losses, plots, run_dir, script
from apr_dali.training.engine import Trainer
from apr_dali.training.epochs import run_epochs, validate
from apr_dali.training.options import CIFAR_RECIPES, CifarOptions
from apr_dali.training.start import check_batch, restore


def main() -> None:
    script.main(CifarOptions, __doc__ or "", train, evaluate_only, CIFAR_RECIPES)


def train(options: CifarOptions, group: Group) -> None:
    """The whole run. What can be wrong is looked at first, before the run folder is made."""
    output, source = script.choose(options, group)
    trained, validated = open_parts(options, group)
    state = script.load(source, options, trained.classes) if source else None
    trainer = new_trainer(options, group, trained, fresh=state is None)
    loader = restore(trainer, state, lambda seed: train_loader(options, group, trained, seed), group)
    check_batch(trainer, loader.views, options.image_size)
    val_loader = validation_loader(options, group, validated)

    with loader, val_loader, run_dir.occupied(output, options, group, source):
        logger = script.begin(trainer, loader, val_loader, output, lambda: draw_samples(output, trained, options))
        watch = adversarial.watch(trainer, validated, recipe_of(vars(options)), output, logger)
        with logger, Interrupts(announce=group.main) as interrupts:
            result = run_epochs(trainer, loader, val_loader, output, logger, interrupts, watch)
            if watch is not None and watch.stopped:
                result = validate(trainer, val_loader, output, interrupts)
    script.end(trainer, output, result)


def evaluate_only(options: CifarOptions, group: Group) -> None:
    """Validate a checkpoint as its run did, whose options are the defaults here, and print the result."""
    state = script.load(Path(options.eval_only), options)
    fetch(options, group)
    validated = validation_part(options, tuple(state["classes"]))
    trainer = new_trainer(options, group, validated)
    with validation_loader(options, group, validated) as loader:
        script.validate_checkpoint(trainer, state, loader)


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


def new_trainer(options: CifarOptions, group: Group, part: ArraySet, fresh: bool = False) -> Trainer:
    """The network with weights from the seed, its loss and its optimizer. fresh: training begins with it."""
    classes = len(part.classes)
    model = script.new_network(options, classes, part.images.shape[1], group, fresh)
    objective = losses.objective(options, model, classes, recipe_of(vars(options)), group.device)
    trainer = Trainer(model, options, group, model_name(vars(options)), objective)
    if options.low_filters is not None:
        keep_proportion(trainer.model, trainer.optimizer, options.low_filters)
    return trainer


def train_loader(options: CifarOptions, group: Group, trained: ArraySet, seed: int) -> CifarLoader:
    """Training batches."""
    return CifarLoader(
        trained,
        seed=seed,
        # A mirrored digit is another digit, or none.
        flip=options.dataset != "digits",
        # The released adversarial training pads with black.
        fill=128 if options.adversarial == "none" else 0,
        single_probability=options.single_probability,
        amplitude_labels=options.phase_weight != 1,
        **script.train_options(options),
        **script.loader_options(options, group),
    )


def validation_loader(options: CifarOptions, group: Group, validated: ArraySet) -> CifarLoader:
    """Every validation image once, in any number of processes."""
    recipe = recipe_of(vars(options))
    return CifarLoader(validated, train=False, recipe=recipe, **script.loader_options(options, group))


def draw_samples(output: Path, trained: ArraySet, options: CifarOptions) -> None:
    """samples.png: what APR makes of a few training images."""
    chosen = evenly(len(trained), plots.SHOWN)
    names = [trained.classes[trained.labels[n]] for n in chosen]
    plots.draw_samples(output / plots.SAMPLES, trained.images[chosen], names, options, recipe_of(vars(options)))


if __name__ == "__main__":
    sys.exit(run(main))
