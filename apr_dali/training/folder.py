"""The run folder: which one, whether it may be used, and what describes the run in it."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from apr_dali.config import TrainingOptions
from apr_dali.errors import InputError
from apr_dali.training import checkpoint
from apr_dali.training.distributed import Group

CONFIG = "config.json"
_PACKAGES = (
    *("apr_dali", "numpy", "pillow", "torch", "torchvision", "timm"),
    *("nvidia-dali-cuda120", "nvidia-dali-cuda130", "cupy-cuda12x", "cupy-cuda13x"),
)


def choose(options: TrainingOptions, architecture: str) -> tuple[Path, Path | None]:
    """The run folder and the checkpoint to continue from, None for a fresh start.

    Raises InputError when the folder belongs to another run or there is nothing to continue. Writes nothing.
    """
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
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _check_new(folder: Path) -> None:
    if _used(folder):
        raise InputError(
            f"{folder} already has files, of another run perhaps: choose another --output, "
            "or continue that run with --resume auto"
        )


def create(folder: Path, options: TrainingOptions, group: Group, resumed: Path | None) -> None:
    """Make the folder and write config.json: options, command, versions, device.

    A run that continues from `previous.pt` of the same folder has a broken `latest.pt` beside it: the good one takes
    its place, or the next checkpoint would push the broken one over the good one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the run folder {folder}: {error.strerror}; choose another --output") from error
    if resumed is not None and resumed.resolve() == (folder / checkpoint.PREVIOUS).resolve():
        os.replace(resumed, folder / checkpoint.LATEST)
    text = json.dumps({"options": asdict(options), "command": sys.argv, **environment(group)}, indent=2) + "\n"
    checkpoint.write_whole(folder / CONFIG, lambda file: file.write(text.encode()))


def environment(group: Group) -> dict[str, Any]:
    """What a record of results says of the machine: the processes, the device, the versions of the packages."""
    gpu = torch.cuda.get_device_name(group.device) if group.device.type == "cuda" else None
    return {
        "processes": group.world,
        "device": gpu or f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on, of those installed."""
    return {"python": platform.python_version(), **{p: v for p in _PACKAGES if (v := _version(p))}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
