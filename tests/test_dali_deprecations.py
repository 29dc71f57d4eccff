"""A run that meets a deprecation of DALI fails, and says so: in processes of their own, and with workers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers.project import ROOT

TEST = """
import warnings
import numpy as np
from nvidia.dali import fn, pipeline_def, types

def test_graph():
    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def graph():
        data = fn.external_source(name="data")
        return {expression}
    graph().build()
    warnings.warn("deprecated, but not by DALI", DeprecationWarning)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "expression", "says"),
    [
        (1, "fn.uniform()", "`nvidia.dali.fn.uniform` is now deprecated"),
        (0, "fn.crop_mirror_normalize(data, image_type=types.RGB)", "The argument `image_type` is no longer used"),
        (0, "fn.random.uniform()", ""),
    ],
)
def test_a_run_fails_by_deprecations_of_dali(tmp_path, workers, expression, says):
    test = tmp_path / "test_one.py"
    test.write_text(TEST.format(expression=expression))
    hooks = ("pytest_warning_recorded", "pytest_sessionfinish", "tell as pytest_terminal_summary")
    (tmp_path / "conftest.py").write_text(f"from helpers.dali_deprecations import {', '.join(hooks)}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    run = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "--rootdir", tmp_path, test]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert "1 passed" in done.stdout, done.stdout
    assert done.returncode == (1 if says else 0), done.stdout
    assert ("test_one.py::test_graph: " in done.stdout) == bool(says)
    assert says in done.stdout
