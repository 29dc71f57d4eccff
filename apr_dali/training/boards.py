"""Where the metrics of a run are shown, beside metrics.jsonl: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from apr_dali.errors import InputError, install_command
from apr_dali.runtime.checkpoint import write_of_run

_PROJECT = "apr_dali"
_DATABASE = "mlflow.db"


class Board(Protocol):
    """What shows numbers over the steps of a run, from the main process."""

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """Show `numbers`, by their names, at the step `step` of the run."""

    def close(self) -> None:
        """The run has ended, or stops for now."""


def check_logger(name: str) -> None:
    """Raise InputError if what --logger names is not installed."""
    if name in ("wandb", "mlflow") and find_spec(name) is None:
        raise InputError(f"--logger {name} needs {name}, which is not installed: {install_command(name)}")


def open_board(name: str, folder: Path, options: Mapping[str, Any], step: int) -> Board | None:
    """The board that --logger names, for the run in `folder` that goes on at step `step`; None for none."""
    if name == "tensorboard":
        return TensorBoard(folder, step)
    if name == "wandb":
        return WeightsAndBiases(folder, options)
    return MLflow(folder, options) if name == "mlflow" else None


class TensorBoard:
    """Files in the folder's `tensorboard`; what they have from `step` on is dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb, whose environment says where and in which mode; WANDB_MODE=offline writes files alone.

    The folder's wandb.txt has its id, with which a run that continues goes on.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=folder.name,
            id=_kept(folder / "wandb.txt", lambda: uuid.uuid4().hex),
            resume="allow",
            dir=folder,
            config=dict(options),
        )
        # Steps of their own may only rise; a run that continues begins before where it was killed.
        self._run.define_metric("*", step_metric="global_step")

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log({**numbers, "global_step": step})

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow: at MLFLOW_TRACKING_URI, else in the database mlflow.db beside the run folder.

    The folder's mlflow.txt has its id, with which a run that continues goes on; steps that come again are there twice.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve().parent / _DATABASE}"
        self._client = MlflowClient(place)

        def begin() -> str:
            found = self._client.get_experiment_by_name(_PROJECT)
            experiment = found.experiment_id if found else self._client.create_experiment(_PROJECT)
            run: str = self._client.create_run(experiment, run_name=folder.name).info.run_id
            for name, value in options.items():
                self._client.log_param(run, name, value)
            return run

        self._run = _kept(folder / "mlflow.txt", begin)
        self._client.update_run(self._run, status="RUNNING")

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


def _kept(path: Path, begin: Callable[[], str]) -> str:
    """The text of the file; where there is none, what `begin()` gives, which it then has."""
    if not path.is_file():
        write_of_run(path, begin().encode())
    return path.read_text()
