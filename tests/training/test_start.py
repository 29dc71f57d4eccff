"""What is looked at before a run starts."""

import pytest
import torch
from helpers.run_files import ALONE
from torch import nn

from apr_dali.errors import InputError
from apr_dali.training.engine import Trainer
from apr_dali.training.options import CifarOptions, TrainingOptions
from apr_dali.training.start import check_batch


def flat() -> nn.Module:
    """A network whose last batch norm sees one value per row."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def one_image(**given) -> TrainingOptions:
    kind = CifarOptions if {"pair_probability", "adversarial"} & set(given) else TrainingOptions
    return kind(**{"batch_size": 1} | given)


@pytest.mark.parametrize(
    ("given", "views", "advice"),
    [
        ({}, 1, "or start fewer processes$"),
        # A batch that the coin leaves unmixed is a single row.
        ({"aug": "apr-p"}, 2, "or start fewer processes, or --repeat-unmixed$"),
        ({"aug": "apr-sp", "pair_probability": 0.6}, 2, "or start fewer processes, or --repeat-unmixed$"),
        ({"aug": "hybrid-p"}, 2, "or start fewer processes, or --repeat-unmixed$"),
        # Each view goes through batch norm by itself.
        ({"aug": "afa"}, 2, "or start fewer processes$"),
    ],
    ids=str,
)
def test_a_batch_of_one_row_is_refused_where_batch_norm_refuses_it(given, views, advice):
    trainer = Trainer(flat(), one_image(**given), ALONE, "net")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(InputError, match=rf"one image is too small a batch .*give a larger --batch-size, {advice}"):
        check_batch(trainer, views, 8)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


@pytest.mark.parametrize(
    ("given", "views"),
    [
        ({"batch_size": 2}, 1),
        ({"aug": "apr-p", "batch_size": 2}, 2),
        ({"aug": "apr-p", "repeat_unmixed": True}, 2),
        ({"aug": "hybrid-p", "repeat_unmixed": True}, 2),
        ({"aug": "afa", "batch_size": 2}, 2),
        ({"aug": "amplitude-mix"}, 2),
        ({"aug": "apr-p", "pair_probability": 1.0}, 2),
        ({"aug": "apr-p", "adversarial": "fgsm"}, 2),
        ({"aug": "augmix", "pair_probability": 0.6}, 3),
    ],
    ids=str,
)
def test_batches_of_two_rows_are_taken(given, views):
    check_batch(Trainer(flat(), one_image(**given), ALONE, "net"), views, 8)


def test_a_single_row_is_taken_where_its_maps_are_larger():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    check_batch(Trainer(model, one_image(), ALONE, "net"), 1, 4)
