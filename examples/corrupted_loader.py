"""The accuracy of a network under ImageNet-C's corruptions: each image is decoded once, and given under all of them.

python examples/corrupted_loader.py --data /path/imagenet/val
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import torch
from torch import nn

from apr_dali import CorruptedLoader
from apr_dali.data.sample import write_sample
from apr_dali.models import create_model


@torch.no_grad()
def accuracies(model: nn.Module, data: str, **options) -> dict[tuple[str, int], float]:
    """Top-1 accuracy by corruption and severity; the classes of `data` are the model's, in their order."""
    right: defaultdict[tuple[str, int], int] = defaultdict(int)
    with CorruptedLoader(data, batch_size=16, **options) as loader:
        for cell, images, targets in loader:
            right[cell] += int((model.eval()(images).argmax(1) == targets).sum())
        return {cell: count / loader.num_images for cell, count in right.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of class folders; default: the built-in sample's")
    folder = parser.parse_args().data or str(write_sample("sample") / "val")
    network = create_model("shufflenet_v2_x0_5", 1000)  # of your own weights
    for (name, severity), top1 in accuracies(network, folder, corruptions=["fog", "snow"], image_size=64).items():
        print(f"{name} {severity}: {100 * top1:.1f} %")
