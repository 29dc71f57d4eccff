"""The rows of the benchmark: which augmentation, by which way, at which size. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from apr_dali.augmentations.registry import COMBINATIONS, NAMES, PARALLEL
from apr_dali.errors import InputError

WAYS = {
    "dataloader": "torchvision DataLoader",
    "dali-cpu": "DALI on the CPU",
    "dali-gpu": "DALI on the GPU",
    "torch-gpu": "DataLoader, torch on the GPU",
}
GPU_WAYS = ("dali-gpu", "torch-gpu")
PUBLISHED = "published-"
APR = ("apr-p", "apr-s", "apr-sp")
POLICIES = ("autoaugment", "trivialaugment", "randaugment")
MIXTURES = ("mixup", "cutmix")
METHODS = (*NAMES, *COMBINATIONS, *PARALLEL)
"""Those of `apr_dali.augmentations`, in their published form, or the changed image alone where that needs more."""
AUGS = ("none", *APR, *(PUBLISHED + aug for aug in APR), "augmix", *POLICIES, *MIXTURES, *METHODS)
SIZES = (224, 32)

LEFT_OUT = (
    ("dali-*/published-*/*", "the published formulation has no DALI form"),
    ("torch-gpu/published-apr-s*/*", "the operations of published APR-S are Pillow's, which has no GPU"),
    *(
        (f"{way}/{name}/*", "it is measured in DALI's pipeline alone")
        for way in ("dataloader", "torch-gpu")
        for name in METHODS
    ),
    ("dali-*/augmix/224", "DALI has no AugMix; at 32 px torchvision makes it before the graph"),
)
"""Rows that make no sense, and why."""

QUICK = (
    *("dataloader/none", "dali-*/none", "dali-*/apr-*/224", "dali-*/apr-sp/32"),
    *("dataloader/apr-sp/224", "dataloader/published-apr-sp"),
)
"""What `--quick` measures."""

# Enough to be worth a call, small enough for the slowest row to give some batches per second.
_BATCH = {"cpu": {224: 32, 32: 128}, "gpu": {224: 256, 32: 1024}}


@dataclass(frozen=True)
class Row:
    """One thing to measure: `way` is a key of WAYS, `aug` one of AUGS, `size` one of SIZES, in pixels."""

    way: str
    aug: str
    size: int

    @property
    def name(self) -> str:
        """WAY/AUG/SIZE."""
        return f"{self.way}/{self.aug}/{self.size}"

    @property
    def on_gpu(self) -> bool:
        """Whether its batches end on a GPU."""
        return self.way in GPU_WAYS

    @property
    def batch_size(self) -> int:
        """Images per batch, before further views."""
        return _BATCH["gpu" if self.on_gpu else "cpu"][self.size]

    @property
    def published(self) -> bool:
        """Whether it is the published formulation of APR."""
        return self.aug.startswith(PUBLISHED)

    @property
    def method(self) -> str:
        """The augmentation, whatever its formulation."""
        return self.aug.removeprefix(PUBLISHED)


def sensible() -> tuple[Row, ...]:
    """All rows that make sense, with or without a GPU."""
    rows = [Row(way, aug, size) for size in SIZES for way in WAYS for aug in AUGS]
    return tuple(row for row in rows if _why_not(row.name) is None)


def select(patterns: Sequence[str], gpu: bool) -> tuple[Row, ...]:
    """The rows that one of `patterns` names, all without a pattern; those that need a GPU only if there is one.

    A pattern is WAY/AUG/SIZE or the beginning of it, or a way, an augmentation or a size by itself; `*` stands for
    anything.

    Raises:
        InputError: for a pattern that names no row that can run here.
    """
    for pattern in patterns:
        _check_pattern(pattern, gpu)
    return tuple(
        row
        for row in sensible()
        if (gpu or not row.on_gpu) and (not patterns or any(_matches(row.name, pattern) for pattern in patterns))
    )


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Those of `names`, WAY/AUG/SIZE, that one of `patterns` names; see `select`."""
    return [name for name in names if any(_matches(name, pattern) for pattern in patterns)]


def _matches(name: str, pattern: str) -> bool:
    if "/" in pattern:
        return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}/*")
    return any(fnmatchcase(part, pattern) for part in name.split("/"))


def _check_pattern(pattern: str, gpu: bool) -> None:
    everything = [Row(way, aug, size).name for size in SIZES for way in WAYS for aug in AUGS]
    named = matching(everything, [pattern])
    if not named:
        raise InputError(
            f"--only {pattern}: there is no such row; a row is WAY/AUG/SIZE of the ways {', '.join(WAYS)}, "
            f"the augmentations {', '.join(AUGS)} and the sizes {', '.join(map(str, SIZES))}"
        )
    possible = [name for name in named if _why_not(name) is None]
    if not possible:
        raise InputError(f"--only {pattern}: {_why_not(named[0])}")
    if not gpu and all(name.startswith(GPU_WAYS) for name in possible):
        raise InputError(f"--only {pattern} needs a CUDA device, and torch sees none; see `apr-dali doctor`")


def _why_not(name: str) -> str | None:
    return next((reason for pattern, reason in LEFT_OUT if fnmatchcase(name, pattern)), None)
