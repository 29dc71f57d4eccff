"""What the GPU's benchmark counts, prints and refuses, without a GPU."""

import importlib.util
from pathlib import Path

import pytest

from apr_dali.kernels import cupy_backend, geometry


@pytest.fixture
def benchmark_module():
    path = Path(__file__).resolve().parent.parent / "benchmarks/gpu.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_the_gpu", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_refuses_in_one_line_without_a_gpu(benchmark_module, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert benchmark_module.main() == 2
    assert capsys.readouterr().err == (
        "benchmarks/gpu.py needs a CUDA device that torch can use: see `apr-dali doctor`\n"
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(cupy_backend, "check", lambda: (False, "cuFFT does not load"))
    assert benchmark_module.main() == 2
    assert capsys.readouterr().err.endswith("which cannot run here: cuFFT does not load\n")


def test_what_the_benchmark_counts_and_prints(benchmark_module):
    # 224: a byte in, two out, a spectrum written and read by three kernels, the column kernel reading two: of the
    # sums over the channels a half in whole strips, of their second bin all columns.
    spectrum = (116 + 224) * 224 * 8
    assert benchmark_module.own_bytes(224, "float32") == 3 * 224 * 224 * 3 + 5 * spectrum
    assert benchmark_module.own_bytes(224, "float16") == 3 * 224 * 224 * 3 + 5 * spectrum / 2
    assert benchmark_module.own_bytes(32, "float32") == 3 * 32 * 32 * 4
    assert benchmark_module.slug("NVIDIA H200 (141 GB)") == "nvidia-h200-141-gb"
    row = {"images/s": 1234567.8, "× first": 10.0, "of copy": 0.615}
    names = ("APR-P 256 × 224²", "APR-S 256 × 224²", "APR-P 256 × 224², float32 between")
    tables = {name: dict.fromkeys(("own kernels", "rows_forward", "rows_back"), row) for name in names}
    about = dict.fromkeys(("device", "torch", "cupy", "dali"), "x")
    text = benchmark_module.render({"machine": about, "copy_bytes_per_second": 4.3e12, "rounds": 20, "tables": tables})
    assert max(map(len, text.splitlines())) <= 80
    assert "1,234,568         10.00         61.5%" in text
    assert "  rows back, of copy                         0.615         0.600" in text
    tables |= {name: {"apr-sp": {"of none": 0.97}} for name in ("DALI from JPEGs", "DALI from decoded images")}
    tables["ResNet-50 step"] = {"none": {"feeding adds": 0.01}, "apr-sp": {"feeding adds": 0.013}}
    assert benchmark_module.goals(tables)[-1] == ("step without APR's own cost", pytest.approx(0.997), 0.995)
    seen = []
    benchmark_module.forced("generic", lambda: seen.append(geometry.path(224, 224, 3)))()
    assert seen == ["generic"]
    assert geometry.path(224, 224, 3) == "fused"
