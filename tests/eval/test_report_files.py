"""CSV and LaTeX of a report, its intervals on the page, and the plot of several."""

import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from apr_dali.eval import benchmark, evaluate_autoattack, evaluate_ood
from apr_dali.eval import comparison_picture as comparison_picture_module
from apr_dali.eval.bootstrap import share_interval
from apr_dali.eval.comparison_picture import comparison_picture, point_of
from apr_dali.eval.corruption import CorruptionTable
from apr_dali.eval.evaluations.clean import Clean
from apr_dali.eval.evaluations.corruption import Corruption, bounds, summary
from apr_dali.eval.page import Table
from apr_dali.eval.report import summary_table
from apr_dali.eval.report_files import COLUMNS, csv_of, latex_of
from apr_dali.runtime.figures import png_of


def report_of(top1=0.75, errors=(0.1, 0.2, 0.3, 0.4, 0.5)):
    table = CorruptionTable(
        {"fog": errors},
        40,
        ece={"fog": errors},
        intervals={"mean_error": [0.25, 0.35], "errors": {"fog": [0.24, 0.36]}},
    )
    corruption = Corruption("c", "1" * 16, "own set c", 3, table).as_json()
    clean = Clean("val", "2" * 16, 40, 0.5, top1, 1.0).as_json()
    return {"settings": {"network": "net"}, "evaluations": {"clean": clean, "corruption": corruption}}


def test_csv_has_each_number_with_its_interval():
    text = csv_of({"net": report_of(), "other": report_of(0.5)})
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS == ("network", "evaluation", "number", "value", "low", "high")
    found = {(row["network"], row["evaluation"], row["number"]): row for row in rows}
    assert len(found) == len(rows)
    low, high = share_interval(0.75, 40)
    top1 = found["net", "clean", "top1"]
    assert [float(top1[key]) for key in ("value", "low", "high")] == [0.75, low, high]
    assert float(found["other", "clean", "top1"]["value"]) == 0.5
    assert float(found["net", "corruption", "errors.fog.2"]["value"]) == 0.2
    fog = found["net", "corruption", "errors.fog"]
    assert [float(fog[key]) for key in ("value", "low", "high")] == pytest.approx([0.3, 0.24, 0.36])
    assert float(found["net", "corruption", "mean_ece"]["value"]) == pytest.approx(0.3)
    assert found["net", "clean", "images"]["low"] == ""
    assert ("net", "corruption", "kind") not in found


def test_intervals_are_where_their_numbers_are():
    scores = {"energy": {"near": {"auroc": 0.9, "fpr95": 0.5}}}
    ends = {"scores": {"energy": {"near": {"auroc": [0.8, 0.95], "fpr95": [0.4, 0.7]}}}, "accuracy": [0.1, 0.2]}
    result = {"scores": scores, "accuracy": 0.15, "intervals": ends}
    lines = csv_of({"n": {"evaluations": {"ood": result}}}).splitlines()
    assert "n,ood,scores.energy.near.auroc,0.9,0.8,0.95" in lines
    assert "n,ood,scores.energy.near.fpr95,0.5,0.4,0.7" in lines
    assert "n,ood,accuracy,0.15,0.1,0.2" in lines
    by_severity = {"errors": {"fog": [[0.0, 0.2], [0.1, 0.3]]}}
    result = {"errors": {"fog": [0.1, 0.2]}, "intervals": {"errors": {"fog": [0.1, 0.25]}, "by_severity": by_severity}}
    lines = csv_of({"n": {"evaluations": {"corruption": result}}}).splitlines()
    assert "n,corruption,errors.fog,0.15000000000000002,0.1,0.25" in lines
    assert "n,corruption,errors.fog.2,0.2,0.1,0.3" in lines


COUNTS = re.compile(
    r"(.*\.)?(images|clean_images|tuned_on|seed|epsilon|temperature|classes|severities\.\d|set_images\..*)"
)
"""What is no measured number: counts and settings."""


