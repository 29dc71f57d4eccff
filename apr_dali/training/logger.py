"""What a run says and keeps while it trains: progress, metrics.jsonl, a board. Only the main process does."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from apr_dali.runtime.best_effort import best_effort, say
from apr_dali.runtime.checkpoint import Position, write_of_run
from apr_dali.runtime.json_text import json_text
from apr_dali.training.boards import Board, open_board

METRICS = "metrics.jsonl"
_NUMBERS = {
    "step": ("epoch", "step", "global_step", "train_loss", "lr"),
    "epoch": ("epoch", "global_step", "train_loss", "val_loss", "top1", "top5", "lr"),
}
"""What a row of metrics.jsonl has at least, by its kind."""
_PLACE = ("epoch", "step", "global_step")
_NO_NUMBERS = ("kind", "time", *_PLACE)
# Where no terminal draws a bar, a line after so many seconds.
_LINE_EVERY = 30.0


class Logger:
    """Logs one run into its folder; on a process that is not the main one nothing happens."""

    def __init__(
        self,
        folder: Path,
        active: bool,
        epochs: int,
        position: Position,
        board: str = "tensorboard",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`position`: where the run (re)starts; what was recorded beyond it is dropped, it will come again.

        board: the value of --logger. options: those of the run, for a board that shows them.
        """
        self._active, self._epochs = active, epochs
        self._path = folder / METRICS
        self._begun = self._line_at = time.monotonic()
        self._steps_here = 0  # steps of this process, whose time gives the end time
        self._epoch = self._step = self._steps = 0
        self._bar: Any = None
        self._board: Board | None = None
        self._named = board
        self._appendable = True  # the file holds all rows and ends with a line break
        self.rows: list[dict[str, Any]] = []
        if not active:
            return
        self.rows = [row for row in _read(self._path) if _before(row, position)]
        self._write_all()
        with best_effort(f"opening {board}"):
            following = max((row["global_step"] for row in self.rows), default=-1) + 1
            self._board = open_board(board, folder, options or {}, following)

    def begin_epoch(self, epoch: int, done: int, steps: int) -> None:
        """Epoch `epoch` (from 0) goes on after `done` of its `steps` steps."""
        self._epoch, self._step, self._steps = epoch, done, steps
        if not self._active or done == steps:
            return
        with best_effort("showing the progress"):
            if sys.stderr.isatty():
                from tqdm import tqdm

                title = f"epoch {epoch + 1}/{self._epochs}"
                self._bar = tqdm(total=steps, initial=done, desc=title, leave=False, unit="step")

    def advance(self, images_per_second: float) -> None:
        """One step is done."""
        self._step += 1
        self._steps_here += 1
        if not self._active:
            return
        with best_effort("showing the progress"):
            self._show(images_per_second)

    def _show(self, images_per_second: float) -> None:
        now = time.monotonic()
        rate = f"{images_per_second:.0f} images/s, ends {self._end_time(now)}"
        if self._bar is not None:
            self._bar.set_postfix_str(rate, refresh=False)
            self._bar.update()
            self._end_bar(when=self._step == self._steps)
        elif now - self._line_at >= _LINE_EVERY:
            self._line_at = now
            say(f"epoch {self._epoch + 1}/{self._epochs}  step {self._step}/{self._steps}  {rate}")

    def _end_time(self, now: float) -> str:
        left = (self._epochs - self._epoch) * self._steps - self._step
        seconds = (now - self._begun) / self._steps_here * left
        end = datetime.now() + timedelta(seconds=seconds)
        return end.strftime("%H:%M" if seconds < 12 * 3600 else "%Y-%m-%d %H:%M")

    def _end_bar(self, when: bool = True) -> None:
        if when and self._bar is not None:
            self._bar.close()
            self._bar = None

    def step(self, epoch: int, step: int, loss: float, rate: float, images_per_second: float) -> None:
        """Keep the main process's loss at `step` steps into `epoch` (from 0)."""
        row = {"train_loss": loss, "lr": rate, "images_per_second": images_per_second}
        self._keep({"kind": "step", "epoch": epoch + 1, "step": step, **row}, epoch * self._steps + step)

    def epoch(self, epoch: int, row: dict[str, float]) -> None:
        """Keep the result of epoch `epoch` (from 0) and print it."""
        self._keep({"kind": "epoch", "epoch": epoch + 1, **row}, (epoch + 1) * self._steps)
        if self._active:
            say(
                f"epoch {epoch + 1}/{self._epochs}  train loss {row['train_loss']:.3f}  val loss {row['val_loss']:.3f}"
                f"  top-1 {row['top1']:.2%}  top-5 {row['top5']:.2%}  lr {row['lr']:.3g}"
                f"  {row['images_per_second']:.0f} images/s" + self._averaged(row)
            )

    def _averaged(self, row: dict[str, float]) -> str:
        """What the averaged weights reached, in words; "" without them."""
        return f"  averaged: top-1 {row['ema_top1']:.2%}" if "ema_top1" in row else ""

    def _keep(self, row: dict[str, Any], global_step: int) -> None:
        if not self._active:
            return
        row |= {"global_step": global_step, "time": time.time()}
        self.rows.append(row)
        with best_effort(f"writing {self._path}"):
            appendable, self._appendable = self._appendable, False
            if appendable:
                with open(self._path, "a") as file:
                    file.write(json_text(row) + "\n")
            else:
                self._write_all()
            self._appendable = True
        if self._board is not None:
            numbers = {f"{row['kind']}/{name}": row[name] for name in row if name not in _NO_NUMBERS}
            with best_effort(f"writing to {self._named}"):
                self._board.add(numbers, global_step)

    def _write_all(self) -> None:
        lines = "".join(json_text(row) + "\n" for row in self.rows)
        write_of_run(self._path, lines.encode())

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        with best_effort("closing the logger"):
            self._end_bar()
            if self._board is not None:
                self._board.close()


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a last line that a crash cut short is left out.

    Where another line is no row of ours, a warning says so, and the file as it was is kept beside it.
    """
    if not path.exists():
        return []
    # What follows the last line break is not whole.
    rows = [_row(line) for line in path.read_text(errors="replace").split("\n")[:-1]]
    bad = [str(number) for number, row in enumerate(rows, start=1) if row is None]
    if bad:
        kept = path.with_name(f"{path.name}.unreadable")
        shutil.copyfile(path, kept)
        told = ", ".join(bad[:10]) + (" …" if len(bad) > 10 else "")
        print(f"warning: {path} has no row in line {told}: left out, and kept in {kept.name}", file=sys.stderr)
    return [row for row in rows if row is not None]


def _row(line: str) -> dict[str, Any] | None:
    """The row of metrics.jsonl that a line holds, None if it holds none."""
    try:
        row: dict[str, Any] = json.loads(line)
        # A loss that was not finite is null there.
        row |= {name: math.nan for name, value in row.items() if value is None and name not in _PLACE}
        numbers = _NUMBERS[row["kind"]]
        return row if all(isinstance(row[name], (int, float)) for name in numbers) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _before(row: dict[str, Any], position: Position) -> bool:
    epoch = row["epoch"] - 1
    if epoch != position.epoch:
        return epoch < position.epoch
    return row["kind"] == "step" and row["step"] <= position.step
