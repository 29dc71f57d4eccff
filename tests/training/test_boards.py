"""The boards of a run: what they show, and that a run which continues goes on in the same one."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator

import pytest
from helpers.waiting import until

from apr_dali.errors import InputError
from apr_dali.runtime.checkpoint import Position
from apr_dali.training import boards
from apr_dali.training.logger import Logger

VALUES = {"train_loss": 1.0, "val_loss": 2.0, "top1": 0.5, "top5": 1.0, "lr": 0.1, "images_per_second": 9.0}


def record(folder, name: str, epochs: range) -> None:
    """Three steps an epoch, whose number is its loss; the run stops after `epochs`."""
    position = Position(epoch=epochs.start)
    with Logger(folder, True, 3, position, name, {"lr": 0.1, "lr_steps": (1, 2)}) as logger:
        for epoch in epochs:
            logger.begin_epoch(epoch, 0, 3)
            logger.step(epoch, 2, float(epoch), 0.1, 9.0)
            logger.epoch(epoch, VALUES | {"ema_top1": 0.25})


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, as wandb writes it: blocks of 32 KiB with parts of records."""
    whole = b""
    for block in range(0, len(data), 32768):
        # The file begins with seven bytes of wandb's.
        place, end = block + 7 * (block == 0), min(block + 32768, len(data))
        while place + 7 <= end:
            _, length, kind = struct.unpack("<IHB", data[place : place + 7])
            whole += data[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):  # whole, or its last part
                yield whole
                whole = b""


@pytest.mark.slow
def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    record(tmp_path, "wandb", range(1))
    # The folder of a start is named by its second.
    ended = int(time.time())
    until(lambda: int(time.time()) > ended)
    record(tmp_path, "wandb", range(1, 2))
    # A run that has finished may still be in the memory of wandb's process, which writes the files; it ends here.
    wandb.teardown()
    rows, ids = [], set()
    for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        for found in map(Record.FromString, leveldb_records(path.read_bytes())):
            if found.WhichOneof("record_type") == "run":
                ids.add(found.run.run_id)
            if found.WhichOneof("record_type") == "history":
                items = found.history.item
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    assert ids == {(tmp_path / "wandb.txt").read_text()}
    assert [(row["global_step"], row.get("step/train_loss"), row.get("epoch/ema_top1")) for row in rows] == [
        (2, 0.0, None),
        (3, None, 0.25),
        (5, 1.0, None),
        (6, None, 0.25),
    ]


@pytest.mark.slow
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "run"
    folder.mkdir()
    record(folder, "mlflow", range(1))
    record(folder, "mlflow", range(1, 2))
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = (found for found in client.search_experiments() if found.name == "apr_dali")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params) == (
        "run",
        "FINISHED",
        {"lr": "0.1", "lr_steps": "(1, 2)"},
    )
    shown = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "step/train_loss")]
    assert shown == [(2, 0.0), (5, 1.0)]
    assert run.data.metrics["epoch/ema_top1"] == 0.25


def test_tensorboard_shows_every_number(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record(tmp_path, "tensorboard", range(2))
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert [(item.step, item.value) for item in shown.Scalars("epoch/ema_top1")] == [(3, 0.25), (6, 0.25)]
    assert set(shown.Tags()["scalars"]) == {
        *(f"epoch/{name}" for name in (*VALUES, "ema_top1")),
        *(f"step/{name}" for name in ("train_loss", "lr", "images_per_second")),
    }


def test_none_shows_nothing(tmp_path):
    record(tmp_path, "none", range(1))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_what_is_not_installed_is_refused_first(name, monkeypatch):
    monkeypatch.setattr(boards, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=rf"--logger {name} needs {name}, .* not installed: pip install .*{name}"):
        boards.check_logger(name)
    boards.check_logger("tensorboard")
