"""The benchmark's tables and its picture."""

from __future__ import annotations

import pytest
from helpers.bench import measurement

from apr_dali.bench import measure, report, rows
from apr_dali.bench.rows import Row, select


@pytest.fixture(scope="module")
def everything() -> dict[str, object]:
    """A made-up result of every row there is."""
    found = {}
    for number, row in enumerate(select((), gpu=True)):
        memory = {"gpu_mib": 3000.0} if row.on_gpu else {}
        cost = {"none": 1, "published-apr-sp": 25}.get(row.aug, 1.5)
        found[row] = [measurement(1e5 / cost / (number + 1) * speed, cost, **memory) for speed in (0.9, 1, 1.2)]
    return {
        "machine": {"cpu": "AMD EPYC 9654 96-Core Processor", "cores": 384, "gpu": "NVIDIA H200"},
        "settings": {"rounds": 3, "seconds": 2.0},
        "rows": measure.records(found, measure.Settings(3, 2.0, None)),
    }


class TestReport:
    def test_every_line_fits_and_every_row_is_there(self, everything):
        text = report.table(everything)
        assert max(map(len, text.splitlines())) <= 80
        for way in rows.WAYS:
            titles = tuple(f"{rows.WAYS[way]}, {size} px" for size in rows.SIZES)
            lines = [line for line in text.splitlines() if line.startswith(titles)]
            assert len(lines) == (1 if Row(way, "none", 224).kind else 2)
        assert sum(line.startswith("  published-apr-sp ") for line in text.splitlines()) == 2

    def test_the_overhead_comes_first(self, everything):
        first, second, third = report.table(everything).splitlines()[:3]
        assert first.split() == ["Time", "over", "none", "(CPU", "time)", "apr-p", "apr-s", "apr-sp"]
        assert second.startswith("dataloader, 224 px  ")
        assert second.count("(+50%)") == 3
        assert third.startswith("dataloader, 224 px, published  ")
        assert third.endswith("(+2400%)")

    def test_numbers_stand_in_their_row(self, everything):
        lines = report.table(everything).splitlines()
        start = lines.index("torchvision DataLoader, 224 px, batch 32, " + lines_threads(everything))
        assert lines[start + 2].split() == ["none", "100000", "15%", "0.01", "1", "100"]

    def test_what_a_photograph_weighs_is_told_where_it_was_stored_otherwise(self, everything):
        assert "A photograph has" not in report.table(everything)
        assert "A photograph has" not in report.table(everything | {"stored": {"": 110.2}})
        text = report.table(everything | {"stored": {"": 110.2, "256": 20.9}})
        assert "A photograph has as it came 110 kB, re-encoded to 256 px 21 kB on average." in text.splitlines()

    def test_a_busy_machine_is_told(self, everything):
        assert "The rounds differ by up to ±15%" in report.table(everything)
        calm = [record | {"spread": 0.02} for record in everything["rows"]]
        assert "The rounds differ" not in report.table(everything | {"rows": calm})

    def test_without_none_there_is_no_headline(self):
        records = measure.records({Row("dali-cpu", "apr-s", 32): [measurement(1)]}, measure.Settings(1, 1, 1))
        assert report.headline(records) == ""

    def test_the_picture_is_a_png(self, everything):
        png = report.picture(everything)
        assert png.startswith(b"\x89PNG")
        assert len(png) > 50_000

    def test_the_stages_fit(self):
        found = {stage: [measurement(900 - 100 * n, 1.0 + n)] for n, stage in enumerate(measure.STAGES)}
        text = report.stage_table(measure.parts(found, 2), 2, "title")
        assert max(map(len, text.splitlines())) <= 80
        assert [line.split()[0] for line in text.splitlines()[2:10]] == [*measure.STAGES, "wait", "whole"]
        assert "By difference" in text


def lines_threads(result: dict) -> str:
    count = result["rows"][0]["threads"]
    return f"{count} worker{'s' if count > 1 else ''}"
