"""Each row's batches: from DALI's loaders, or from a torchvision DataLoader that augments on the CPU or on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate
from torchvision.transforms import v2

from apr_dali.augmentations.plan import form_here, plan
from apr_dali.bench import published_code
from apr_dali.bench.images import Places, photographs, small_images
from apr_dali.bench.rows import METHODS, MIXTURES, POLICIES, Row
from apr_dali.data.arrays import ArraySet
from apr_dali.data.folders import ImageSet
from apr_dali.data.image_file import open_image
from apr_dali.draws import SingleDraws
from apr_dali.pipelines import cifar
from apr_dali.pipelines.batch_options import default_threads
from apr_dali.pipelines.cifar_loader import CifarLoader
from apr_dali.pipelines.loader import ImageNetLoader
from apr_dali.recipes import CIFAR, HW_DECODER_LOAD, IMAGENET, AprRecipe
from apr_dali.runtime import torch_threads
from apr_dali.transforms import AprPair, AprSingle

Batch = tuple[Tensor, Tensor]
_ENDLESS = 1_000_000_000


@dataclass(frozen=True)
class Feed:
    """Batches without end: images float32 (views·B, 3, S, S), normalized, and targets, int64 (views·B,) or soft."""

    batches: Iterator[Batch]
    views: int
    classes: int
    turn: int
    """Batches that come together: one of each worker."""


def recipe_of(row: Row) -> AprRecipe:
    """The published recipe of the row's size, but for the coin: every batch is mixed.

    The cost of a coin's other side is none, and how often it fell would be noise.
    """
    return replace(IMAGENET if row.size == 224 else CIFAR, pair_probability=1.0)


def threads_of(row: Row, threads: int | None) -> int:
    """DALI's threads or the DataLoader's workers; None: the library's choice for the row."""
    return threads or default_threads("gpu" if row.way == "dali-gpu" else "cpu")


def views_of(row: Row) -> int:
    """Images that a network sees of each one."""
    if row.aug in METHODS:
        return plan(row.aug, _dataset_of(row), form_of(row)).views
    return {"apr-p": 2, "apr-sp": 2, "augmix": 3}.get(row.method, 1)


def form_of(row: Row) -> str:
    """The published form of one of METHODS, or "replaced" where the trainers lack what that needs."""
    return form_here(row.aug, _dataset_of(row))


def has_clean_view(row: Row) -> bool:
    """Whether the first view of each image of one of METHODS is of whole gray levels."""
    chosen = plan(row.aug, _dataset_of(row), form_of(row))
    return chosen.views > 1 and chosen.clean


def _dataset_of(row: Row) -> str:
    return "imagenet" if row.size == 224 else "cifar10"


def open_feed(row: Row, places: Places, threads: int | None, hw_decoder_load: float = HW_DECODER_LOAD) -> Feed:
    """The endless batches of `row`, which begin with other images in every process."""
    count = threads_of(row, threads)
    images = photographs(places.folder) if row.size == 224 else small_images(places.small)
    classes = len(images.classes)
    if row.way.startswith("dali"):
        torch_threads.use(count)
        loader: Iterable[Batch] = _dali(row, images, count, hw_decoder_load)
        if row.aug in MIXTURES:
            loader = _Mapped(loader, _mixture(row.aug, classes))
        return Feed(_forever(loader), views_of(row), classes, 1)
    torch_threads.use(1)  # the workers, which inherit it, are as many as there are threads to be
    return Feed(_forever(_data_loader(row, images, count)), views_of(row), classes, count)


class _Mapped:
    """The batches of a loader, changed."""

    def __init__(self, loader: Iterable[Batch], change: Callable[[Tensor, Tensor], Batch]) -> None:
        self._loader, self._change = loader, change

    def __iter__(self) -> Iterator[Batch]:
        return (self._change(*batch) for batch in self._loader)


