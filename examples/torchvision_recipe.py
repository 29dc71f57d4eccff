"""torchvision's reference recipe with APR: AprSingle among the transforms, AprPair beside MixUp and CutMix.

    python examples/torchvision_recipe.py --data /path/imagenet

In references/classification of torchvision, `presets.py` has the chain and `train.py` the collate function.
"""

from __future__ import annotations

import apr_dali.runtime.spin_count  # isort: skip  # noqa: F401  before torch

import argparse

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from apr_dali.data.sample import write_sample
from apr_dali.runtime import torch_threads
from apr_dali.transforms import AprPair, AprSingle

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def train(data: str, epochs: int = 2, image_size: int = 48, workers: int = 2) -> list[float]:
    """Train a small network; the mean loss of each epoch."""
    chain = v2.Compose([
        v2.RandomResizedCrop(image_size, antialias=True),
        AprSingle(),  # after the crop, before the conversion to float
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ])  # fmt: skip
    dataset = ImageFolder(f"{data}/train", chain)
    classes = len(dataset.classes)
    mix = v2.RandomChoice([v2.MixUp(num_classes=classes), v2.CutMix(num_classes=classes)], p=[0.2, 0.2])
    pair = AprPair()

    def collate(batch: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        images, targets = pair(*default_collate(batch))  # (2·B, 3, S, S), (2·B,): both views, or B where not mixed
        return mix(images, targets)  # as in the reference; APR-P needs none of it

    torch.manual_seed(0)
    loader = DataLoader(dataset, 32, shuffle=True, num_workers=workers, collate_fn=collate, drop_last=True)
    layers = [nn.Conv2d(3, 32, 5, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, classes))
    torch_threads.choose(model, image_size, 3, torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    history = []
    for epoch in range(epochs):
        losses = []
        for images, targets in loader:
            loss = 2 * cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() / 2)
        history.append(sum(losses) / len(losses))
        print(f"epoch {epoch + 1}: loss {history[-1]:.3f}")
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train/; default: the built-in sample")
    options = parser.parse_args()
    train(options.data or str(write_sample("sample")))
