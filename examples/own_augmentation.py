"""An augmentation of your own in one file: draws, definition, form in torch, record.

Spectral tilt: the amplitude of frequency k is multiplied with |k|^s, s normal, and the mean color stays: natural images
fall off as 1 / |k|, so that s > 0 makes them sharper and s < 0 softer.

    python examples/own_augmentation.py      shows that both forms agree, on a photograph
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.augmentations import Augmentation, Draws, Recipe, Shape, apply, register


# 1. Every random choice as data, by one method `draw`.
@dataclass(frozen=True, eq=False)
class TiltDraws(Draws):
    """slope: float64 (N,), s."""

    slope: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.check_shapes(slope=(len(self),))

    def __len__(self) -> int:
        return len(self.slope)

    @classmethod
    def draw(cls, generator: np.random.Generator, shape: Shape, *, deviation: float = 0.3) -> TiltDraws:
        return cls(shape.height, shape.width, shape.channels, generator.normal(0, deviation, shape.batch))


# 2. What it means, as the formula says it: NumPy, float64, the full spectrum, one image after another.
def define(images: NDArray[np.float64], draws: TiltDraws) -> NDArray[np.float64]:
    rows, columns = (size * np.fft.fftfreq(size) for size in images.shape[-2:])
    norm = np.hypot(rows[:, None], columns)
    norm[0, 0] = 1  # the mean color stays
    out = np.empty_like(images)
    for n, image in enumerate(images):
        out[n] = np.fft.ifft2(norm ** draws.slope[n] * np.fft.fft2(image)).real
    return out


# 3. The same in torch, fast: half spectra, a batch at once, on the device and in the dtype of the images.
def torch_form(images: Tensor, draws: TiltDraws) -> Tensor:
    height, width = images.shape[-2:]
    rows = height * torch.fft.fftfreq(height, dtype=images.dtype, device=images.device)
    columns = width * torch.fft.rfftfreq(width, dtype=images.dtype, device=images.device)
    norm = torch.hypot(rows[:, None], columns)
    norm[0, 0] = 1
    slope = torch.as_tensor(draws.slope, dtype=images.dtype, device=images.device)[:, None, None, None]
    return torch.fft.irfft2(norm**slope * torch.fft.rfft2(images), s=(height, width))


# 4. The record: from here on it has a name, in `apply`, in `transforms.Augment`, wherever an augmentation is asked for.
TILT = register(
    Augmentation(
        name="tilt",
        paper="nowhere: an example",
        equation="x' = iF(|k|^s·F(x)), s ~ N(0, 0.3²)",
        source="this file",
        draws=TiltDraws,
        define=define,
        torch_form=torch_form,
        recipes=(Recipe("cifar10", {"deviation": 0.3}),),
    )
)


def largest_difference(images: NDArray[np.uint8]) -> int:
    """Gray levels between both forms, on uint8 images (N, H, W, 3)."""
    draws = TILT.sample(len(images), *images.shape[1:3], seed=0)
    fast, slow = (apply("tilt", images, draws, backend=backend) for backend in ("torch", "reference"))
    return int(np.abs(fast.astype(int) - slow).max())


if __name__ == "__main__":
    from skimage import data

    print(f"gray levels between the two forms: {largest_difference(data.astronaut()[None, :128, 150:278])}")
