"""What one augmentation is: its draws, its definition, its form in torch, and what its paper says of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from apr_dali.errors import InputError, check_choice, check_whole
from apr_dali.kernels.cpu.augmentations import NativeBatch
from apr_dali.kernels.protocol import KernelBatch

TAKES = ("planes", "levels")
OVERFLOWS = ("clamp", "wrap", "truncate")
COINS = 2
"""Numbers of an `Augmentation.coin`: the batch's, and that of what stands within."""
DATASETS = ("cifar10", "cifar100", "imagenet")
"""Those that every augmentation can be asked its settings for."""
OBJECTIVES = ("cross-entropy", "both views", "auxiliary", "jsd", "teacher", "self-supervised")
"""How a network is trained on the views: cross entropy of the augmented one; the sum of the clean and the augmented
view's; the mean of the two, the augmented one by batch norms of its own; that of the first view with the
Jensen-Shannon divergence of all; both views' with a teacher's consistency; or none with labels."""


class Shape(NamedTuple):
    """Of a batch of images."""

    batch: int
    channels: int
    height: int
    width: int


_Draws = TypeVar("_Draws", bound="Draws")


@dataclass(frozen=True, eq=False)
class Draws:
    """Every random choice of one augmentation for a batch of N images of one size.

    height, width, channels: of the images. A subclass has its choices beside them as NumPy arrays, checks their shapes
    in `__post_init__` by `check_shapes`, tells N by `__len__`, and has a class method `draw` with its settings.
    """

    height: int
    width: int
    channels: int

    def __len__(self) -> int:
        raise NotImplementedError

    @classmethod
    def draw(cls, generator: np.random.Generator, shape: Shape, *args: Any, **settings: Any) -> Draws:
        """Draws for images of this shape; the settings of a subclass are arguments by name."""
        raise NotImplementedError

    @classmethod
    def sample(
        cls: type[_Draws],
        batch: int,
        height: int,
        width: int,
        seed: int | np.random.Generator | None = None,
        *,
        channels: int = 3,
        **settings: Any,
    ) -> _Draws:
        """Draws for `batch` images of these sizes, from a seed, a generator, or a fresh one; settings: see `draw`.

        Raises InputError for sizes that no batch has.
        """
        check_whole("batch", batch, 0)
        for name, value in (("height", height), ("width", width), ("channels", channels)):
            check_whole(name, value, 1)
        drawn = cls.draw(np.random.default_rng(seed), Shape(batch, channels, height, width), **settings)
        assert isinstance(drawn, cls)
        return drawn

    def check_shapes(self, **shapes: tuple[int, ...]) -> None:
        """Raise InputError unless the fields of these names have these shapes."""
        for name, shape in shapes.items():
            got = getattr(self, name).shape
            if got != shape:
                raise InputError(f"{type(self).__name__}.{name} must have the shape {shape}, got {got}")

    def check_bounds(self, name: str, low: float, high: float = np.inf) -> None:
        """Raise InputError unless all values of the field `name` are in low..high."""
        values = getattr(self, name)
        # "not (low <= ...)": it also refuses nan.
        if values.size and not low <= values.min() <= values.max() <= high:
            got = f"{values.min()} to {values.max()}"
            raise InputError(f"{type(self).__name__}.{name} must be in {low}..{high}, got values from {got}")


def check_range(name: str, values: tuple[float, float], low: float, high: float = np.inf) -> None:
    """Raise InputError unless `values` are two numbers in low..high, the smaller first."""
    try:
        first, last = values
    except (TypeError, ValueError):
        first = last = np.nan
    real = all(isinstance(value, Real) and np.isfinite(value) for value in (first, last))
    if not real or not low <= first <= last <= high:
        raise InputError(f"{name} must be two numbers in {low}..{high}, the smaller first, got {values!r}")


