"""What the doctor sees of an environment."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from apr_dali.doctor import facts, report
from apr_dali.doctor.facts import Age, Driver
from apr_dali.kernels.cpu import backend as native_backend
from apr_dali.kernels.dispatch import BACKENDS, Availability

REQUIRED = [
    "numpy>=1.26",
    'torch<2.11,>=2.10; extra == "cuda12"',
    'torch>=2.11; extra == "cuda13"',
    'nvidia-dali-cuda130>=2.2; extra == "cuda13"',
    'timm>=1.0.20; extra == "eval"',
    'pytest>=8; extra == "test"',
    'nameless==1.0; extra == "eval"',
]


class TestGather:
    @pytest.mark.slow
    def test_this_environment_can_train(self):
        found = facts.gather()
        assert found.versions["NumPy"] == np.__version__
        assert {"torch", "torchvision", "DALI"} <= set(found.versions)
        assert found.pipeline == Availability(True, "")
        assert set(found.backends) == set(BACKENDS)
        assert found.backends["torch"].available
        assert found.broken == {}
        assert any(build.startswith("nvidia-dali-cuda") for build in found.builds)
        assert report(found).ok

    def test_missing_and_broken_packages_do_not_stop_it(self, tmp_path):
        # In a process of its own, where torch is not installed, DALI lacks a module and CuPy a library.
        (tmp_path / "cupy").mkdir()
        (tmp_path / "cupy/__init__.py").write_text("raise OSError('libcudart.so.12: cannot open\\nsecond line')")
        (tmp_path / "timm.py").write_text("import not_a_module")
        code = (
            "import sys, importlib.abc\n"
            "class Hide(importlib.abc.MetaPathFinder):\n"
            "    def find_spec(self, name, path, target=None):\n"
            "        if name in ('torch', 'torchvision', 'nvidia.dali'):\n"
            "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
            "sys.meta_path.insert(0, Hide())\n"
            f"sys.path.insert(0, {str(tmp_path)!r})\n"
            "from apr_dali.doctor import gather, report\n"
            "facts = gather()\n"
            "print(sorted(facts.versions), facts.broken, report(facts).ok)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        assert done.stdout == (
            "['NumPy'] {'CuPy': 'libcudart.so.12: cannot open', 'timm': \"No module named 'not_a_module'\"} False\n"
        )

    def test_a_pipeline_that_fails_is_a_reason(self, monkeypatch):
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("no such operator\nstack")

        monkeypatch.setattr("nvidia.dali.fn.python_function", broken)
        assert facts._pipeline() == Availability(False, "no such operator")


class FakeNvml:
    """Two GPUs behind the calls of NVML that the doctor makes; writes through pointers as the library does."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.nvmlErrorString = lambda _: b"Driver/library version mismatch"

    def nvmlInit_v2(self) -> int:  # noqa: N802 - NVML's names
        return self.status

    def nvmlShutdown(self) -> int:  # noqa: N802
        return 0

    def nvmlSystemGetDriverVersion(self, buffer: Any, _: int) -> None:  # noqa: N802
        buffer.value = b"550.54.15"

    def nvmlSystemGetCudaDriverVersion_v2(self, pointer: Any) -> None:  # noqa: N802
        pointer._obj.value = 12040

    def nvmlDeviceGetCount_v2(self, pointer: Any) -> None:  # noqa: N802
        pointer._obj.value = 2

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, pointer: Any) -> None:  # noqa: N802
        pointer._obj.value = 0x7F0000000000 + index

    def nvmlDeviceGetName(self, device: Any, buffer: Any, _: int) -> None:  # noqa: N802
        buffer.value = {0x7F0000000000: b"NVIDIA A", 0x7F0000000001: b"NVIDIA B"}[device.value]


class TestDriver:
    def test_what_nvml_says(self, monkeypatch):
        monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeNvml())
        assert facts._driver() == Driver("550.54.15", (12, 4), ("NVIDIA A", "NVIDIA B"), "")

    def test_nvml_that_does_not_answer(self, monkeypatch):
        monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeNvml(status=18))
        found = facts._driver()
        assert found.reason == "the NVIDIA driver does not answer: Driver/library version mismatch"
        assert found.gpus == ()

    def test_no_nvml(self, monkeypatch):
        def missing(_: str) -> None:
            raise OSError("libnvidia-ml.so.1: cannot open shared object file")

        monkeypatch.setattr(ctypes, "CDLL", missing)
        assert facts._driver() == Driver("", None, (), "no NVIDIA driver")


def test_it_sees_operators_of_other_sources(monkeypatch):
    def refuse():
        raise native_backend.OtherSourcesError("compiled from other sources")

    assert not facts._stale()
    monkeypatch.setattr(native_backend, "check", refuse)
    assert facts._stale()


def test_ages_are_those_of_what_is_installed_and_asked_for(monkeypatch):
    versions = {"numpy": "2.4.0", "torch": "2.10.0+cu128", "timm": "strange", "pytest": "7.0", "nameless": "0.1"}

    def version(name: str) -> str:
        if name not in versions:
            raise facts.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(facts.metadata, "requires", lambda _: REQUIRED)
    monkeypatch.setattr(facts.metadata, "version", version)
    assert facts._ages() == {"numpy": Age("2.4.0", "1.26"), "torch": Age("2.10.0+cu128", "2.10", "cuda12")}


def test_without_an_installation_no_age_is_known(monkeypatch):
    def requires(name: str) -> list[str]:
        raise facts.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(facts.metadata, "requires", requires)
    assert facts._ages() == {}
