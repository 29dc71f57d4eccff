"""Targets that are stopped, killed or short of disk, and gone on with: the same images and labels at the end."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import archives
from helpers.archives import SOURCES, contents, encoded, expected
from helpers.folder_trees import files_in
from helpers.processes import ENVIRONMENT, PATIENCE
from helpers.waiting import group_ended, until

from apr_dali.data.folders import open_set
from apr_dali.data.prepare import job, journal, write
from apr_dali.data.prepare.job import Options, prepare
from apr_dali.errors import InputError

pytestmark = pytest.mark.usefixtures("miniature")

TARS = Options("webdataset", shards=3)


def killed(source: Path, out: Path, options: str, after: int, name: str) -> int:
    """`prepare` in a process of its own that ends by SIGKILL at the N-th call of a function; its exit status."""
    module, _, function = name.partition(".")
    code = f"""
import os, signal, importlib
from apr_dali.data.prepare import job
from apr_dali.data.prepare.job import Options
module = importlib.import_module("apr_dali.data.prepare.{module}")
right, calls = module.{function}, 0
def counted(*given, **options):
    global calls
    calls += 1
    if calls == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return right(*given, **options)
module.{function} = counted
job._FILES = job._FILES_OF_ROWS = 4
job._RUN = 5
job.prepare({str(source)!r}, {str(out)!r}, {options})
"""
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, timeout=PATIENCE, check=False, capture_output=True
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


@pytest.mark.parametrize(
    ("kind", "image_format", "name", "after"),
    [
        ("official", "folder", "journal.mark", 1),
        ("official", "webdataset", "write.os.replace", 1),
        ("official", "webdataset", "write.os.replace", 2),
        ("official", "folder", "write.oddities", 3),
        ("official", "folder", "write.oddities", 11),
        ("official", "webdataset", "write.oddities", 7),
        ("official", "webdataset", "write.format_index", 2),
        ("official", "webdataset", "journal.record", 2),
        ("hub", "folder", "write.oddities", 9),
        ("hub", "webdataset", "spool.append", 8),
        ("hub", "webdataset", "journal.record_spool", 2),
        ("hub", "webdataset", "write.oddities", 9),
        ("hub", "webdataset", "journal.record", 3),
        ("timm", "folder", "journal.mark", 2),
        ("timm", "webdataset", "count.written", 1),
    ],
)
def test_a_killed_run_goes_on_to_the_same(tmp_path, monkeypatch, kind, image_format, name, after):
    monkeypatch.setattr(job, "_FILES", 4)
    monkeypatch.setattr(job, "_FILES_OF_ROWS", 4)
    monkeypatch.setattr(job, "_RUN", 5)
    source = SOURCES[kind](tmp_path / "source")
    options = Options(image_format, shards=3 if image_format == "webdataset" else None)
    assert killed(source, tmp_path / "out", repr(options).replace("Components", "job.Components"), after, name) < 0
    found = prepare(source, tmp_path / "out", options)
    whole = prepare(source, tmp_path / "whole", options)
    assert (found.images, found.differences) == (whole.images, whole.differences)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def test_what_is_written_is_not_written_again(tmp_path, monkeypatch):
    source = archives.official(tmp_path / "source")
    seen = []
    right = job.write_unit

    def stopping(plan, unit):
        seen.append((unit.split, unit.number))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return right(plan, unit)

    monkeypatch.setattr(job, "write_unit", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", TARS)
    first = seen.copy()
    prepare(source, tmp_path / "out", TARS)
    assert first[:2] == [("train", 0), ("train", 1)]
    assert seen[3:] == [("train", 2), ("val", 0), ("val", 1)]
    # Nor is what is finished.
    monkeypatch.setattr(job, "write_unit", lambda *_: pytest.fail("written"))
    assert prepare(source, tmp_path / "out", TARS).images == {"train": 12, "val": 6}


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
def test_a_file_that_was_lost_with_the_machine_is_written_again(tmp_path, monkeypatch, image_format):
    """A file system may have a file's name, and not its bytes, after the power failed."""
    source, out = archives.official(tmp_path / "source"), tmp_path / "out"
    options = Options(image_format, shards=3 if image_format == "webdataset" else None)
    with monkeypatch.context() as patch:
        right = journal.mark
        patch.setattr(journal, "mark", lambda *given, **_: right(*given, finished=False))
        patch.setattr(job, "_finish", lambda *_: None)
        prepare(source, out, options)
    lost = sorted((out / "train").rglob("*.tar" if image_format == "webdataset" else "*.JPEG"))[1]
    lost.write_bytes(b"")
    prepare(source, out, options)
    assert contents(out, "train") == expected("train")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_stops_all_processes_and_the_same_command_goes_on(tmp_path, signum):
    source, out = tmp_path / "source", tmp_path / "out"
    many = {f"c{label}": {f"{n}.jpg": encoded(label * 1000 + n) for n in range(400)} for label in range(3)}
    archives.class_folders(source / "train", many)
    # None of them is as large, but other processes look.
    command = [sys.executable, "-m", "apr_dali", "prepare", str(source), str(out), "--processes", "2"]
    command += ["--max-side", "5000"]
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: (out / journal.STATE / "units.jsonl").exists() or run.poll() is not None)
    # A terminal and a batch system send theirs to every process.
    (os.kill if signum == signal.SIGKILL else os.killpg)(run.pid, signum)
    _, told = run.communicate(timeout=PATIENCE)
    assert run.returncode in (0, -signum, 128 + signum)
    # It may have come when all was written, even while the interpreter was ending.
    if (out / journal.STATE).exists() and signum != signal.SIGKILL:
        assert run.returncode == 128 + signum
        assert f"stopped; the same command goes on with {out}" in told
        assert "Traceback" not in told
    # No process of the group is left, which the run is the leader of.
    until(lambda: group_ended(run.pid))
    subprocess.run(command, env=environment, check=True, timeout=PATIENCE)
    assert len(open_set(out, "train")) == 1200
    assert contents(out, "train").keys() == {content for files in many.values() for content in files.values()}
    assert not (out / journal.STATE).exists()


@pytest.mark.parametrize("image_format", ["folder", "webdataset"])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, image_format):
    monkeypatch.setattr(job, "_FILES", 4)
    source = archives.official(tmp_path / "source")
    right, calls = write.os.replace, []

    def full(*given):
        calls.append(given)
        if len(calls) == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return right(*given)

    monkeypatch.setattr(write.os, "replace", full)
    with pytest.raises(InputError, match=rf"{tmp_path}/out: No space left on device: make room and run the same"):
        prepare(source, tmp_path / "out", Options(image_format, shard_size=2000))
    prepare(source, tmp_path / "out", Options(image_format, shard_size=2000))
    for split in ("train", "val"):
        assert contents(tmp_path / "out", split) == expected(split)
