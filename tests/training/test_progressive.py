"""The training loader whose images grow: what it gives in each epoch, and that a run goes on anywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from helpers.image_sets import write_classes

from apr_dali.errors import InputError
from apr_dali.training.progressive import ProgressiveLoader
from apr_dali.training.sizes import Sizes

BATCH, COUNT = 3, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    images = [photos[n % 4][: 80 + n, : 90 + n] for n in range(COUNT)]
    return write_classes(tmp_path_factory.mktemp("images"), images)


@dataclass
class Run:
    """What a trainer knows of a run."""

    epoch: int = 0


SIZES = Sizes((32, 64), (0, 2))  # 32, 48 rounds to 64 or 32, 64


def make(folder, run: Run, sizes: Sizes = SIZES, **given) -> ProgressiveLoader:
    return ProgressiveLoader(
        folder, BATCH, "apr-p", sizes=sizes, run_epoch=lambda: run.epoch, threads=1, seed=1, **given
    )


def epoch_of(loader, run: Run) -> list[tuple]:
    batches = list(loader)
    run.epoch += 1
    return batches


def same(found: list[tuple], expected: list[tuple]) -> bool:
    return len(found) == len(expected) and all(
        all(map(torch.equal, *pair)) for pair in zip(found, expected, strict=True)
    )


def test_images_grow_between_epochs_and_each_comes_once(folder):
    run = Run()
    with make(folder, run, with_index=True) as loader:
        epochs = [epoch_of(loader, run) for _ in range(4)]
    for epoch, batches in enumerate(epochs):
        assert {images.shape[-1] for images, *_ in batches} == {SIZES.at(epoch)}
        assert sorted({int(number) for *_, index in batches for number in index}) == list(range(COUNT))
    orders = [[int(number) for *_, index in batches for number in index.unique()] for batches in epochs]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("stop", range(3 * COUNT // BATCH))
def test_a_run_that_goes_on_anywhere_has_the_batches_that_would_have_come(folder, stop):
    """As `Trainer` takes them: it ends the epoch after the loader has."""
    per_epoch = COUNT // BATCH
    run, expected = Run(), []
    with make(folder, run) as loader:
        for _ in range(3):
            expected += epoch_of(loader, run)
    run = Run()
    with make(folder, run) as loader:
        for _ in range(stop // per_epoch):
            epoch_of(loader, run)
        ongoing = iter(loader) if stop % per_epoch else None
        for _ in range(stop % per_epoch):
            next(ongoing)
        state = json.loads(json.dumps(loader.state_dict()))
    with make(folder, run) as again:
        again.load_state_dict(state)
        found = []
        while run.epoch < 3:
            found += epoch_of(again, run)
    assert same(found, expected[stop:])


def test_a_state_of_other_sizes_is_refused_within_an_epoch(folder):
    run = Run()
    with make(folder, run) as loader:
        next(iter(loader))
        within = loader.state_dict()
    with make(folder, run, Sizes((64,), (0,))) as other, pytest.raises(InputError, match="image_size 32, now 64"):
        other.load_state_dict(within)
