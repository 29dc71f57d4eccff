"""One pass for several evaluations, and calibration from logits on the disk."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.eval_sets import Brightness, network, random_levels, write_levels
from helpers.project import ROOT
from torch import nn

from apr_dali.data.arrays import load_set
from apr_dali.eval import (
    benchmark,
    calibration,
    evaluate_calibration,
    evaluate_clean,
    evaluate_ood,
    open_session,
    passes,
    shared_pass,
)
from apr_dali.eval.calibration_rows import measures_of, temperature_of
from apr_dali.eval.rows import rows_in
from apr_dali.eval.shared_pass import Logits, _below_greatest
from apr_dali.runtime.distributed import Group

GROUP = Group(0, 1, 0, torch.device("cpu"))
QUICK = {"device": "cpu", "threads": 1, "batch_size": 16}


class Means(nn.Module):
    """Ten logits of the quarters of an image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
        return 3 * found @ torch.randn(12, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def digits(monkeypatch):
    made = replace(network(32, Means(), tuple("0123456789")), trained_on="digits")
    monkeypatch.setattr("apr_dali.eval.session.load_model", lambda *_: made)


@pytest.fixture
def ran(monkeypatch):
    """The passes: the shared ones, and accuracies alone."""
    names = []
    for module, name in ((shared_pass, "collect"), (passes, "evaluate")):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, real=real, name=name, **more: names.append(name) or real(*given, **more)
        )
    return names


@pytest.mark.usefixtures("digits")
def test_a_benchmark_runs_over_a_set_once(ran, tmp_path):
    found = benchmark("x", sets=("test", "photographs"), output=tmp_path / "out", **QUICK)
    assert list(found) == ["clean", "ood", "calibration"]
    assert ran == ["collect"], "accuracy, scores and calibration come of one pass"
    assert not list((tmp_path / "out").rglob("*.f16")), "what it kept goes with it"
    alone = {
        "clean": evaluate_clean("x", "digits", **QUICK),
        "ood": evaluate_ood("x", "digits", ood={"photographs": "photographs"}, **QUICK),
        "calibration": evaluate_calibration("x", "digits", **QUICK),
    }
    for name, result in alone.items():
        one, other = found[name].as_json(), result.as_json()
        assert one.pop("loss", 0) == pytest.approx(other.pop("loss", 0), rel=1e-12)
        assert one == other


def test_the_accuracy_of_a_corruption_table_comes_of_it_too(ran, tmp_path):
    write_levels(tmp_path / "val", random_levels(1))
    for severity in range(1, 6):
        write_levels(tmp_path / "imagenet-c" / "fog" / str(severity), random_levels(severity))
    seen = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "image_size": 40, "classes": ("dark", "gray", "light")}
    found = benchmark(Brightness(), tmp_path, **seen, **QUICK)
    assert found["corruption"].table.clean_error == pytest.approx(1 - found["clean"].top1)
    assert ran.count("collect") == 1
    assert ran.count("evaluate") == 5, "the five severities"


@pytest.mark.usefixtures("digits")
def test_calibration_is_that_of_float64(tmp_path):
    record = evaluate_calibration("x", "digits", output=tmp_path, **QUICK)
    found = load_set("digits", "val")
    with open_session("x", **QUICK) as session:
        logits = Means()(session.feeding.normalized(found.images)).double()
    labels, held = torch.from_numpy(found.labels), torch.arange(len(found)) % 5 == 0
    assert record.tuned_on == int(held.sum())
    assert record.temperature == pytest.approx(calibration.fit_temperature(logits[held], labels[held]), rel=1e-3)
    for row, scale in zip(record.rows.values(), (1.0, record.temperature), strict=True):
        probabilities, of = (logits[~held] / scale).softmax(1), labels[~held]
        confidence, correct = calibration.confidences(probabilities, of)
        assert row["accuracy"] == correct.mean()
        assert row["confidence"] == pytest.approx(confidence.mean(), abs=2e-4)
        for name in ("ece", "classwise_ece", "rms", "brier", "aurra"):
            # An image may change its bin.
            assert row[name] == pytest.approx(getattr(calibration, name)(probabilities, of), abs=2e-3), name


