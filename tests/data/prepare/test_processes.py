"""Processes that end when their work is no longer wanted."""

import multiprocessing
import threading

import pytest
from helpers.processes import die

from apr_dali.data.prepare.processes import mapper
from apr_dali.errors import InputError


def all_but_the_first_forever(number: int) -> int:
    if number:
        threading.Event().wait()
    return number


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt])
def test_an_error_ends_calls_that_run(error):
    others = multiprocessing.active_children()  # of other tests

    def stopped():
        with mapper(2) as mapped:
            next(mapped(all_but_the_first_forever, range(8)))
            raise error("enough")

    with pytest.raises(error, match="enough"):
        stopped()
    assert set(multiprocessing.active_children()) <= set(others)


def test_a_dead_process_is_named():
    with pytest.raises(InputError, match=r"one of 2 processes died, .* take fewer"), mapper(2) as mapped:
        list(mapped(die, range(2)))


def test_results_come_in_order():
    for processes in (1, 2):
        with mapper(processes) as mapped:
            assert list(mapped(divmod, range(20), [7] * 20)) == [divmod(n, 7) for n in range(20)]
