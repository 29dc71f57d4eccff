"""APR, its kin and ImageNet-C's corruptions as torchvision v2 transforms: the same operators without DALI, seeded.

    train = v2.Compose([v2.RandomResizedCrop(224), AprSingle(), v2.RandomHorizontalFlip(), ..., v2.Normalize(...)])
    pair = AprPair()                       # on a batch, like v2.MixUp: in the collate function or in the loop
    images, labels = pair(images, labels)  # (2·B, C, H, W), (2·B,): the clean and the mixed view side by side;
                                           # (B, C, H, W), (B,) where the coin leaves the batch unmixed

The draws come from torch's generator of the process, as those of torchvision's transforms: `torch.manual_seed` repeats
them, and the workers of a `DataLoader` and its epochs differ. With a `seed` they come from a generator of the
transform's own, which in workers is seeded from the worker's seed too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision import tv_tensors

from apr_dali import functional
from apr_dali.corruptions import CorruptionDraws, find
from apr_dali.draws import PairDraws, SingleDraws, coin_of
from apr_dali.errors import InputError, check_choice, check_share, check_whole
from apr_dali.kernels import corruptions
from apr_dali.kernels.dispatch import check_backend
from apr_dali.recipes import check_views
from apr_dali.runtime import torch_operators
from apr_dali.runtime.deprecation import renamed
from apr_dali.spectral import AXES, OVERFLOWS
from apr_dali.transforms.augmentations import (
    FDA,
    Afa,
    AmplitudeMix,
    Augment,
    HybridAugment,
    Prime,
    RandConv,
    SpectralGains,
    VipAug,
)
from apr_dali.transforms.base import OfLevels, Seeded, is_plain_tensor

__all__ = [
    "FDA",
    "Afa",
    "AmplitudeMix",
    "AprPair",
    "AprSingle",
    "Augment",
    "Corrupt",
    "HybridAugment",
    "Prime",
    "RandConv",
    "SpectralGains",
    "VipAug",
]


class AprSingle(OfLevels):
    """APR-S: recombine an image with an augmented view of itself.

    Takes a PIL image (made RGB, see `apr_dali.data.image_file.to_rgb`), or a uint8 tensor (..., 3, H, W) on the CPU or
    a GPU; gives the same kind. Stands after the crop and before the conversion to float. In a batch each image has
    draws of its own. Labels, boxes and masks beside an image pass through, as in torchvision; a sample without an
    image, NumPy images, videos and further tensors of images are refused.

    Args:
        overflow: "wrap" as published or "clamp", see `apr_dali.single`.
        axes: "chw" or "hw", see `apr_dali.recombine`.
        seed: of this process; give each process of a distributed run another. None: torch's generator.
        backend: see `apr_dali.single`.
    """

    def __init__(
        self, overflow: str = "wrap", *, axes: str = "chw", seed: int | None = None, backend: str = "auto"
    ) -> None:
        super().__init__(seed)
        check_choice("overflow", overflow, OVERFLOWS)
        check_choice("axes", axes, AXES)
        check_backend(backend)
        self.overflow, self.axes, self.backend = overflow, axes, backend

    def of_batch(self, images: Any, seed: int) -> Any:
        batch, height, width = images.shape[:3]
        draws = SingleDraws.sample(batch, height, width, seed)
        return functional.single(images, draws, overflow=self.overflow, axes=self.axes, backend=self.backend)

    def extra_repr(self) -> str:
        return f"overflow={self.overflow}, axes={self.axes}, seed={self.seed}"


class Corrupt(OfLevels):
    """One corruption of ImageNet-C or C-bar at one severity, as `apr_dali.corrupt` has it.

    Takes and gives what `AprSingle` does; stands after the crop and before the conversion to float. In a batch each
    image has draws of its own.

    Args:
        name: one of `apr_dali.corruptions.NAMES`, `C_BAR` or `CIFAR_C_BAR`; the last with parameter_set="cifar".
        severity: 1 to 5.
        seed: of this process; give each process of a distributed run another. None: torch's generator.
        parameter_set: "imagenet", "cifar" or "tiny-imagenet".
        backend: see `apr_dali.corrupt`.
    """

    def __init__(
        self,
        name: str,
        severity: int,
        *,
        seed: int | None = None,
        parameter_set: str = "imagenet",
        backend: str = "auto",
    ) -> None:
        super().__init__(seed)
        find(name, severity, parameter_set)
        corruptions.check_options(backend)
        self.name, self.severity, self.parameter_set, self.backend = name, severity, parameter_set, backend

    def of_batch(self, images: Any, seed: int) -> Any:
        batch, height, width = images.shape[:3]
        draws = CorruptionDraws.sample(
            self.name, self.severity, batch, height, width, seed, parameter_set=self.parameter_set
        )
        return corruptions.corrupt(images, self.name, self.severity, draws, backend=self.backend)

    def extra_repr(self) -> str:
        return f"{self.name}, {self.severity}, parameter_set={self.parameter_set}, seed={self.seed}"


class AprPair(torch.nn.Module):
    """APR-P of a batch: each image keeps its phase and takes the amplitude of another one.

    Stands within `torch.compile` without a break of the graph, with the draws that it has outside. Where the coin
    chooses the number of rows, the graph has a size that is not known beforehand, which torch's inductor does not take
    before every network: `views="mixed"`, `repeat_unmixed=True`, or p = 1 make it known.

    Takes floating images (B, C, H, W), normalized as on ImageNet or in 0..1 as on CIFAR, and labels (B, ...), a tensor.
    views="both" gives the published pair of views, (2·B, C, H, W) and (2·B, ...), the clean and the mixed view of an
    image side by side. The published loss is the sum of the two views' mean losses, 2 times the mean over all rows; it
    is the same number where a batch that is left unmixed comes once, (B, C, H, W) and (B, ...). views="mixed" gives one
    view, and leaves labels of any kind as they are. Images that require their gradient are refused: there is none.

    Args:
        p: share of batches that are mixed, 0..1; the others are left as they are.
        axes: "chw" or "hw", see `apr_dali.recombine`.
        views: "both" or "mixed".
        seed: of this process; give each process of a distributed run another. None: torch's generator.
        backend: see `apr_dali.pair`.
        repeat_unmixed: give a batch that is left unmixed in both views, too.
        coin_seed: of the coin, the same in all processes, so that all mix at the same steps; None: the coin follows
            `seed`. In a worker of a DataLoader it follows the worker's seed too, as all draws do.
    """

    @renamed("probability", "p")
    def __init__(
        self,
        p: float = 0.5,
        *,
        axes: str = "chw",
        views: str = "both",
        seed: int | None = None,
        backend: str = "auto",
        repeat_unmixed: bool = False,
        coin_seed: int | None = None,
    ) -> None:
        super().__init__()
        check_share("p", p)
        check_choice("axes", axes, AXES)
        check_views(views, repeat_unmixed)
        if coin_seed is not None:
            check_whole("coin_seed", coin_seed, 0)
        check_backend(backend)
        self.p, self.axes, self.views, self.seed, self.backend = p, axes, views, seed, backend
        self.repeat_unmixed, self.coin_seed = repeat_unmixed, coin_seed
        self._draws, self._batches = Seeded(seed), 0
        self._number = torch_operators.register(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._number = torch_operators.register(self)

    def forward(self, images: Tensor, labels: Any) -> tuple[Tensor, Any]:
        """The batch in its views: floating images (V·B, C, H, W) and labels (V·B, ...), V 2, or 1 for one view.

        V is 1 too for a batch that is left unmixed, unless `repeat_unmixed`.
        """
        self._check(images, labels)
        if isinstance(images, tv_tensors.Image):
            mixed, labels = self(images.as_subclass(Tensor), labels)
            return tv_tensors.wrap(mixed, like=images), labels
        if torch.compiler.is_compiling():
            functional.check_no_gradient(images)
            mixed, index = torch_operators.pair(images, self._number, self.views_known() or 0)
            return mixed, labels if self.views == "mixed" else labels[index]
        views = self.views_of(images)
        rows = views.shape[1]
        return views.flatten(0, 1), labels if rows == 1 else labels.repeat_interleave(rows, dim=0)

    def views_of(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), float16, bfloat16, float32 or float64, in their views: (N, V, C, H, W) of that dtype."""
        functional.check_images(images)  # both raise for what cannot be, before it takes draws
        functional.check_no_gradient(images)
        draws = self._draw(len(images))
        both = self.views == "both" and (draws.mix or self.repeat_unmixed)
        dtype = str(images.dtype).removeprefix("torch.")
        mixed = functional.pair(
            images,
            draws.partner,
            draws.mix,
            dtype="float32" if dtype == "float64" else dtype,
            axes=self.axes,
            with_clean=both,
            backend=self.backend,
        ).to(images.dtype)
        return mixed if both else mixed[:, None]

    def views_known(self) -> int | None:
        """V of `views_of`; None where the coin chooses it."""
        if self.views == "mixed" or (self.p == 0 and not self.repeat_unmixed):
            return 1
        return 2 if self.repeat_unmixed or self.p == 1 else None

    def _draw(self, batch: int) -> PairDraws:
        draws = PairDraws.sample(batch, seed=self._draws.generator(), p=self.p)
        if self.coin_seed is None:
            return draws
        worker = get_worker_info()
        of_worker = () if worker is None else (worker.seed,)
        self._batches += 1
        return replace(draws, mix=coin_of(self.coin_seed, *of_worker, self._batches) < self.p)

    def draws_state(self) -> str:
        """Where the draws stand, as text: the generator of a `seed`, a `coin_seed` with the number of batches so far.

        Empty where torch's generator gives all of them.
        """
        place = {} if self.seed is None else dict(self._draws.generator().bit_generator.state)
        if self.coin_seed is not None:
            place["coin"] = [self.coin_seed, self._batches]
        return json.dumps(place) if place else ""

    def load_draws_state(self, state: str) -> None:
        """Go on drawing where `draws_state` was taken."""
        place = dict(json.loads(state or "{}"))
        coin = place.pop("coin", None)
        for name, there in (("seed", bool(place)), ("coin_seed", coin is not None)):
            if there != (getattr(self, name) is not None):
                raise InputError(
                    f"the state of AprPair's draws needs a pair with {'a' if there else 'no'} {name}, as the one that "
                    "it was taken of"
                )
        if place:
            self._draws.generator().bit_generator.state = place
        if coin is not None:
            self.coin_seed, self._batches = coin

    def _check(self, images: Any, labels: Any) -> None:
        batch = is_plain_tensor(images) or type(images) is tv_tensors.Image
        if not batch or images.ndim != 4 or not images.is_floating_point():
            got = f"{images.dtype} with the shape {tuple(images.shape)}" if batch else type(images).__name__
            raise InputError(
                "AprPair takes a batch of floating images (B, C, H, W), after the conversion to float; got " + got
            )
        if self.views == "both" and not (isinstance(labels, Tensor) and labels.shape[:1] == images.shape[:1]):
            got = f"a tensor {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise InputError(
                f"AprPair gives each label twice, for both views: expected a tensor ({len(images)}, ...), got {got}; "
                'make it a tensor, or take views="mixed", which leaves labels as they are'
            )

    def extra_repr(self) -> str:
        return f"p={self.p}, axes={self.axes}, views={self.views}, seed={self.seed}, coin_seed={self.coin_seed}"
