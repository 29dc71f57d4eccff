"""APR in DALI's torchvision-compatible API: a torch Dataset, and a `Compose` of DALI for its batches.

python examples/dali_torchvision.py --data /path/imagenet/train

DALI asks for the CUDA driver, although everything here is on the CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from nvidia.dali.experimental import torchvision as dali
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from apr_dali.data.sample import write_sample
from apr_dali.pipelines.torchvision import AprPair, AprSingle


def epoch(folder: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (32, 3, size, size) in 0..1, one view of each, and labels (32,)."""
    chain = [dali.RandomHorizontalFlip(), AprSingle(), AprPair(views="mixed", in_scale=1 / 255)]
    augment = dali.Compose(chain, batch_size=32, seed=1)
    files = ImageFolder(folder, v2.Compose([v2.RandomResizedCrop(size), v2.PILToTensor()]))
    for images, labels in DataLoader(files, 32, shuffle=True, drop_last=True):
        yield augment(images), labels


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of class folders; default: the built-in sample's")
    for batch, targets in epoch(parser.parse_args().data or str(write_sample("sample") / "train"), 64):
        print(tuple(batch.shape), tuple(targets.shape))
