"""Loaders in processes of their own, which import what they run by its name."""

import io
import itertools
from pathlib import Path

import torch
from PIL import Image

from apr_dali import ImageNetLoader
from apr_dali.recipes import AprRecipe

SETTINGS = {"image_size": 32, "threads": 2, "seed": 1}
STEP = 13
"""Between the gray levels of two flat images."""


def gpu_graph(aug: str, recipe: AprRecipe) -> dict:
    """The settings that both loaders' graphs have, for a GPU, which need not be there."""
    rest = {"dtype": "float16", "backend": "auto", "threads": 2, "shard": (0, 1)}
    return {"device": "gpu", "aug": aug, "recipe": recipe, **rest}


def make(folder: Path, **options) -> ImageNetLoader:
    return ImageNetLoader(folder, 4, "apr-sp", **SETTINGS | options)


def sums(loader) -> list[float]:
    return [float(images.sum()) for images, _ in loader]


def sums_in_child(folder: Path, results) -> None:
    torch.set_num_threads(1)
    with make(folder) as loader:
        results.put(sums(loader))


def which(images: torch.Tensor, step: int) -> list[int]:
    """The numbers of flat images whose red level is `step` times their number, of normalized ones (N, 3, H, W)."""
    levels = (images[:, 0].float().mean(dim=(1, 2)) * 0.229 + 0.485) * 255
    return (levels / step).round().int().tolist()


def flat_jpeg(index: int) -> bytes:
    """An image of one gray level that tells which one it is, whatever is cropped from it."""
    buffer = io.BytesIO()
    Image.new("RGB", (40 + index, 60 - index), (index * STEP,) * 3).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_flat(root: Path, count: int) -> Path:
    """Class folders of so many of these images; the class says whether the number is odd."""
    for index in range(count):
        (root / f"class{index % 2}").mkdir(exist_ok=True)
        (root / f"class{index % 2}" / f"{index:02d}.jpg").write_bytes(flat_jpeg(index))
    return root


def flat_epoch(loader) -> list[int]:
    """The numbers of an epoch's images, whose labels are right."""
    seen = []
    for images, targets in loader:
        found = which(images, STEP)
        assert [index % 2 for index in found] == targets.tolist()
        seen += found
    return seen


def numbers_of(loader, step: int = 12) -> list[list[int]]:
    """The numbers of an epoch's images, by batch; the label of a flat image is whether its number is odd."""
    batches = []
    for images, targets in loader:
        batches.append(which(images[:: loader.batch_views], step))
        assert targets[:: loader.batch_views].tolist() == [index % 2 for index in batches[-1]]
    return batches


def orders_of(loaders, epoch, count: int, train: bool) -> list[list[list[int]]]:
    """What `epoch` says of three epochs of all ranks' loaders, each of which must have every image once."""
    orders = []
    for _ in range(3):
        lengths = [len(loader) for loader in loaders]
        orders.append([epoch(loader) for loader in loaders])
        assert sorted(itertools.chain(*orders[-1])) == list(range(count))
        if train:
            assert len(set(lengths)) == 1
    if train:
        assert orders[0] != orders[1] != orders[2]
    else:
        assert orders[0] == orders[1] == orders[2]
    return orders
