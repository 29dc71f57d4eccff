"""DALI's proxy: a torch Dataset and its workers, and one DALI pipeline with APR in the main process.

python examples/dali_proxy.py --data /path/imagenet/train
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from nvidia.dali import fn, pipeline_def
from nvidia.dali.plugin.pytorch.experimental import proxy
from torch import Tensor
from torchvision.datasets import ImageFolder

from apr_dali.data.sample import write_sample
from apr_dali.pipelines.operators import apr_pair, apr_single


@pipeline_def
def pipeline(size: int) -> Any:
    """Images of the files whose paths the workers send: float (3, size, size) in 0..1, one view of each."""
    encoded = fn.io.file.read(fn.external_source(name="path", no_copy=True))
    images = fn.resize(fn.decoders.image_random_crop(encoded), size=(size, size))
    return apr_pair(apr_single(images), views="mixed", in_scale=1 / 255)


def path_as_bytes(path: str) -> np.ndarray:
    return np.frombuffer(path.encode(), np.int8)


def epoch(folder: str, size: int, workers: int = 2) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (32, 3, size, size) and labels (32,). The seed tells the draws only in the batches' own order."""
    made = pipeline(size, batch_size=32, num_threads=2, device_id=None, seed=1, prefetch_queue_depth=2 * workers)
    with proxy.DALIServer(made, deterministic=True) as server:
        files = ImageFolder(folder, transform=server.proxy, loader=path_as_bytes)
        yield from proxy.DataLoader(server, files, 32, shuffle=True, num_workers=workers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of class folders; default: the built-in sample's")
    for images, labels in epoch(parser.parse_args().data or str(write_sample("sample") / "train"), 64):
        print(tuple(images.shape), tuple(labels.shape))
