"""The registry of networks."""

import pytest
import torch
from torch import nn

from apr_dali.errors import InputError
from apr_dali.models import canonical_name, check_input, create_model, registry


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("resnet50", "resnet50"), ("timm/resnet50", "timm/resnet50"), ("test_resnet", "timm/test_resnet")],
    ids=["torchvision before timm", "timm by prefix", "plain name that only timm has"],
)
def test_names_mean_one_model(name, canonical):
    assert canonical_name(name) == canonical
    assert canonical_name(canonical) == canonical


def test_model_comes_from_the_library_of_its_name():
    assert type(create_model("resnet18", 7)).__module__.startswith("torchvision")
    assert type(create_model("timm/test_resnet", 7)).__module__.startswith("timm")


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "timm/test_resnet", "inception_v3"])
def test_model_gives_logits_in_training_mode(name):
    model = create_model(name, 7)
    assert model.training
    size = 96 if name == "inception_v3" else 32
    logits = model(torch.zeros(2, 3, size, size))
    assert isinstance(logits, torch.Tensor), "an extra head, or a tuple, would break the loss"
    assert logits.shape == (2, 7)


def test_weights_come_from_the_seed():
    first, second, other = (_first_weight(seed) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def _first_weight(seed):
    torch.manual_seed(seed)
    return next(create_model("shufflenet_v2_x0_5", 3).parameters())


@pytest.mark.parametrize(
    ("name", "near"), [("resnet5O", "resnet50"), ("ResNet18", "resnet18"), ("tset_resnet", "timm/test_resnet")]
)
def test_unknown_name_is_told_with_the_three_nearest(name, near):
    with pytest.raises(InputError) as error:
        create_model(name, 7)
    message = str(error.value).partition("nearest names: ")[2].split(", ")
    assert near in message
    assert len(message) == 3


def test_without_timm_its_models_are_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(registry, "_timm_names", tuple)
    with pytest.raises(InputError, match="timm is not installed"):
        canonical_name("timm/test_resnet")
    assert canonical_name("resnet50") == "resnet50"


def test_check_input_refuses_images_that_are_too_small():
    model = create_model("alexnet", 5)
    with pytest.raises(InputError, match="cannot take images of 16×16"):
        check_input(model, 16, 5)
    check_input(model, 64, 5)
    assert model.training


def test_timms_tags_and_places():
    assert canonical_name("resnet50.a1_in1k") == canonical_name("timm/resnet50.a1_in1k") == "timm/resnet50.a1_in1k"
    assert canonical_name("hf-hub:timm/resnet18.a1_in1k") == "timm/hf-hub:timm/resnet18.a1_in1k"
    with pytest.raises(InputError, match=r"timm has no weights 'a9' of resnet50; it has a1_in1k"):
        canonical_name("resnet50.a9")


def test_check_input_refuses_what_is_no_classifier():
    with pytest.raises(InputError, match=r"expected logits of the shape \(1, classes\), got \(1, 3, 8, 8\)"):
        check_input(nn.Identity(), 8, 5)
    with pytest.raises(InputError, match=r"expected logits of the shape \(1, 5\), got \(1, 192\)"):
        check_input(nn.Flatten(), 8, 5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((18, 5), "the name of a network must be text, got 18"),
        (("resnet18", None), "num_classes must be a whole number, got None"),
        (("cifar/wrn-40-2", "10"), "num_classes must be a whole number, got '10'"),
        (("resnet18", 0), "num_classes must be at least 1, got 0"),
        (("resnet18", 5, 2), "in_chans must be one of"),
    ],
)
def test_arguments_of_another_kind_are_refused_in_words(given, told):
    with pytest.raises(InputError, match=told):
        create_model(*given)
