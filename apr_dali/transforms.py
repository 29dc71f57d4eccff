"""APR and ImageNet-C's corruptions as torchvision v2 transforms, for people without DALI: the same operators, seeded.

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

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision import tv_tensors
from torchvision.transforms import v2

from apr_dali import functional
from apr_dali.corruptions import CorruptionDraws, find
from apr_dali.data.image_file import to_rgb
from apr_dali.draws import PairDraws, SingleDraws, coin_of
from apr_dali.errors import InputError, check_choice, check_share, check_whole
from apr_dali.kernels import corruptions
from apr_dali.kernels.dispatch import check_backend
from apr_dali.recipes import check_views
from apr_dali.runtime import torch_operators
from apr_dali.runtime.deprecation import renamed
from apr_dali.spectral import AXES, OVERFLOWS


class _Seeded:
    """A NumPy generator for this process or `DataLoader` worker."""

    def __init__(self, seed: int | None) -> None:
        whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool) and seed >= 0
        if seed is not None and not whole:
            raise InputError(f"seed must be a whole number from 0 on, or None for torch's generator, got {seed!r}")
        self._seed = seed
        self._key: tuple[int, ...] = ()

    def generator(self) -> np.random.Generator:
        if self._seed is None:
            return np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        worker = get_worker_info()
        key = (self._seed,) if worker is None else (self._seed, worker.seed)
        if key != self._key:
            self._key, self._generator = key, np.random.default_rng(key)
        return self._generator


class _OfLevels(v2.Transform):
    """A transform of uint8 images by `_of_batch`, seeded: what `AprSingle` and `Corrupt` have in common."""

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self.seed = seed
        self._draws, self._number = _Seeded(seed), torch_operators.register(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._number = torch_operators.register(self)

    def forward(self, *inputs: Any) -> Any:
        """As of torchvision's transforms; within `torch.compile` a tensor by itself goes through in one operator."""
        if torch.compiler.is_compiling() and len(inputs) == 1 and _is_plain_tensor(inputs[0]):
            return torch_operators.change(inputs[0], self._number)
        return super().forward(*inputs)

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Raise InputError for a sample without an image, and for one with images that would pass through."""
        images = [inpt for inpt in flat_inputs if isinstance(inpt, (Image.Image, tv_tensors.Image))]
        plain = list(filter(_is_plain_tensor, flat_inputs))
        # Without an image the first plain tensor is one, as for all of torchvision's transforms.
        passed = [inpt for inpt in flat_inputs if isinstance(inpt, (np.ndarray, tv_tensors.Video))]
        passed += plain if images else plain[1:]
        if not (images or plain) or any(map(_is_image, passed)):
            found = ", ".join(type(inpt).__name__ for inpt in flat_inputs) or "nothing"
            raise InputError(
                f"{type(self).__name__} takes PIL images or one uint8 tensor (..., 3, H, W), got {found}; a NumPy "
                "image is torch.from_numpy(image).permute(2, 0, 1), several tensors or the frames of a video are "
                "stacked in one"
            )

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002 - torchvision's signature
        """A seed for the images of one sample."""
        return {"seed": int(self._draws.generator().integers(2**63))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image, or a uint8 tensor (..., 3, H, W), changed; anything else as it is."""
        if isinstance(inpt, Image.Image):
            self._check_pixels(inpt.height, inpt.width)
            return Image.fromarray(self._of_batch(np.asarray(to_rgb(inpt))[None], params["seed"])[0])
        if not _is_plain_tensor(inpt) and not isinstance(inpt, tv_tensors.Image):
            return inpt  # a box, a mask
        if inpt.dtype != torch.uint8 or inpt.ndim < 3 or inpt.shape[-3] != 3:
            raise InputError(
                f"{type(self).__name__} takes PIL images or uint8 tensors (..., 3, H, W), before the conversion to "
                f"float; got {inpt.dtype} with the shape {tuple(inpt.shape)}"
            )
        self._check_pixels(*inpt.shape[-2:])
        batch = inpt.reshape(-1, *inpt.shape[-3:]).permute(0, 2, 3, 1)
        out = self._of_batch(batch.as_subclass(Tensor), params["seed"]).permute(0, 3, 1, 2).reshape(inpt.shape)
        return tv_tensors.wrap(out, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else out

    def _check_pixels(self, height: int, width: int) -> None:
        if 0 in (height, width):
            name = type(self).__name__
            raise InputError(f"{name} takes images of at least one pixel, got height {height} and width {width}")

    def _of_batch(self, images: Any, seed: int) -> Any:
        """The result for uint8 (N, H, W, 3), an array or a tensor, as the same."""
        raise NotImplementedError


class AprSingle(_OfLevels):
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

    def _of_batch(self, images: Any, seed: int) -> Any:
        batch, height, width = images.shape[:3]
        draws = SingleDraws.sample(batch, height, width, seed)
        return functional.single(images, draws, overflow=self.overflow, axes=self.axes, backend=self.backend)

    def extra_repr(self) -> str:
        return f"overflow={self.overflow}, axes={self.axes}, seed={self.seed}"


class Corrupt(_OfLevels):
    """One corruption of ImageNet-C at one severity, as `apr_dali.corrupt` has it.

    Takes and gives what `AprSingle` does; stands after the crop and before the conversion to float. In a batch each
    image has draws of its own.

    Args:
        name: one of `apr_dali.corruptions.NAMES`.
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

    def _of_batch(self, images: Any, seed: int) -> Any:
        batch, height, width = images.shape[:3]
        draws = CorruptionDraws.sample(
            self.name, self.severity, batch, height, width, seed, parameter_set=self.parameter_set
        )
        return corruptions.corrupt(images, self.name, self.severity, draws, backend=self.backend)

    def extra_repr(self) -> str:
        return f"{self.name}, {self.severity}, parameter_set={self.parameter_set}, seed={self.seed}"


def _is_plain_tensor(value: Any) -> bool:
    """Whether torchvision takes a tensor for an image or a label by its place alone."""
    return isinstance(value, Tensor) and not isinstance(value, tv_tensors.TVTensor)


def _is_image(value: Any) -> bool:
    """Whether a part of a sample that torchvision would pass through is an image all the same."""
    if isinstance(value, tv_tensors.Video):
        return True
    array = isinstance(value, np.ndarray) or _is_plain_tensor(value)
    levels = array and value.ndim >= 3 and str(value.dtype).endswith("uint8")
    return levels and 3 in (value.shape[-1], value.shape[-3])


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
        self._draws, self._batches = _Seeded(seed), 0
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
        functional.check_no_gradient(images)
        if torch.compiler.is_compiling():
            mixed, index = torch_operators.pair(images, self._number)
            return mixed, labels if self.views == "mixed" else labels[index]
        views = self.views_of(images)
        rows = views.shape[1]
        return views.flatten(0, 1), labels if rows == 1 else labels.repeat_interleave(rows, dim=0)

    def views_of(self, images: Tensor) -> Tensor:
        """Floating images (N, C, H, W) in their views: (N, V, C, H, W)."""
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
        batch = _is_plain_tensor(images) or type(images) is tv_tensors.Image
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
