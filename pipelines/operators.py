"""APR-S, APR-P and ImageNet-C's corruptions as operators of a DALI graph, for any `@pipeline_def`.

Each is one call of the backend per batch. The random numbers come from DALI's own operators, so that they follow the
pipeline's seed and are part of its checkpoints; the functions themselves are pure.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from apr_dali import functional
from apr_dali.corruptions import CorruptionDraws, find
from apr_dali.draws import UNIFORMS_PER_IMAGE, SingleDraws
from apr_dali.errors import InputError, check_choice, check_share, check_whole
from apr_dali.functional import check_pair_options
from apr_dali.kernels import corruptions, dispatch
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.pipelines.per_batch import per_batch
from apr_dali.recipes import VIEWS
from apr_dali.runtime.deprecation import renamed
from apr_dali.spectral import AXES, OVERFLOWS

DTYPES = ("float32", "float16")
"""What DALI has of the types of `apr_dali.pair`."""


def apr_single(
    images: DataNode,
    *,
    overflow: str = "wrap",
    axes: str = "chw",
    backend: str = "auto",
    threads: int | None = None,
    draws: DataNode | None = None,
) -> DataNode:
    """APR-S in a DALI graph: uint8 HWC images of one size to the same; see `apr_dali.single`.

    draws: of `draw_single`, where something else follows them too; else they are drawn here.
    """
    check_choice("overflow", overflow, OVERFLOWS)
    check_choice("axes", axes, AXES)
    dispatch.check_backend(backend, threads)
    function = partial(_single_batch, overflow=overflow, axes=axes, backend=backend, threads=threads)
    return per_batch(function, images, draw_single() if draws is None else draws, layout="HWC")


def draw_single() -> DataNode:
    """The draws of `apr_single`, an image: float (8,) in 0..1, what `SingleDraws.from_uniform` takes."""
    return fn.random.uniform(range=(0.0, 1.0), shape=(UNIFORMS_PER_IMAGE,))


@renamed("probability", "p")
def apr_pair(
    images: DataNode,
    p: float = 0.5,
    *,
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
    """APR-P in a DALI graph: one coin and one permutation per batch; see `apr_dali.pair`.

    Args:
        images: uint8 HWC or float CHW, all of one size.
        p: share of batches that are mixed, 0..1.
        dtype: float32 or float16; DALI has no bfloat16.
        views: "both" gives (2, C, H, W) per image, the clean view first; "mixed" gives (C, H, W).
        draws: of `draw_pair`, where something else follows them too; else they are drawn here.

    The other arguments are those of `apr_dali.pair`.
    """
    check_share("p", p)
    check_choice("dtype", dtype, DTYPES)
    check_choice("views", views, VIEWS)
    check_pair_options(dtype=dtype, axes=axes, intermediates=intermediates)
    dispatch.check_backend(backend, threads)
    partner, coin = draws or draw_pair()
    function = partial(
        _pair_batch,
        p=p,
        in_scale=in_scale,
        in_bias=in_bias,
        out_scale=out_scale,
        out_bias=out_bias,
        dtype=dtype,
        axes=axes,
        with_clean=views == "both",
        backend=backend,
        threads=threads,
        intermediates=intermediates,
    )
    # One input: DALI hands over each sample of each input by itself.
    together = fn.stack(fn.cast(partner, dtype=types.FLOAT), coin)
    return per_batch(function, images, together, layout="FCHW" if views == "both" else "CHW")


def draw_pair() -> tuple[DataNode, DataNode]:
    """The draws of `apr_pair` for a batch: each image's partner, and the coin."""
    return fn.batch_permutation(), fn.random.uniform(range=(0.0, 1.0))


def corrupt(
    images: DataNode,
    name: str,
    severity: int,
    *,
    seed: int = 0,
    numbers: DataNode | None = None,
    parameter_set: str = "imagenet",
    backend: str = "auto",
    threads: int | None = None,
) -> DataNode:
    """A corruption of ImageNet-C in a DALI graph: uint8 HWC images of one size to the same; see `apr_dali.corrupt`.

    Args:
        images: on the CPU; they may go to a GPU after it.
        name, severity, parameter_set: see `apr_dali.CorruptionDraws.sample`.
        seed: the draws of an image depend on it, on the image's number, the name and the severity.
        numbers: int32 or int64 (1,) per image, on the CPU, from 0 on: whatever tells the images apart, so that each has
            the same draws in every batch and epoch. None: DALI draws them, by the pipeline's seed.
    """
    find(name, severity, parameter_set)
    corruptions.check_options(backend, threads)
    check_whole("seed", seed, 0, 2**64 - 1)
    if images.device == "gpu":
        raise InputError(f"{name} runs on the CPU, got images on the GPU: corrupt them before they go there")
    if numbers is None:
        numbers = fn.random.uniform(range=(0.0, 2.0**31 - 1), dtype=types.INT64)
    function = partial(
        _corrupted_batch,
        name=name,
        severity=severity,
        seed=seed,
        parameter_set=parameter_set,
        backend=backend,
        threads=threads,
    )
    return per_batch(function, images, numbers, layout="HWC")


def amplitudes_of(numbers: DataNode, draws: tuple[DataNode, DataNode], p: float) -> DataNode:
    """Number of the image that each mixed view has its amplitude from; its own where the batch is not mixed.

    numbers: int32 (1,) per image, on the CPU. draws, p: those that `apr_pair` was given.
    """
    partner, coin = draws
    # As in _pair_batch, the first image's coin is the batch's.
    mixed = fn.cast(fn.permute_batch(coin, indices=0 * partner) < p, dtype=types.INT32)
    return mixed * fn.permute_batch(numbers, indices=partner) + (1 - mixed) * numbers


def _single_batch(images: Any, uniform: Any, backend: str, **options: Any) -> Any:
    height, width = images.shape[1:3]
    return functional.single(images, _decoded(uniform, height, width, backend), backend=backend, **options)


def _decoded(uniform: Any, height: int, width: int, backend: str) -> SingleDraws | cupy_backend.DeviceDraws:
    if isinstance(uniform, np.ndarray):
        return SingleDraws.from_uniform(uniform, height, width)
    if dispatch.choose(backend, "cuda") == "cupy":
        return cupy_backend.decode(uniform, height, width)
    return SingleDraws.from_uniform(uniform.get(), height, width)  # synchronizes


def _pair_batch(images: Any, draws: Any, p: float, **options: Any) -> Any:
    """draws: float (N, 2), each image's partner and coin."""
    # Every image has a coin, since DALI draws by the image; the first one's is the batch's. On the GPU it stays there.
    mix = draws[:1, 1].astype(np.float64) < p
    return functional.pair(images, draws[:, 0].astype(np.int32), mix, **options)


def _corrupted_batch(
    images: NDArray[np.uint8],
    numbers: NDArray[np.integer],
    name: str,
    severity: int,
    seed: int,
    parameter_set: str,
    **options: Any,
) -> NDArray[np.uint8]:
    height, width = images.shape[1:3]
    draws = CorruptionDraws.of_images(name, severity, numbers.reshape(-1), height, width, seed, parameter_set)
    corrupted: NDArray[np.uint8] = corruptions.corrupt(images, name, severity, draws, **options)
    return corrupted
