"""A small network, trained on scikit-learn's digits in half a minute: what an analysis shows where none is given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from apr_dali import models
from apr_dali.data.arrays import ArraySet, load_set
from apr_dali.models.build import model_name
from apr_dali.pipelines.cifar_loader import CifarLoader
from apr_dali.recipes import AprRecipe, recipe_of
from apr_dali.runtime import checkpoint, torch_threads
from apr_dali.runtime.distributed import Group
from apr_dali.training import losses
from apr_dali.training.engine import Trainer
from apr_dali.training.options import CifarOptions
from apr_dali.training.schedule import learning_rate, set_learning_rate

SMALL = CifarOptions(model="wrn-16-1", epochs=4, batch_size=32, lr=0.05)
"""Options with which the digits are learned in half a minute on a core: 98 % of the test images."""
_RISING = 10  # steps over which the learning rate rises


def digits_network(folder: Path, group: Group, options: CifarOptions = SMALL) -> Path:
    """The checkpoint of a network for digits below `folder`, trained now if there is none of the same options."""
    asked = {name: value for name, value in asdict(options).items() if name != "threads"}
    digest = hashlib.sha256(json.dumps([asked, torch.__version__, group.device.type], sort_keys=True).encode())
    home = folder / f"digits-{options.model}-{options.epochs}-seed{options.seed}-{digest.hexdigest()[:8]}"
    path = home / checkpoint.LATEST
    if not path.is_file():
        epochs = f"{options.epochs} epochs, about half a minute"
        print(f"no MODEL given: training {options.model} on the digits for {epochs}; kept as {path}")
        home.mkdir(parents=True, exist_ok=True)
        data = load_set("digits", "train")
        fit(data, options, group, home=home)
    return path


def fit(
    data: ArraySet,
    options: CifarOptions,
    group: Group,
    *,
    model: nn.Module | None = None,
    after_step: Callable[[], None] | None = None,
    home: Path | None = None,
    as_published: bool = False,
) -> nn.Module:
    """The network that `options` train on `data`, in eval mode; the learning rate falls to 0 over the whole run.

    The same options give the same weights on the same machine; torch's generators are left as they were.

    model: on the CPU, in place of a new one with weights from the seed. after_step: is called after each update, as
    a projection wants it. home: a folder that gets the checkpoint latest.pt.
    as_published: mirror images (but digits) and let the learning rate fall in steps, as train_cifar.py does.
    """
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        recipe = recipe_of(vars(options))
        network = model or models.build(vars(options), len(data.classes))
        models.check_input(network, data.images.shape[1], len(data.classes))
        torch_threads.choose(network, data.images.shape[1], 3, group.device)
        objective = losses.objective(options, network, len(data.classes), recipe, group.device)
        trainer = Trainer(network, options, group, model_name(vars(options)), objective)
        # A mirrored digit is another digit, or none.
        flip = as_published and options.dataset != "digits"
        with _loader(data, recipe, options, group, flip) as loader:
            trainer.model.train()
            length, steps = len(loader), options.epochs * len(loader)
            for step, (images, targets) in enumerate(batch for _ in range(options.epochs) for batch in loader):
                falling = options.lr * min(1.0, (step + 1) / _RISING) * (1 - step / steps)
                in_steps = learning_rate(options, step // length, step % length, length)
                set_learning_rate(trainer.optimizer, in_steps if as_published else falling)
                trainer.step(images, targets, loader.views, loader.batch_views)
                if after_step is not None:
                    after_step()
            if home is not None:
                trainer.save(loader, home)
    return trainer.model.eval()


def _loader(data: ArraySet, recipe: AprRecipe, options: CifarOptions, group: Group, flip: bool) -> CifarLoader:
    return CifarLoader(
        data,
        options.batch_size,
        options.aug,
        repeat_unmixed=options.repeats_unmixed,
        device=group.device,
        seed=options.seed,
        drop_last=True,
        flip=flip,
        recipe=recipe,
        memory_format=options.memory_format,
        threads=options.threads or None,
        amplitude_labels=options.phase_weight != 1,
    )
