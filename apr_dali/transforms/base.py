"""What the transforms have in common: where their draws come from, and what of a sample is an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision import tv_tensors
from torchvision.transforms import v2

from apr_dali.data.image_file import to_rgb
from apr_dali.errors import InputError
from apr_dali.functional import check_no_gradient
from apr_dali.kernels import arrays
from apr_dali.runtime import torch_operators


class Seeded:
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


class OfLevels(v2.Transform):
    """A transform of uint8 images by `of_batch`, seeded: what those of images one by one have in common."""

    takes = "PIL images or one uint8 tensor (..., 3, H, W)"

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self.seed = seed
        self._draws, self._number = Seeded(seed), torch_operators.register(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._number = torch_operators.register(self)

    def forward(self, *inputs: Any) -> Any:
        """As of torchvision's transforms; within `torch.compile` a tensor by itself goes through in one operator."""
        if torch.compiler.is_compiling() and len(inputs) == 1 and is_plain_tensor(inputs[0]):
            check_no_gradient(inputs[0])
            return torch_operators.change(inputs[0], self._number)
        return super().forward(*inputs)

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Raise InputError for a sample without an image, and for one with images that would pass through."""
        images = [inpt for inpt in flat_inputs if isinstance(inpt, (Image.Image, tv_tensors.Image))]
        plain = list(filter(is_plain_tensor, flat_inputs))
        # Without an image the first plain tensor is one, as for all of torchvision's transforms.
        passed = [inpt for inpt in flat_inputs if isinstance(inpt, (np.ndarray, tv_tensors.Video))]
        passed += plain if images else plain[1:]
        if not (images or plain) or self.passed_images(passed):
            found = ", ".join(type(inpt).__name__ for inpt in flat_inputs) or "nothing"
            raise InputError(
                f"{type(self).__name__} takes {self.takes}, got {found}; a NumPy image is "
                "torch.from_numpy(image).permute(2, 0, 1), several tensors or the frames of a video are stacked in one"
            )
        for tensor in filter(torch.is_tensor, images or plain[:1]):
            arrays.device_of(tensor.as_subclass(Tensor))  # both raise for what cannot be, before it takes draws
            check_no_gradient(tensor)

    def passed_images(self, passed: list[Any]) -> bool:
        """Whether an image is among the parts of a sample that would pass through."""
        return any(map(_is_image, passed))

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002 - torchvision's signature
        """A seed for the images of one sample."""
        return {"seed": int(self._draws.generator().integers(2**63))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image, or a uint8 tensor (..., 3, H, W), changed; anything else as it is."""
        if isinstance(inpt, Image.Image):
            self.check_pixels(inpt.height, inpt.width)
            return Image.fromarray(self.of_batch(np.asarray(to_rgb(inpt))[None], params["seed"])[0])
        if not is_plain_tensor(inpt) and not isinstance(inpt, tv_tensors.Image):
            return inpt  # a box, a mask
        self.check_tensor(inpt)
        self.check_pixels(*inpt.shape[-2:])
        batch = inpt.reshape(-1, *inpt.shape[-3:])
        out = self.of_planes(batch.as_subclass(Tensor), params["seed"]).reshape(inpt.shape)
        return tv_tensors.wrap(out, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else out

    def check_tensor(self, tensor: Tensor) -> None:
        """Raise InputError for a tensor that is no uint8 (..., 3, H, W)."""
        if tensor.dtype != torch.uint8 or tensor.ndim < 3 or tensor.shape[-3] != 3:
            raise InputError(
                f"{type(self).__name__} takes PIL images or uint8 tensors (..., 3, H, W), before the conversion to "
                f"float; got {tensor.dtype} with the shape {tuple(tensor.shape)}"
            )

    def check_pixels(self, height: int, width: int) -> None:
        """Raise InputError for an image without a pixel."""
        if 0 in (height, width):
            name = type(self).__name__
            raise InputError(f"{name} takes images of at least one pixel, got height {height} and width {width}")

    def of_planes(self, batch: Tensor, seed: int) -> Tensor:
        """The result for a tensor of a dtype that `check_tensor` lets pass, (N, C, H, W), as the same."""
        out: Tensor = self.of_batch(batch.permute(0, 2, 3, 1), seed).permute(0, 3, 1, 2)
        return out

    def of_batch(self, images: Any, seed: int) -> Any:
        """The result for uint8 (N, H, W, 3), an array or a tensor, as the same."""
        raise NotImplementedError


def is_plain_tensor(value: Any) -> bool:
    """Whether torchvision takes a tensor for an image or a label by its place alone."""
    return isinstance(value, Tensor) and not isinstance(value, tv_tensors.TVTensor)


def _is_image(value: Any) -> bool:
    """Whether a part of a sample that torchvision would pass through is an image all the same."""
    if isinstance(value, tv_tensors.Video):
        return True
    array = isinstance(value, np.ndarray) or is_plain_tensor(value)
    levels = array and value.ndim >= 3 and str(value.dtype).endswith("uint8")
    return levels and 3 in (value.shape[-1], value.shape[-3])
