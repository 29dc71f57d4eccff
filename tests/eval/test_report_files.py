"""CSV and LaTeX of a report, its intervals on the page, and the plot of several."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from apr_dali.eval.bootstrap import share_interval
from apr_dali.eval.comparison_picture import comparison_picture, point_of
from apr_dali.eval.corruption import CorruptionTable
from apr_dali.eval.evaluations.clean import Clean
from apr_dali.eval.evaluations.corruption import Corruption, bounds, summary
from apr_dali.eval.page import Table
from apr_dali.eval.report import summary_table
from apr_dali.eval.report_files import COLUMNS, csv_of, latex_of


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


def test_auroc_has_its_interval():
    rows = {"near": {"auroc": 0.9, "fpr95": 0.5}, "mean": {"auroc": 0.9, "fpr95": 0.5}}
    result = {"scores": {"energy": rows}, "intervals": {"energy": {"near": [0.8, 0.95], "mean": [0.8, 0.95]}}}
    lines = csv_of({"n": {"evaluations": {"ood": result}}}).splitlines()
    assert "n,ood,scores.energy.near.auroc,0.9,0.8,0.95" in lines
    assert "n,ood,scores.energy.near.fpr95,0.5,," in lines


def test_latex():
    text = latex_of(Table(("measure", "a_b"), (("50 % & more", "1.00 %"), ("x", "–"))), "Some {caption}.")
    assert r"\begin{tabular}{lr}" in text
    assert r"measure & a\_b \\" in text
    assert r"50 \% \& more & 1.00 \% \\" in text
    assert "x & -- \\\\\n\\bottomrule" in text
    assert r"\caption{Some \{caption\}.}" in text


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
    assert set(bounds(result)) < set(summary(result))


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
