"""What the GPU's benchmark counts, prints and refuses, without a GPU."""

import importlib
import json
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers.project import ROOT
from simulators.host_cuda import HostCuda

from apr_dali.kernels import arrays, dispatch
from apr_dali.kernels.cuda import augmentations as cuda_augmentations
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.kernels.cuda import corruptions as cuda_corruptions
from apr_dali.kernels.cuda import launch, paths
from apr_dali.kernels.cuda.device import Cache

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    """benchmarks/gpu.py and gpu_operators.py; the others are gpu.gpu_corruptions and gpu.gpu_augmentations."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("gpu"), importlib.import_module("gpu_operators")


class Clock:
    """A CUDA event of a device that has always finished."""

    def __init__(self, **_):
        self.at = 0.0

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return max(end.at - self.at, 1e-9) * 1e3


@pytest.fixture
def stand_in(modules, shim_folder, monkeypatch):
    """The benchmark of the operators as it would run on a device, on the CPU and with small images."""
    cupy = pytest.importorskip("cupy")
    gpu, operators = modules
    device = HostCuda(shim_folder)
    for name, value in {"Event": Clock, "synchronize": lambda: None}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    uniform = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *shape, **given: uniform(*shape, **given | {"device": "cpu"}))
    monkeypatch.setattr(cupy, "from_dlpack", lambda tensor: tensor.numpy())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(cupy.cuda.Stream, "from_external", lambda _: nullcontext())
    monkeypatch.setattr(arrays, "device_of", lambda _: "cuda")
    monkeypatch.setattr(arrays, "on_the_stream_of", lambda *_: nullcontext())
    monkeypatch.setattr(dispatch, "availability", lambda _: dispatch.Availability(True, "on the CPU"))
    for name, limit in {"work": 3, "constants": 16}.items():
        monkeypatch.setattr(paths, name, Cache(limit))

    class Timed(operators.TimedLaunches, HostCuda):
        def __init__(self):
            self.__dict__ |= device.__dict__

    monkeypatch.setattr(cupy_backend, "_device", lambda: device)
    monkeypatch.setattr(operators, "TimedDevice", Timed)
    monkeypatch.setattr(operators, "issue_rate", lambda: 1e12)
    monkeypatch.setattr(operators, "SHAPES", ((2, 32), (3, 64)))
    monkeypatch.setattr(operators, "OF_KERNELS", (2, 64))
    monkeypatch.setattr(cuda_corruptions, "_device", lambda: device)
    for name, value in {"BATCH": 2, "SIZE": 32, "_ON_CPU": 2}.items():
        monkeypatch.setattr(gpu.gpu_corruptions, name, value)
    monkeypatch.setattr(cuda_augmentations, "_device", lambda: device)
    for name, value in {"BATCH": 2, "SIZE": 64}.items():
        monkeypatch.setattr(gpu.gpu_augmentations, name, value)
    monkeypatch.setattr(gpu.gpu_corruptions.gpu_timing, "_CALLS", 1)


@pytest.mark.slow
@pytest.mark.simulator
@pytest.mark.usefixtures("stand_in")
def test_every_table_of_the_operators_can_be_made_and_is_written(modules, tmp_path, capsys):
    gpu, operators = modules
    result = {"tables": {}, "failed": {}}
    others = (gpu.gpu_augmentations, gpu.gpu_corruptions)
    wanted = {title: make for each in (operators, *others) for title, make in each.tables(rounds=1, copy=1e12).items()}
    gpu.measure(wanted, result, tmp_path / "result.json")
    assert result["failed"] == {}
    assert list(result["tables"]) == list(wanted)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert all(row["images/s"] > 0 for table in result["tables"].values() for row in table.values())
    assert set(result["tables"]["APR-P 2 × 64², float16 between"]) == {"rows_forward", "columns", "rows_back", "before"}
    assert list(result["tables"]["augmentations 2 × 64²"]) == gpu.gpu_augmentations.measured()
    assert set(result["tables"]["corruptions 2 × 32², severity 3"]) == set(cuda_corruptions.LAUNCHERS)
    assert "APR-S 3 × 64²" in capsys.readouterr().out


def test_a_table_that_fails_is_noted_and_the_others_follow(modules, tmp_path):
    gpu, _ = modules

    def fail():
        raise RuntimeError("an illegal address")

    result = {"tables": {}, "failed": {}}
    tables = {"first": fail, "second": lambda: {"row": {"images/s": 1.0}}}
    gpu.measure(tables, result, tmp_path / "result.json")
    assert list(result["tables"]) == ["second"]
    assert "an illegal address" in result["failed"]["first"]
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_the_benchmark_refuses_in_one_line_without_a_gpu(modules, monkeypatch, capsys):
    gpu, _ = modules
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main() == 2
    assert capsys.readouterr().err == (
        "benchmarks/gpu.py needs a CUDA device that torch can use: see `apr-dali doctor`\n"
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(cupy_backend, "check", lambda: (False, "cuFFT does not load"))
    assert gpu.main() == 2
    assert capsys.readouterr().err.endswith("which cannot run here: cuFFT does not load\n")


def test_what_the_benchmark_counts(modules):
    gpu, operators = modules
    # 224: a byte in, two out, a spectrum written and read by three kernels, the column kernel reading two: of the
    # sums over the channels a half in whole strips, of their second bin all columns.
    spectrum = (116 + 224) * 224 * 8
    assert operators.own_bytes(224, "float32") == 3 * 224 * 224 * 3 + 5 * spectrum
    assert operators.own_bytes(224, "float16") == 3 * 224 * 224 * 3 + 5 * spectrum / 2
    assert operators.own_bytes(32, "float32") == 3 * 32 * 32 * 4
    assert gpu.slug("NVIDIA H200 (141 GB)") == "nvidia-h200-141-gb"
    seen = []
    operators.forced("generic", lambda: seen.append(launch.path(224, 224, 3)))()
    assert seen == ["generic"]
    assert launch.path(224, 224, 3) == "fused"


def test_what_the_benchmark_prints_and_aims_for(modules):
    gpu, _ = modules
    row = {"images/s": 1234567.8, "× first": 10.0, "of copy": 0.615, "of issue": 0.7}
    names = ("APR-P 256 × 224²", "APR-S 256 × 224²", "APR-P 256 × 224², float32 between")
    tables = {name: dict.fromkeys(("own kernels", "rows_back"), row) for name in names}
    text = gpu.render_table("APR-P 256 × 224²", tables["APR-P 256 × 224²"])
    assert "1,234,568         10.00         61.5%         70.0%" in text
    goals = {what: (got, least) for what, got, least in gpu.goals(tables, "NVIDIA H100 80GB HBM3")}
    assert goals["APR-P, images/s"] == (row["images/s"], 500_000)
    assert goals["rows_back, of its limit"] == (0.7, 0.6)
    assert "rows_back, of its limit                    0.700         0.600" in gpu.render_goals(
        gpu.goals(tables, "H100")
    )
    on_h200 = {what: least for what, _, least in gpu.goals(tables, "NVIDIA H200")}
    assert on_h200["APR-S, images/s"] == pytest.approx(420_000)
    tables["ResNet-50 step"] = {"none": {"feeding adds": 0.01}, "apr-sp": {"feeding adds": 0.013}}
    tables["DALI from decoded images"] = {"apr-sp": {"of none": 0.97}}
    found = gpu.goals(tables, "H100")
    assert found[-1] == ("step without APR's own cost", pytest.approx(0.997), 0.995)
    assert ("apr-sp of none, decoded", 0.97, 0.98) in found
    assert gpu.goals({}, "H100") == []


def test_the_profilers_page_becomes_a_table(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    profile = importlib.import_module("gpu_profile")
    page = '==PROF== Connected\n"ID","Kernel Name","gpu__time_duration.sum","smsp__inst_executed.sum"\n'
    page += '"","","us","inst"\n"0","columns(const float2 *, int)","160.5","307000"\n"1","rows_back","80","148000"\n'
    head, *rows = profile.table(page).splitlines()
    assert head.split() == ["columns", "rows_back"]
    assert [row.split()[-2:] for row in rows] == [["160.5", "80"], ["307000", "148000"]]
    assert np.all([row.startswith(("time us", "warp instructions")) for row in rows])
