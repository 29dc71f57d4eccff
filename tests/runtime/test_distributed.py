"""Several processes as one: devices and shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.run_files import ALONE

from apr_dali.errors import InputError
from apr_dali.runtime.distributed import start


def test_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch finds no GPU"), start("gpu"):
        pass
    with start("auto") as group:
        assert group == ALONE


def test_batch_is_shared_evenly():
    assert replace(ALONE, world=4).share(32) == 8
    with pytest.raises(InputError, match="divisible by the 3 processes, got 32"):
        replace(ALONE, world=3).share(32)