def _forever(loader: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        yield from loader


# ---- DALI ----


def _dali(row: Row, images: ImageSet | ArraySet, threads: int, hw_decoder_load: float) -> Iterable[Batch]:
    device = "gpu" if row.way == "dali-gpu" else "cpu"
    common: dict[str, Any] = {"device": device, "threads": threads, "drop_last": True, "recipe": recipe_of(row)}
    if row.aug in METHODS:
        common["aug_form"] = form_of(row)
        # As with APR-P, whose recipe here mixes all: a batch costs what its views do.
        common["repeat_unmixed"] = plan(row.aug, _dataset_of(row), form_of(row)).may_come_once
    if isinstance(images, ImageSet):
        common["image_size"] = row.size
        if device == "gpu":
            common["hw_decoder_load"] = hw_decoder_load
        if row.aug in POLICIES:
            return ImageNetLoader(images, row.batch_size, policy=row.aug, **common)
        return ImageNetLoader(images, row.batch_size, "none" if row.aug in MIXTURES else row.aug, **common)
    # CifarLoader has torchvision's AutoAugment for CIFAR-10; the others are DALI's.
    if row.aug in POLICIES and row.aug != "autoaugment":
        return CifarLoader(images, row.batch_size, policy=row.aug, **common)
    return CifarLoader(images, row.batch_size, row.aug, **common)


# ---- DataLoader ----


def _data_loader(row: Row, images: ImageSet | ArraySet, workers: int) -> Iterable[Batch]:
    """The loader of torchvision's reference trainer; on the CPU the workers do everything, batch by batch too."""
    on_gpu = row.way == "torch-gpu"
    finish = Finish(row, len(images.classes))
    operation = image_operation("none" if on_gpu else row.aug)
    dataset = Pictures(images, Chain(_crop(row), operation))
    loader = DataLoader(
        dataset,
        row.batch_size,
        # Without end: the workers' queues run dry at the end of an epoch, and ImageNet's is long.
        sampler=RandomSampler(dataset, replacement=True, num_samples=_ENDLESS),
        num_workers=workers,
        collate_fn=default_collate if on_gpu else _Collate(finish),
        pin_memory=on_gpu,
        drop_last=True,
        multiprocessing_context="fork",
    )
    return _Mapped(loader, OnDevice(row, finish, torch.device("cuda"))) if on_gpu else loader


def _crop(row: Row) -> v2.Transform:
    if row.size == 224:
        crop: v2.Transform = v2.RandomResizedCrop(row.size)
    else:
        crop = v2.RandomCrop(row.size, padding=cifar.BORDER, fill=128)
    return v2.Compose([crop, v2.RandomHorizontalFlip()])


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images of files or of memory through a chain of transforms, with their labels."""

    def __init__(self, images: ImageSet | ArraySet, chain: Callable[[Image.Image], Tensor]) -> None:
        self._images, self._chain = images, chain

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = int(self._images.labels[index])
        if isinstance(self._images, ArraySet):
            return self._chain(Image.fromarray(self._images.images[index])), label
        return self._chain(open_image(self._images.files[index])), label


class Chain:
    """A picture to uint8 (3, S, S), or to (V, 3, S, S) where the operation gives several views."""

    def __init__(self, crop: Callable[[Image.Image], Image.Image], operation: Operation) -> None:
        self._crop, self._operation = crop, operation

    def __call__(self, picture: Image.Image) -> Tensor:
        views = [v2.functional.pil_to_tensor(view) for view in self._operation(self._crop(picture))]
        return torch.stack(views) if len(views) > 1 else views[0]


Operation = Callable[[Any], Sequence[Any]]
"""A picture, PIL or a uint8 tensor (3, H, W), to its views."""


def image_operation(aug: str) -> Operation:
    """What the augmentation does to single images; AugMix gives the image as it is and two mixtures."""
    if aug in ("published-apr-s", "published-apr-sp"):
        return PublishedSingle()
    if aug in ("apr-s", "apr-sp"):
        single = AprSingle(seed=0)
        return lambda picture: (single(picture),)
    if aug == "augmix":
        mix = v2.AugMix(all_ops=False)
        return lambda picture: (picture, mix(picture), mix(picture))
    makers = {
        "autoaugment": v2.AutoAugment,
        "trivialaugment": v2.TrivialAugmentWide,
        "randaugment": v2.RandAugment,
    }
    if aug not in makers:
        return lambda picture: (picture,)
    policy = makers[aug]()
    return lambda picture: (policy(picture),)


class PublishedSingle:
    """The published APR-S of a PIL image; draws of its own in each worker."""

    def __init__(self) -> None:
        self._generator: np.random.Generator | None = None

    def __call__(self, picture: Image.Image) -> tuple[Image.Image]:
        if self._generator is None:
            self._generator = np.random.default_rng(torch.initial_seed())
        draws = SingleDraws.sample(1, picture.height, picture.width, self._generator)
        return (Image.fromarray(published_code.single(np.asarray(picture), draws)),)


class Finish:
    """uint8 (B, 3, S, S) or (B, V, 3, S, S) to the normalized float32 batch, paired or mixed if the row is so."""

    def __init__(self, row: Row, classes: int) -> None:
        recipe = recipe_of(row)
        self._normalize = v2.Normalize(recipe.mean, recipe.std)
        self._first = recipe.pair_after_normalise
        self._change: Callable[[Tensor, Tensor], Batch] | None = None
        if row.method in ("apr-p", "apr-sp"):
            self._change = published_pair if row.published else AprPair(p=1.0, seed=0)
        elif row.aug in MIXTURES:
            self._first, self._change = True, _mixture(row.aug, classes)

    def __call__(self, images: Tensor, targets: Tensor) -> Batch:
        if images.ndim == 5:
            targets = targets.repeat_interleave(images.shape[1])
            images = images.flatten(0, 1)
        images = v2.functional.to_dtype(images, torch.float32, scale=True)
        if self._first:
            images = self._normalize(images)
        if self._change is not None:
            images, targets = self._change(images, targets)
        return (images if self._first else self._normalize(images)), targets


def published_pair(images: Tensor, targets: Tensor) -> Batch:
    """The published APR-P of a batch, the clean and the mixed view side by side."""
    partner = torch.randperm(len(images), device=images.device)
    views = torch.stack([images, published_code.pair(images, partner)], 1)
    return views.flatten(0, 1), targets.repeat_interleave(2)


class _Collate:
    def __init__(self, finish: Finish) -> None:
        self._finish = finish

    def __call__(self, samples: list[tuple[Tensor, int]]) -> Batch:
        images, targets = default_collate(samples)
        return self._finish(images, targets)


class OnDevice:
    """uint8 batches (B, 3, S, S) of the CPU augmented on `device` by torch."""

    def __init__(self, row: Row, finish: Finish, device: torch.device) -> None:
        self._finish, self._device = finish, device
        # APR-S takes a batch and draws for each image; torchvision's draw once per call.
        self._whole = AprSingle(seed=0) if row.aug in ("apr-s", "apr-sp") else None
        self._each = image_operation(row.aug) if row.aug in (*POLICIES, "augmix") else None

    def __call__(self, images: Tensor, targets: Tensor) -> Batch:
        images, targets = images.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)
        if self._whole is not None:
            images = self._whole(images)
        if self._each is not None:
            views = torch.stack([torch.stack(list(self._each(image))) for image in images])
            images = views if views.shape[1] > 1 else views[:, 0]
        return self._finish(images, targets)


def _mixture(aug: str, classes: int) -> Callable[[Tensor, Tensor], Batch]:
    return (v2.MixUp if aug == "mixup" else v2.CutMix)(alpha=1.0, num_classes=classes)