def test_logits_on_the_disk_keep_probabilities(tmp_path):
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 100, generator=draws) * 20 + 400  # float16 alone would round these to quarters
    logits[0, :2] = torch.tensor([1e6, -1e6])
    labels = torch.randint(100, (500,), generator=draws).numpy()
    with rows_in(tmp_path, "x", GROUP) as rows:
        for part in logits.split(33):
            rows.append(_below_greatest(type("Batch", (), {"logits": part})))
        rows.finish("x")
        kept = torch.cat([part for part, _, _ in Logits(rows, labels).parts()])
        row, *_ = measures_of(Logits(rows, labels), lambda numbers: numbers >= 250)
    apart = (kept.double().softmax(1) - logits.double().softmax(1)).abs().max()
    assert float(apart) < 2e-4
    probabilities = logits[250:].double().softmax(1)
    assert row["images"] == 250
    assert row["brier"] == pytest.approx(calibration.brier(probabilities, labels[250:]), abs=1e-4)


def test_one_class_and_ties(tmp_path):
    """All logits the same: the first class is the answer, and every probability 1 of 4."""
    labels = np.array([0, 1, 2, 3, 0, 1])
    with rows_in(tmp_path, "x", GROUP) as rows:
        rows.append(torch.zeros(6, 4))
        rows.finish("x")
        row, diagram, _ = measures_of(Logits(rows, labels), lambda numbers: numbers >= 0)
    assert row["accuracy"] == pytest.approx(2 / 6)
    assert row["confidence"] == 0.25
    assert row["ece"] == pytest.approx(2 / 6 - 0.25)
    assert row["nll"] == pytest.approx(np.log(4))
    assert row["rms"] is None
    assert diagram.count.sum() == 6
    with rows_in(tmp_path, "y", GROUP) as rows:
        rows.append(torch.zeros(5, 1))
        rows.finish("y")
        one, *_ = measures_of(Logits(rows, np.zeros(5, np.int64)), lambda numbers: numbers >= 0)
        assert (one["accuracy"], one["confidence"], one["ece"], one["nll"]) == (1, 1, 0, 0)
        assert temperature_of(Logits(rows, np.zeros(5, np.int64)), lambda numbers: numbers == 0) > 0


MEMORY = '''
import tempfile
from pathlib import Path
import numpy as np, torch
from apr_dali.eval.calibration_rows import measures_of, temperature_of
from apr_dali.eval.head import Head
from apr_dali.eval.ood_fits import Fit, Fits
from apr_dali.eval.ood_kinds import KINDS
from apr_dali.eval.ood_scores import Makings, score_functions
from apr_dali.eval.outputs import collect
from apr_dali.eval.rows import rows_in
from apr_dali.eval.shared_pass import Logits, _FUNCTIONS, _below_greatest
from apr_dali.runtime.distributed import Group

def memory(which):
    """In MiB. Not getrusage: that knows the peak of the process which started this one, too."""
    return int(Path("/proc/self/status").read_text().split(which + ":")[1].split()[0]) // 1024

imports = memory("VmRSS")
images, classes, width = 50_000, 1000, 512
draws = torch.Generator().manual_seed(0)
layer = torch.nn.Linear(width, classes)
head = Head(layer, "fc", layer.weight.detach(), layer.bias.detach())

def batches():
    for start in range(0, images, 500):
        labels = torch.arange(start, start + 500) % classes
        yield torch.randn(500, width, generator=draws).relu(), labels

with tempfile.TemporaryDirectory() as folder:
    group = Group(0, 1, 0, torch.device("cpu"))
    with rows_in(Path(folder), "l", group) as logits, rows_in(Path(folder), "f", group) as features:
        kept = {"logits": (_below_greatest, logits), "features": (lambda batch: batch.features, features)}
        values = collect(layer, batches(), _FUNCTIONS, "cpu", head=head, rows=kept)
        found = Logits(logits, values["labels"])
        scale = temperature_of(found, lambda numbers: numbers % 5 == 0)
        measures_of(found, lambda numbers: numbers % 5 != 0, scale)
        names = ["react", "dice", "vim", "knn", "mahalanobis"]
        makings = Makings(layer, (1, 1, 1), head, Fits(Fit(features, values["labels"])))
        score_functions(makings, {name: KINDS[name].default for name in names})
print(imports, memory("VmHWM") - imports)
'''


@pytest.mark.slow
def test_as_many_images_as_imagenets_validation_take_less_than_600_mib():
    found = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True, cwd=ROOT)
    imports, more = map(int, found.stdout.split())
    # The draws of class-wise errors take 180 of them. Kept in memory as float32, the numbers alone would take 290 more.
    assert more < 600, f"{more} MiB beside the {imports} of what is imported"
