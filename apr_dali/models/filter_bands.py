"""Convolution filters in the frequency domain: radial bands, projections, and a convolution with learned bands.

Our reading of "Exploring Frequency Domain Interpretation of Convolutional Neural Networks" (arXiv 1911.12044). Its full
text was not available to us, and its authors call its main conclusion ambiguous: none of this reproduces it.

A filter is zero-padded to 32×32 and transformed. What a set of frequencies keeps of it, cropped back to its taps, is
a linear map of the taps, so a small symmetric matrix P: wᵀPw is the energy of w at these frequencies if w has energy
wᵀw, and the matrices of all bands sum to the identity. In training nothing is transformed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from apr_dali.errors import InputError

SIZE = 32
"""Height and width that filters are padded to."""
CUT = 0.25
"""In cycles per pixel: frequencies below are low."""
BANDS = 8

_HIGHEST = np.sqrt(0.5)
# Of the share of energy, so that rounding leaves each filter on its side of one half.
_MARGIN = 0.01
_BISECTIONS = 40


def radial_frequency(size: int = SIZE) -> NDArray[np.float64]:
    """|ω| in cycles per pixel, 0..√½, of each bin of a size×size DFT, zero frequency first: (size, size)."""
    along = np.fft.fftfreq(size)
    return np.hypot(along[:, None], along)


def band_of(frequency: NDArray[np.float64], bands: int = BANDS) -> NDArray[np.int64]:
    """The number of the band, 0..bands-1, that each radial frequency is in: rings of one width from 0 to √½."""
    return np.minimum((frequency / _HIGHEST * bands).astype(np.int64), bands - 1)


def tap_matrices(masks: NDArray[np.bool_], kernel: tuple[int, ...]) -> NDArray[np.float64]:
    """What each of the masks (B, size, size) over DFT bins keeps of a filter, as a matrix on its taps, row by row.

    Returns (B, h·w, h·w) for kernel = (h, w). The masks must be symmetric about zero frequency, as radial ones are.

    Raises:
        InputError: if the kernel is larger than the masks.
    """
    size = masks.shape[-1]
    if max(kernel) > size:
        raise InputError(f"filters of {kernel[0]}×{kernel[1]} pixels cannot be padded to {size}×{size}")
    correlation = np.fft.ifft2(masks).real
    y, x = (axis.reshape(-1) for axis in np.indices(kernel))
    return correlation[:, y[:, None] - y, x[:, None] - x]


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """Name and layer of the convolution that the model defines first; InputError if it has none."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            return name, layer
    raise InputError("the model has no convolution: it has no filters to look at")


# ---- a fixed proportion of low-pass filters --------------------------------------------------------------------------


class Projection:
    """The nearest filters of which a fixed proportion is low-frequency and the others are high-frequency.

    A filter is low-frequency if over one half of its energy, over all channels, is below CUT. The first
    round(proportion·N) of N filters are moved to where their share is at least 0.51, the others to at most 0.49, each
    by the least distance in its taps; those that are there already stay as they are.
    """

    def __init__(self, kernel: tuple[int, ...], filters: int, proportion: float) -> None:
        """kernel: height and width. proportion: 0..1. Raises InputError if no filter of that size can be so."""
        self.low = round(proportion * filters)
        (matrix,) = tap_matrices(radial_frequency()[None] < CUT, kernel)
        shares, basis = np.linalg.eigh(matrix)
        wanted = np.where(np.arange(filters) < self.low, 1.0, -1.0)[:, None]
        # Positive where a component of the filter helps.
        gains = wanted * (shares - 0.5) - _MARGIN
        stuck = gains.max(1) <= 0
        if stuck.any():
            side = "low" if self.low else "high"
            raise InputError(f"no filter of {kernel[0]}×{kernel[1]} pixels is {side}-frequency: choose another network")
        self._basis, self._gains = torch.from_numpy(basis), torch.from_numpy(gains)

    @torch.no_grad()
    def __call__(self, weight: Tensor) -> Tensor:
        """Filters (N, C, h, w) to the nearest allowed ones, same shape and dtype. All-zero filters stay.

        Minimizing |v − w|² with Σ gain·v² ≥ 0 in the basis of the shares gives v = w / (1 − μ·gain), μ ≥ 0 the least
        that is enough. A filter without any part on the wanted side stays short of it: none that was drawn at random.
        """
        basis, gains = self._basis.to(weight.device), self._gains.to(weight.device)
        parts = weight.double().flatten(2) @ basis
        energy = parts.square().sum(1)
        limit = gains.amax(1, keepdim=True).reciprocal()
        below, above = torch.zeros_like(limit), limit
        reached = (gains * energy).sum(1, keepdim=True) >= 0
        for _ in range(_BISECTIONS):
            middle = (below + above) / 2
            enough = (gains * energy / (1 - middle * gains).square()).sum(1, keepdim=True) >= 0
            below, above = torch.where(enough, below, middle), torch.where(enough, middle, above)
        multiplier = torch.where(reached, torch.zeros_like(above), below)
        moved = parts / (1 - multiplier * gains).unsqueeze(1)
        moved = torch.where(reached.unsqueeze(1), parts, moved) @ basis.T
        return torch.where(reached[:, :, None, None], weight, moved.view(weight.shape).to(weight.dtype))


