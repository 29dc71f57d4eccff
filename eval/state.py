"""Results of a long evaluation on disk, so that it goes on where it was stopped."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from apr_dali.errors import InputError
from apr_dali.runtime.files import npy_bytes, write_whole


class State:
    """Finished parts of one evaluation by name, in one JSON file that is rewritten whole after each.

    Numbers of every image may belong to a part: they lie in a folder beside it, NAME.images for NAME.state.json, in a
    file of their own, which is there before the part is. A part whose file is gone or another was never finished.

    Where torch.distributed runs, the first process alone reads and writes the file; all see the same parts, if all
    `put` the same. With `shared=False` each process has a file of its own.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any], shared: bool = True) -> None:
        """`path` is read if it is there; None keeps nothing. `settings` are what the results depend on, as JSON.

        Raises:
            InputError: if the file belongs to other settings, which it names, or is no such file.
        """
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self._main = not shared or not dist.is_initialized() or dist.get_rank() == 0
        outcome: list[Any] = [({}, {}, {}, {}), None]
        if self._main and path is not None and path.exists():
            try:
                outcome[0] = self._read(path)
            except InputError as error:
                outcome[1] = str(error)
        if shared and dist.is_initialized():
            dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise InputError(outcome[1])
        self._parts: dict[str, Any] = outcome[0][0]
        self._finished: dict[str, str] = outcome[0][1]
        self._rows: dict[str, NDArray[Any]] = outcome[0][2]
        self._sums: dict[str, int] = outcome[0][3]
        self._earlier = set(self._parts)
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def beside(self, ending: str) -> Path:
        """The path that NAME.state.json has with another `ending`, for what goes with the parts."""
        assert self._path is not None
        return self._path.with_name(f"{self._path.name.removesuffix('.state.json')}.{ending}")

    def get(self, name: str) -> Any:
        """The part `name`, as `put` was given it but for what JSON makes of it."""
        self._taken.add(name)
        return self._parts[name]

    def rows(self, name: str) -> NDArray[Any]:
        """The numbers of every image that `put` was given with the part `name`."""
        return self._rows[name]

    def kept(self) -> dict[str, str]:
        """Of the parts that `get` gave, those of an earlier run, each with the time at which it was finished."""
        return {name: self._finished[name] for name in sorted(self._taken & self._earlier)}

    def put(self, name: str, value: Any, rows: NDArray[Any] | None = None) -> None:
        """Keep `value`, which JSON can hold, as the finished part `name`; it is on the disk when this returns.

        rows: numbers of every image, which belong to it.
        """
        if rows is not None:
            self._rows[name] = rows
            if self._main and self._path is not None:
                file, content = self._file_of(name), npy_bytes(rows)
                file.parent.mkdir(exist_ok=True)
                # The sum tells what a loss of power has left; to wait for the disk twice a part takes time.
                write_whole(file, content, synced=False)
                self._sums[name] = crc32(content)
        self.put_all({name: value})

    def put_all(self, values: Mapping[str, Any]) -> None:
        """Keep several finished parts at once, as `put` keeps one."""
        self._parts.update(json.loads(json.dumps(values)))
        self._finished.update(dict.fromkeys(values, datetime.now().astimezone().isoformat(timespec="seconds")))
        self._earlier.difference_update(values)
        if self._main and self._path is not None:
            found = {"settings": self._settings, "parts": self._parts, "finished": self._finished}
            write_whole(self._path, json.dumps({**found, "rows": self._sums}).encode())

    def _file_of(self, name: str) -> Path:
        # A name may have any characters.
        return self.beside("images") / f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.npy"

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, NDArray[Any]], dict[str, int]]:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            theirs, parts, finished = found["settings"], found["parts"], found["finished"]
            sums = found.get("rows", {})
            if not set(parts) <= set(finished):
                raise KeyError("finished")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not the state of an evaluation: remove it, or give another folder") from error
        differing = [
            f"{key} {theirs.get(key)!r}, now {self._settings.get(key)!r}"
            for key in sorted({*theirs, *self._settings})
            if theirs.get(key) != self._settings.get(key)
        ]
        if differing:
            raise InputError(
                f"{path} holds results of another evaluation ({'; '.join(differing)}): "
                "give another folder, or remove it"
            )
        rows = {}
        for name, known in [*sums.items()]:
            file = self._file_of(name)
            content = file.read_bytes() if file.is_file() else b""
            if crc32(content) == known:
                rows[name] = np.load(io.BytesIO(content), allow_pickle=False)
            else:
                parts.pop(name, None)  # is run again
                del sums[name]
        return parts, finished, rows, sums
