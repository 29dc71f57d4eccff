"""Analyses from Python give what the commands write."""

import json

import pytest
import torch
from helpers.eval_sets import Brightness

from apr_dali import cli
from apr_dali.errors import InputError
from apr_dali.eval import analyze_filters, analyze_gradcam, analyze_heatmap, analyze_swap
from apr_dali.eval.load_model import load_model

QUICK = {"device": "cpu", "threads": 1}


@pytest.mark.parametrize(("name", "analyze", "given", "options"), [
    ("heatmap", analyze_heatmap, {"size": 3, "limit": 4, "compare": True}, ["--size=3", "--limit", "4", "--compare"]),
    ("gradcam", analyze_gradcam, {"limit": 4, "compare": True}, ["--limit", "4", "--compare"]),
    ("swap", analyze_swap, {"limit": 6, "seed": 3}, ["--limit", "6", "--seed", "3"]),
    ("filters", analyze_filters, {"pad": 16}, ["--pad", "16"]),
], ids=["heatmap", "gradcam", "swap", "filters"])  # fmt: skip
def test_an_analysis_gives_what_the_command_writes(digits_checkpoints, tmp_path, capsys, name, analyze, given, options):
    first, second = digits_checkpoints
    options = [*options, *([second] if options[-1] == "--compare" else [])]
    given = {key: second if value is True else value for key, value in given.items()}
    assert cli.main(["analyze", name, first, *options, "--device", "cpu", "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    written = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    found = analyze(first, **given, **QUICK)
    assert capsys.readouterr().out == "", "a library prints nothing"
    assert found.record["result"] == written["result"]
    assert found.record["settings"] == written["settings"]
    assert found.text() in shown
    assert list(found.pictures) == written["pictures"]


def test_a_second_module_is_left_as_it_was(digits_checkpoints):
    first, second = (load_model(path) for path in digits_checkpoints)
    second.model.train()
    gradient = torch.ones(10)
    second.model.head.bias.grad = gradient
    seen = {"image_size": 32, "classes": first.classes, "mean": first.mean, "std": first.std}
    found = analyze_heatmap(first.model, compare=second.model, size=1, limit=2, **seen, **QUICK)
    assert second.model.training
    assert len(found.maps) == 2
    analyze_gradcam(second.model, limit=2, **seen, **QUICK)
    assert second.model.head.bias.grad is gradient
    assert torch.equal(gradient, torch.ones(10))
    assert all(value.grad is None for name, value in second.model.named_parameters() if name != "head.bias")
    with pytest.raises(InputError, match="needs the classes of the first in their order"):
        analyze_heatmap(first.model, compare=Brightness(), size=1, **{**seen, "classes": None}, **QUICK)


@pytest.mark.parametrize(("analyze", "given", "message"), [
    (analyze_gradcam, {"corruption": "rain"}, "corruption must be one of"),
    (analyze_gradcam, {"strength": 4}, "strength must be in 1..3, got 4"),
    (analyze_swap, {"axes": "wh"}, "axes must be one of"),
    (analyze_filters, {"layer": "nowhere"}, "no convolution 'nowhere'"),
])  # fmt: skip
def test_bad_keywords_are_named(digits_checkpoints, analyze, given, message):
    with pytest.raises(InputError, match=message):
        analyze(digits_checkpoints[0], **given, **QUICK)
