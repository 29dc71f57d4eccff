"""Any PyTorch loop with APR: ImageNetLoader and the loss for two views.

python examples/pytorch_loop.py --data /path/imagenet
python examples/pytorch_loop.py --views mixed        # one view per image: the loop's own loss as it was
"""

from __future__ import annotations

import apr_dali.runtime.spin_count  # isort: skip  # noqa: F401  before torch

import argparse

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from apr_dali import ImageNetLoader
from apr_dali.data.sample import write_sample
from apr_dali.runtime import torch_threads


def train(data: str, views: str = "both", epochs: int = 3, image_size: int = 48) -> list[float]:
    """Train a small network; the mean loss of each epoch."""
    device = "gpu" if torch.cuda.is_available() else "cpu"
    common = {"batch_size": 32, "device": device, "image_size": image_size}
    loader = ImageNetLoader(f"{data}/train", aug="apr-sp", views=views, seed=1, **common)
    # The training set's classes: by itself a set numbers the classes that it has.
    val_loader = ImageNetLoader(f"{data}/val", train=False, classes=loader.classes, **common)

    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 5, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, len(loader.classes)))
    model.to("cuda" if device == "gpu" else "cpu")
    torch_threads.choose(model, image_size, 3, torch.device("cuda" if device == "gpu" else "cpu"))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    history = []
    with loader, val_loader:
        for epoch in range(epochs):
            losses = []
            for images, targets in loader:  # (views·B, 3, S, S), (views·B,); B rows of an unmixed batch
                # The published loss is the sum of the views' mean losses; with one view, the mean.
                loss = loader.views * cross_entropy(model(images), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item() / loader.views)
            with torch.no_grad():
                right = sum((model(images).argmax(1) == targets).sum().item() for images, targets in val_loader)
            history.append(sum(losses) / len(losses))
            print(f"epoch {epoch + 1}: loss {history[-1]:.3f}, top-1 {right / val_loader.num_images:.1%}")
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train/ and val/; default: the built-in sample")
    parser.add_argument("--views", choices=("both", "mixed"), default="both")
    options = parser.parse_args()
    train(options.data or str(write_sample("sample")), options.views)
