"""SPDL: threads that decode, and APR on the batches that they give.

python examples/spdl_threads.py --data /path/imagenet/train
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from spdl.pipeline import PipelineBuilder
from torch import Tensor
from torchvision.transforms import v2

import apr_dali
from apr_dali.data.folders import open_files
from apr_dali.data.image_file import open_image
from apr_dali.data.sample import write_sample

Row = tuple[np.ndarray, int]


def epoch(folder: str, size: int, seed: int = 1, threads: int = 2) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (32, 3, size, size) in 0..1, one view of each, and labels (32,)."""
    files, rng, crop = open_files(folder, "SPDL"), np.random.default_rng(seed), v2.RandomResizedCrop(size)

    def load(number: int) -> Row:
        return np.asarray(crop(open_image(files.files[number]))), int(files.labels[number])

    def augment(rows: list[Row]) -> tuple[Tensor, Tensor]:
        images, labels = (np.stack(column) for column in zip(*rows, strict=True))
        images = apr_dali.single(images, apr_dali.SingleDraws.sample(len(images), size, size, rng))
        draws = apr_dali.PairDraws.sample(len(images), rng)
        mixed = apr_dali.pair(images, draws.partner, draws.mix, in_scale=1 / 255)
        return torch.from_numpy(mixed), torch.from_numpy(labels)

    order = rng.permutation(len(files)).tolist()
    stages = PipelineBuilder().add_source(order).pipe(load, concurrency=threads).aggregate(32).pipe(augment)
    # SPDL leaves out what fails, unless it may not.
    pipeline = stages.add_sink(2).build(num_threads=threads + 1, max_failures=0)
    with pipeline.auto_stop():
        yield from pipeline


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of class folders; default: the built-in sample's")
    for batch, targets in epoch(parser.parse_args().data or str(write_sample("sample") / "train"), 64):
        print(tuple(batch.shape), tuple(targets.shape))
