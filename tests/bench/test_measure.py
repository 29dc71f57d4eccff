"""The benchmark's statistics: rounds, overheads and stages."""

from __future__ import annotations

import pytest
from helpers.bench import measurement

from apr_dali.bench import measure
from apr_dali.bench.rows import Row


class TestStatistics:
    def test_summary(self):
        found = measure.summary([measurement(100, 3), measurement(50, 1), measurement(80, 2)])
        assert found["images_per_s"] == 80
        assert found["ms"] == 12.5
        assert found["cpu_ms"] == 2
        assert found["spread"] == pytest.approx(25 / 80)

    def test_overhead_is_that_of_each_round(self):
        # The machine halves its speed in the second round: ratios stay, medians apart would not.
        none = [measurement(100, 2), measurement(50, 2), measurement(90, 2)]
        apr = [measurement(50, 3), measurement(25, 4), measurement(80, 5)]
        found = measure.overhead(apr, none)
        assert found["overhead"] == pytest.approx(1.0)
        assert found["overhead_cpu"] == pytest.approx(1.0)

    def test_records_know_their_base(self):
        settings = measure.Settings(1, 0.1, 2)
        found = {
            Row("dali-cpu", "none", 32): [measurement(100)],
            Row("dali-cpu", "apr-s", 32): [measurement(80)],
            Row("dali-cpu", "apr-s", 224): [measurement(70)],
        }
        none, small, large = measure.records(found, settings)
        assert "overhead" not in none
        assert small["overhead"] == pytest.approx(0.25)
        assert "overhead" not in large  # its none was not measured
        assert (small["batch"], large["batch"], small["threads"]) == (128, 32, 2)

    def test_turns_interleave(self):
        order = []
        found = measure.in_turns(["a", "b"] * 2, lambda thing: order.append(thing) or measurement(len(order)))
        assert order == ["a", "b", "a", "b"]
        assert [one["images_per_s"] for one in found["b"]] == [2, 4]

    def test_timed_leaves_out_the_warm_up_and_takes_whole_turns(self, monkeypatch):
        clock = {"wall": 0.0, "calls": 0}

        def advance() -> int:
            clock["calls"] += 1
            # The warm-up is slow.
            clock["wall"] += 5.0 if clock["calls"] <= 5 else 0.25
            return 10

        monkeypatch.setattr(measure.time, "perf_counter", lambda: clock["wall"])
        monkeypatch.setattr(measure, "cpu_seconds", lambda: 0.5 * clock["wall"])
        found = measure.timed(advance, seconds=0.6, turn=2)
        assert clock["calls"] == 5 + 4
        assert found["images_per_s"] == pytest.approx(40)
        assert found["cpu_ms"] == pytest.approx(12.5)
        assert found["peak_mib"] > 10

    def test_stages_are_differences(self):
        found = {
            "read": [measurement(1000, 0.5), measurement(1000, 0.5)],
            "decode": [measurement(250, 5), measurement(200, 6)],
            "copy": [measurement(200, 7), measurement(160, 8)],
        }
        read, decode, copy, wait, whole = measure.parts(found, threads=2)
        assert (read.ms, read.cpu_ms) == (1.0, 0.5)
        assert (decode.ms, decode.cpu_ms) == (pytest.approx(3.5), pytest.approx(5.0))
        assert (copy.ms, copy.cpu_ms) == (pytest.approx(1.125), pytest.approx(2.0))
        assert (whole.ms, whole.cpu_ms) == (pytest.approx(5.625), 7.5)
        assert wait.ms == pytest.approx(5.625 - 7.5 / 2)
