"""One process writes a run folder: a lock file in it with that process's host and number."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from apr_dali.errors import InputError
from apr_dali.runtime.best_effort import say

LOCK = "run.lock"
_BEAT = 5.0
"""Seconds after which a living process touches its lock again."""
_WATCH = 30.0
"""Seconds without a touch after which the process on another host is taken for dead: whether a lock of the system
reaches other hosts depends on the file system."""


def check_free(folder: Path) -> None:
    """Raise InputError if a process of this host holds the lock of `folder`; writes nothing."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return  # no lock, or no folder; what cannot be written is found when it has to be
    try:
        _take(descriptor, folder)
    finally:
        os.close(descriptor)


@contextmanager
def hold(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Keep `folder` for this process; a lock that a dead process left behind is taken over.

    Args:
        name: of the lock file in it; those who hold different ones do not exclude each other.

    Raises:
        InputError: if a living process has it, on this host or on another that shares the folder.
    """
    path = folder / name
    descriptor = _open(path)
    try:
        _outlive(descriptor, path)
        _sign(descriptor, path)
        try:
            with _beating(path):
                yield
        finally:
            with suppress(OSError):  # what is left of it will be taken over
                path.unlink()
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """The lock file, opened and locked by the system, which lets go of it when this process ends in any way."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"cannot write into the run folder {path.parent}: {error.strerror}") from error
        try:
            _take(descriptor, path.parent)
            # Who held it may have removed the file between the two calls: it is then no longer the folder's.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _held(folder, _owner(descriptor)) from error
        # A file system without such locks: whether the process lives has to do.
        owner = _owner(descriptor)
        if owner.get("host") == socket.gethostname() and owner.get("pid") != os.getpid() and _lives(owner["pid"]):
            raise _held(folder, owner) from error


def _outlive(descriptor: int, path: Path) -> None:
    """Wait where the owner is on another host, until it is plain whether it lives."""
    owner = _owner(descriptor)
    if owner.get("host", socket.gethostname()) == socket.gethostname():
        return
    say(f"{_words(owner)} left {path}: looking for {_WATCH:.0f} s whether it still runs")
    touched = _touched(path)
    end = time.monotonic() + _WATCH
    while time.monotonic() < end:
        time.sleep(min(1.0, _WATCH / 10))
        if _touched(path) != touched:
            raise _held(path.parent, owner)
    say("it does not: going on in its folder")


def _sign(descriptor: int, path: Path) -> None:
    ours = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(ours) + "\n").encode(), 0)
    except OSError as error:
        raise InputError(f"could not write {path}: {error.strerror}") from error


@contextmanager
def _beating(path: Path) -> Iterator[None]:
    """Touch the file now and then, from a thread, as long as this is entered."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT):
            with suppress(OSError):  # a file system that is away for a moment
                os.utime(path)

    thread = threading.Thread(target=beat, name="run folder's lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _touched(path: Path) -> int:
    # Opening it makes a network file system ask the server.
    with open(path, "rb") as file:
        return os.fstat(file.fileno()).st_mtime_ns


def _owner(descriptor: int) -> dict[str, Any]:
    """Who wrote the lock; empty if nobody has, or not to the end."""
    try:
        found = json.loads(os.pread(descriptor, 1000, 0))
        return {"host": str(found["host"]), "pid": int(found["pid"]), "since": str(found["since"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _held(folder: Path, owner: dict[str, Any]) -> InputError:
    return InputError(f"{_words(owner)} writes to {folder}: wait for it to end or stop it, or choose another folder")


def _words(owner: dict[str, Any]) -> str:
    return "process {pid} on {host}, since {since},".format(**owner) if owner else "another process"
