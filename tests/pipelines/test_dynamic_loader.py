"""Epochs in DALI's dynamic mode: each image once, APR behind what DALI captures, seeds."""

from __future__ import annotations

import inspect

import pytest
import torch
from helpers.loaders import STEP, flat_epoch, orders_of, which, write_flat

import apr_dali
from apr_dali.bench.checks import check_pair
from apr_dali.draws import coin_of
from apr_dali.errors import InputError
from apr_dali.pipelines.dynamic import apr_single
from apr_dali.recipes import IMAGENET

pytest.importorskip("nvidia.dali.experimental.dynamic.capture", reason="needs DALI 2.3 or newer")

from apr_dali.pipelines import dynamic_loader
from apr_dali.pipelines.dynamic_loader import DynamicLoader

SIZE = 16


def options_of(**changed):
    return {"image_size": SIZE, "threads": 1, "seed": 1} | changed


@pytest.mark.parametrize("world", [1, 2])
def test_every_image_once_an_epoch_in_another_order(tmp_path, world):
    folder = write_flat(tmp_path, 15)
    loaders = [DynamicLoader(folder, 4, "none", **options_of(shard=(rank, world))) for rank in range(world)]
    orders_of(loaders, flat_epoch, 15, train=True)


def test_the_views_of_a_captured_epoch_are_apr_p(sample):
    loader = DynamicLoader(f"{sample}/train", 16, "apr-p", **options_of())
    for _ in range(2):  # the second one is captured from its first batch on
        for batch, (images, targets) in enumerate(loader):
            views = 1 + (coin_of(1, loader.epoch, batch) < IMAGENET.pair_probability)
            assert (images.shape, targets.shape) == ((views * 16, 3, SIZE, SIZE), (views * 16,))
            if views == 2:
                both = images.double().numpy().reshape(-1, 2, 3, SIZE, SIZE)
                check_pair("dynamic", both[:, 0], both[:, 1], IMAGENET)
    assert loader.epoch == 2


def test_single_stands_before_pair(sample, monkeypatch):
    """The clean view is what APR-S made, normalized."""
    made = []

    def single(images, **options):
        made.append(apr_single(images, **options))
        return made[-1]

    monkeypatch.setattr(dynamic_loader, "apr_single", single)
    images, _ = next(iter(DynamicLoader(f"{sample}/train", 16, "apr-sp", **options_of())))
    levels = 255 * (images * torch.tensor(IMAGENET.std).view(3, 1, 1) + torch.tensor(IMAGENET.mean).view(3, 1, 1))
    clean = levels[:: len(images) // 16].permute(0, 2, 3, 1).round().to(torch.uint8)
    assert torch.equal(clean, made[0].torch())


def test_epochs_repeat_with_their_seed(sample):
    def epochs(seed):
        loader = DynamicLoader(f"{sample}/train", 32, "apr-sp", **options_of(seed=seed))
        return [images.sum().item() for _ in range(2) for images, _ in loader]

    assert epochs(3) == epochs(3) != epochs(4)


def test_an_epoch_left_early_is_followed_by_another_one(tmp_path):
    loader = DynamicLoader(write_flat(tmp_path, 15), 15, "none", **options_of())
    (first, _) = next(iter(loader))
    second = flat_epoch(loader)
    assert loader.epoch == 2
    assert sorted(second) == list(range(15))
    assert which(first, STEP) != second


def test_the_loader_has_the_defaults_of_the_pipelines_loader():
    ours, theirs = (inspect.signature(loader).parameters for loader in (DynamicLoader, apr_dali.ImageNetLoader))
    assert all(theirs[name].default == given.default for name, given in ours.items())


def test_a_new_epoch_during_another_one_is_refused_by_dali_not_mixed_up(sample):
    loader, alone = (DynamicLoader(f"{sample}/train", 32, "apr-sp", **options_of()) for _ in range(2))
    expected = [images for _ in range(2) for images, _ in alone]
    first = iter(loader)
    found = [next(first)[0]]
    with pytest.raises(RuntimeError, match="Only one capture-mode loop can be active"):
        next(iter(loader))
    found += [images for images, _ in first]
    assert loader.epoch == 1
    found += [images for images, _ in loader]
    assert all(map(torch.equal, found, expected))
    assert len(found) == len(expected)


def test_more_processes_than_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="3 images cannot be shared out among 4 processes"):
        DynamicLoader(write_flat(tmp_path, 3), 4, "none", **options_of(shard=(0, 4)))