@pytest.mark.slow
def test_every_number_of_a_report_has_an_interval(digits_checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = digits_checkpoints[0]
    benchmark(path, output="out", device="cpu", threads=1)
    attacked = evaluate_autoattack(path, "digits", limit=2, version="apgd-ce", device="cpu")
    check_intervals(csv_of({"n": {"evaluations": {"autoattack": attacked.as_json()}}}), {"clean", "after.apgd-ce"})
    near = {"photographs": "photographs"}
    found = evaluate_ood(path, "digits", near=near, scores=["gen"], shifted={"same": "digits"}, device="cpu")
    held = {"full_spectrum_accuracy", "accuracy", "scores.gen.nearood.openood_fpr95", "full_spectrum.gen.mean.oscr"}
    check_intervals(csv_of({"n": {"evaluations": {"ood": found.as_json()}}}), held)
    text = (tmp_path / "out" / "report.csv").read_text()
    held = {
        "errors.contrast.1",
        "ece.contrast",
        "rms.contrast",
        "mean_rms",
        "scores.energy.mean.fpr95",
    }
    check_intervals(text, held | {"rows.as it is.classwise_ece", "loss"})
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    table = summary_table(report)
    assert all(ends != "–" for _, _, ends in table.rows), table.rows


def check_intervals(text, held):
    rows = {row["number"]: row for row in csv.DictReader(io.StringIO(text))}
    assert held <= set(rows)
    without = [name for name, row in rows.items() if not row["low"] and not COUNTS.fullmatch(name)]
    assert without == []
    for name, row in rows.items():
        if row["low"]:
            assert float(row["low"]) <= float(row["high"]), name
    # Of errors of calibration draws are greater than the number itself: they add noise.
    shares = {name: [float(row[key]) for key in ("low", "value", "high")] for name, row in rows.items() if row["low"]}
    for name, (low, value, high) in shares.items():
        if not any(part in name for part in ("ece", "rms", "detection")):
            assert low - 1e-9 <= value <= high + 1e-9, name


def test_latex():
    text = latex_of(Table(("measure", "a_b"), (("50 % & more", "1.00 %"), ("x", "–"))), "Some {caption}.")
    assert r"\begin{tabular}{lr}" in text
    assert r"measure & a\_b \\" in text
    assert r"50 \% \& more & 1.00 \% \\" in text
    assert "x & -- \\\\\n\\bottomrule" in text
    assert r"\caption{Some \{caption\}.}" in text


def test_latex_sets_names_letter_by_letter():
    text = latex_of(Table(("measure", r"<a>|\b~^"), (("[x] ∞", 'y "q" `c` −1 ± 2'), ("*z", "λ ε"))), "t")
    assert (
        r"measure & \textless{}a\textgreater{}\textbar{}\textbackslash{}b\textasciitilde{}\textasciicircum{} \\" in text
    )
    assert r"{[}x] $\infty$ & y ''q'' \textasciigrave{}c\textasciigrave{} $-$1 $\pm$ 2 \\" in text
    assert r"{*}z & $\lambda$ $\varepsilon$ \\" in text


def test_intervals_stand_beside_the_numbers():
    table = summary_table(report_of())
    assert table.titles == ("measure", "net", "95 % interval")
    rows = {name: (value, ends) for name, value, ends in table.rows}
    low, high = share_interval(0.75, 40)
    assert rows["clean error, 40 images"] == ("25.00 %", f"{100 * (1 - high):.2f} to {100 * (1 - low):.2f}")
    title = "own set c (3 classes, 40 images per cell)"
    assert rows[f"{title}: mean error over 1 of 15 corruptions (fog)"] == ("30.00 %", "25.00 to 35.00")
    assert rows[f"{title}: mean ECE"] == ("30.00 %", "–")
    result = report_of()["evaluations"]["corruption"]
    assert set(bounds(result)) < set(summary(result)), "as of earlier versions"


def test_reports_of_older_versions_have_none():
    report = report_of()
    for result in report["evaluations"].values():
        del result["intervals"]
    assert summary_table(report).titles == ("measure", "net")
    assert point_of("net", report) is None


def test_points_of_a_plot():
    first = point_of("a", report_of())
    assert (first.clean, first.corrupted) == (pytest.approx(0.25), pytest.approx(0.3))
    assert first.clean_ends[0] < first.clean < first.clean_ends[1]
    second = point_of("b", report_of(0.5, (0.8,) * 5))
    picture = np.asarray(Image.open(io.BytesIO(comparison_picture([first, second]))).convert("RGB"))
    colored = (np.ptp(picture.astype(int), axis=2) > 60).any(1)
    assert picture.shape[1] > 500
    assert colored.any()


def test_names_of_a_plot_are_no_formulas(monkeypatch):
    shown = []
    monkeypatch.setattr(comparison_picture_module, "png_of", lambda figure: shown.append(figure) or png_of(figure))
    names = ("_hidden.pt", r"a $\frac$ b", "$x$")
    comparison_picture([point_of(name, report_of()) for name in names])
    (legend,) = shown[0].legends
    assert [text.get_text().strip() for text in legend.get_texts()] == list(names)
    assert [text.get_parse_math() for text in legend.get_texts()] == [True, False, False]
