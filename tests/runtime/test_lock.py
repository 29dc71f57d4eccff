"""One process a run folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.project import ROOT
from helpers.run_files import ALONE, image_options

from apr_dali.errors import InputError
from apr_dali.runtime import lock
from apr_dali.training import run_dir

_HOLDER = """
import sys, time
from pathlib import Path
from apr_dali.runtime import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_that_a_living_process_writes_to_is_refused_until_it_dies(tmp_path, holder):
    (tmp_path / "config.json").touch()
    told = f"process {holder.pid} on {socket.gethostname()}, since 20.* writes to {tmp_path}"
    before = (tmp_path / "run.lock").read_bytes()
    with pytest.raises(InputError, match=told):
        run_dir.choose(image_options(output=str(tmp_path), resume="auto"), "net")
    with pytest.raises(InputError, match=told), run_dir.occupied(tmp_path, image_options(), ALONE, None):
        pass
    assert (tmp_path / "config.json").read_bytes() == b""
    assert (tmp_path / "run.lock").read_bytes() == before
    holder.kill()
    holder.wait()
    assert run_dir.choose(image_options(output=str(tmp_path), resume="auto"), "net") == (tmp_path, None)
    with run_dir.occupied(tmp_path, image_options(), ALONE, None):
        owner = json.loads((tmp_path / "run.lock").read_text())
        assert (owner["host"], owner["pid"]) == (socket.gethostname(), os.getpid())
        with pytest.raises(InputError, match=f"process {os.getpid()} on"):
            lock.check_free(tmp_path)
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_lock_goes_with_the_run_however_it_ends(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.hold(tmp_path):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def _of_another_host(tmp_path) -> Path:
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "then"}))
    return path


def test_a_lock_of_another_host_is_taken_over_once_nobody_touches_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "_WATCH", 0.2)
    path = _of_another_host(tmp_path)
    with lock.hold(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert "process 1 on elsewhere, since then, left" in capsys.readouterr().out


def test_a_lock_of_another_host_that_is_touched_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_WATCH", 60.0)
    monkeypatch.setattr(lock, "_BEAT", 0.05)
    path = _of_another_host(tmp_path)
    with (
        lock._beating(path),
        pytest.raises(InputError, match="process 1 on elsewhere, since then, writes to"),
        lock.hold(tmp_path),
    ):
        pass
    assert json.loads(path.read_text())["host"] == "elsewhere"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}'])
def test_a_lock_that_is_garbage_is_taken_over(tmp_path, content):
    (tmp_path / "run.lock").write_text(content)
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()


def test_a_run_that_left_only_its_lock_can_be_started_again(tmp_path):
    (tmp_path / "run.lock").touch()
    assert run_dir.choose(image_options(output=str(tmp_path), resume="auto"), "net") == (tmp_path, None)
    assert run_dir.choose(image_options(output=str(tmp_path)), "net") == (tmp_path, None)
