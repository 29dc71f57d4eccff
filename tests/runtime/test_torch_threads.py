"""How many threads torch is given on the CPU."""

import pytest
import torch
from torch import nn

from apr_dali.runtime import cpus, torch_threads


@pytest.fixture
def given(monkeypatch):
    """The number that torch is told, or None; it has eight threads, this process two CPUs, and nobody has chosen."""
    told = [None]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: told.__setitem__(0, count))
    monkeypatch.setattr(cpus, "share", lambda: 2)
    return lambda: told[0]


def layer(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)).train()


def test_operations_are_those_of_one_image():
    # 27 products and sums for each of 16 · 8 · 8 values.
    assert torch_threads.operations(layer(16), 8, 3) == 2 * 27 * 16 * 8 * 8
    model = layer(16)
    torch_threads.operations(model, 8, 3)
    assert model.training
    assert model[1].num_batches_tracked == 0, "a look at it trains nothing"


def test_a_small_network_gets_one_thread_and_a_large_one_its_share(given):
    cpu = torch.device("cpu")
    torch_threads.choose(layer(16), 8, 3, cpu)
    assert given() == 1
    torch_threads.choose(layer(64), 128, 3, cpu)
    assert given() == 2


def test_what_a_person_sets_and_gpus_are_left_alone(given, monkeypatch):
    torch_threads.choose(layer(16), 8, 3, torch.device("cuda"))
    assert given() is None
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    torch_threads.choose(layer(16), 8, 3, torch.device("cpu"))
    assert given() is None
