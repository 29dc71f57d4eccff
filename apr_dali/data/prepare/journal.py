"""What a target is being made of, and how far: kept in the target, so that a stopped command goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apr_dali.data.listing import is_empty
from apr_dali.data.prepare.write import Done
from apr_dali.errors import InputError
from apr_dali.runtime.files import write_whole

MARKER = ".apr_dali_prepare.json"
STATE = ".apr_dali_prepare"
"""A folder in the target, until it is finished."""
_LINES = "units.jsonl"
_SPOOL = "spool.json"


def refuse_foreign(out: Path) -> None:
    """Raise InputError for a target that holds what no `prepare` has begun."""
    if (out / MARKER).is_file() or not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file: give a folder")
    # What prepare begins with, before the marker is there, is hidden.
    if not is_empty(out):
        raise InputError(f"{out} is not empty and nothing that prepare began: give a new folder")


def begin(out: Path, settings: dict[str, Any]) -> bool:
    """Whether the target is finished; where nothing is there it is made, and put down what is to be made.

    Raises InputError for a target that holds something else, or was begun with other settings and holds some of it.
    """
    marker = out / MARKER
    if not marker.is_file():
        refuse_foreign(out)
        (out / STATE).mkdir(parents=True, exist_ok=True)
        mark(out, settings, finished=False)
        return False
    found = json.loads(marker.read_text(encoding="utf-8"))
    differing = [name for name in settings if found["settings"].get(name) != settings[name]]
    if differing and is_empty(out) and not any((out / STATE).glob("*")):
        mark(out, settings, finished=False)  # it was refused, as for a full disk, before anything was written
        return False
    if differing:
        told = "; ".join(f"{name} was {found['settings'].get(name)}, is {settings[name]}" for name in differing)
        raise InputError(f"{out} was begun with other settings or another source ({told}): give a new folder")
    return bool(found["finished"])


def mark(out: Path, settings: dict[str, Any], finished: bool) -> None:
    """Put down the settings of a target, and whether all of it is there."""
    content = json.dumps({"settings": settings, "finished": finished}, indent=1) + "\n"
    write_whole(out / MARKER, content.encode(), alone=True)


def record(state: Path, done: Done) -> None:
    """Put down that a unit is written."""
    with open(state / _LINES, "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(done)) + "\n")


def recorded(state: Path) -> Iterator[Done]:
    """The units that were put down; a line that was being written when the process ended is passed over."""
    if not (state / _LINES).is_file():
        return
    content = (state / _LINES).read_text(encoding="utf-8")
    whole, _, _ = content.rpartition("\n")
    if len(whole) + 1 < len(content):
        # What is put down next must not stand behind half a line.
        write_whole(state / _LINES, (whole + "\n" if whole else "").encode())
    for line in whole.splitlines():
        found = json.loads(line)
        yield Done(**{**found, "odd": tuple(map(tuple, found["odd"]))})


def record_spool(state: Path, images: int, sizes: dict[str, int]) -> None:
    """Put down how many images of the source are spooled, and how long the spool's files are by that."""
    write_whole(state / _SPOOL, json.dumps({"images": images, "sizes": sizes}).encode())


def recorded_spool(state: Path) -> tuple[int, dict[str, int]]:
    """What was put down of the spool."""
    if not (state / _SPOOL).is_file():
        return 0, {}
    found = json.loads((state / _SPOOL).read_text(encoding="utf-8"))
    return int(found["images"]), found["sizes"]
