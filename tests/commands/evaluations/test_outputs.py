"""What networks can get wrong, named before anything runs and never a result."""

import pytest
import torch
from helpers.eval_sets import (
    CLASSES,
    Brightness,
    network,
    write_levels,
)
from torch import nn

from apr_dali.eval.checks import check_outputs


class Wrong(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = Brightness()(images)
        if self.kind == "nan":
            logits = torch.where(torch.arange(len(logits))[:, None] == 1, torch.nan, logits)
        if self.kind == "later":
            logits = torch.where(images.mean((1, 2, 3))[:, None] > 0.5, torch.nan, logits)
        if self.kind == "fails":
            raise AssertionError("Wrong image height! Expected 224 but got 40!")
        return {
            "later": logits,
            "nan": logits,
            "softmax": logits.softmax(1),
            "classes": logits[:, :2],
            "flat": logits[:, 0],
        }[self.kind]


@pytest.mark.parametrize(
    ("evaluation", "kind", "message"),
    [
        ("corruption", "nan", "nan or infinite for 1 of the first 5 images"),
        ("ood", "nan", "nan or infinite for 1 of the first 5 images"),
        ("calibration", "nan", "nan or infinite for 1 of the first 5 images"),
        ("clean", "nan", "nan or infinite for 1 of the first 5 images"),
        ("clean", "fails", "fails on 5 images of the shape (3, 40, 40) (AssertionError: Wrong image height!"),
        ("clean", "softmax", "gives probabilities: expected logits"),
        ("clean", "classes", "shape (5, 3), got (5, 2)"),
        ("clean", "flat", "shape (5, 3), got (5,)"),
    ],
)
def test_wrong_outputs_are_named_before_anything_runs(evaluate, corrupted, kind, message, evaluation, capsys):
    data = corrupted[0] if evaluation == "corruption" else corrupted[0] / "fog" / "1"
    more = ["--ood", f"x={corrupted[0]}/fog/2"] if evaluation == "ood" else []
    status, record = evaluate(evaluation, "--data", data, *more, model=network(model=Wrong(kind)))
    assert (status, record) == (2, None)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ("corruption", "nan or infinite for some of the 12 images of fog/1"),
        ("clean", "nan or infinite for some of the 12 images of clean"),
        ("ood", "nan or infinite for 3 of 12 images"),
        ("calibration", "nan or infinite for 3 of 12 images"),
        ("autoattack", "nan or infinite for 1 of 5 images"),
    ],
)
def test_outputs_that_break_later_are_no_result(evaluate, tmp_path, evaluation, message, capsys):
    """The last three images are light: the first batch of five, which is looked at beforehand, is sound."""
    levels = {"dark": [40] * 5, "gray": [128] * 4, "light": [215] * 3}
    for name in ("val", "c/fog/1", "c/fog/2", "c/fog/3", "c/fog/4", "c/fog/5"):
        write_levels(tmp_path / name, levels)
    data = tmp_path / ("c" if evaluation == "corruption" else "val")
    more = {"ood": ["--ood", f"x={tmp_path}/val"], "autoattack": ["--version", "apgd-ce"]}
    model = network(model=Wrong("later"), classes=CLASSES)
    status, record = evaluate(evaluation, "--data", data, *more.get(evaluation, []), model=model)
    assert (status, record) == (2, None)
    assert message in capsys.readouterr().err
    # What is kept for the next time is no result either.
    assert not any('"images"' in path.read_text() for path in (tmp_path / "out").glob("*.state.json"))


def test_checking_leaves_the_mode_as_it_was():
    model = Brightness().train()
    check_outputs(model, torch.zeros(2, 3, 8, 8), 3)
    assert model.training
