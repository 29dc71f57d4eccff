"""What tests find does not depend on the tests and the sessions before them."""

import gc
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.project import ROOT

from apr_dali.runtime import cache


@pytest.mark.parametrize("_time", [1, 2])
def test_each_begins_with_the_same_random_numbers(_time):
    expected = random.Random(0).random(), np.random.RandomState(0).random_sample()
    assert (random.random(), np.random.random_sample()) == expected
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))


def test_garbage_is_looked_for_but_not_among_what_the_imports_have_made():
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000


def test_nothing_of_earlier_sessions_is_found():
    assert cache.cached("kind", "key", ".txt").is_relative_to(tempfile.gettempdir())


USES = """
import tempfile
from helpers import temporary
from multiprocessing.util import get_temp_dir
get_temp_dir()
print(tempfile.gettempdir())
"""


def test_the_folder_of_a_session_goes_with_that_of_multiprocessing_in_it():
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    environment["PYTHONPATH"] = str(ROOT / "tests")
    done = subprocess.run([sys.executable, "-c", USES], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not Path(done.stdout.strip()).exists()