@dataclass(frozen=True)
class Recipe:
    """An augmentation as it was published for one data set.

    dataset: one of DATASETS, or another one that the paper has.
    settings: of `Draws.draw`.
    views: rows that the network sees of an image.
    objective: one of OBJECTIVES. weights: its numbers.
    clean: whether the first of several views is the image as it is.
    """

    dataset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    views: int = 1
    objective: str = "cross-entropy"
    weights: Mapping[str, float] = field(default_factory=dict)
    clean: bool = True

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, OBJECTIVES)
        check_whole("views", self.views, 1)


@dataclass(frozen=True)
class Augmentation:
    """One augmentation.

    name: as in `--aug`. paper: authors, title, where. equation: what it computes, as the paper has it. source: of the
    released code, what was read.
    draws: the class of its draws.
    define: the definition of truth, (images, draws) → float64 (N, C, H, W), slow and readable, in NumPy.
    takes: "planes", images are float64 (N, C, H, W), of any range unless `unit`; or "levels", uint8 (N, H, W, 3),
        0..255, as Pillow's operations need them, and the result is real levels.
    torch_form: the same with torch, on the CPU or a CUDA device: floating (N, C, H, W) to the same, or uint8
        (N, H, W, 3) to floating levels (N, 3, H, W). Changes neither its images nor its draws.
    native_form: the same in C++, (`kernels.cpu.augmentations.NativeBatch`, draws) to an array like the batch's images;
        None where there is none.
    cuda_form: the same by our kernels on a CUDA device, (`kernels.cuda.augmentations.CudaBatch`, draws); the function
        that is native_form, where both take the same numbers.
    recipes: what was published, the first for data sets that the paper does not have.
    partner: whether an image gets something of another one of its batch.
    unit: whether values are in 0..1 and are clipped to it.
    coin: whether one coin, heads with the setting p, decides over a batch, which else stays as it is. `draw` then takes
        `coin`, the COINS numbers in [0, 1) that decide in place of its generator's, so that all ranks have the same.
    overflow: how values become uint8 for uint8 images: "clamp" rounds and clips, "truncate" clips and truncates, "wrap"
        truncates modulo 256.
    """

    name: str
    paper: str
    equation: str
    source: str
    draws: type[Draws]
    define: Callable[[NDArray[Any], Any], NDArray[np.float64]]
    torch_form: Callable[[Any, Any], Any]
    recipes: tuple[Recipe, ...]
    takes: str = "planes"
    partner: bool = False
    unit: bool = False
    coin: bool = False
    overflow: str = "clamp"
    native_form: Callable[[NativeBatch, Any], NDArray[Any]] | None = None
    cuda_form: Callable[[KernelBatch, Any], Any] | None = None

    def __post_init__(self) -> None:
        check_choice("takes", self.takes, TAKES)
        check_choice("overflow", self.overflow, OVERFLOWS)
        if not self.recipes:
            raise InputError(f"the augmentation {self.name} needs at least one recipe")

    def recipe(self, dataset: str) -> Recipe:
        """The recipe for a data set, or the first where the paper has none for it: its `dataset` says which.

        Raises InputError for a name that is neither one of DATASETS nor in the recipes.
        """
        own = {recipe.dataset: recipe for recipe in self.recipes}
        check_choice("dataset", dataset, tuple(dict.fromkeys((*DATASETS, *own))))
        return own.get(dataset, self.recipes[0])

    def sample(
        self,
        batch: int,
        height: int,
        width: int,
        seed: int | np.random.Generator | None = None,
        *,
        channels: int = 3,
        dataset: str = "cifar10",
        **changes: Any,
    ) -> Draws:
        """Draws for `batch` images by the recipe for `dataset`, with `changes` of its settings."""
        if changes:
            self.check_settings(changes)
        settings = {**self.recipe(dataset).settings, **changes}
        return self.draws.sample(batch, height, width, seed, channels=channels, **settings)

    def check_settings(self, names: Iterable[str]) -> None:
        """Raise InputError for names that are no settings of the draws."""
        # The first two are the generator and the shape.
        arguments = list(inspect.signature(self.draws.draw).parameters.values())[2:]
        if any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
            return
        known = [argument.name for argument in arguments]
        for name in names:
            if name not in known:
                raise InputError(f"{self.name} has no such setting: {name}; it has {', '.join(known) or 'none'}")
