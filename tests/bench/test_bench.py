"""The benchmark: its rows, its statistics, its checks of outputs, and one small run of the command."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import bench_children
from helpers.processes import PATIENCE
from PIL import Image

from apr_dali import pillow_ops, spectral
from apr_dali.bench import checks, feeds, measure, processes, published_code, report, rows, simulate
from apr_dali.bench.images import Places
from apr_dali.bench.rows import Row, select
from apr_dali.cli import main
from apr_dali.commands import bench as command
from apr_dali.data.folders import ImageSet
from apr_dali.draws import SingleDraws
from apr_dali.errors import InputError
from apr_dali.recipes import CIFAR, IMAGENET
from apr_dali.runtime import cpus

SMALL = Row("dali-cpu", "none", 32)


def measurement(rate: float, cpu: float = 1.0, **more: float) -> dict[str, float]:
    return {"images_per_s": rate, "cpu_ms": cpu, "peak_mib": 100.0, **more}


class TestRows:
    def test_without_a_gpu_no_row_needs_one(self):
        assert {row.way for row in select((), gpu=False)} == {"dataloader", "dali-cpu"}
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
            (["gpus=0", "step=1s"], "whole number from 1"),
            (["gpus=²", "step=1s"], "whole number from 1"),
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
            assert sum(line.startswith(rows.WAYS[way]) for line in text.splitlines()) == 2
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


def normalized(images: np.ndarray, recipe=CIFAR) -> torch.Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W), normalized."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (recipe.mean, recipe.std))
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std


class TestCheckBatch:
    @pytest.fixture
    def batch(self, crops) -> tuple[torch.Tensor, torch.Tensor]:
        return normalized(crops(SMALL.batch_size, 32, 32)), torch.arange(SMALL.batch_size) % 2

    def test_a_right_batch_passes(self, batch):
        checks.check_batch(SMALL, *batch, classes=2)

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda x, y: (x[:-1], y), "images must be float32"),
            (lambda x, y: (x.double(), y), "images must be float32"),
            (lambda x, y: (x, y.float()), "targets must be int64"),
            (lambda x, y: (x, y + 1), r"targets must be in 0\.\.1"),
            (lambda x, y: (x * torch.where(torch.arange(32) == 5, torch.nan, 1.0), y), "not finite"),
            (lambda x, y: (x * 1.1, y), "gray levels must be in"),
            (lambda x, y: (x * 0.99, y), "whole gray levels"),
            (lambda x, y: (x[:1].expand_as(x), y), "all alike"),
        ],
    )
    def test_a_wrong_batch_is_refused(self, batch, spoil, says):
        with pytest.raises(checks.WrongOutputError, match=says):
            checks.check_batch(SMALL, *spoil(*batch), classes=2)

    def test_soft_targets(self, batch):
        row, images = Row("dali-cpu", "mixup", 32), batch[0]
        soft = torch.full((len(images), 2), 0.5)
        checks.check_batch(row, images * 0.5 + images.flip(0) * 0.5, soft, classes=2)
        with pytest.raises(checks.WrongOutputError, match="sum to 1"):
            checks.check_batch(row, images, soft * 1.1, classes=2)
        with pytest.raises(checks.WrongOutputError, match="targets must be float32"):
            checks.check_batch(row, images, batch[1], classes=2)


@pytest.mark.parametrize("recipe", [IMAGENET, CIFAR], ids=["imagenet", "cifar"])
class TestCheckPair:
    def views(self, crops, recipe) -> tuple[np.ndarray, np.ndarray]:
        clean = normalized(crops(8, 32, 32), recipe).double().numpy()
        partner = np.roll(np.arange(8), 3)
        if recipe.pair_after_normalise:
            return clean, spectral.recombine(clean, clean[partner])
        mean, std = (np.array(value).reshape(3, 1, 1) for value in (recipe.mean, recipe.std))
        raw = clean * std + mean
        return clean, (spectral.recombine(raw, raw[partner]) - mean) / std

    def test_the_reference_passes(self, crops, recipe):
        checks.check_pair("row", *self.views(crops, recipe), recipe)

    def test_unmixed_views_are_refused(self, crops, recipe):
        clean, _ = self.views(crops, recipe)
        with pytest.raises(checks.WrongOutputError, match="not those of other images"):
            checks.check_pair("row", clean, clean, recipe)

    def test_the_phase_of_another_is_refused(self, crops, recipe):
        clean, mixed = self.views(crops, recipe)
        with pytest.raises(checks.WrongOutputError, match="differs from the reference"):
            checks.check_pair("row", clean, mixed[::-1].copy(), recipe)

    def test_a_small_error_is_refused(self, crops, recipe):
        clean, mixed = self.views(crops, recipe)
        with pytest.raises(checks.WrongOutputError, match="differs from the reference"):
            checks.check_pair("row", clean, mixed * 1.001, recipe)


class TestCheckSingle:
    def test_neighbors_pass_and_others_are_refused(self, crops):
        images, draws = crops(8, 32, 32), SingleDraws.sample(8, 32, 32, seed=2)
        right = pillow_ops.single(images, draws)
        checks.check_single("row", images, draws, right)
        checks.check_single("row", images, draws, right + np.uint8(1))  # 255 + 1 is 0, its neighbor
        with pytest.raises(checks.WrongOutputError, match="by 2 gray levels"):
            checks.check_single("row", images, draws, right + np.uint8(2))
        with pytest.raises(checks.WrongOutputError, match="gray levels"):
            checks.check_single("row", images, SingleDraws.sample(8, 32, 32, seed=3), right)

    @pytest.mark.parametrize("way", ["dali-cpu", "dataloader", "published"])
    def test_what_each_way_draws_and_gives_is_the_reference(self, way, crops):
        row = Row("dataloader", "published-apr-s", 32) if way == "published" else Row(way, "apr-s", 32)
        images = crops(8, 32, 32)
        draws, after = checks.run_single(row, images)
        assert len(np.unique(draws.operation)) > 3
        assert not np.array_equal(after, images)
        checks.check_single(row.name, images, draws, after)


def test_a_wrong_pipeline_is_refused(monkeypatch, crops):
    def swapped(row: Row, *_: object) -> feeds.Feed:
        # The views the wrong way round: the mixed one first.
        clean = normalized(crops(row.batch_size, 32, 32))
        mixed = torch.from_numpy(spectral.recombine(clean[:8].double(), clean[:8].double().roll(1, 0))).float()
        views = torch.stack([clean, torch.cat([mixed, clean[8:]])], 1).flip(1).flatten(0, 1)
        return feeds.Feed(iter([(views, torch.zeros(len(views), dtype=torch.int64))]), 2, 2, 1)

    monkeypatch.setattr(checks, "open_feed", swapped)
    with pytest.raises(checks.WrongOutputError, match="dali-cpu/apr-p/32"):
        checks.check_row(Row("dali-cpu", "apr-p", 32), Places("", ""), None)


@pytest.mark.parametrize("aug", ["hybrid++-ps", "prime", "fda", "vipaug"])
def test_a_row_of_each_kind_of_method_is_right(aug, tmp_path, crops):
    np.save(tmp_path / "small.npy", crops(160, 32, 32))
    checks.check_row(Row("dali-cpu", aug, 32), Places("", str(tmp_path / "small.npy")), 1)


def test_nothing_is_timed_after_a_failed_check(monkeypatch, tmp_path, capsys):
    def apart(function, *given):
        if function is measure.gpu_name:
            return None
        assert function is checks.check_row
        raise checks.WrongOutputError(f"{given[0].name}: wrong")

    monkeypatch.setattr(command, "in_own_process", apart)
    assert main(["bench", "--only", "dali-cpu/none/32", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("error: dali-cpu/none/32: wrong")
    assert not (tmp_path / "bench.json").exists()


class TestPublished:
    def test_pair_is_the_reference(self, crops):
        images = torch.from_numpy(crops(4, 32, 32)).permute(0, 3, 1, 2) / 255
        partner = torch.tensor([2, 0, 3, 1])
        expected = spectral.recombine(images.numpy(), images[partner].numpy())
        for function in (published_code.pair, published_code.pair_once):
            assert np.abs(function(images, partner).numpy() - expected).max() < 1e-5

    def test_its_workers_draw_differently(self, crops):
        picture = Image.fromarray(crops(1, 32, 32)[0])
        made = []
        for seed in (1, 2, 1):
            torch.manual_seed(seed)
            single = feeds.PublishedSingle()
            made.append(np.stack([np.asarray(single(picture)[0]) for _ in range(4)]))
        assert not np.array_equal(made[0], made[1])
        np.testing.assert_array_equal(made[0], made[2])


@pytest.mark.parametrize("aug", [row.aug for row in select(["torch-gpu/*/32"], gpu=True)])
def test_what_torch_does_on_the_gpu_is_right_on_the_cpu(aug, monkeypatch, crops):
    monkeypatch.setitem(rows._BATCH["gpu"], 32, 8)
    row, images = Row("torch-gpu", aug, 32), crops(8, 32, 32)
    finish = feeds.Finish(row, 2)
    change = feeds.OnDevice(row, finish, torch.device("cpu"))
    got, targets = change(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.arange(8) % 2)
    checks.check_batch(row, got, targets, classes=2)
    clean = normalized(images)
    if row.method in ("apr-p", "apr-sp"):
        views = got.double().numpy().reshape(8, 2, 3, 32, 32)
        checks.check_pair(row.name, views[:, 0], views[:, 1], CIFAR)
    if aug in ("none", "apr-p", "published-apr-p", "augmix"):
        torch.testing.assert_close(got[:: feeds.views_of(row)], clean)
    else:
        assert not torch.allclose(got[:: feeds.views_of(row)], clean)


def gone(pid: int) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


class TestProcesses:
    def test_cpu_time_counts_workers_living_and_ended(self):
        own, living, after = processes.in_own_process(bench_children.cost, 0.3)
        assert living - own >= 0.3
        assert after >= living

    @pytest.mark.parametrize(
        ("kind", "error", "says"),
        [
            ("input", InputError, "^no such thing$"),
            ("other", RuntimeError, "(?s)in fail.*ZeroDivisionError: by nothing"),
            ("death", RuntimeError, "died with exit code 7"),
        ],
    )
    def test_errors_come_through(self, kind, error, says):
        with pytest.raises(error, match=says):
            processes.in_own_process(bench_children.fail, kind)

    def test_its_children_end_with_it(self, tmp_path):
        assert gone(processes.in_own_process(bench_children.leave_a_child, str(tmp_path / "pids"), 0.0))

    def test_ctrl_c_leaves_nothing_behind(self, tmp_path):
        pids = tmp_path / "pids"

        def interrupt() -> None:
            while not pids.exists() or not pids.read_text().count(" "):
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)

        # A test run in the background of a shell has Ctrl-C switched off.
        former = signal.signal(signal.SIGINT, signal.default_int_handler)
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                processes.in_own_process(bench_children.leave_a_child, str(pids), 600.0)
        finally:
            signal.signal(signal.SIGINT, former)
        thread.join()
        assert all(gone(int(pid)) for pid in pids.read_text().split())


@pytest.fixture
def brief(monkeypatch):
    """Windows as short as can be."""
    monkeypatch.setattr(command, "_QUICK_SECONDS", 0.05)


@pytest.mark.usefixtures("brief")
def test_the_command_from_end_to_end(tmp_path, capsys):
    only = ["--only", "dali-cpu/none/32", "dali-cpu/apr-p/32"]
    assert main(["bench", "--quick", "--rounds", "1", "--threads", "1", "--output", str(tmp_path), *only]) == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "bench.json").read_text())
    none, pair = result["rows"]
    assert (none["name"], pair["name"]) == ("dali-cpu/none/32", "dali-cpu/apr-p/32")
    assert pair["overhead"] == pytest.approx(none["images_per_s"] / pair["images_per_s"] - 1)
    assert none["threads"] == 1
    assert none["cpu_ms"] > 0
    assert result["settings"]["rounds"] == 1
    assert result["machine"]["cores"] == cpus.usable()
    assert result["versions"]["torch"]
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert out.startswith("Time over none (CPU time)")
    assert f"{pair['overhead']:+.0%}" in out.splitlines()[1]
    source = ["--from", str(tmp_path / "bench.json"), "--only", "none"]
    assert main(["bench", "--simulate", "gpus=2", "step=100ms", *source]) == 0
    assert f"costs {none['cpu_ms']:.3g} ms of a core" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_the_profile_from_end_to_end(tmp_path, capsys):
    arguments = ["--rounds", "1", "--threads", "1", "--output", str(tmp_path)]
    assert main(["bench", "--quick", "--profile", "none", *arguments]) == 0
    result = json.loads((tmp_path / "profile.json").read_text())
    assert result["row"] == "dali-cpu/none/224"
    parts = {part["stage"]: part for part in result["parts"]}
    assert list(parts) == ["read", "decode", "resize", "normalize", "copy", "wait", "whole"]
    # Decoding is dear, reading from memory is not: the graph was cut where it should be.
    assert parts["decode"]["cpu_ms"] > parts["read"]["cpu_ms"]
    assert "By difference" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "x.json"], "--from is for --simulate"),
        (["--repeat-unmixed"], "--repeat-unmixed is for --simulate"),
        (["--profile", "--only", "none"], "--profile stands by itself"),
        (["--simulate", "gpus=1", "step=1s", "--from", "x.json"], "x.json is not a bench.json"),
        (["--simulate", "gpus=1"], "--simulate needs step"),
        (["--only", "apr-x"], "there is no such row"),
        (["--rounds", "0"], "whole number from 1"),
        (["--hw-decoder-load", "1.5"], "must be in 0..1, got '1.5'"),
        (["--hw-decoder-load", "much"], "must be in 0..1, got 'much'"),
    ],
)
def test_wrong_commands_are_one_line(arguments, says, tmp_path, capsys):
    assert main(["bench", "--output", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("more", [[], ["--profile"]])
def test_without_a_gpu_its_decoder_is_no_choice(more, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "in_own_process", lambda *_: None)
    assert main(["bench", "--output", str(tmp_path), "--hw-decoder-load", "0.9", *more]) == 2
    assert "--hw-decoder-load changes nothing here" in capsys.readouterr().err


@pytest.mark.parametrize(("way", "given"), [("dali-gpu", {"hw_decoder_load": 0.3}), ("dali-cpu", {})])
def test_the_decoders_share_reaches_loaders_and_graphs(way, given, monkeypatch, tmp_path):
    row, places = Row(way, "apr-s", 224), Places(None, str(tmp_path))
    made = []
    for module in (feeds, measure):
        monkeypatch.setattr(module, "photographs", lambda _: ImageSet(("a.jpg",), np.zeros(1, np.int64), ("a",)))
    monkeypatch.setattr(feeds, "ImageNetLoader", lambda *_, **options: made.append(options) or [])
    monkeypatch.setattr(measure.stages, "build", lambda _, __, graph, *___: made.append(vars(graph)) or Mock())
    feeds.open_feed(row, places, 1, 0.3)
    assert {name: value for name, value in made[0].items() if name == "hw_decoder_load"} == given
    monkeypatch.setattr(measure, "timed", lambda *_, **__: {})
    measure.measure_stage("operator", row, places, measure.Settings(1, 1.0, 1, 0.3))
    assert made[1]["hw_decoder_load"] == 0.3
