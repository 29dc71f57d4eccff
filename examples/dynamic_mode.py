"""APR in DALI's dynamic mode: DALI captures its own operators, APR stands behind them.

python examples/dynamic_mode.py --data /path/imagenet/train
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import nvidia.dali.experimental.dynamic as ndd
from torch import Tensor

from apr_dali.data.sample import write_sample
from apr_dali.pipelines.dynamic import apr_pair, apr_single


def epoch(folder: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (32, 3, size, size) in 0..1, and labels (32, 1)."""
    reader = ndd.readers.File(file_root=folder, random_shuffle=True)
    for encoded, labels in reader.next_epoch(batch_size=32, capture=True):
        images = ndd.resize(ndd.decoders.image_random_crop(encoded), size=(size, size))
        images = apr_pair(apr_single(images), 0.5, views="mixed", in_scale=1 / 255)
        yield images.torch(), labels.torch()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of class folders; default: the built-in sample's")
    ndd.random.set_seed(1)
    for batch, targets in epoch(parser.parse_args().data or str(write_sample("sample") / "train"), 64):
        print(tuple(batch.shape), f"mean {batch.mean():.3f}", tuple(targets.shape))
