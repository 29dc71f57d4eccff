"""What a planned machine needs, from what was measured."""

from __future__ import annotations

import pytest

from apr_dali.bench import simulate
from apr_dali.errors import InputError


def record(name: str, rate: float, cpu: float, **more: float) -> dict[str, object]:
    return {"name": name, "images_per_s": rate, "cpu_ms": cpu, **more}


class TestSimulate:
    @pytest.mark.parametrize(
        ("words", "plan"),
        [
            (["gpus=8", "step=90ms"], simulate.Plan(8, 0.09)),
            (["step=.25s", "gpus=1", "batch=32", "cores=6"], simulate.Plan(1, 0.25, 32, 6)),
        ],
    )
    def test_plans(self, words, plan):
        assert simulate.parse_plan(words) == plan

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["gpus=8"], "needs step"),
            (["gpus=8", "step=90"], "a time such as 90ms"),
            (["gpus=8", "step=0ms"], "a time such as 90ms"),
            (["gpus=8", f"step=0.{'0' * 9}1s"], "0.001ms to 3600s"),
            (["gpus=8", f"step={'9' * 400}s"], "0.001ms to 3600s"),
            (["gpus=8", "step=٣ms"], "a time such as 90ms"),
            (["gpus=0", "step=1s"], "whole number in 1"),
            (["gpus=1.5", "step=1s"], "whole number in 1"),
            (["gpus=²", "step=1s"], "whole number in 1"),
            ([f"gpus={'9' * 400}", "step=1s"], "whole number in 1"),
            (["gpus=1", "step=1s", f"cores={'9' * 5000}"], "whole number in 1..1,000,000"),
            (["gpus=1", "gpus=2", "step=1s"], "given twice"),
            (["gpu=1", "step=1s"], "takes gpus=8"),
            (["gpus", "step=1s"], "takes gpus=8"),
        ],
    )
    def test_bad_plans(self, words, says):
        with pytest.raises(InputError, match=says):
            simulate.parse_plan(words)

    def test_arithmetic(self):
        plan = simulate.Plan(8, 0.1, 250)
        assert plan.need == pytest.approx(20_000)
        assert simulate.cores_needed(plan, record("a", 1, 4.0)) == pytest.approx(80)
        assert simulate.gpu_share(plan, record("a", 10_000, 1)) == pytest.approx(0.25)

    def test_too_few_cores(self):
        text = simulate.answer(simulate.Plan(8, 0.1, 250, cores=30), [record("dali-cpu/none/224", 500, 4.0)])
        # 20,000 images/s of 4 ms are 80 cores; 30 make 7,500, which is 3 times 2,500, or a step of 8·250/7500 s.
        assert "need 20,000 images/s, 2,500 per GPU" in text
        assert "80 cores, 10 per GPU" in text
        assert "30 cores can do 7,500 images/s, which feeds 3 of the GPUs, or all of them at 267 ms per step" in text

    def test_enough_cores(self):
        text = simulate.answer(simulate.Plan(8, 0.1, 250, cores=160), [record("dali-cpu/none/224", 500, 4.0)])
        assert "160 cores will do, busy for 50% of the time" in text

    def test_the_share_of_the_gpu(self):
        fine = record("dali-gpu/none/224", 10_000, 0.2, gpu_mib=1.0)
        slow = record("dali-gpu/apr-s/224", 2_000, 0.4, gpu_mib=1.0)
        text = simulate.answer(simulate.Plan(8, 0.1, 250), [fine, slow])
        assert "dali-gpu/none/224 takes at most 25.0% of each GPU and 0.5 cores per GPU" in text
        assert "2,000 images/s with a whole GPU, 80% of what the step takes: it cannot feed it" in text

    def test_which_ways_feed_the_gpus(self):
        """20,000 images/s: 80 cores of 4 ms, 20 of 1 ms, 60 of 3 ms; half of the rate of the GPU, and twice it."""
        measured = [
            record("dali-cpu/none/224", 500, 4.0),
            record("dali-cpu-256/none/224", 900, 1.0),
            record("dali-cpu-tars/none/224", 600, 3.0),
            record("dali-gpu/none/224", 1_250, 0.1, gpu_mib=1.0),
            record("dali-gpu-256/none/224", 5_000, 0.2, gpu_mib=1.0),
        ]
        cpu_256, tars, cpu, gpu_256, gpu = (
            f"{way}/none/224" for way in ("dali-cpu-256", "dali-cpu-tars", "dali-cpu", "dali-gpu-256", "dali-gpu")
        )
        plan = {"gpus": 8, "step": 0.1, "batch": 250}
        text = simulate.answer(simulate.Plan(**plan, cores=60), measured)
        assert f"The 8 GPUs are fed by {gpu_256}, {cpu_256}, {tars}, not by {gpu}, {cpu}: those" in text
        text = simulate.answer(simulate.Plan(**plan), measured)
        assert f"The 8 GPUs are fed with the cores for it by {gpu_256}, {cpu_256}, {tars}, {cpu}, not by {gpu}:" in text
        text = simulate.answer(simulate.Plan(**plan, cores=3), measured)
        assert "The 8 GPUs are fed by none of them." in text
        text = simulate.answer(simulate.Plan(1, 0.1, 250, cores=60), measured[:1])
        assert f"The GPU is fed by {cpu}: those" in text

    def test_with_two_views_a_way_need_not_make_as_many(self):
        """2,500 images/s per GPU and 10 cores of 4 ms; of 1.5 rows each 1,667 and 6.7."""
        measured = [record("dali-cpu/apr-sp/224", 500, 4.0)]
        assert "fed by dali-cpu/apr-sp/224" in simulate.answer(simulate.Plan(1, 0.1, 250, cores=7), measured)
        assert "fed by none" in simulate.answer(simulate.Plan(1, 0.1, 250, cores=6), measured)

    @pytest.mark.parametrize(
        ("name", "rows", "repeated"),
        [
            ("dali-cpu/none/224", 1, 1),
            ("dali-cpu/apr-s/224", 1, 1),
            ("dali-gpu/apr-p/224", 1.5, 2),
            ("dali-cpu/apr-sp/224", 1.5, 2),
            ("dali-cpu/apr-sp/32", 1.6, 2),
            ("dataloader/published-apr-sp/224", 2, 2),
            ("dali-cpu/augmix/32", 3, 3),
            ("dali-cpu/hybrid-p/224", 1.6, 2),
            ("dali-cpu/vipaug/32", 1.6, 2),
            ("dali-cpu/prime/32", 3, 3),
            # Three coins of a half, one of which is enough.
            ("dali-cpu/randconv/32", 1 + 2 * 7 / 8, 3),
            ("dali-cpu/afa/224", 2, 2),
            ("dali-cpu/gaussian-mask/224", 1, 1),
        ],
    )
    def test_rows_that_a_network_sees(self, name, rows, repeated):
        assert simulate.rows_per_image(name) == pytest.approx(rows)
        assert simulate.rows_per_image(name, repeat_unmixed=True) == pytest.approx(repeated)

    def test_a_step_takes_longer_with_a_second_view(self):
        measured = [record("dali-cpu/apr-sp/224", 500, 3.0)]
        text = simulate.answer(simulate.Plan(8, 0.1, 300), measured)
        # 24,000 images/s, each seen 1.5 times: 16,000, of 3 ms of a core.
        assert "sees 1.5 rows of an image on average: a step takes 150 ms, and needs 16,000 images/s" in text
        assert "48 cores, 6 per GPU" in text
        text = simulate.answer(simulate.Plan(8, 0.1, 300), measured, repeat_unmixed=True)
        assert "sees 2 rows of an image on average: a step takes 200 ms, and needs 12,000 images/s" in text
        assert "36 cores, 4.5 per GPU" in text

    def test_which_rows_it_answers_for(self):
        names = ["dataloader/none/224", "dali-cpu/none/224", "dali-cpu/apr-p/224", "dali-cpu/apr-s/224"]
        measured = [record(name, 1, 1.0) for name in [*names, "dali-cpu/none/32"]]
        text = simulate.answer(simulate.Plan(1, 1.0), measured)
        assert [name for name in names if name in text] == ["dali-cpu/none/224", "dali-cpu/apr-s/224"]
        assert "dali-cpu/none/32" in simulate.answer(simulate.Plan(1, 1.0), measured, ["32"])
        with pytest.raises(InputError, match="nothing was measured of augmix"):
            simulate.answer(simulate.Plan(1, 1.0), measured, ["augmix"])

    def test_each_way_has_a_line_of_its_own(self):
        names = ["dali-cpu/none/224", "dali-cpu/apr-sp/224"]
        lines = simulate.answer(simulate.Plan(1, 0.001), [record(name, 250, 4.0) for name in names]).splitlines()
        assert len(lines) == 5
        assert [name in line for name, line in zip(names, lines[1:], strict=False)] == [True, True]
        # 256,000 images/s of 4 ms.
        assert "1,024 cores, 1,024 per GPU" in lines[1]
