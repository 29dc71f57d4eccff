"""The threads of the native operators: shared by calls, gone when idle, and none of another process."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import PATIENCE
from helpers.waiting import until

import apr_dali

pytestmark = pytest.mark.usefixtures("native")

TASKS = Path("/proc/self/task")


def mix(images: np.ndarray, threads: int) -> bytes:
    partner = np.roll(np.arange(len(images)), 1)
    return apr_dali.pair(images, partner, backend="native", threads=threads).tobytes()


def test_calls_at_once_do_not_mix_up_their_work(crops):
    batches = [crops(24, 32, 32, seed=seed) for seed in range(6)]
    expected = [mix(batch, 1) for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(30):
            assert list(pool.map(mix, batches, (1, 2, 3, 4, 8, 3))) == expected


def helpers() -> set[str]:
    """The threads of this process that help the operators."""
    found = set()
    for task in TASKS.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if (task / "comm").read_text() == "apr_dali\n":
                found.add(task.name)
    return found


@pytest.fixture
def alone() -> None:
    """Waits for the helpers of earlier tests to end."""
    if not TASKS.is_dir():
        pytest.skip("/proc tells of threads")
    until(lambda: not helpers())


@pytest.mark.usefixtures("alone")
def test_threads_wait_for_more_work_and_then_end(crops):
    images = crops(8, 32, 32)

    def are_kept() -> bool:
        mix(images, 4)
        first = helpers()
        mix(images, 4)
        return len(first) == 3 and helpers() == first

    # Not the first time: a thread has its name once it runs, and one that was held up for a second has ended.
    until(are_kept)
    until(lambda: not helpers())


def cores_of_helper(images: np.ndarray) -> set[int]:
    """The cores that the one helper of a call may run on."""
    found = set()

    def was_seen() -> bool:
        mix(images, 2)
        with suppress(ProcessLookupError, ValueError):  # it has ended, or has no name yet
            (helper,) = helpers()
            found.update(os.sched_getaffinity(int(helper)))
        return bool(found)

    until(was_seen)
    return found


@pytest.mark.usefixtures("alone")
def test_helpers_are_kept_off_the_core_of_their_caller(crops):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("there is one core")
    helper = cores_of_helper(crops(8, 32, 32))
    assert helper < allowed
    assert len(helper) == len(allowed) - 1


@pytest.mark.usefixtures("alone")
def test_a_caller_bound_to_one_core_has_its_helpers_there_too(crops):
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(allowed)})
        assert cores_of_helper(crops(8, 32, 32)) == {max(allowed)}
    finally:
        os.sched_setaffinity(0, allowed)


# In a process by itself: a fork copies whatever locks the threads of other tests may hold.
FORKED = """
import os, sys
import numpy as np
import apr_dali

images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
def mix():
    return apr_dali.pair(images, np.roll(np.arange(16), 1), backend="native", threads=4).tobytes()

expected = mix()
child = os.fork()
same = mix() == expected and mix() == expected
if child == 0:
    # Threads that were held up for a second have ended: those of a further call are looked for then.
    while same and len(os.listdir("/proc/self/task")) != 4:
        same = mix() == expected
    os._exit(0 if same else 7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), same)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or not TASKS.is_dir(), reason="needs fork, and /proc tells of threads")
def test_a_forked_process_has_threads_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.split() == ["0", "True"], done.stderr
