"""A benchmark whose process is killed again and again: what it ends with, and what it leaves."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.project import ROOT

pytestmark = pytest.mark.slow

KILLED_AGAIN_AND_AGAIN = """
import dataclasses, os, signal

import torch
from helpers.eval_sets import Ten, network

from apr_dali.eval import benchmark, session

torch.set_num_threads(1)
model = network(32, Ten(), tuple("0123456789"))
session.load_model = lambda *_: dataclasses.replace(model, trained_on="digits")
real, written, allowed = os.replace, 0, 0


def replace(*given):
    global written
    written += 1
    if written > allowed:
        os.kill(os.getpid(), signal.SIGKILL)  # the new file lies beside the old one by now
    real(*given)


deaths, status = 0, None
while status != 0:
    allowed += 5
    child = os.fork()
    if child == 0:
        os.replace = replace
        benchmark("digits", output="killed", device="cpu", threads=1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    deaths += status != 0
benchmark("digits", output="whole", device="cpu", threads=1)
print(deaths)
"""


def test_killed_at_any_file(tmp_path):
    command = [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.splitlines()[-1]) > 2
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    reports = [json.loads((folder / "report.json").read_text()) for folder in (killed, whole)]
    assert reports[0]["evaluations"] == reports[1]["evaluations"]
    assert reports[0]["failed"] == []
    assert (killed / "report.csv").read_text() == (whole / "report.csv").read_text()
    files = [{path.relative_to(folder) for path in folder.rglob("[!.]*")} for folder in (killed, whole)]
    assert files[0] == files[1], "nothing but files that are not named yet is left of a process that was killed"
    for path in killed.rglob("[!.]*.npy"):
        assert len(np.load(path)) > 0
    for path in killed.glob("*.json"):
        json.loads(path.read_text())
