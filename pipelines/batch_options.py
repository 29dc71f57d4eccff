"""What both loaders are asked for: the arguments that they share, with their checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from apr_dali import functional
from apr_dali.augmentations import find
from apr_dali.augmentations import functional as augmenting
from apr_dali.augmentations.plan import check_form, is_named, may_be_unmixed, plan
from apr_dali.augmentations.record import DATASETS
from apr_dali.data.arrays import ArraySet
from apr_dali.data.folders import ImageSet, TarSet
from apr_dali.data.sampling import Sampler, weights_of
from apr_dali.draws import SEEDS
from apr_dali.errors import InputError, check_choice, check_share, check_whole
from apr_dali.kernels.dispatch import BACKENDS
from apr_dali.recipes import CHANNELS, AprRecipe, policy_magnitude
from apr_dali.runtime import cpus
from apr_dali.runtime.device import parse_device

# DALI's maintainers advise 3 to 5 threads per GPU: the GPU decodes, the threads only parse.
_THREADS_PER_GPU = 4
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
ON_BREAK = ("new", "resume")
_GREATEST = 2**31 - 1
"""Of what DALI counts."""

Init = TypeVar("Init", bound=Callable[..., None])


class BatchArguments(TypedDict, total=False):
    """The keywords of both loaders that have one default, for type checkers; `BatchOptions` says what they are."""

    train: bool
    device: str | torch.device
    device_id: int | None
    shard: tuple[int, int]
    seed: int
    dtype: str
    memory_format: str
    threads: int | None
    drop_last: bool
    sampler: Sampler
    in_chans: int
    with_index: bool
    on_break: str
    backend: str
    repeat_unmixed: bool
    policy: str
    policy_magnitude: int | None
    random_erasing: float
    aug_form: str
    aug_dataset: str


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """The arguments that `ImageNetLoader` and `CifarLoader` share.

    Args:
        batch_size: images per batch on this rank, before further views.
        aug: the augmentation, "none" for evaluation; the loaders say which they have.
        recipe: normalization and APR's settings.
        train: random crops, flips and augmentation in shuffled order, or the images of the set in their order.
        device: where the batches are made: a `torch.device`, "cpu", "cuda" (torch's current one), "cuda:1", or DALI's
            "gpu".
        device_id: the number of the GPU, where `device` does not say it; of "gpu" by default 0.
        shard: (rank, world size).
        seed: of order and augmentation, 0..2⁶³ - 1.
        dtype: float32, float16 or bfloat16.
        memory_format: "contiguous" or "channels_last".
        threads: of the pipeline; None: the CPUs at hand, at most 4 with a GPU.
        drop_last: leave out the last batch where it is not full.
        sampler: "shuffle": every image once per epoch. "balanced" draws as many images as there are, with replacement,
            so that all classes come alike often; a dict from class names to the weight of each of their images, or one
            weight per image, draws by these. Not of tars; each epoch of files then has a pipeline of its own.
        in_chans: 3, or 1 for gray images: (V·B, 1, H, W), normalized with the average of the recipe's channels.
        with_index: give a third output, the number of each row's image in the set: int64 (V·B,).
        on_break: what follows an epoch that was left early: "new" or "resume".
        backend: of the operators, see `apr_dali.pair`.
        repeat_unmixed: give a batch that the coin of APR-P, or of a method such as hybrid-p, leaves unmixed in all
            views, 2·B rows of two, as the released code does, instead of once, B rows. `loader.views` times the mean
            loss is the same number either way.
        policy: an augmentation policy of DALI's operations before APR: none, autoaugment (of ImageNet), randaugment,
            trivialaugment, or augmix (one view of it).
        policy_magnitude: of randaugment 0..30, by default 9; of augmix 1..10, its severity, by default 3.
        random_erasing: share of the normalized views that get a rectangle of 0, see `apr_dali.pipelines.erasing`.
        aug_form: of an augmentation of `apr_dali.augmentations`, what is given of an image: "published", "replaced" or
            "both", see `apr_dali.augmentations.plan`.
        aug_dataset: whose published settings such an augmentation has: cifar10, cifar100 or imagenet; by default the
            loader's.

    Raises:
        InputError: for a value that cannot be, or that would change nothing.
    """

    batch_size: int
    aug: str
    recipe: AprRecipe
    train: bool = True
    device: str | torch.device = "cpu"
    device_id: int | None = None
    shard: tuple[int, int] = (0, 1)
    seed: int = 0
    dtype: str = "float32"
    memory_format: str = "contiguous"
    threads: int | None = None
    drop_last: bool = False
    sampler: Sampler = "shuffle"
    in_chans: int = 3
    with_index: bool = False
    on_break: str = "new"
    backend: str = "auto"
    repeat_unmixed: bool = False
    policy: str = "none"
    policy_magnitude: int | None = None
    random_erasing: float = 0.0
    aug_form: str = "published"
    aug_dataset: str = ""

    def __post_init__(self) -> None:
        for name in ("train", "drop_last", "with_index", "repeat_unmixed"):
            check_flag(name, getattr(self, name))
        if not self.train and self.aug != "none":
            raise InputError(f"aug={self.aug!r} has no effect with train=False: evaluation takes aug='none'")
        policy_magnitude(self.policy, self.policy_magnitude)
        check_share("random_erasing", self.random_erasing)
        for name in ("policy", "random_erasing"):
            if not self.train and getattr(self, name) != getattr(BatchOptions, name):
                raise InputError(f"{name} has no effect with train=False: it is of training images")
        check_choice("in_chans", self.in_chans, CHANNELS)
        check_choice("dtype", self.dtype, functional.DTYPES)
        check_choice("memory_format", self.memory_format, tuple(MEMORY_FORMATS))
        check_choice("on_break", self.on_break, ON_BREAK)
        check_choice("backend", self.backend, ("auto", *BACKENDS))
        check_whole("seed", self.seed, 0, SEEDS)
        check_size("batch_size", self.batch_size)
        if not isinstance(self.recipe, AprRecipe):
            raise InputError(f"recipe must be an AprRecipe, got {self.recipe!r}")
        if self.threads is not None:
            check_whole("threads", self.threads, 1)
        self._check_shard()
        self._check_device()
        self._check_augmentation()

    def _check_shard(self) -> None:
        shard = self.shard
        if not isinstance(shard, (tuple, list)) or len(shard) != 2:
            raise InputError(f"shard must be (rank, world size), got {shard!r}")
        for name, value in zip(("rank", "world size"), shard, strict=True):
            check_whole(f"the {name} of shard", value, 0)
        if not 0 <= shard[0] < shard[1]:
            raise InputError(f"shard must be (rank, world size) with 0 <= rank < world size, got {shard}")

    def _check_device(self) -> None:
        kind, number = parse_device(self.device)
        if self.device_id is not None:
            check_whole("device_id", self.device_id, 0)
            if number not in (None, self.device_id):
                raise InputError(f"device {self.device} is not device_id {self.device_id}: leave one of the two out")
        if kind == "cpu":
            return
        if not torch.cuda.is_available():
            raise InputError(f"device={self.device} needs a CUDA device, and torch sees none; see `apr-dali doctor`")
        number = self.torch_device.index
        if number >= (count := torch.cuda.device_count()):
            raise InputError(f"device={self.device} asks for GPU {number}, and torch sees {count}, counted from 0")

    def _check_augmentation(self) -> None:
        check_form(self.aug, self.aug_form)
        if self.aug_dataset:
            check_choice("aug_dataset", self.aug_dataset, DATASETS)
        if self.repeat_unmixed and not may_be_unmixed(self.aug, self.aug_dataset or DATASETS[0], self.aug_form):
            raise InputError(
                f"repeat_unmixed has no effect with aug={self.aug!r}: it needs several views, such as those of apr-p "
                "and apr-sp, and a coin that may leave a batch unmixed"
            )
        if is_named(self.aug):
            made = plan(self.aug, self.aug_dataset or DATASETS[0], self.aug_form)
            augmenting.check_options(None, self.backend)
            for name in made.names:
                augmenting.choose(find(name), parse_device(self.device)[0], "float32", self.backend)

    @cached_property
    def torch_device(self) -> torch.device:
        """The device with its number."""
        kind, number = parse_device(self.device)
        if kind == "cpu":
            return torch.device("cpu")
        if number is None:
            number = self.device_id
        if number is None:
            number = 0 if self.device == "gpu" else torch.cuda.current_device()
        return torch.device("cuda", number)

    @property
    def dali_device(self) -> str:
        """What DALI calls it: "cpu" or "gpu"."""
        return "cpu" if self.torch_device.type == "cpu" else "gpu"

    @property
    def pipeline_threads(self) -> int:
        """The threads of the pipeline, also where they are not given."""
        return self.threads or default_threads(self.dali_device)

    def for_graph(self) -> dict[str, Any]:
        """The arguments of a `graph.Graph`."""
        return {
            "device": self.dali_device,
            "aug": self.aug,
            "recipe": self.recipe.gray() if self.in_chans == 1 else self.recipe,
            "dtype": self.dtype,
            "backend": self.backend,
            "threads": self.pipeline_threads,
            "shard": self.shard,
            "in_chans": self.in_chans,
            "repeat_unmixed": bool(self.repeat_unmixed),
            "memory_format": self.memory_format,
            "policy": self.policy,
            "policy_magnitude": policy_magnitude(self.policy, self.policy_magnitude),
            "random_erasing": float(self.random_erasing),
            "aug_form": self.aug_form,
            "aug_dataset": self.aug_dataset if is_named(self.aug) else "",
        }

    def weights(self, data: ImageSet | TarSet | ArraySet) -> NDArray[np.float64] | None:
        """The weight with which the sampler draws each image of the set; None where each is to come once per epoch."""
        if isinstance(self.sampler, str) and self.sampler == "shuffle":
            return None
        if not self.train:
            raise InputError("sampler has no effect with train=False: evaluation takes each image once")
        labels = None if isinstance(data, TarSet) else data.labels
        return weights_of(self.sampler, labels, data.classes, len(data))


def default_threads(device: str) -> int:
    """The CPUs that this process may use, shared out among the processes of the machine; at most 4 with a GPU.

    device: "cpu" or "gpu".
    """
    return min(cpus.share(), _THREADS_PER_GPU) if device == "gpu" else cpus.share()


def check_flag(name: str, value: object) -> None:
    """Raise InputError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False, got {value!r}")


def check_size(name: str, value: object) -> None:
    """Raise InputError unless `value` is a number of things of which DALI can count so many, at least one."""
    check_whole(name, value, 1, _GREATEST)


def check_shared_out(images: int, processes: int) -> None:
    """Raise InputError where a process would have no image."""
    if images < processes:
        raise InputError(f"{images} images cannot be shared out among {processes} processes")


def takes_batch_arguments(init: Init) -> Init:
    """Let `help` and `inspect` show the arguments of BatchOptions in the place of a loader's **batch."""
    own = inspect.signature(init)
    named = [given for given in own.parameters.values() if given.kind is not inspect.Parameter.VAR_KEYWORD]
    # Evaluated, since a loader's module does not have the names of these annotations.
    options = inspect.signature(BatchOptions, eval_str=True).parameters
    shared = [given for name, given in options.items() if name not in own.parameters]
    init.__signature__ = own.replace(parameters=[*named, *shared])  # type: ignore[attr-defined]
    return init
