"""A small set of photographs, and train_imagenet.py on it in this process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.imagenet_runs import CLASSES, SCRIPT, SMALL, TRAINING, VALIDATION
from PIL import Image

from apr_dali.runtime.exit_status import run


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


@pytest.fixture(scope="module")
def trainer():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("train_imagenet", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(trainer, monkeypatch, capfd, tmp_path):
    """Run the script in this process, in an empty folder; gives (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def start(*given: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train_imagenet.py", *SMALL, *map(str, given)])
        capfd.readouterr()
        status = run(trainer.main)
        return status, *capfd.readouterr()

    return start
