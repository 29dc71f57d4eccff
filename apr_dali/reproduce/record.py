"""What is done of a run: known by its results and by the settings that they were made with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from apr_dali import __version__
from apr_dali.errors import InputError
from apr_dali.reproduce.plan import EVALUATED, TRAIN, Evaluation, Plan, Run
from apr_dali.runtime import checkpoint
from apr_dali.runtime.files import sha256_of, write_whole

RECORD = "run.json"
Record = dict[str, Any]


def read_json(path: Path) -> Record | None:
    """A dict of JSON; None where there is none, or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def changes(run: Run, output: Path) -> list[str]:
    """In what a run that was begun in `output` differs from what is asked now, setting by setting."""
    home, now = run.home(output), run.training.settings()
    kept = (read_json(home / RECORD) or {}).get("settings")
    if not isinstance(kept, dict):
        begun = (home / TRAIN).is_dir() and any((home / TRAIN).iterdir())
        return [f"{TRAIN} has files, and {RECORD}, which says of which settings, is not there or damaged"] * begun
    names = [name for name in {**kept, **now} if kept.get(name) != now.get(name)]
    return [f"{name} was {kept.get(name, 'not given')}, is {now.get(name, 'not given')}" for name in names]


def check_unchanged(plan: Plan) -> None:
    """Raise InputError for runs in the output that were begun with other settings, and name them."""
    changed = {run.key: found for run in plan.runs if (found := changes(run, plan.asked.output))}
    if changed:
        told = "\n".join(f"  {key}: {'; '.join(found)}" for key, found in changed.items())
        raise InputError(
            f"runs in {plan.asked.output} were begun with other settings:\n{told}\n"
            "give another --output, give these settings, or remove their folders"
        )


def begin(run: Run, output: Path) -> None:
    """Write down which settings the run's folder is of, before anything is in it."""
    home = run.home(output)
    home.mkdir(parents=True, exist_ok=True)
    if read_json(home / RECORD) is None:
        _write(home, {"settings": run.training.settings(), "begun": _now(), "version": __version__})


def trained(run: Run, output: Path, seconds: float, where: str) -> None:
    """Write down that the training has come to its end, and what it left."""
    home = run.home(output)
    path = home / TRAIN / checkpoint.LATEST
    found = {"command": shlex.join(run.training.words(home)), "ended": _now(), "where": where, "version": __version__}
    done = {**found, "last_seconds": round(seconds, 1), "sha256": _sha256_of(path)}
    _write(home, {**(read_json(home / RECORD) or {}), "settings": run.training.settings(), "trained": done})


def training_of(run: Run, output: Path) -> Record | None:
    """What is written of the finished training; None where it is not finished, or its checkpoint is another one."""
    home = run.home(output)
    record = read_json(home / RECORD) or {}
    done = record.get("trained")
    path = home / TRAIN / checkpoint.LATEST
    if not isinstance(done, dict) or record.get("settings") != run.training.settings() or not path.is_file():
        return None
    if not all(isinstance(done.get(name), str) for name in ("command", "version", "sha256")):
        return None
    return done if done.get("sha256") == _sha256_of(path) else None


def result_of(run: Run, evaluation: Evaluation, output: Path, sha256: str) -> Record | None:
    """The record that an evaluation has written, if it is of the checkpoint `sha256` and by the command of now.

    The folder `output` may have been moved since, or be called by another path.
    """
    home = run.home(output)
    record = read_json(home / EVALUATED / f"{evaluation.name}.json") or {}
    settings = record.get("settings")
    if not isinstance(settings, dict) or not isinstance(record.get("result"), dict):
        return None
    if settings.get("file_sha256") != sha256:
        return None
    was, now = _words_of(record.get("command")), evaluation.words(home)
    return record if _without_output(was, run) == _without_output(now, run) else None


def _words_of(command: object) -> tuple[str, ...]:
    """The words of a command; none of what is no command."""
    try:
        return tuple(shlex.split(command)) if isinstance(command, str) else ()
    except ValueError:
        return ()


def _without_output(words: Sequence[str], run: Run) -> list[tuple[bool, str]]:
    """The words of an evaluation, those that are paths below the output, and True, as they are below it.

    The output is that whose folder of the run the last word is, --output's.
    """
    below, last = Path(run.key, EVALUATED).parts, Path(*words[-1:])
    output = last.parents[len(below) - 1] if last.parts[-len(below) :] == below else None

    def placed(word: str) -> tuple[bool, str]:
        # Any word would be below the output ".": those that are no paths have no slash.
        if output is None or "/" not in word or not Path(word).is_relative_to(output):
            return False, word
        return True, str(Path(word).relative_to(output))

    return list(map(placed, words))


def _sha256_of(path: Path) -> str:
    status = path.stat()
    return _sha256_at(path, status.st_mtime_ns, status.st_size)


@cache
def _sha256_at(path: Path, changed: int, size: int) -> str:  # noqa: ARG001 - what tells that it is read already
    return sha256_of(path)


def _write(home: Path, record: Record) -> None:
    write_whole(home / RECORD, (json.dumps(record, indent=2) + "\n").encode())


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
