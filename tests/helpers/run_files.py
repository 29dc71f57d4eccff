"""What tests of a run folder write into it, and read from it."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import torch

from apr_dali.runtime import checkpoint
from apr_dali.runtime.distributed import Group
from apr_dali.training.options import ImageNetOptions

ALONE = Group(0, 1, 0, torch.device("cpu"))


LOADER_STATE = {"pipeline": "AP8A/w==", "none": "", "batch": 3, "graph": {"device": "cpu", "shard": [0, 1]}}


def saved_state(epoch: int = 0, **more) -> dict:
    return {
        "architecture": "net",
        "classes": ["a", "b"],
        "position": {"epoch": epoch, "step": 3, "trained": False},
        "processes": [{"loader": LOADER_STATE}],
        "model": {"w": torch.full((1000,), float(epoch))},
    } | more


def load_saved(path: Path) -> dict:
    return checkpoint.load(path, ("a", "b"))


class FullDisk:
    """A file on a disk with room for 2,000 bytes more."""

    def __init__(self, path, mode):
        self._file, self._room = open(path, mode), 2000  # noqa: SIM115 (closed by __exit__)

    def write(self, data):
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def image_options(**given) -> ImageNetOptions:
    return ImageNetOptions(data="d", **given)


def state_of(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def rows_of(folder: Path, kind: str = "epoch") -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def networks_of(state: dict) -> dict[str, dict]:
    """The weights of a checkpoint, and of what follows them: their average, a teacher."""
    followers = {name: state[name]["model"] for name in ("average", "teacher") if name in state}
    return {"weights": state.get("raw", state["model"]), **followers}


def assert_same(found, expected, where: str = "") -> None:
    """Bit for bit, through nested containers."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for n, pair in enumerate(zip(found, expected, strict=True)):
            assert_same(*pair, f"{where}[{n}]")
    else:
        assert found == expected, where
