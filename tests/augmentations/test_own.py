"""An augmentation that is not in the package: the example that the documentation shows."""

import os
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from helpers.examples import example
from helpers.forms import assert_forms_agree
from helpers.project import ROOT
from helpers.run_files import rows_of

from apr_dali.augmentations import apply, find, registry, sample_and_apply
from apr_dali.errors import InputError
from apr_dali.eval.analyses.method_gallery import changed, shown
from apr_dali.training.options import CifarOptions, ImageNetOptions
from apr_dali.transforms import Augment

OPTIONS = (CifarOptions, partial(ImageNetOptions, data="sample"))


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(registry, "_added", {})
    return example("own_augmentation")


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 14), (33, 20)], ids=str)
def test_both_forms_agree(own, size):
    assert_forms_agree(own.TILT, np.random.default_rng(0).random((4, 3, *size)))


def test_it_is_known_by_its_name(own, crops):
    images = crops(4, 12, 16)
    assert find("tilt") is own.TILT
    assert own.largest_difference(images) <= 1
    flat = own.TiltDraws(12, 16, 3, np.zeros(4))
    np.testing.assert_array_equal(apply("tilt", images, flat), images)
    expected = sample_and_apply("tilt", images, int(np.random.default_rng((2,)).integers(2**63)), deviation=0.5)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    got = Augment("tilt", seed=2, deviation=0.5)(planes)
    np.testing.assert_array_equal(got.permute(0, 2, 3, 1).numpy(), expected)
    assert (expected != images).any()


def test_it_does_what_it_says(own):
    images = np.random.default_rng(0).random((1, 1, 8, 8))
    got = own.define(images, own.TiltDraws(8, 8, 1, np.array([2.0])))
    ratio = np.abs(np.fft.fft2(got) / np.fft.fft2(images))[0, 0]
    np.testing.assert_allclose((ratio[0, 0], ratio[0, 1], ratio[2, 0], ratio[3, 4], ratio[7, 7]), (1, 1, 4, 25, 2))


def test_its_file_may_run_again(own, crops):
    again = example("own_augmentation")
    assert again.TiltDraws is not own.TiltDraws
    assert find("tilt") is again.TILT
    assert again.largest_difference(crops(2, 12, 16)) <= 1


@pytest.mark.usefixtures("own")
def test_trainers_and_gallery_know_it(crops):
    for options in OPTIONS:
        plan = options(aug="tilt", aug_form="both").aug_plan
        assert plan.changes == ("", "tilt")
    assert "tilt" in shown()
    images = crops(2, 12, 16)
    assert (changed(images, "tilt", 0, "cifar10") != images).any(axis=(1, 2, 3)).all()


def test_what_is_not_registered_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(registry, "_added", {})
    for options in OPTIONS:
        with pytest.raises(InputError, match=r"--aug must be one of .*'tilt'"):
            options(aug="tilt")
    for name in (None, 5, ["afa"]):
        with pytest.raises(InputError, match="an augmentation is a name or an Augmentation, got"):
            find(name)


@pytest.mark.slow
def test_a_script_of_ones_own_trains_with_it_and_shows_it(tmp_path):
    page = (ROOT / "docs/augmentations.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "own_augmentation" in block)
    (tmp_path / "my_train.py").write_text(code)
    (tmp_path / "my_apr.py").write_text(code.replace("train_cifar", "apr_dali.cli"))
    (tmp_path / "own_augmentation.py").write_text((ROOT / "examples/own_augmentation.py").read_text())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for command in (
        ["my_train.py", "--aug", "tilt", "--model", "wrn-16-1", "--epochs", "1", "--output", "run"],
        ["my_apr.py", "analyze", "gallery", "--aug", "tilt", "--size", "32", "--output", "gallery"],
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert 0.1 < rows_of(tmp_path / "run")[0]["train_loss"] < 20
    assert "|k|^s" in (tmp_path / "gallery/methods.html").read_text()


def test_its_draws_are_checked_as_others_are(own):
    with pytest.raises(InputError, match="height must be at least 1"):
        own.TILT.sample(2, 0, 8)
    with pytest.raises(InputError, match=r"TiltDraws.slope must have the shape \(2,\), got \(2, 1\)"):
        own.TiltDraws(8, 8, 3, np.zeros((2, 1)))
    with pytest.raises(InputError, match="tilt takes TiltDraws, got AfaDraws"):
        apply("tilt", np.zeros((2, 8, 8, 3), np.uint8), find("afa").sample(2, 8, 8, 0))
