"""What is put around a network that trains."""

from __future__ import annotations

import pytest
import torch
from helpers.run_files import ALONE
from torch import nn

from apr_dali.errors import InputError
from apr_dali.runtime.distributed import Group
from apr_dali.training import wrap
from apr_dali.training.engine import Trainer
from apr_dali.training.options import TrainingOptions


def test_batch_norm_of_all_processes_keeps_names_and_activations():
    """The conversion alone: torch runs it on GPUs only. timm's batch norm has an activation in it."""
    from timm.layers import BatchNormAct2d, SyncBatchNormAct

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), BatchNormAct2d(4))
    names = list(model.state_dict())
    found = wrap.shared_batch_norm(model, Group(0, 2, 0, torch.device("cuda")))
    assert [isinstance(layer, nn.SyncBatchNorm) for layer in found] == [False, True, True]
    assert isinstance(found[2], SyncBatchNormAct), "its forward pass applies the activation"
    assert list(found.state_dict()) == names


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (ALONE, "--sync-bn changes nothing in one process"),
        (Group(0, 2, 0, torch.device("cpu")), "--sync-bn needs GPUs"),
    ],
)
def test_batch_norm_of_all_processes_is_refused_where_there_is_none(group, message):
    with pytest.raises(InputError, match=message):
        Trainer(nn.BatchNorm2d(3), TrainingOptions(sync_bn=True), group, "net")


def test_validation_of_a_checkpoint_needs_no_shared_batch_norm():
    trainer = Trainer(nn.BatchNorm2d(3), TrainingOptions(sync_bn=True, eval_only="x.pt"), ALONE, "net")
    assert type(trainer.model) is nn.BatchNorm2d


def test_the_mode_of_compilation_is_torchs(monkeypatch):
    modes = []
    monkeypatch.setattr(torch, "compile", lambda network, mode: modes.append(mode) or network)
    Trainer(nn.Linear(2, 2), TrainingOptions(compile="max-autotune", ema=0.9), ALONE, "net")
    assert modes == ["max-autotune"] * 3, "in training, in validation, and the average"
    Trainer(nn.Linear(2, 2), TrainingOptions(), ALONE, "net")
    assert len(modes) == 3
