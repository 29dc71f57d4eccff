"""Hugging Face: an `accelerate` loop on ImageNetLoader, or on the columns (image, label) of a `datasets` set.

accelerate launch examples/accelerate_datasets.py --data /path/imagenet
accelerate launch examples/accelerate_datasets.py --checkpoint runs/accelerate  # and again, to go on
accelerate launch examples/accelerate_datasets.py --columns
"""

from __future__ import annotations

import apr_dali.runtime.spin_count  # isort: skip  # noqa: F401  before torch

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import ClassLabel, Dataset, Features, Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from apr_dali import ImageNetLoader
from apr_dali.data.folders import open_files
from apr_dali.data.sample import write_sample
from apr_dali.runtime import torch_threads
from apr_dali.transforms import AprPair, AprSingle


def dali_loader(data: str, accelerator: Accelerator, image_size: int) -> ImageNetLoader:
    """A shard for each process. It is not given to `prepare`, which would share it out again."""
    shard = (accelerator.process_index, accelerator.num_processes)
    options = {"device": accelerator.device, "shard": shard, "drop_last": True, "image_size": image_size}
    return ImageNetLoader(f"{data}/train", 32, "apr-sp", **options)


class EveryPlace:
    """Where the loader of each process stands. accelerate saves what is registered on the main process alone."""

    def __init__(self, loader: ImageNetLoader) -> None:
        self.loader = loader

    def state_dict(self) -> dict[str, Any]:
        return {"places": gather_object([self.loader.state_dict()])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        rank, world = self.loader.shard
        if len(state["places"]) != world:
            raise ValueError(f"{len(state['places'])} processes saved the checkpoint, now there are {world}")
        self.loader.load_state_dict(state["places"][rank])


def columns_loader(data: str, accelerator: Accelerator, image_size: int) -> DataLoader:
    """The columns image and label, as any set of the Hub has them, with APR-SP."""
    files = open_files(f"{data}/train", "a datasets.Dataset of paths")
    features = Features({"image": Image(), "label": ClassLabel(names=list(files.classes))})
    columns = {"image": list(files.files), "label": files.labels.tolist()}
    dataset = Dataset.from_dict(columns, features=features)
    to_float = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.45,) * 3, (0.22,) * 3)]
    seed = accelerator.process_index  # draws of its own for each process
    chain = v2.Compose([v2.RandomResizedCrop(image_size), AprSingle(seed=seed), v2.RandomHorizontalFlip(), *to_float])
    pair = AprPair(seed=seed)

    def collate(rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        return pair(torch.stack([chain(row["image"]) for row in rows]), torch.tensor([row["label"] for row in rows]))

    loader = DataLoader(dataset, 32, shuffle=True, collate_fn=collate, drop_last=True)  # type: ignore[arg-type]
    return accelerator.prepare(loader)


def train(
    data: str, columns: bool = False, epochs: int = 2, image_size: int = 48, checkpoint: str = "", every: int = 50
) -> list[float]:
    """Train a small network; the mean loss of each epoch on this process.

    checkpoint: a folder for accelerate's checkpoints, written after `every` steps and after each epoch. Where there
    is one, training goes on from it: in mid-epoch too, with the batches that were to come.
    """
    accelerator = Accelerator()
    make = columns_loader if columns else dali_loader
    loader: Iterable[tuple[Tensor, Tensor]] = make(data, accelerator, image_size)
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 5, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 16))
    torch_threads.choose(model, image_size, 3, accelerator.device)
    model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters(), 3e-3))
    done = 0
    if isinstance(loader, ImageNetLoader) and checkpoint:
        accelerator.register_for_checkpointing(EveryPlace(loader))
        if Path(checkpoint).is_dir():
            accelerator.load_state(checkpoint)
            done = loader.epoch
    history = []
    for epoch in range(done, epochs):
        losses = []
        for step, (images, targets) in enumerate(loader):
            loss = 2 * cross_entropy(model(images), targets)  # two views
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            losses.append(loss.item() / 2)
            if checkpoint and (step + 1) % every == 0:
                accelerator.save_state(checkpoint)
        if checkpoint:
            accelerator.save_state(checkpoint)
        if losses:  # none where the checkpoint was written after the epoch's last step
            history.append(sum(losses) / len(losses))
            accelerator.print(f"epoch {epoch + 1}: loss {history[-1]:.3f}")
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train/; default: the built-in sample")
    parser.add_argument("--columns", action="store_true", help="read the columns of a datasets.Dataset")
    parser.add_argument("--checkpoint", default="", metavar="DIR", help="save there, and go on from there")
    options = parser.parse_args()
    if options.checkpoint and options.columns:
        parser.error("--checkpoint is for the DALI loader: leave out --columns")
    train(options.data or str(write_sample("sample")), options.columns, checkpoint=options.checkpoint)
