"""Checkpoint files: written whole or not at all, and read without running what they contain.

A run folder holds `latest.pt`, the one before it as `previous.pt`, and `best.pt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from apr_dali.errors import InputError, first_line
from apr_dali.runtime.files import Content, write_whole

LATEST, PREVIOUS, BEST = "latest.pt", "previous.pt", "best.pt"
_FORMAT = 1


@dataclass
class Position:
    """Where a run stands: `step` steps into `epoch`, both from 0.

    trained: all steps of the epoch are done, its validation is not. loss: the mean loss of these steps then.
    best: the greatest top-1 so far, 0..1; -1 before the first. stream: the epoch at which the loader's order of images
    began anew, part of its seed. skipped: steps of the epoch that left the weights as they were, because the loss or a
    gradient was not finite. in_a_row: how many updates of the weights these were at the last, of former epochs too.
    averaged: in the last validation the average of the weights did better than the weights.
    """

    epoch: int = 0
    step: int = 0
    trained: bool = False
    loss: float = 0.0
    best: float = -1.0
    stream: int = 0
    skipped: int = 0
    in_a_row: int = 0
    averaged: bool = False


def write_of_run(path: Path, content: Content, keep: Path | None = None) -> None:
    """Write a file of a run folder, whole or not at all; see `write_whole`.

    Raises InputError, with the former file in place, when the disk is full or cannot be written.
    """
    try:
        # One process writes a run folder.
        write_whole(path, content, keep=keep, alone=True)
    except Exception as error:
        cause = _os_error(error)
        if cause is None:
            raise
        raise InputError(
            f"could not write {path}: {cause.strerror}. What was there before is unchanged: free the disk or make it "
            f"writable, then continue with --resume auto --output {path.parent}"
        ) from error


def _os_error(error: BaseException) -> OSError | None:
    """The OSError behind `error`: torch.save hides it behind a RuntimeError of its own."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return cause


def save(folder: Path, state: dict[str, Any], best: bool) -> None:
    """Write `state` as the run's latest checkpoint and, if `best`, as its best."""
    state = {"format": _FORMAT, **state}
    write_of_run(folder / LATEST, lambda file: torch.save(state, file), keep=folder / PREVIOUS)
    if best:
        write_of_run(folder / BEST, lambda file: torch.save(state, file))


def load(path: Path, classes: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The state that `save` wrote to `path`, tensors on the CPU.

    Raises InputError as `load_any` does, and when it is of other classes, unless `classes` is None.
    """
    state = load_any(path)
    if classes is not None:
        check_classes(state, path, classes)
    return state


def load_options(path: Path) -> dict[str, Any]:
    """The options of the run that wrote the checkpoint `path`; its tensors stay on the disk. Raises as `load_any`."""
    return load_any(path, mmap=True)["options"]


def load_any(path: Path, mmap: bool = False) -> dict[str, Any]:
    """The state that `save` wrote to `path`, whatever it is of, tensors on the CPU, or with `mmap` left in the file.

    Raises InputError when the file is missing, truncated or something else, and names the previous checkpoint if that
    one can be read.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    try:
        return _read(path, mmap)
    # What a broken file raises depends on where it is broken.
    except Exception as error:
        # Only its first line: torch goes on with advice on how to run what the file contains.
        reason = first_line(error).partition(". ")[0]
        raise InputError(f"{path} cannot be read, it is truncated or no checkpoint ({reason}){_offer(path)}") from error


def _read(path: Path, mmap: bool = False) -> dict[str, Any]:
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"expected a checkpoint of format {_FORMAT} of this trainer")
    # The name that earlier versions gave it.
    if "optimiser" in state:
        state["optimizer"] = state.pop("optimiser")
    return state


def _offer(path: Path) -> str:
    other = path.with_name(PREVIOUS)
    if other == path or not other.is_file():
        return ""
    try:
        state = _read(other)
    except Exception:  # noqa: BLE001 - as above: a broken file is no offer
        return ""
    return f". The one before it is whole ({where(state)}): continue with --resume {other}"


def where(state: dict[str, Any]) -> str:
    """The position in training at which `state` was saved, in words."""
    position = state["position"]
    if position["trained"]:
        return f"epoch {position['epoch'] + 1} trained, not validated"
    return f"epoch {position['epoch'] + 1}, step {position['step']}"


def find_latest(folder: Path) -> Path | None:
    """The run's latest checkpoint, or the previous one if a crash came between two renamings, or None."""
    return next((folder / name for name in (LATEST, PREVIOUS) if (folder / name).is_file()), None)


def check_classes(state: dict[str, Any], path: Path, classes: tuple[str, ...]) -> None:
    """Raise InputError unless `state`, read from `path`, is of a run on these classes in this order."""
    theirs = tuple(state["classes"])
    if theirs != classes:
        differing = next((f"{a!r} against {b!r}" for a, b in zip(theirs, classes, strict=False) if a != b), "")
        raise InputError(
            f"{path} was trained on {len(theirs)} classes and the data have {len(classes)}"
            + (f"; the first that differ: {differing}" if differing else "")
        )
