"""The rows of the benchmark, and the patterns that choose among them."""

from __future__ import annotations

import pytest

from apr_dali.bench import rows
from apr_dali.bench.rows import select
from apr_dali.errors import InputError


class TestRows:
    def test_without_a_gpu_no_row_needs_one(self):
        plain = {"dataloader", "dali-cpu"}
        assert {row.way for row in select((), gpu=False)} == plain | {
            f"dali-cpu-{kind}" for kind in ("tars", "500", "256", "dynamic")
        }
        assert {row.way for row in select((), gpu=True)} == set(rows.WAYS)

    def test_what_makes_no_sense_is_left_out(self):
        names = {row.name for row in rows.sensible()}
        assert "dali-cpu/augmix/32" in names
        assert not names & {"dali-cpu/augmix/224", "dali-cpu/published-apr-p/32", "torch-gpu/published-apr-sp/224"}
        assert "torch-gpu/published-apr-p/224" in names

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("dali-cpu/none/32", ["dali-cpu/none/32"]),
            ("dali-cpu/none", ["dali-cpu/none/224", "dali-cpu/none/32"]),
            ("dali-cpu-256", [f"dali-cpu-256/{aug}/224" for aug in ("none", "apr-p", "apr-s", "apr-sp")]),
            ("dali-cpu-*/none", [f"dali-cpu-{kind}/none/224" for kind in ("tars", "500", "256", "dynamic")]),
            ("*/apr-s/32", ["dataloader/apr-s/32", "dali-cpu/apr-s/32"]),
            ("augmix", ["dataloader/augmix/224", "dataloader/augmix/32", "dali-cpu/augmix/32"]),
        ],
    )
    def test_patterns(self, pattern, names):
        assert [row.name for row in select([pattern], gpu=False)] == names

    def test_patterns_add_up_in_the_order_of_the_table(self):
        found = select(["dali-cpu/none/32", "dataloader/none/32"], gpu=False)
        assert [row.way for row in found] == ["dataloader", "dali-cpu"]

    @pytest.mark.parametrize(
        ("pattern", "says"),
        [
            ("dali-cpu/apr", "no such row"),
            ("dali-cpu/augmix/224", "DALI has no AugMix"),
            ("dali-cpu-tars/none/32", "differ in how photographs are read"),
            ("dali-cpu-dynamic/prime", "differ in how photographs are read"),
            ("dataloader/prime", "measured in DALI's pipeline alone"),
            ("dali-gpu-256/none", "needs a CUDA device"),
            ("dali-gpu", "needs a CUDA device"),
        ],
    )
    def test_what_names_nothing_is_refused(self, pattern, says):
        with pytest.raises(InputError, match=says):
            select([pattern], gpu=False)

    def test_quick_rows_have_what_overheads_need(self):
        for gpu in (False, True):
            names = {row.name for row in select(rows.QUICK, gpu)}
            for name in names:
                way, _, size = name.split("/")
                assert f"{way}/none/{size}" in names
