"""Lightning with APR: a data module with shards and state, or a callback for a data module of your own.

python examples/lightning_module.py --data /path/imagenet
python examples/lightning_module.py --callback
"""

from __future__ import annotations

import apr_dali.runtime.spin_count  # isort: skip  # noqa: F401  before torch

import argparse

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from apr_dali.data.sample import write_sample
from apr_dali.integrations.lightning import AprDataModule, AprPairCallback
from apr_dali.runtime import torch_threads


class Classifier(LightningModule):
    """A small network; nothing in it knows of APR but the factor of the loss."""

    def __init__(self, classes: int, views: int) -> None:
        super().__init__()
        self.views = views
        layers = [nn.Conv2d(3, 32, 5, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
        self.network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, classes))
        self.losses: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        images, targets = batch  # (views·B, 3, S, S), (views·B,); of an unmixed batch (B, 3, S, S), (B,)
        loss = self.views * cross_entropy(self.network(images), targets)
        self.losses.append(loss.item() / self.views)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:  # noqa: ARG002
        images, targets = batch
        right = (self.network(images).argmax(1) == targets).float().mean()
        self.log("top-1", right, prog_bar=True, batch_size=len(targets))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 3e-3)


def foreign_loader(path: str, image_size: int) -> DataLoader:
    """A loader that knows nothing of APR."""
    chain = [v2.RandomResizedCrop(image_size), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    return DataLoader(ImageFolder(path, v2.Compose([*chain, v2.Normalize((0.45,) * 3, (0.22,) * 3)])), 32, shuffle=True)


def train(data: str, callback: bool = False, epochs: int = 2, image_size: int = 48, **options) -> Classifier:
    """Train, and return what was trained."""
    seed_everything(0)
    model = Classifier(classes=16, views=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=epochs, callbacks=[AprPairCallback()] if callback else [], **quiet | options)
    torch_threads.choose(model.network, image_size, 3, trainer.strategy.root_device)
    if callback:
        trainer.fit(model, foreign_loader(f"{data}/train", image_size))
    else:
        trainer.fit(model, AprDataModule(data, batch_size=32, aug="apr-sp", image_size=image_size))
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train/ and val/; default: the built-in sample")
    parser.add_argument("--callback", action="store_true", help="APR-P on the batches of another loader")
    options = parser.parse_args()
    train(options.data or str(write_sample("sample")), options.callback)
