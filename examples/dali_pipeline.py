"""APR in a DALI pipeline of your own: two operators, also under conditional execution.

python examples/dali_pipeline.py --data /path/imagenet/train
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.base_iterator import LastBatchPolicy
from nvidia.dali.plugin.pytorch import DALIClassificationIterator, DALIGenericIterator

from apr_dali.data.sample import write_sample
from apr_dali.pipelines.operators import apr_pair, apr_single

NORMALIZE = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "output_layout": "CHW"}


@pipeline_def(enable_conditionals=True)
def pipeline(folder: str, size: int, views: str = "mixed", sometimes: bool = False) -> tuple[Any, Any]:
    """Images and labels; `sometimes`: APR-S for every other image, as a person writes `if` in DALI."""
    encoded, labels = fn.readers.file(file_root=folder, random_shuffle=True, name="Reader")
    images = fn.decoders.image_random_crop(encoded)
    images = fn.resize(images, size=(size, size))
    if not sometimes:
        images = apr_single(images)  # uint8 HWC, all of one size
    elif fn.random.coin_flip(dtype=types.BOOL):
        images = apr_single(images)
    images = fn.crop_mirror_normalize(images, **NORMALIZE, mirror=fn.random.coin_flip())
    images = apr_pair(images, views=views)  # float CHW, all of one size
    return images, labels


def classic(folder: str, size: int, **options) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """An epoch through the classic iterator."""
    made = pipeline(folder, size, batch_size=32, num_threads=2, device_id=None, seed=1, **options)
    policy = {"reader_name": "Reader", "last_batch_policy": LastBatchPolicy.PARTIAL}
    return [(out["data"], out["label"]) for (out,) in DALIClassificationIterator(made, **policy)]


def generic(folder: str, size: int, **options) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """An epoch through DALIGenericIterator, both views of an image side by side."""
    made = pipeline(folder, size, views="both", batch_size=32, num_threads=2, device_id=None, seed=1, **options)
    names = ["images", "labels"]
    iterator = DALIGenericIterator(made, names, reader_name="Reader", last_batch_policy=LastBatchPolicy.PARTIAL)
    # (B, 2, C, H, W): the clean view first.
    return [(out["images"].flatten(0, 1), out["labels"].repeat_interleave(2)) for (out,) in iterator]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of class folders; default: the built-in sample's")
    options = parser.parse_args()
    chosen = options.data or str(write_sample("sample") / "train")
    for what, batches in {
        "classic iterator": classic(chosen, 64),
        "classic iterator, conditional": classic(chosen, 64, sometimes=True),
        "generic iterator": generic(chosen, 64),
    }.items():
        print(f"{what}: {len(batches)} batches, the first {tuple(batches[0][0].shape)}")