def keep_proportion(model: nn.Module, optimizer: Optimizer, proportion: float) -> None:
    """Project the first layer's filters now and after each step of the optimizer; see `Projection`."""
    _, layer = first_convolution(model)
    projection = Projection(layer.kernel_size, layer.out_channels, proportion)

    def project(*_: object) -> None:
        layer.weight.data.copy_(projection(layer.weight.data))

    project()
    optimizer.register_step_post_hook(project)


# ---- a convolution with learned bands ------------------------------------------------------------------------------


class FrequencyModulatedConv2d(nn.Conv2d):
    """A convolution whose filters are W' = iDFT(|Ŵ|·√(g(|ω|)·(1 + ε))·e^{i∠Ŵ}), cropped to the kernel.

    Ŵ is the DFT of W zero-padded to SIZE. g ≥ 0 is learned, one number for each of BANDS rings of |ω|: the square of
    the parameter `root`. ε ~ U(−noise, noise), one number a ring and forward pass, in training only; it is drawn from
    (seed, number of the pass), and the number is part of the state dict, so that a resumed run goes on with the same
    draws. At g = 1 and ε = 0, its start, W' is W bit for bit.
    """

    def __init__(self, like: nn.Conv2d, noise: float = 0.0, seed: int = 0) -> None:
        """like: the convolution to take shape and weights from. noise: 0..1."""
        if not 0 <= noise <= 1:
            raise InputError(f"the noise of a modulated convolution must be in 0..1, got {noise}")
        super().__init__(**_arguments(like))
        with torch.no_grad():
            for own, given in zip(self.parameters(), like.parameters(), strict=True):
                own.copy_(given)
        self.noise, self.seed, self.passes = noise, seed, 0
        bands = np.arange(BANDS)[:, None, None] == band_of(radial_frequency())
        matrices = torch.from_numpy(tap_matrices(bands, self.kernel_size)).to(self.weight.dtype)
        self.root = nn.Parameter(torch.ones(BANDS))
        self.matrices: Tensor
        self.register_buffer("matrices", matrices, persistent=False)

    def modulated(self, epsilon: Tensor | None = None) -> Tensor:
        """The filters W', the shape of W. epsilon: (BANDS,), each at least −1; None for 0."""
        with torch.autocast(self.weight.device.type, enabled=False):
            factor = self.root.abs()
            if epsilon is not None:
                factor = factor * (1 + epsilon).sqrt()
            # What changes, and not all: the matrices' sum is the identity only up to rounding.
            change = torch.einsum("b,bij->ij", factor - 1, self.matrices)
            return self.weight + (self.weight.flatten(2) @ change).view_as(self.weight)

    def forward(self, images: Tensor) -> Tensor:
        epsilon = self._draw() if self.training and self.noise else None
        return self._conv_forward(images, self.modulated(epsilon), self.bias)

    @torch.compiler.disable
    def _draw(self) -> Tensor:
        drawn = np.random.default_rng([self.seed, self.passes]).uniform(-self.noise, self.noise, BANDS)
        self.passes += 1
        return torch.from_numpy(drawn).to(self.weight)

    def plain(self) -> nn.Conv2d:
        """The plain convolution with the filters W' at ε = 0."""
        made = nn.Conv2d(**_arguments(self))
        state = {"weight": self.modulated().detach(), **({} if self.bias is None else {"bias": self.bias.detach()})}
        made.load_state_dict(state)
        return made.to(self.weight.device).train(self.training)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.passes)

    def set_extra_state(self, state: Tensor) -> None:
        self.passes = int(state)


def modulate_first(model: nn.Module, noise: float = 0.0, seed: int = 0) -> None:
    """Put a FrequencyModulatedConv2d in the place of the model's first convolution."""
    name, layer = first_convolution(model)
    replace_layer(model, name, FrequencyModulatedConv2d(layer, noise, seed))


def export_plain(model: nn.Module) -> None:
    """Put a plain convolution in the place of each FrequencyModulatedConv2d; in eval mode the outputs stay."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, FrequencyModulatedConv2d):
            replace_layer(model, name, layer.plain())


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put `layer` in the place of the one called `name`."""
    owner, _, last = name.rpartition(".")
    setattr(model.get_submodule(owner), last, layer)


def _arguments(layer: nn.Conv2d) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return {**{name: getattr(layer, name) for name in names}, "bias": layer.bias is not None}
