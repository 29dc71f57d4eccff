"""The log of a run: what a resumed run keeps of it, and that it never ends one."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from pathlib import Path

import pytest
from helpers.run_files import FullDisk

from apr_dali.runtime.checkpoint import Position
from apr_dali.training import logger
from apr_dali.training.logger import Logger


def _recorded(path: Path) -> list[tuple]:
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [(row["kind"], row["epoch"], row.get("step")) for row in rows]


def _record(path: Path, position: Position, epochs: range) -> None:
    values = {"train_loss": 1.0, "val_loss": 1.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
    with Logger(path, True, 3, position) as logger:
        for epoch in epochs:
            logger.begin_epoch(epoch, 0, 4)
            for step in (2, 4):
                logger.step(epoch, step, 1.0, 0.1, 9.0)
            logger.epoch(epoch, values)


def test_resuming_drops_what_will_come_again(tmp_path):
    _record(tmp_path, Position(), range(2))
    full = [(kind, e, s) for e in (1, 2) for kind, s in (("step", 2), ("step", 4), ("epoch", None))]
    assert _recorded(tmp_path) == full
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "st')
    _record(tmp_path, Position(epoch=1, step=4, trained=True), range(0))
    assert _recorded(tmp_path) == full[:5]
    _record(tmp_path, Position(epoch=1, step=3), range(0))
    assert _recorded(tmp_path) == full[:4]
    _record(tmp_path, Position(epoch=1), range(0))
    assert _recorded(tmp_path) == full[:3]
    _record(tmp_path, Position(epoch=1), range(1, 2))
    _record(tmp_path, Position(), range(1))
    assert _recorded(tmp_path) == full[:3]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe",
        b"[1, 2]",
        b"3",
        b'{"kind": "epoch", "epoch": 1}',
        b'{"kind": "step", "epoch": "one"}',
        b'{"kind": "step", "epoch": null, "step": 1, "global_step": 1, "train_loss": 1.0, "lr": 0.1}',
        b"",
    ],
    ids=["bytes", "list", "number", "half a row", "no numbers", "no epoch", "empty"],
)
def test_a_line_that_is_no_row_is_left_out_and_kept(tmp_path, garbage, capsys):
    _record(tmp_path, Position(), range(2))
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], garbage, *lines[2:], b""]))
    before = path.read_bytes()
    _record(tmp_path, Position(epoch=2), range(2, 3))
    assert [(e, s) for _, e, s in _recorded(tmp_path)] == [(e, s) for e in (1, 2, 3) for s in (2, 4, None)]
    assert "has no row in line 3" in capsys.readouterr().err
    assert (tmp_path / "metrics.jsonl.unreadable").read_bytes() == before


def test_a_loss_that_is_not_finite_is_json_and_is_read_again(tmp_path, capsys):
    with Logger(tmp_path, True, 3, Position()) as logger:
        logger.begin_epoch(0, 0, 4)
        logger.step(0, 2, math.nan, 0.1, 9.0)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["train_loss"] is None
    with Logger(tmp_path, True, 3, Position(epoch=1)) as logger:
        (row,) = logger.rows
    assert math.isnan(row["train_loss"])
    assert (row["epoch"], row["step"]) == (1, 2)
    assert "has no row" not in capsys.readouterr().err


def test_records_that_cannot_be_written_do_not_end_the_run(tmp_path, monkeypatch, capsys):
    """The row that failed is written with the next one."""
    values = {"train_loss": 1.0, "val_loss": 1.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
    with Logger(tmp_path, True, 3, Position()) as run:
        run.begin_epoch(0, 0, 4)
        monkeypatch.setattr(logger, "open", FullDisk, raising=False)
        monkeypatch.setattr(run._board, "add", lambda *_: 1 / 0)
        monkeypatch.setattr(
            FullDisk, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
        )
        run.step(0, 2, 1.0, 0.1, 9.0)
        monkeypatch.undo()
        run.epoch(0, values)
    assert _recorded(tmp_path) == [("step", 1, 2), ("epoch", 1, None)]
    told = capsys.readouterr().err
    assert "metrics.jsonl failed ([Errno 5] Input/output error); the run goes on" in told
    assert "writing to tensorboard failed (division by zero)" in told


def test_nobody_need_listen(tmp_path, monkeypatch):
    """A terminal that has gone: neither the progress nor the warning about it can be printed."""

    class Gone:
        def write(self, *_):
            raise OSError(errno.EIO, "Input/output error")

        flush = isatty = write

    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(logger, "_LINE_EVERY", 0.0)
    with Logger(tmp_path, True, 3, Position()) as run:
        run.begin_epoch(0, 0, 4)
        run.advance(9.0)
        run.epoch(
            0, {"train_loss": 1.0, "val_loss": 1.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}
        )
    assert _recorded(tmp_path) == [("epoch", 1, None)]


def test_other_processes_record_nothing(tmp_path, capsys):
    with Logger(tmp_path, False, 3, Position()) as logger:
        logger.begin_epoch(0, 0, 4)
        logger.advance(1.0)
        logger.step(0, 1, 1.0, 0.1, 9.0)
    assert os.listdir(tmp_path) == []
    assert capsys.readouterr() == ("", "")
