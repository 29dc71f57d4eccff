"""The run folder: which one, whether it may be used, and what describes the run in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from apr_dali.errors import InputError
from apr_dali.runtime import checkpoint, lock
from apr_dali.runtime.distributed import Group, on_main
from apr_dali.runtime.environment import environment
from apr_dali.training.options import TrainingOptions

CONFIG = "config.json"


def choose(options: TrainingOptions, architecture: str) -> tuple[Path, Path | None]:
    """The run folder and the checkpoint to continue from, None for a fresh start.

    Raises InputError when the folder belongs to another run, another process writes to it, or there is nothing to
    continue. Writes nothing.
    """
    folder, source = _choose(options, architecture)
    lock.check_free(folder)
    return folder, source


def _choose(options: TrainingOptions, architecture: str) -> tuple[Path, Path | None]:
    if options.resume == "auto":
        folder = Path(options.output)
        latest = checkpoint.find_latest(folder)
        if latest is None and _used(folder) and not (folder / CONFIG).is_file():
            raise InputError(f"{folder} is not a run folder: it has files, but no {CONFIG}; choose another --output")
        return folder, latest
    if options.resume:
        path = Path(options.resume)
        folder = Path(options.output) if options.output else path.parent
        if folder.resolve() != path.parent.resolve():
            _check_new(folder)
        return folder, path
    name = f"{architecture.replace('/', '-')}-{options.aug}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(options.output) if options.output else Path("runs") / name
    _check_new(folder)
    return folder, None


def _used(folder: Path) -> bool:
    # A run that was killed before it wrote anything else leaves its lock.
    return folder.exists() and (not folder.is_dir() or any(path.name != lock.LOCK for path in folder.iterdir()))


def _check_new(folder: Path) -> None:
    if _used(folder):
        raise InputError(
            f"{folder} already has files, of another run perhaps: choose another --output, "
            "or continue that run with --resume auto"
        )


@contextmanager
def occupied(folder: Path, options: TrainingOptions, group: Group, resumed: Path | None) -> Iterator[None]:
    """While entered, the folder is this run's: made, locked against other processes, with a config.json that is true.

    Entered by all processes together; the main one does the work. Raises InputError if another process has the folder.
    """
    with ExitStack() as stack:

        def begin() -> None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = f"{error.strerror}; choose another --output"
                raise InputError(f"cannot make the run folder {folder}: {reason}") from error
            stack.enter_context(lock.hold(folder))
            _describe(folder, options, group, resumed)

        on_main(group, begin)
        yield


def _describe(folder: Path, options: TrainingOptions, group: Group, resumed: Path | None) -> None:
    """Write config.json: options, command, versions, device.

    A run that continues from `previous.pt` of the same folder has a broken `latest.pt` beside it: the good one takes
    its place, or the next checkpoint would push the broken one over the good one.
    """
    if resumed is not None and resumed.resolve() == (folder / checkpoint.PREVIOUS).resolve():
        os.replace(resumed, folder / checkpoint.LATEST)
    text = json.dumps({"options": asdict(options), "command": sys.argv, **environment(group)}, indent=2) + "\n"
    checkpoint.write_of_run(folder / CONFIG, text.encode())
