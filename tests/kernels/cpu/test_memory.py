"""The pool of result memory: used again when it is free, never while somebody holds it."""

import threading

import numpy as np
import pytest

import apr_dali
from apr_dali.kernels.cpu.memory import Pool
from apr_dali.kernels.dispatch import availability

BIG = (3, 1024, 1024)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_the_array_dies():
    pool = Pool()
    array = pool.empty(BIG, "float32")
    array[:] = 7
    where = address(array)
    del array
    again = pool.empty((1024, 3, 2048), "uint16")
    assert address(again) == where
    assert (again.shape, again.dtype, again.flags.c_contiguous, again.flags.writeable) == (
        (1024, 3, 2048),
        np.uint16,
        True,
        True,
    )


@pytest.mark.parametrize(
    "view", [lambda a: a[1:], lambda a: a.reshape(-1), lambda a: list(a)[2], lambda a: a.view("u1")]
)
def test_a_view_keeps_the_memory(view):
    pool = Pool()
    array = pool.empty(BIG, "float32")
    array[:] = 7
    kept = view(array)
    before = kept.copy()
    del array
    other = pool.empty(BIG, "float32")
    other[:] = 0
    np.testing.assert_array_equal(kept, before)


def test_a_tensor_keeps_the_memory():
    import torch

    pool = Pool()
    array = pool.empty(BIG, "float32")
    array[:] = 7
    kept = torch.from_numpy(array)[1]
    del array
    pool.empty(BIG, "float32")[:] = 0
    assert bool((kept == 7).all())


def test_memory_of_another_size_is_left_alone():
    pool = Pool()
    array = pool.empty(BIG, "float32")
    where = address(array)
    del array
    smaller = pool.empty((2, 1024, 1024), "float32")
    assert address(smaller) != where
    assert address(pool.empty(BIG, "float32")) == where


def test_no_more_is_kept_than_said():
    pool = Pool(kept=1)
    arrays = [pool.empty(BIG, "float32") for _ in range(3)]
    arrays.clear()
    assert len(pool._free) == 1


def test_threads_never_share_memory():
    pool = Pool()
    wrong = []

    def work(number: int) -> None:
        for _ in range(200):
            array = pool.empty((1024, 1024), "uint8")
            array[::64] = number
            if not (array[::64] == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_of_the_operators_stay(photos):
    """Two results of one shape that are held together, in memory that an earlier one left behind."""
    batch = np.stack([photo[:224, :224] for photo in photos[:4]] * 2)
    partner = np.roll(np.arange(8), 1)
    if not availability("native").available:
        pytest.skip("the native backend was not built")
    expected = [apr_dali.pair(batch, np.roll(partner, k), True, backend="native").copy() for k in range(3)]
    held = [apr_dali.pair(batch, np.roll(partner, k), True, backend="native") for k in range(3)]
    for one, other in zip(held, expected, strict=True):
        np.testing.assert_array_equal(one, other)
