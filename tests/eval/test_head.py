"""The last layer of networks, found by what it does."""

import pytest
import torch
from torch import nn

from apr_dali.errors import InputError
from apr_dali.eval.head import find_head, tapped
from apr_dali.models import create_model

NAMES = (
    ("resnet18", "fc"),
    ("mobilenet_v3_small", "classifier.3"),
    ("timm/convnext_atto", "head.fc"),
    ("timm/vit_tiny_patch16_224", "head"),
    ("timm/resnetv2_50", "head.fc"),  # a 1×1 convolution
    ("cifar/resnet18", "head"),
)


@pytest.mark.parametrize(("name", "layer"), NAMES)
def test_the_layer_and_its_inputs(name, layer):
    torch.manual_seed(0)
    model = create_model(name, 11).eval()
    images = torch.randn(2, 3, 224 if "vit" in name else 64, 224 if "vit" in name else 64)
    if name.startswith("cifar"):
        images = images[:, :, :32, :32]
    head = find_head(model, images, name)
    assert head.name == layer
    with tapped(head) as tap, torch.no_grad():
        logits = model(images)
        assert tap.taken.shape == (2, head.width)
        torch.testing.assert_close(head.logits(tap.taken), logits)
    with torch.no_grad():
        model(images * 0)
    assert not head.layer._forward_pre_hooks


class Scaled(nn.Module):
    """Logits that are not those of the last layer."""

    def __init__(self, change) -> None:
        super().__init__()
        self.fc, self.change = nn.Linear(12, 5), change

    def forward(self, images):
        return self.change(self.fc(images.flatten(1)))


@pytest.mark.parametrize("change", [lambda x: x * 1.001, lambda x: x.mul_(2), torch.relu])
def test_a_network_that_goes_on_after_its_last_layer_is_named(change):
    with pytest.raises(InputError, match="mine has no last linear layer whose outputs are its logits"):
        find_head(Scaled(change), torch.ones(3, 3, 2, 2) * torch.arange(3)[:, None, None, None], "mine")


def test_a_layer_without_bias():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False)).eval()
    images = torch.randn(3, 3, 2, 2)
    head = find_head(model, images, "mine")
    torch.testing.assert_close(head.logits(images.flatten(1)), model(images).detach())
    assert not head.bias.any()


def test_pooled_logits_are_refused():
    with pytest.raises(InputError, match="squeezenet"):
        find_head(create_model("squeezenet1_1", 5).eval(), torch.randn(2, 3, 64, 64), "squeezenet")
