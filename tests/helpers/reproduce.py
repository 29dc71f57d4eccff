"""A data folder with the names of all published sets, and programs that stand for trainers and evaluations."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from apr_dali.reproduce import child
from apr_dali.reproduce.follow import CODE
from apr_dali.reproduce.plan import Asked
from apr_dali.reproduce.sets import NEEDS

# What it leaves depends on the words alone. FAILS, a file beside it, has words on which it ends with an error, or
# parts of paths with a slash; WAITS those on which it waits to be stopped, after saying so.
_PROGRAM = """
import hashlib, json, pathlib, shlex, signal, sys, time
words = sys.argv[1:]
here = pathlib.Path(__file__).parent
def named(name):
    given = (here / name).read_text().split()
    return any(one in (shlex.join(words) if "/" in one else words) for one in given)
def stop(*_):
    (here / "stopped").write_text(shlex.join(words))
    sys.exit(143)
with open(here / "ran", "a") as file:
    file.write(shlex.join(words) + "\\n")
if named("FAILS"):
    sys.exit("it is broken")
if named("WAITS"):
    signal.signal(signal.SIGTERM, stop)
    (here / "waits").write_text("")
    time.sleep(1000)
if "--output" in words:
    output = pathlib.Path(words[words.index("--output") + 1])
    output.mkdir(parents=True, exist_ok=True)
    if "--resume" in words:
        (output / "latest.pt").write_text(shlex.join(words))
    else:
        model = pathlib.Path(next(word for word in words if word.endswith(".pt")))
        sha = hashlib.sha256(model.read_bytes()).hexdigest()
        result = json.loads((here / "result.json").read_text())[words[1]]
        record = {"command": shlex.join(["apr-dali", *words]), "settings": {"file_sha256": sha}}
        (output / (words[1] + ".json")).write_text(json.dumps({**record, "pictures": [], "result": result}))
"""
RESULTS = {
    "corruption": {"mean_error": 0.25, "clean_error": 0.0625},
    "clean": {"top1": 0.9375},
    "ood": {"scores": {score: {"photographs": {"auroc": 0.75}} for score in ("max-logit", "max-softmax")}},
    "autoattack": {"clean": 0.5, "robust": 0.375, "images": 20},
}


class Programs:
    """The stand-ins in a folder. ran: the command lines so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "program.py").write_text(_PROGRAM)
        self.tell(RESULTS)
        self.set("FAILS")
        self.set("WAITS")

    def set(self, name: str, *words: str) -> None:
        (self.folder / name).write_text(" ".join(words))

    def tell(self, results: dict) -> None:
        (self.folder / "result.json").write_text(json.dumps(results))

    def ran(self) -> list[str]:
        path = self.folder / "ran"
        return path.read_text().splitlines() if path.exists() else []


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Programs:
    """Let commands of plans run the stand-ins instead."""
    found = Programs(folder)
    program = (sys.executable, str(folder / "program.py"))
    monkeypatch.setattr(child, "_PROGRAMS", {"python": program, "apr-dali": program})
    return found


def every_set(root: Path) -> Path:
    """A folder in which every set is found by its name; there are no images in them."""
    for need in NEEDS.values():
        place = root / need.places[0]
        if "." in place.name:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"")
        else:
            place.mkdir(parents=True, exist_ok=True)
            for name in need.holds or ("image.png",):
                (place / name).touch()
    return root


def asked(tmp_path: Path, **given: object) -> Asked:
    """What is asked for, in folders of `tmp_path`."""
    return Asked(**{"data": tmp_path / "data", "output": tmp_path / "out", "follow": CODE, **given})  # type: ignore[arg-type]
