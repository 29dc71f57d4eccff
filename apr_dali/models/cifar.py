"""The networks of the paper's CIFAR experiments, as the code that it compares itself with defines them.

Each maps images (N, 3, H, W), H and W divisible by 8, to logits: `features` gives (N, D), `head` is the last layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallClassifier(nn.Module):
    """A network whose last layer `head` takes `features`."""

    head: nn.Linear

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, D)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class AllConv(SmallClassifier):
    """All-CNN-C (Springenberg et al. 2015) with the changes of AugMix's code: batch norm, GELU, max pooling, a head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = (3, 96, 96, 96, 192, 192, 192, 192)
        # The last 3 × 3 layer has no padding, the 1 × 1 layers have a pixel: so published.
        self.threes = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=int(n < 6)) for n, (before, after) in enumerate(pairwise(widths))
        )
        self.ones = nn.ModuleList(nn.Conv2d(192, 192, 1, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(layer.out_channels) for layer in (*self.threes, *self.ones))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(192, num_classes)

    def features(self, images: Tensor) -> Tensor:
        x = images
        for n, (layer, norm) in enumerate(zip((*self.threes, *self.ones), self.norms, strict=True)):
            x = norm(layer(x))
            x = x * torch.sigmoid(1.702 * x)
            if n in (2, 5):
                x = self.dropout(F.max_pool2d(x, 2))
        # At 32 × 32 the published code averages the first 8 × 8 of 10 × 10 values.
        return x[..., :-2, :-2].mean((2, 3))


class PreActBlock(nn.Module):
    """Two 3 × 3 layers, each after batch norm and ReLU (He et al. 2016, "Identity mappings")."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        beside = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(F.relu(self.norm2(self.conv1(active)))) + beside


class BasicBlock(nn.Module):
    """Two 3 × 3 layers, each before batch norm and ReLU (He et al. 2016, "Deep residual learning")."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.shortcut = _projection(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class GroupedBlock(nn.Module):
    """ResNeXt's block of type C: 1 × 1, grouped 3 × 3, 1 × 1 (Xie et al. 2017); `inner` channels in `groups`."""

    def __init__(self, before: int, after: int, stride: int, inner: int, groups: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(before, inner, 1, bias=False)
        self.conv = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.expand = nn.Conv2d(inner, after, 1, bias=False)
        self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(inner), nn.BatchNorm2d(inner), nn.BatchNorm2d(after)
        self.shortcut = _projection(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.reduce(x)))
        inner = F.relu(self.norm2(self.conv(inner)))
        return F.relu(self.norm3(self.expand(inner)) + self.shortcut(x))


def _projection(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class Residual(SmallClassifier):
    """A first layer, stages of blocks, the mean over the image, a head. Every stage but the first halves the image.

    pre_activated: batch norm and ReLU come after the last block instead of after the first layer.
    """

    def __init__(
        self,
        block: Callable[[int, int, int, int], nn.Module],
        first: int,
        widths: Sequence[int],
        blocks: int,
        pre_activated: bool,
        num_classes: int,
    ) -> None:
        """block: (stage, channels before, after, stride) → module."""
        super().__init__()
        self.first = nn.Conv2d(3, first, 3, padding=1, bias=False)
        layers, before = [], first
        for stage, width in enumerate(widths):
            for n in range(blocks):
                layers.append(block(stage, before, width, 2 if n == 0 and stage > 0 else 1))
                before = width
        self.blocks = nn.Sequential(*layers)
        self.pre_activated = pre_activated
        self.norm = nn.BatchNorm2d(before if pre_activated else first)
        self.head = nn.Linear(before, num_classes)

    def features(self, images: Tensor) -> Tensor:
        x = self.first(images)
        if not self.pre_activated:
            return self.blocks(F.relu(self.norm(x))).mean((2, 3))
        return F.relu(self.norm(self.blocks(x))).mean((2, 3))


class DenseLayer(nn.Module):
    """Adds `growth` channels to its input, through 4·growth of a 1 × 1 layer."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(4 * growth)
        self.conv1 = nn.Conv2d(before, 4 * growth, 1, bias=False)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(inner)))], dim=1)


class DenseNetBC(SmallClassifier):
    """DenseNet-BC (Huang et al. 2017): three dense blocks; between them the channels and the image are halved."""

    def __init__(self, depth: int, growth: int, num_classes: int) -> None:
        super().__init__()
        channels = 2 * growth
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
        for stage in range(3):
            if stage:
                layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False)]
                layers.append(nn.AvgPool2d(2))
                channels //= 2
            for _ in range((depth - 4) // 6):
                layers.append(DenseLayer(channels, growth))
                channels += growth
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())
        self.head = nn.Linear(channels, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((2, 3))


def _wide(depth: int, width: int, num_classes: int) -> SmallClassifier:
    """WRN-depth-width (Zagoruyko and Komodakis 2016)."""
    widths = [16 * width, 32 * width, 64 * width]
    blocks = (depth - 4) // 6
    return Residual(lambda _, *shape: PreActBlock(*shape), 16, widths, blocks, True, num_classes)


def _resnext(num_classes: int) -> SmallClassifier:
    # Four groups of 32 channels in the first stage: the AugMix paper's name turns the two numbers round.
    def block(stage: int, before: int, after: int, stride: int) -> nn.Module:
        return GroupedBlock(before, after, stride, inner=128 * 2**stage, groups=4)

    return Residual(block, 64, (256, 512, 1024), 3, False, num_classes)


def _resnet18(num_classes: int) -> SmallClassifier:
    return Residual(lambda _, *shape: BasicBlock(*shape), 64, (64, 128, 256, 512), 2, False, num_classes)


def _preactresnet18(num_classes: int) -> SmallClassifier:
    return Residual(lambda _, *shape: PreActBlock(*shape), 64, (64, 128, 256, 512), 2, True, num_classes)


def _he_normal(make: Callable[[int], SmallClassifier]) -> Callable[[int], SmallClassifier]:
    """Convolutions from N(0, 2 / (k²·output channels)), a head without bias: He et al. 2015."""

    def made(num_classes: int) -> SmallClassifier:
        model = make(num_classes)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(model.head.bias)
        return model

    return made


CIFAR_MODELS: dict[str, Callable[[int], SmallClassifier]] = {
    "allconv": _he_normal(AllConv),
    "densenet-bc-100-12": _he_normal(lambda num_classes: DenseNetBC(100, 12, num_classes)),
    "wrn-40-2": _he_normal(lambda num_classes: _wide(40, 2, num_classes)),
    "resnext-29-32x4": _he_normal(_resnext),
    # These two start from torch's own weights, as published.
    "resnet18": _resnet18,
    "preactresnet18": _preactresnet18,
    # Not of the paper: small enough to train on digits without a GPU.
    "wrn-16-1": _he_normal(lambda num_classes: _wide(16, 1, num_classes)),
}
"""num_classes → network, by exact name."""


class TwoHeads(nn.Module):
    """A network with a second linear head, for the label of the amplitude: the paper's section 5.3.

    In training: logits (N, 2, classes), of the phase's label and of the amplitude's, for Eq. 7. In evaluation the
    paper's final prediction λ·f_P + (1 − λ)·f_A, (N, classes). f are logits here; the paper does not say whether they
    are logits or probabilities.
    """

    def __init__(self, network: SmallClassifier, phase_weight: float) -> None:
        super().__init__()
        self.network, self.phase_weight = network, phase_weight
        self.amplitude_head = nn.Linear(network.head.in_features, network.head.out_features)
        nn.init.zeros_(self.amplitude_head.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.features(images)
        phase, amplitude = self.network.head(features), self.amplitude_head(features)
        if self.training:
            return torch.stack([phase, amplitude], dim=1)
        return self.phase_weight * phase + (1 - self.phase_weight) * amplitude
