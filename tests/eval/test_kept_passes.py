"""Passes that are kept on the disk: made once, whole or not at all, and made again where they are damaged."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers.eval_sets import network
from torch import nn

from apr_dali.eval.datasets import Feeding
from apr_dali.eval.head import Head
from apr_dali.eval.kept_passes import KeptPasses
from apr_dali.eval.passes import Source
from apr_dali.eval.session import Session
from apr_dali.runtime.distributed import Group

LAYER = nn.Linear(5, 3)
HEAD = Head(LAYER, "fc", LAYER.weight.detach(), LAYER.bias.detach())
IMAGES = torch.arange(35.0).reshape(7, 5)
FUNCTIONS = {"labels": lambda batch: batch.targets, "pairs": lambda batch: batch.images[:, :2].double() / 3}


class Passes:
    """Passes over 7 images in batches of 3; `ran` counts batches, and `stop_at` is the one at which Ctrl-C comes."""

    def __init__(self, folder) -> None:
        group = Group(0, 1, 0, torch.device("cpu"))
        made = network()
        session = Session(made, LAYER, group, Feeding(made, group, 3, "none"), folder)
        self.ran, self.stop_at = 0, None
        self.folder = folder / "x.features"
        self.kept = KeptPasses(session, LAYER, HEAD, self.folder)
        self.without_features = KeptPasses(session, LAYER, None, folder / "y.features")

    def batches(self):
        for part, labels in zip(IMAGES.split(3), torch.arange(7).split(3), strict=True):
            self.ran += 1
            if self.ran == self.stop_at:
                raise KeyboardInterrupt
            yield part, labels

    @property
    def source(self) -> Source:
        return Source("training", 7, lambda: nullcontext(self.batches()), lambda: "0")


@pytest.fixture
def passes(tmp_path):
    return Passes(tmp_path)


def check(found) -> None:
    np.testing.assert_array_equal(np.concatenate(list(found.features.chunks(2))), IMAGES.numpy())
    assert list(found.values) == ["labels", "pairs"]
    np.testing.assert_array_equal(found.values["labels"], np.arange(7))
    np.testing.assert_array_equal(found.values["pairs"], IMAGES[:, :2].double().numpy() / 3)


def test_a_pass_is_made_once(passes, tmp_path):
    check(passes.kept.of(passes.source, FUNCTIONS))
    check(passes.kept.of(passes.source, FUNCTIONS))
    check(Passes(tmp_path).kept.of(passes.source, FUNCTIONS))
    assert passes.ran == 3
    assert (passes.folder / "training" / "rows.0.f16").stat().st_size == 7 * 5 * 2


def test_a_stopped_pass_leaves_nothing(passes):
    passes.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        passes.kept.of(passes.source, FUNCTIONS)
    assert not list(passes.folder.iterdir())
    check(passes.kept.of(passes.source, FUNCTIONS))
    assert passes.ran == 2 + 3


def test_what_a_killed_pass_left_is_not_taken_for_it(passes):
    left = passes.folder / "training-abc.rows"
    left.mkdir(parents=True)
    (left / "rows.0.f16").write_bytes(b"1234")
    check(passes.kept.of(passes.source, FUNCTIONS))
    assert [path.name for path in passes.folder.iterdir()] == ["training"]


@pytest.mark.parametrize("name", ["rows.0.f16", "values.npz"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_pass_is_made_again(passes, name, damage):
    passes.kept.of(passes.source, FUNCTIONS)
    path = passes.folder / "training" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    check(passes.kept.of(passes.source, FUNCTIONS))
    assert passes.ran == 6


def test_a_pass_without_features(passes):
    found = passes.without_features.of(passes.source, FUNCTIONS)
    assert len(found.features) == 0
    np.testing.assert_array_equal(found.values["labels"], np.arange(7))
    assert passes.without_features.of(passes.source, FUNCTIONS).values["pairs"].shape == (7, 2)
    assert passes.ran == 3
