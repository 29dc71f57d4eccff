"""Loaders that are abandoned, forked, doubled and broken off: nothing hangs, and nothing stays behind."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.image_sets import write_classes
from helpers.loaders import make, sums, sums_in_child
from helpers.processes import PATIENCE
from helpers.project import ROOT
from helpers.waiting import until


@pytest.fixture(scope="module")
def folder(tmp_path_factory, crops):
    return write_classes(tmp_path_factory.mktemp("images"), crops(24, 60, 50), ".jpg")


def held() -> tuple[int, int]:
    """Threads and open file descriptors of this process."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def assert_given_back(before: tuple[int, int]) -> None:
    # Threads end a moment after the request.
    until(
        lambda: all(now <= then for now, then in zip(held(), before, strict=True)),
        lambda: f"threads, files: {before} before, {held()} now",
    )


@pytest.fixture
def before(folder) -> tuple[int, int]:
    """What this process holds once libraries have made whatever they keep for good."""
    with make(folder) as loader:
        list(loader)
    return held()


def test_close_gives_threads_and_files_back(folder, before):
    for _ in range(3):
        threads = set(os.listdir("/proc/self/task"))
        loader = make(folder)
        list(loader)
        assert set(os.listdir("/proc/self/task")) - threads
        loader.close()
        loader.close()
    assert_given_back(before)


def test_a_loader_abandoned_in_mid_epoch_gives_them_back(folder, before):
    for _ in range(3):
        loader = make(folder)
        next(iter(loader))
        del loader
    assert_given_back(before)


@pytest.mark.parametrize("options", [{}, {"on_break": "resume"}, {"sampler": "balanced"}])
def test_epochs_that_are_left_leave_nothing_behind(folder, before, options):
    with make(folder, **options) as loader:
        next(iter(loader))
        running = held()
        for _ in range(4):
            next(iter(loader))
        assert_given_back(running)
    assert_given_back(before)


def break_off(loader) -> None:
    for number, _ in enumerate(loader):
        1 / (2 - number)


def test_an_exception_in_the_training_loop_passes_and_the_loader_goes_on(folder, before):
    with make(folder) as loader:
        expected = sums(loader)
    with make(folder, on_break="resume") as loader:
        with pytest.raises(ZeroDivisionError):
            break_off(loader)
        assert sums(loader) == expected[3:]
    with make(folder) as loader:
        with pytest.raises(ZeroDivisionError):
            break_off(loader)
        assert len(sums(loader)) == len(expected)
    assert_given_back(before)


def test_a_broken_image_gives_them_back(folder, before, tmp_path):
    (tmp_path / "only").mkdir()
    for index, path in enumerate(sorted(folder.rglob("*.jpg"))[:8]):
        (tmp_path / "only" / path.name).write_bytes(b"broken" if index == 5 else path.read_bytes())
    with pytest.raises(ValueError, match="cannot be decoded"), make(tmp_path) as loader:
        list(loader)
    del loader
    assert_given_back(before)


def test_two_loaders_at_once_are_as_each_by_itself(folder):
    alone = []
    for seed in (1, 2):
        with make(folder, seed=seed) as loader:
            alone.append(sums(loader))
    with make(folder, seed=1) as first, make(folder, seed=2) as second:
        together = [(float(a.sum()), float(b.sum())) for (a, _), (b, _) in zip(first, second, strict=True)]
    assert [list(each) for each in zip(*together, strict=True)] == alone
    found = {}
    threads = [
        threading.Thread(target=lambda seed=seed: found.update({seed: sums(make(folder, seed=seed))}))
        for seed in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [found[1], found[2]] == alone


@pytest.mark.slow
def test_a_spawned_process_has_a_loader_of_its_own(folder):
    with make(folder) as loader:
        batches = iter(loader)
        first = float(next(batches)[0].sum())
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        child = context.Process(target=sums_in_child, args=(folder, results))
        child.start()
        found = results.get(timeout=PATIENCE)
        child.join(PATIENCE)
        assert child.exitcode == 0
        # The parent's loader is still where it was.
        rest = [float(images.sum()) for images, _ in batches]
    np.testing.assert_allclose(found, [first, *rest], rtol=1e-6)


# In a process by itself: a fork copies whatever locks the threads of other tests may hold.
FORK = """
import multiprocessing, sys
import torch
sys.path.insert(0, sys.argv[2])
from helpers.loaders import make, sums, sums_in_child
torch.set_num_threads(1)
with make(sys.argv[1]) as loader:
    expected = sums(loader)
context = multiprocessing.get_context("fork")
results = context.Queue()
child = context.Process(target=sums_in_child, args=(sys.argv[1], results))
child.start()
found = results.get()
child.join()
assert child.exitcode == 0 and found == expected, (child.exitcode, found, expected)
"""


@pytest.mark.slow
def test_a_process_forked_after_close_has_a_loader_of_its_own(folder):
    """While a loader runs its threads may hold locks, which the child would wait for: fork before, or after close."""
    command = [sys.executable, "-c", FORK, folder, ROOT / "tests"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
