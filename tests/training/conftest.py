"""A small set of photographs, and train_imagenet.py on it in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers.imagenet_runs import CLASSES, SCRIPT, SMALL, TRAINING, VALIDATION
from helpers.processes import script_of
from PIL import Image

from apr_dali.runtime.exit_status import run
from apr_dali.training import plots


@pytest.fixture(scope="module")
def tree(tmp_path_factory, photos) -> Path:
    """train/ and val/ with small crops of three photographs."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, photo in zip(CLASSES, (photos[0], photos[2], photos[1]), strict=True):
        for split, count in (("train", TRAINING), ("val", VALIDATION)):
            (folder / split / name).mkdir(parents=True)
            for n in range(count):
                y, x = (int(rng.integers(side - 60)) for side in photo.shape[:2])
                crop = photo[y : y + int(rng.integers(40, 60)), x : x + int(rng.integers(40, 60))]
                Image.fromarray(crop).save(folder / split / name / f"{n}.jpg")
    return folder


@pytest.fixture
def copy(tree, tmp_path) -> Path:
    """The tree again, of links to its images: to be spoilt."""
    for path in tree.rglob("*.jpg"):
        link = tmp_path / "data" / path.relative_to(tree)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return tmp_path / "data"


@pytest.fixture
def pictures() -> None:
    """For tests that look at the pictures of a run: drawing them takes longer than a small network's training."""


@pytest.fixture
def run_script(request, monkeypatch, capfd, tmp_path):
    """Run the `main` of a script in this process, in an empty folder; gives (exit status, stdout, stderr).

    Its pictures are empty files, but with the fixture `pictures`.
    """
    monkeypatch.chdir(tmp_path)
    if "pictures" not in request.fixturenames:
        for name in ("draw_samples", "draw_curves"):
            monkeypatch.setattr(plots, name, lambda path, *_, **__: path.write_bytes(b""))

    def start(main: Callable[[], None], name: str, *given: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, given)])
        capfd.readouterr()
        status = run(main)
        return status, *capfd.readouterr()

    return start


@pytest.fixture(scope="module")
def trainer() -> ModuleType:
    """train_imagenet.py as a module."""
    return script_of(SCRIPT)


@pytest.fixture
def train(trainer, run_script):
    """Run train_imagenet.py on a small network."""
    return partial(run_script, trainer.main, SCRIPT.name, *SMALL)
