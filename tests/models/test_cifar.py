"""The CIFAR networks: their names, sizes, and that each can learn."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from apr_dali.errors import InputError
from apr_dali.models import canonical_name, check_input, cifar_first, create_model
from apr_dali.models.cifar import CIFAR_MODELS, TwoHeads

# With 10 classes. "≈" where only a rounded number is published; the exact one is then that of the released layers.
PUBLISHED = {
    "allconv": 1_409_674,  # AugMix's code, layer by layer; ≈ 1.4 M: All-CNN-C, Springenberg et al. 2015, Table 1
    "densenet-bc-100-12": 769_162,  # ≈ 0.8 M: Huang et al. 2017, Table 2
    "wrn-40-2": 2_243_546,  # ≈ 2.2 M: Zagoruyko and Komodakis 2016, Table 4
    "resnext-29-32x4": 6_807_882,  # AugMix's code, layer by layer: 4 groups of 32 channels
    "resnet18": 11_173_962,  # kuangliu/pytorch-cifar
    "preactresnet18": 11_172_170,  # that of "Fast is better than free" (Wong et al. 2020), batch norm before the head
    "wrn-16-1": 175_066,  # ≈ 0.2 M: Zagoruyko and Komodakis 2017 (attention transfer), Table 1
}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    assert parameters(create_model(f"cifar/{name}", 10)) == PUBLISHED[name]


def test_every_network_has_a_count():
    assert set(PUBLISHED) == set(CIFAR_MODELS)


def test_counts_by_hand():
    """The two whose exact number nobody prints, added up by their layers."""
    norm_and_bias = 3
    threes = 9 * (3 * 96 + 2 * 96 * 96 + 96 * 192 + 3 * 192 * 192) + norm_and_bias * (3 * 96 + 4 * 192)
    ones = 2 * (192 * 192 + norm_and_bias * 192)
    assert threes + ones + 192 * 10 + 10 == PUBLISHED["allconv"]
    total, before = 27 * 64 + 2 * 64, 64
    for inner, after in ((128, 256), (256, 512), (512, 1024)):
        total += before * after + 2 * after  # the projection
        for _ in range(3):
            total += before * inner + inner * 9 * inner // 4 + inner * after + 4 * inner + 2 * after
            before = after
    assert total + 1024 * 10 + 10 == PUBLISHED["resnext-29-32x4"]


def test_names_are_exact():
    assert canonical_name("resnet18") == "resnet18"
    assert cifar_first("resnet18") == canonical_name("cifar/resnet18") == "cifar/resnet18"
    assert canonical_name("wrn-40-2") == cifar_first("wrn-40-2") == "cifar/wrn-40-2"
    assert cifar_first("shufflenet_v2_x0_5") == "shufflenet_v2_x0_5"
    for wrong in ("wrn-40", "wide_resnet", "cifar/resnet50"):
        with pytest.raises(InputError, match="unknown model"):
            cifar_first(wrong)
    with pytest.raises(InputError, match="cifar/wrn-40-2"):
        canonical_name("wrn-40-3")


@pytest.mark.parametrize("name", CIFAR_MODELS)
def test_a_step_in_channels_last_and_bfloat16(name):
    torch.manual_seed(0)
    model = create_model(f"cifar/{name}", 5).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.shape == (2, 5)
    F.cross_entropy(logits.float(), torch.tensor([0, 1])).backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label


@pytest.mark.slow
@pytest.mark.parametrize("name", CIFAR_MODELS)
def test_64_images_are_learned_by_heart(name):
    """On images of 8×8 (allconv: 12×12), which are quicker and as hard to learn when they are noise."""
    torch.manual_seed(0)
    model = create_model(f"cifar/{name}", 4)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    size = 12 if name == "allconv" else 8
    images, targets = torch.randn(64, 3, size, size), torch.randint(4, (64,))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    # Chance, and its deviation over 64 images: by heart it is 1, and how fast that is reached depends on the rounding.
    chance, deviation = 1 / 4, (1 / 4 * 3 / 4 / 64) ** 0.5
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if losses[-1] < 0.05:
            break
    assert losses[-1] < losses[0] / 2
    assert (model(images).argmax(1) == targets).float().mean() > chance + 6 * deviation


def test_released_shapes():
    """Where the image is halved: at 32×32 the last stage sees 8×8 (18-layer networks: 4×4)."""
    for name, side in (("wrn-40-2", 8), ("resnext-29-32x4", 8), ("resnet18", 4), ("preactresnet18", 4)):
        model = create_model(f"cifar/{name}", 2)
        assert model.blocks(model.first(torch.zeros(1, 3, 32, 32))).shape[2:] == (side, side)
    model = create_model("cifar/densenet-bc-100-12", 2)
    assert model.layers(torch.zeros(1, 3, 32, 32)).shape[1:] == (342, 8, 8)


def test_allconv_averages_the_first_8_by_8_of_10_by_10():
    model = create_model("cifar/allconv", 2).eval()
    seen = []
    model.norms[-1].register_forward_hook(lambda *given: seen.append(given[2]))
    with torch.no_grad():
        features = model.features(torch.randn(1, 3, 32, 32))
    x = seen[0]
    assert x.shape[2:] == (10, 10)
    expected = (x * torch.sigmoid(1.702 * x))[:, :, :8, :8].mean((2, 3))
    torch.testing.assert_close(features, expected)


def test_two_heads():
    torch.manual_seed(0)
    network = create_model("cifar/wrn-16-1", 3)
    images = torch.randn(4, 3, 8, 8)
    model = TwoHeads(network, 0.3)
    assert model(images).shape == (4, 2, 3)
    model.eval()
    features = network.features(images)
    expected = 0.3 * network.head(features) + 0.7 * model.amplitude_head(features)
    torch.testing.assert_close(model(images), expected)
    model.phase_weight = 1.0
    assert torch.equal(model(images), network(images))


def test_images_that_are_too_small_are_refused():
    with pytest.raises(InputError, match="cannot take images of 4×4"):
        check_input(create_model("cifar/allconv", 5), 4, 5)
