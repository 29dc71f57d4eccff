"""The same images as files, as tar files and in memory, and loaders of each."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from helpers.gray_sets import BATCH, COUNT, small_set
from PIL import Image

from apr_dali import CifarLoader, ImageNetLoader


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Images of one gray level each, which tells which one it is; those of odd numbers are of another class."""
    root = tmp_path_factory.mktemp("folder")
    for index in range(COUNT):
        (root / f"class{index % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (index * 13,) * 3).save(root / f"class{index % 2}" / f"{index:02d}.png")
    return root


@pytest.fixture(scope="session")
def tars(folder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tars")
    (root / "classes.txt").write_text("class0\nclass1\n")
    with tarfile.open(root / "0.tar", "w") as archive:
        for path in sorted(folder.rglob("*.png"), key=lambda path: path.stem):
            archive.add(path, f"{path.stem}.png")
            label = root / "label"
            label.write_text(path.parent.name[-1])
            archive.add(label, f"{path.stem}.cls")
    indexer = Path(sys.executable).with_name("wds2idx")
    subprocess.run([indexer, root / "0.tar", root / "0.idx"], check=True, stdout=subprocess.DEVNULL)
    return root


@pytest.fixture(params=["folder", "tars", "small"])
def make(request):
    """A function that makes a loader of the set."""
    if request.param == "small":
        return lambda **options: CifarLoader(small_set(), **{"batch_size": BATCH, "threads": 1, **options})
    source = request.getfixturevalue(request.param)
    return lambda **options: ImageNetLoader(source, **{"batch_size": BATCH, "threads": 1, "image_size": 16, **options})
