"""APR-S and APR-P as operators of a DALI graph, for any `@pipeline_def`.

Each is one call a batch of the backend inside `fn.python_function`, on the executor's thread (CPU) or on DALI's
stream (GPU). The random numbers come from DALI's own operators, so that they follow the pipeline's seed and are
part of its checkpoints; the functions themselves hold no state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from apr_dali import functional
from apr_dali.draws import UNIFORMS_PER_IMAGE, SingleDraws
from apr_dali.kernels import dispatch
from apr_dali.kernels.cuda import backend as cupy_backend


def apr_single(
    images: DataNode,
    overflow: str = "wrap",
    axes: str = "chw",
    backend: str = "auto",
    threads: int | None = None,
    draws: DataNode | None = None,
) -> DataNode:
    """APR-S in a DALI graph: uint8 HWC images of one size to the same; see `apr_dali.single`.

    draws: of `draw_single`, where something else follows them too; else they are drawn here.
    """
    function = partial(_single_batch, overflow=overflow, axes=axes, backend=backend, threads=threads)
    return _call(function, images, draw_single() if draws is None else draws, layout="HWC")


def draw_single() -> DataNode:
    """The draws of `apr_single`, an image: float (8,) in 0..1, what `SingleDraws.from_uniform` takes."""
    return fn.random.uniform(range=(0.0, 1.0), shape=(UNIFORMS_PER_IMAGE,))


def apr_pair(
    images: DataNode,
    probability: float = 0.5,
    in_scale: ArrayLike = 1.0,
    in_bias: ArrayLike = 0.0,
    out_scale: ArrayLike = 1.0,
    out_bias: ArrayLike = 0.0,
    dtype: str = "float32",
    axes: str = "chw",
    views: str = "both",
    backend: str = "auto",
    threads: int | None = None,
    intermediates: str = "float32",
    draws: tuple[DataNode, DataNode] | None = None,
) -> DataNode:
    """APR-P in a DALI graph: one coin and one permutation a batch; see `apr_dali.pair`.

    Args:
        images: uint8 HWC or float CHW, all of one size.
        probability: share of batches that are mixed.
        dtype: float32 or float16; DALI has no bfloat16.
        views: "both" gives (2, C, H, W) an image, the clean view first; "mixed" gives (C, H, W).
        draws: of `draw_pair`, where something else follows them too; else they are drawn here.

    The other arguments are those of `apr_dali.pair`.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in 0..1, got {probability}")
    partner, coin = draws or draw_pair()
    function = partial(
        _pair_batch,
        probability=probability,
        in_scale=in_scale,
        in_bias=in_bias,
        out_scale=out_scale,
        out_bias=out_bias,
        dtype=dtype,
        axes=axes,
        views=views,
        backend=backend,
        threads=threads,
        intermediates=intermediates,
    )
    # One input: on a GPU DALI hands over each sample of each input by itself, for about 5 µs.
    together = fn.stack(fn.cast(partner, dtype=types.FLOAT), coin)
    return _call(function, images, together, layout="FCHW" if views == "both" else "CHW")


def draw_pair() -> tuple[DataNode, DataNode]:
    """The draws of `apr_pair` for a batch: each image's partner, and the coin."""
    return fn.batch_permutation(), fn.random.uniform(range=(0.0, 1.0))


def amplitudes_of(numbers: DataNode, draws: tuple[DataNode, DataNode], probability: float) -> DataNode:
    """Number of the image that each mixed view has its amplitude from; its own where the batch is not mixed.

    numbers: int32 (1,) an image, on the CPU. draws, probability: those that `apr_pair` was given.
    """
    partner, coin = draws
    # As in _pair_batch, the first image's coin is the batch's.
    mixed = fn.cast(fn.permute_batch(coin, indices=0 * partner) < probability, dtype=types.INT32)
    return mixed * fn.permute_batch(numbers, indices=partner) + (1 - mixed) * numbers


def _call(function: Callable[..., list[Any]], images: DataNode, *draws: DataNode, layout: str) -> DataNode:
    on_gpu = images.device == "gpu"
    return fn.python_function(
        images,
        *(draw.gpu() if on_gpu else draw for draw in draws),
        function=function,
        device=images.device,
        batch_processing=True,
        output_layouts=[layout],
    )


def _single_batch(samples: Sequence[Any], uniform: Sequence[Any], backend: str, **options: Any) -> list[Any]:
    images = as_one_array(samples)
    height, width = images.shape[1:3]
    draws = _decoded(as_one_array(uniform), height, width, backend)
    return list(functional.single(images, draws, backend=backend, **options))


def _decoded(uniform: Any, height: int, width: int, backend: str) -> SingleDraws | cupy_backend.DeviceDraws:
    if isinstance(uniform, np.ndarray):
        return SingleDraws.from_uniform(uniform, height, width)
    if dispatch.choose(backend, "cuda") == "cupy":
        return cupy_backend.decode(uniform, height, width)
    return SingleDraws.from_uniform(uniform.get(), height, width)  # synchronises


def _pair_batch(samples: Sequence[Any], drawn: Sequence[Any], probability: float, **options: Any) -> list[Any]:
    """drawn: float (2,) an image, its partner and its coin."""
    draws = as_one_array(drawn)
    # Every image has a coin, since DALI draws by the image; the first one's is the batch's. On the GPU it stays there.
    mix = draws[:1, 1].astype(np.float64) < probability
    return list(functional.pair(as_one_array(samples), draws[:, 0].astype(np.int32), mix, **options))


def as_one_array(samples: Sequence[Any]) -> Any:
    """The samples of a batch as one array (N, ...): a view where they lie end to end in memory, else a copy."""
    first = samples[0]
    shapes = {tuple(sample.shape) for sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"the images of a batch must have one size, got {', '.join(map(str, sorted(shapes)))}")
    start = _address(first)
    packed = first.flags.c_contiguous and all(
        _address(sample) == start + index * first.nbytes for index, sample in enumerate(samples)
    )
    if not packed:
        return _library(first).stack(list(samples))
    shape, strides = (len(samples), *first.shape), (first.nbytes, *first.strides)
    return _library(first).lib.stride_tricks.as_strided(first, shape, strides)


def _library(array: Any) -> ModuleType:
    if isinstance(array, np.ndarray):
        return np
    import cupy

    return cupy


def _address(array: Any) -> int:
    if isinstance(array, np.ndarray):
        return int(array.__array_interface__["data"][0])
    return int(array.data.ptr)
