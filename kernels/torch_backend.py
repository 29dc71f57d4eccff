"""The operators in plain torch, on the CPU or a CUDA device: the fallback that runs everywhere.

Tensors in, tensors out, on the device and stream of the input. The mathematics is that of
`apr_dali.spectral`, on half spectra: for real images F_i·|F_j| / |F_i| equals the published
|F_j|·exp(i·∠F_i) and needs neither arctangent nor exponential. Arguments are checked in `apr_dali.functional`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from apr_dali.draws import OPERATIONS, SingleDraws
from apr_dali.kernels.arrays import torch_dtype
from apr_dali.kernels.protocol import PairTask
from apr_dali.kernels.torch_copies import put
from apr_dali.kernels.torch_spectrum import give_amplitude, half_spectrum, inverse
from apr_dali.pillow_ops import TABLE_OPERATIONS

# Values transformed together on the CPU, two images of 224: their spectra stay in the cache, which is worth a
# factor of three.
_CPU_CHUNK_VALUES = 3 * 224 * 224 * 2


def check() -> tuple[bool, str]:
    """Whether this backend can run here, and why not."""
    return True, f"torch {torch.__version__}"


def _chunks(x: Tensor) -> list[slice]:
    if not len(x):
        return []
    if x.is_cuda:
        return [slice(0, len(x))]
    step = max(1, _CPU_CHUNK_VALUES // max(1, x[0].numel()))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def recombine(phase_of: Tensor, amplitude_of: Tensor, axes: str) -> Tensor:
    """See `apr_dali.recombine`; floating tensors (N, C, H, W), the result in their dtype."""
    height, width = phase_of.shape[-2:]
    out = torch.empty_like(phase_of, memory_format=torch.contiguous_format)
    # torch transforms no bfloat16, and float16 only for some sizes on a GPU.
    kind = torch.float64 if phase_of.dtype == torch.float64 else torch.float32
    for part in _chunks(phase_of):
        half = half_spectrum(phase_of[part].to(kind), axes)
        given = half_spectrum(amplitude_of[part].to(kind), axes).abs()
        out[part] = inverse(give_amplitude(half, half.abs(), given), height, width, axes)
    return out


def _recombine_within(x: Tensor, partner: Tensor, axes: str) -> Iterator[tuple[slice, Tensor]]:
    """recombine(x, x[partner]) part by part, transforming each image once."""
    height, width = x.shape[-2:]
    parts = _chunks(x)
    halves = [half_spectrum(x[part], axes) for part in parts]
    amplitudes = torch.empty(len(x), *halves[0].shape[1:], dtype=x.dtype, device=x.device)
    for part, half in zip(parts, halves, strict=True):
        torch.abs(half, out=amplitudes[part])
    for part, half in zip(parts, halves, strict=True):
        given = amplitudes[partner[part]]
        yield part, inverse(give_amplitude(half, amplitudes[part], given), height, width, axes)


def _to_planes(images: Tensor) -> Tensor:
    """uint8 (N, H, W, C) or floating (N, C, H, W) as contiguous float32 (N, C, H, W)."""
    x = images.permute(0, 3, 1, 2) if images.dtype == torch.uint8 else images
    return x.to(torch.float32).contiguous()


def _scaled(x: Tensor, scale: np.ndarray, bias: np.ndarray) -> Tensor:
    if np.all(scale == 1) and np.all(bias == 0):
        return x
    factor, offset = (put(v, x.device, x.dtype).view(-1, 1, 1) for v in (scale, bias))
    return torch.addcmul(offset, x, factor)


def pair(task: PairTask) -> Tensor:
    """See `apr_dali.pair`."""
    x = _scaled(_to_planes(task.images), task.in_scale, task.in_bias)
    out: Tensor = task.planes_of(torch.empty(task.out_shape, dtype=torch_dtype(task.dtype), device=x.device))
    mixed = out[:, -1] if task.with_clean else out
    if task.with_clean or not task.mix:
        clean = _scaled(x, task.out_scale, task.out_bias)
        out[:] = clean[:, None] if task.with_clean else clean
    if task.mix and len(x):
        for part, values in _recombine_within(x, put(task.partner, x.device), task.axes):
            mixed[part] = _scaled(values, task.out_scale, task.out_bias)
    return out


def two_views(images: Tensor, draws: SingleDraws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """uint8 (N, H, W, 3) after the first operation; the K images that are mixed, by number, int64 (K,); those after the
    second operation on top, uint8 (K, H, W, 3); and whether that gives the amplitude, bool (K, 1, 1, 1)."""
    first = operate(images, draws.operation[:, 0], draws.parameters[:, 0])
    chosen = np.flatnonzero(draws.mix)
    where = put(chosen, images.device)
    second = operate(first[where], draws.operation[chosen, 1], draws.parameters[chosen, 1])
    swap = put(draws.amplitude_of_second[chosen], images.device)[:, None, None, None]
    return first, where, second, swap


def single(images: Tensor, draws: SingleDraws, overflow: str, axes: str) -> Tensor:
    """See `apr_dali.single`; uint8 (N, H, W, 3)."""
    first, where, second, swap = two_views(images, draws)
    if not len(where):
        return first
    own = first[where]
    phase_of, amplitude_of = torch.where(swap, own, second), torch.where(swap, second, own)
    mixed = recombine(_to_planes(phase_of), _to_planes(amplitude_of), axes)
    first[where] = to_levels(mixed, overflow).permute(0, 2, 3, 1)
    return first


def to_levels(values: Tensor, overflow: str) -> Tensor:
    if overflow == "wrap":
        # By way of int32: float to uint8 is undefined outside 0..255.
        return values.to(torch.int32).to(torch.uint8)
    return values.round_().clamp_(0, 255).to(torch.uint8)


def operate(images: Tensor, operation: np.ndarray, parameters: np.ndarray) -> Tensor:
    """One operation an image, uint8 (N, H, W, 3), by rows of `SingleDraws`; those of one kind are done together."""
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for index in np.unique(operation):
        chosen = np.flatnonzero(operation == index)
        where = put(chosen, images.device)
        rows = put(parameters[chosen], images.device)
        name = OPERATIONS[index]
        if name in TABLE_OPERATIONS:
            out[where] = _look_up(images[where], name, rows[:, 0])
            continue
        for part in _chunks(images[where]):
            out[where[part]] = _warp(images[where[part]], rows[part])
    return out


def _look_up(images: Tensor, name: str, parameter: Tensor) -> Tensor:
    n, height, width, channels = images.shape
    levels = images.permute(0, 3, 1, 2).reshape(n, channels, -1).to(torch.int64)
    identity = torch.arange(256, device=images.device)
    if name == "autocontrast":
        tables = _autocontrast_tables(levels, identity)
    elif name == "equalize":
        tables = _equalize_tables(levels, identity)
    elif name == "posterize":
        masks = 256 - 2 ** (8 - parameter.to(torch.int64))
        tables = (identity & masks[:, None, None]).expand(n, channels, 256)
    else:
        tables = torch.where(identity < parameter[:, None, None], identity, 255 - identity).expand(n, channels, 256)
    out = tables.to(torch.uint8).gather(2, levels)
    return out.view(n, channels, height, width).permute(0, 2, 3, 1)


def _autocontrast_tables(levels: Tensor, identity: Tensor) -> Tensor:
    low, high = levels.amin(-1, keepdim=True), levels.amax(-1, keepdim=True)
    # A number over a tensor would be its reciprocal times the number, which rounds twice.
    scale = torch.full((), 255.0, dtype=torch.float64, device=levels.device) / (high - low)
    # Two roundings, product then sum, like Pillow: no addcmul here.
    stretched = (identity * scale + -low * scale).nan_to_num(0).clamp(0, 255).to(torch.int64)
    return torch.where(high > low, stretched, identity)


def _equalize_tables(levels: Tensor, identity: Tensor) -> Tensor:
    histogram = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, torch.ones_like(levels))
    last = histogram.gather(2, levels.amax(-1, keepdim=True))
    step = (levels.shape[-1] - last) // 255
    below = histogram.cumsum(-1) - histogram
    flat = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, flat, identity)


def _warp(images: Tensor, matrix: Tensor) -> Tensor:
    """`pillow_ops.affine` of uint8 (N, H, W, C), one row (6,) of float64 coefficients per image."""
    n, height, width, channels = images.shape
    a, b, c, d, e, f = (matrix[:, k, None, None] for k in range(6))
    x = torch.arange(width, dtype=torch.float64, device=images.device) + 0.5
    y = torch.arange(height, dtype=torch.float64, device=images.device)[:, None] + 0.5
    source_x, source_y = a * x + b * y + c, d * x + e * y + f
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    source_x, source_y = source_x - 0.5, source_y - 0.5
    left, top = source_x.floor(), source_y.floor()
    dx, dy = (source_x - left)[..., None], (source_y - top)[..., None]
    left, top = left.to(torch.int64), top.to(torch.int64)
    flat = images.reshape(n, height * width, channels)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        picked = flat.gather(1, index.view(n, -1, 1).expand(-1, -1, channels))
        return picked.view(images.shape).to(torch.float64)

    upper, lower = at(top, left), at(top + 1, left)
    upper = upper + (at(top, left + 1) - upper) * dx
    lower = lower + (at(top + 1, left + 1) - lower) * dx
    value = upper + (lower - upper) * dy
    return torch.where(inside[..., None], value, 0).to(torch.uint8)
