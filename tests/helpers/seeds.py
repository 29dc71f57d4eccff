"""What a test draws without a seed of its own is the same in every run, whatever came before it."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Hook of pytest: before the fixtures of a test."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        # Not torch.manual_seed, which notes a stack for a GPU to come: milliseconds for each test.
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(0)
