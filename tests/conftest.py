"""Natural images for the tests: crops of the photographs that scikit-image ships."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# Two threads of torch beside another busy process are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from helpers import dali_deprecations, temporary
from helpers.dali_deprecations import pytest_sessionfinish, pytest_warning_recorded
from helpers.examples import CLASSES
from helpers.native_levels import LEVELS, MISSING, EachLevel
from helpers.object_storage import server
from helpers.seeds import pytest_runtest_setup
from skimage import data

from apr_dali.kernels.cpu import backend as native_backend

__all__ = ["pytest_runtest_setup", "pytest_sessionfinish", "pytest_warning_recorded", "temporary"]  # hooks, and folders


gc.disable()  # until all is collected: a look among all that the imports have made takes a third of a second each time


def pytest_collection_finish() -> None:
    """Hook of pytest: what the imports have made stays, and needs no look while the tests run."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Four natural photographs, uint8 (H, W, 3)."""
    return [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]


@pytest.fixture(scope="session")
def s3_server():
    """The environment variables of an S3 server on this machine."""
    with server() as values:
        yield values


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A client of an empty S3 server on this machine, to which DALI is directed too."""
    import boto3

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    for bucket in client.list_buckets()["Buckets"]:
        for found in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
            client.delete_object(Bucket=bucket["Name"], Key=found["Key"])
        client.delete_bucket(Bucket=bucket["Name"])
    return client


def _textured_crop(rng: np.random.Generator, photo: np.ndarray, height: int, width: int) -> np.ndarray:
    # Flat images have spectra of rounding errors, whose phase means nothing: the night sky is no test.
    if height * width < 16:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for _ in range(100):
        y = rng.integers(photo.shape[0] - height + 1)
        x = rng.integers(photo.shape[1] - width + 1)
        crop = photo[y : y + height, x : x + width]
        if crop.std() > 10:
            break
    return crop


@pytest.fixture(scope="session")
def crops(photos):
    """A function (count, height, width, seed=0) → uint8 (count, height, width, 3) of natural crops."""

    def make(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        out = []
        for index in range(count):
            photo = photos[index % len(photos)]
            out.append(_textured_crop(rng, photo, height, width))
        return np.stack(out) if out else np.empty((0, height, width, 3), np.uint8)

    return make


@pytest.fixture(scope="session")
def shim_folder(tmp_path_factory):
    """Where CUDA kernels that were built for the CPU lie, once for all of pytest-xdist's workers."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is needed to run the CUDA kernels on the CPU")
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "kernels"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def digits_checkpoints(tmp_path_factory) -> tuple[str, str]:
    """Checkpoints of two small networks for digits with random weights, which disagree."""
    from dataclasses import asdict

    import torch

    from apr_dali.models import create_model
    from apr_dali.runtime import checkpoint
    from apr_dali.training.options import CifarOptions

    paths = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp("digits")
        torch.manual_seed(seed)
        model = create_model("cifar/wrn-16-1", 10)
        options = asdict(CifarOptions(model="wrn-16-1"))
        state = {"architecture": "cifar/wrn-16-1", "classes": [str(n) for n in range(10)]}
        checkpoint.save(folder, {**state, "options": options, "model": model.state_dict()}, best=False)
        paths.append(str(folder / checkpoint.LATEST))
    return paths[0], paths[1]


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> str:
    """Four classes of the built-in sample as links, 128 training images."""
    from apr_dali.data.sample import write_sample

    whole, root = write_sample(tmp_path_factory.mktemp("written") / "sample"), tmp_path_factory.mktemp("sample")
    for split, count in (("train", 32), ("val", 8)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for path in sorted((whole / split / name).iterdir())[:count]:
                (root / split / name / path.name).symlink_to(path)
    return str(root)


@pytest.fixture
def lacking(sample, tmp_path) -> str:
    """The sample with no validation images of its first class."""
    (tmp_path / "train").symlink_to(Path(sample) / "train")
    (tmp_path / "val").mkdir()
    for name in CLASSES[1:]:
        (tmp_path / "val" / name).symlink_to(Path(sample) / "val" / name)
    return str(tmp_path)


@pytest.fixture
def no_driver(monkeypatch) -> None:
    """DALI's torchvision asks torch for its CUDA stream wherever the images are, which takes a driver: not here."""
    import torch
    from nvidia.dali import types

    if not torch.cuda.is_available():
        monkeypatch.setattr(types, "_get_default_stream_for_array", lambda _: None)


@pytest.fixture
def forks() -> None:
    """For processes that are forked from this one: where one of them came to collect a pipeline of DALI's that an
    earlier test has left in a cycle, it would wait forever for the threads of it, which no fork has."""
    gc.collect()


@pytest.fixture
def native() -> None:
    """Skips where the native extension was not built."""
    if MISSING:
        pytest.skip(MISSING)


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch) -> str:
    """Each level of the native backend in turn."""
    monkeypatch.setenv(native_backend.LEVEL_VARIABLE, request.param)
    return request.param


@pytest.fixture
def each_level(native, monkeypatch) -> EachLevel:  # noqa: ARG001 - without it no level would be looked at
    """A function that sets each level in turn, for a test whose reference takes longer than all of them."""

    def levels() -> Iterator[str]:
        for name in LEVELS:
            print(f"level {name}")  # which pytest shows of a test that fails
            monkeypatch.setenv(native_backend.LEVEL_VARIABLE, name)
            yield name

    return levels


def pytest_terminal_summary(terminalreporter) -> None:
    """What tests have counted: it depends on the compiler, so it is told and not asserted. And DALI's deprecations."""
    dali_deprecations.tell(terminalreporter)
    counts = [
        f"{report.nodeid}: {name}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
    ]
    if counts:
        terminalreporter.section("counted on the simulators")
        for line in dict.fromkeys(counts):
            terminalreporter.write_line(line)
