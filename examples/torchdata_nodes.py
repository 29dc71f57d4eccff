"""torchdata: ImageNetLoader as a node of `torchdata.nodes`, which goes on in mid-epoch.

python examples/torchdata_nodes.py --data /path/imagenet/train
"""

from __future__ import annotations

import argparse
from itertools import islice
from typing import Any

from torch import Tensor
from torchdata.nodes import Loader

from apr_dali import ImageNetLoader
from apr_dali.data.sample import write_sample
from apr_dali.integrations.torchdata import LoaderNode

Place = dict[str, Any]


def batches(folder: str, size: int, count: int, place: Place | None = None) -> tuple[list[list[Tensor]], Place]:
    """The next `count` batches from `place` on, of one epoch, and the place after them."""
    with ImageNetLoader(folder, 32, "apr-sp", image_size=size, seed=1) as images:
        loader = Loader(LoaderNode(images))
        if place is not None:
            loader.load_state_dict(place)
        return list(islice(loader, count)), loader.state_dict()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of class folders; default: the built-in sample's")
    train = parser.parse_args().data or str(write_sample("sample") / "train")
    found, after = batches(train, 64, 2)
    found += batches(train, 64, 2, after)[0]
    for given, targets in found:
        print(tuple(given.shape), tuple(targets.shape))
