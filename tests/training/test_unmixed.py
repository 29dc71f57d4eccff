"""Training on batches that come once where APR-P leaves them unmixed: the same weights as with both views."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from helpers.tolerances import ONCE_OR_TWICE
from torch import nn

from apr_dali import CifarLoader
from apr_dali.data.arrays import ArraySet
from apr_dali.errors import InputError
from apr_dali.recipes import CIFAR
from apr_dali.runtime.distributed import Group
from apr_dali.runtime.interrupts import Interrupts
from apr_dali.training import losses, options
from apr_dali.training.engine import Trainer
from apr_dali.training.logger import Logger

ALONE = Group(0, 1, 0, torch.device("cpu"))
COUNT, BATCH, CLASSES = 160, 8, 4


def small_set() -> ArraySet:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 12, 3), np.uint8)
    return ArraySet(pixels, np.arange(COUNT) % CLASSES, tuple("abcd"))


def network(heads: int = 1) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, heads * CLASSES)]
    return nn.Sequential(*layers, *([nn.Unflatten(1, (heads, CLASSES))] if heads > 1 else []))


def trained(repeat: bool, given: options.CifarOptions, steps: int = 20) -> tuple[Trainer, list[int], list[float]]:
    """The trainer after so many steps, the rows of each, and its losses."""
    model = network(2 if given.phase_weight != 1 else 1).double()
    objective = losses.objective(given, model, CLASSES, CIFAR, torch.device("cpu"))
    trainer = Trainer(model, given, ALONE, "small", objective)
    trainer.model.train()
    amplitudes = given.phase_weight != 1
    with CifarLoader(
        small_set(), BATCH, given.aug, seed=1, threads=1, repeat_unmixed=repeat, amplitude_labels=amplitudes
    ) as loader:
        assert len(loader) == steps
        seen = [
            (len(images), float(trainer.step(images.double(), targets, loader.views))) for images, targets in loader
        ]
    return trainer, *map(list, zip(*seen, strict=True))


@pytest.mark.parametrize("phase_weight", [1.0, 0.7])
def test_twenty_steps_with_and_without_the_copies_come_to_the_same_weights(phase_weight):
    given = options.CifarOptions(aug="apr-p", phase_weight=phase_weight, lr=0.05, label_smoothing=0.1)
    (once, rows, found), (twice, all_rows, expected) = trained(False, given), trained(True, given)
    assert (set(rows), set(all_rows)) == ({BATCH, 2 * BATCH}, {2 * BATCH})
    np.testing.assert_allclose(found, expected, rtol=ONCE_OR_TWICE)
    start = dict(network(2 if phase_weight != 1 else 1).double().named_parameters())
    for (name, weight), (_, other) in zip(once.model.named_parameters(), twice.model.named_parameters(), strict=True):
        assert (weight - other).abs().max() <= ONCE_OR_TWICE * other.abs().max(), name
        if not name.endswith("bias"):
            assert (weight - start[name]).abs().max() > 100 * ONCE_OR_TWICE * other.abs().max(), "it has learnt"
    for (name, value), (_, other) in zip(once.model.named_buffers(), twice.model.named_buffers(), strict=True):
        if name.endswith("running_mean"):
            torch.testing.assert_close(value, other, rtol=ONCE_OR_TWICE, atol=ONCE_OR_TWICE)


def test_only_the_factor_of_the_running_variance_differs():
    images, once, twice = torch.rand(4, 3, 5, 5), nn.BatchNorm2d(3, momentum=1.0), nn.BatchNorm2d(3, momentum=1.0)
    out, both = once(images), twice(images.repeat_interleave(2, 0))
    torch.testing.assert_close(out, both[::2])
    values = 4 * 5 * 5  # of a channel
    biased = once.running_var * (values - 1) / values
    torch.testing.assert_close(biased, twice.running_var * (2 * values - 1) / (2 * values))
    assert not torch.equal(once.running_var, twice.running_var)


@pytest.mark.parametrize("repeat", [False, True])
def test_images_are_counted_not_rows(repeat, tmp_path, monkeypatch):
    given = options.CifarOptions(aug="apr-p", epochs=1, batch_size=BATCH)
    trainer = Trainer(network(), given, ALONE, "small")
    monkeypatch.setattr(Trainer, "save", lambda *_, **__: None)
    with (
        CifarLoader(small_set(), BATCH, "apr-p", seed=1, threads=1, repeat_unmixed=repeat) as loader,
        Logger(tmp_path, True, 1, trainer.position) as logger,
        Interrupts(announce=False) as interrupts,
    ):
        trainer.train_epoch(loader, tmp_path, logger, interrupts)
    assert trainer._images == COUNT


def test_attacked_views_are_two_images_so_that_adversarial_training_has_both():
    assert options.CifarOptions(aug="apr-p", adversarial="fgsm").repeats_unmixed
    assert not options.CifarOptions(aug="apr-s", adversarial="fgsm").repeats_unmixed
    assert not options.CifarOptions(aug="apr-p").repeats_unmixed
    assert options.CifarOptions(aug="apr-p", repeat_unmixed=True).repeats_unmixed
    assert options.ImageNetOptions(data="x", aug="apr-p", repeat_unmixed=True).repeats_unmixed
    with pytest.raises(InputError, match="--repeat-unmixed changes nothing with --adversarial"):
        options.CifarOptions(aug="apr-p", adversarial="fgsm", repeat_unmixed=True)
    for kind in ({"dataset": "digits"}, {"data": "x"}):
        made = options.CifarOptions if "dataset" in kind else options.ImageNetOptions
        with pytest.raises(InputError, match="--repeat-unmixed changes nothing with --aug apr-s"):
            made(aug="apr-s", repeat_unmixed=True, **kind)


def test_the_runs_config_has_the_option():
    assert json.loads(json.dumps(asdict(options.CifarOptions(aug="apr-p", repeat_unmixed=True))))["repeat_unmixed"]


@pytest.mark.slow
def test_a_compiled_network_is_compiled_once_for_each_number_of_rows():
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(network(), backend="aot_eager")
    with CifarLoader(small_set(), BATCH, "apr-p", seed=1, threads=1) as loader:
        rows = []
        for images, targets in loader:
            rows.append(len(images))
            nn.functional.cross_entropy(compiled(images), targets).backward()
    assert set(rows) == {BATCH, 2 * BATCH}
    assert counters["stats"]["unique_graphs"] == 2
    torch._dynamo.reset()
