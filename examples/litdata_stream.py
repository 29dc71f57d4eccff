"""LitData: images in its chunks, streamed through torchvision's transforms with APR.

python examples/litdata_stream.py --data /path/imagenet/train --chunks /path/chunks
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from apr_dali.data.folders import open_files
from apr_dali.data.sample import write_sample
from apr_dali.transforms import AprPair, AprSingle


def row_of(given: tuple[str, int]) -> dict[str, Any]:
    return {"image": Image.open(given[0]), "label": given[1]}  # a JPEG's bytes stay as they are


def write(folder: str, chunks: str, workers: int = 2) -> None:
    """Write the images of class folders as chunks."""
    files = open_files(folder, "LitData")
    rows = list(zip(files.files, files.labels.tolist(), strict=True))
    optimize(row_of, rows, chunks, chunk_bytes="64MB", num_workers=workers)
    if len(StreamingDataset(chunks)) != len(rows):  # LitData goes on without what failed
        raise RuntimeError(f"{len(StreamingDataset(chunks))} of {len(rows)} images were written to {chunks}")


def batch_of(rows: list[dict[str, Any]], chain: v2.Transform, pair: AprPair) -> tuple[Tensor, Tensor]:
    return pair(torch.stack([chain(row["image"]) for row in rows]), torch.tensor([row["label"] for row in rows]))


def loader(chunks: str, size: int, workers: int = 2) -> StreamingDataLoader:
    """Batches: images (2·32, 3, size, size) in 0..1 and labels (2·32,), the views of an image side by side, or 32."""
    to_float = v2.ToDtype(torch.float32, scale=True)
    chain = v2.Compose([v2.RGB(), v2.RandomResizedCrop(size), AprSingle(), v2.RandomHorizontalFlip(), to_float])
    # Not a function in here: workers are spawned where LitData has written chunks before.
    collate = partial(batch_of, chain=chain, pair=AprPair())
    dataset = StreamingDataset(chunks, shuffle=True)
    return StreamingDataLoader(dataset, batch_size=32, collate_fn=collate, num_workers=workers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of class folders; default: the built-in sample's")
    parser.add_argument("--chunks", default="chunks", help="where the chunks are, or are written (%(default)s)")
    options = parser.parse_args()
    if not Path(options.chunks).is_dir():
        write(options.data or str(write_sample("sample") / "train"), options.chunks)
    for batch, targets in loader(options.chunks, 64):
        print(tuple(batch.shape), tuple(targets.shape))
