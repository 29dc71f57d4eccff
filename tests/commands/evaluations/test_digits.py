"""`apr-dali eval …` on digits, by their name."""

import numpy as np
import pytest
import torch
from helpers.eval_sets import (
    Ten,
    network,
)
from torch import nn

from apr_dali.data.arrays import load_set
from apr_dali.data.small_corruptions import CORRUPTIONS


def test_digits_by_their_name_in_every_evaluation(evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = network(32, classes=tuple("0123456789"), model=Ten())
    expected = load_set("digits", "val")
    for kind, more in (
        ("clean", []),
        ("calibration", []),
        ("ood", ["--ood", "same=digits"]),
        ("autoattack", ["--limit", 4, "--version", "apgd-ce"]),
    ):
        status, record = evaluate(kind, "--data", "digits", *more, model=model)
        assert status == 0
        if kind == "clean":
            assert record["result"]["images"] == len(expected)
            assert record["result"]["top1"] == pytest.approx((expected.labels == 3).mean())
        if kind == "ood":
            assert record["result"]["scores"]["energy"]["same"]["auroc"] == pytest.approx(0.5)


class Bright(nn.Module):
    """The digit 0 for images below a mean level, else 3."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean((1, 2, 3))[:, None] * 0.25 + 0.5 > 80.5 / 255
        return 5 * torch.where(bright, torch.eye(10)[3], torch.eye(10)[0])


def test_digits_are_corrupted_on_the_fly(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = network(32, classes=tuple("0123456789"), model=Bright())
    status, record = evaluate("corruption", "--data", "digits", "--clean", "digits", model=model)
    assert status == 0
    digits, result = load_set("digits", "val"), record["result"]
    for name, (corrupt, strengths) in CORRUPTIONS.items():
        for strength, error in zip(strengths, result["errors"][name], strict=True):
            bright = corrupt(digits.images, strength).mean((1, 2, 3)) > 80.5
            assert error == pytest.approx((np.where(bright, 3, 0) != digits.labels).mean()), name
    assert len({error for row in result["errors"].values() for error in row}) > 3
    assert result["mean_error"] == pytest.approx(np.mean(list(result["errors"].values())))
    assert result["kind"] == "digits"
    assert not {"ce", "mce", "generated_mce"} & set(result)
    told = capsys.readouterr().out
    assert "corrupted digits (made here, no published set): 10 classes, 355 images per cell" in told
    assert "missing" not in told
    assert "CIFAR" not in told
    assert f"mean error over 7 corruptions made here: {100 * result['mean_error']:.2f} %" in told


@pytest.mark.parametrize(
    ("size", "classes", "given", "message"),
    [
        (40, "0123456789", ["corruption", "--data", "digits"], "digits is a set of 32×32 images, and brightness takes"),
        (40, "0123456789", ["ood", "--data", "digits", "--ood", "x=digits"], "digits is a set of 32×32 images"),
        (40, "0123456789", ["clean", "--data", "digits"], "digits is a set of 32×32 images"),
        (40, "0123456789", ["shift", "imagenet-a", "--data", "digits"], "digits has none of ImageNet's classes"),
        (32, "abcdefghij", ["corruption", "--data", "digits"], "digits has 10 classes"),
    ],
)
def test_where_digits_make_no_sense(evaluate, tmp_path, monkeypatch, size, classes, given, message, capsys):
    monkeypatch.chdir(tmp_path)
    kind, *more = given
    status, record = evaluate(kind, *more, model=network(size, classes=tuple(classes), model=Ten()), record="x")
    assert (status, record) == (2, None)
    assert message in capsys.readouterr().err
