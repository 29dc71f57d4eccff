"""APR-S, APR-P and ImageNet-C's corruptions as operators of a DALI graph, for any `@pipeline_def`.

Each is one call of the backend per batch: inside `fn.python_function` on the executor's thread (CPU), or inside
`fn.dl_tensor_python_function` on DALI's stream (GPU). The random numbers come from DALI's own operators, so that they
follow the pipeline's seed and are part of its checkpoints; the functions themselves are pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from apr_dali import functional
from apr_dali.corruptions import CorruptionDraws, find
from apr_dali.draws import UNIFORMS_PER_IMAGE, SingleDraws
from apr_dali.errors import InputError
from apr_dali.kernels import corruptions, dispatch
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.pipelines import dlpack


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
    # One input: DALI hands over each sample of each input by itself.
    together = fn.stack(fn.cast(partner, dtype=types.FLOAT), coin)
    return _call(function, images, together, layout="FCHW" if views == "both" else "CHW")


def draw_pair() -> tuple[DataNode, DataNode]:
    """The draws of `apr_pair` for a batch: each image's partner, and the coin."""
    return fn.batch_permutation(), fn.random.uniform(range=(0.0, 1.0))


def corrupt(
    images: DataNode,
    name: str,
    severity: int,
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
        numbers: int32 or int64 (1,) an image, on the CPU, from 0 on: whatever tells the images apart, so that each has
            the same draws in every batch and epoch. None: DALI draws them, by the pipeline's seed.
    """
    find(name, severity, parameter_set)
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
    return _call(function, images, numbers, layout="HWC")


def amplitudes_of(numbers: DataNode, draws: tuple[DataNode, DataNode], probability: float) -> DataNode:
    """Number of the image that each mixed view has its amplitude from; its own where the batch is not mixed.

    numbers: int32 (1,) an image, on the CPU. draws, probability: those that `apr_pair` was given.
    """
    partner, coin = draws
    # As in _pair_batch, the first image's coin is the batch's.
    mixed = fn.cast(fn.permute_batch(coin, indices=0 * partner) < probability, dtype=types.INT32)
    return mixed * fn.permute_batch(numbers, indices=partner) + (1 - mixed) * numbers


def _call(function: Callable[..., Any], images: DataNode, *draws: DataNode, layout: str) -> DataNode:
    """One call of function(images, *draws) -> images per batch; all of them arrays (N, ...) of one device."""
    if images.device == "gpu":
        return fn.dl_tensor_python_function(
            images,
            *(draw.gpu() for draw in draws),
            function=_OnDaliStream(function),
            device="gpu",
            batch_processing=True,
            synchronize_stream=False,
            output_layouts=[layout],
        )

    def on_samples(*batches: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return list(function(*map(as_one_array, batches)))

    return fn.python_function(
        images, *draws, function=on_samples, device="cpu", batch_processing=True, output_layouts=[layout]
    )


class _OnDaliStream:
    """A function of CuPy arrays as DALI calls it: with the capsules of each batch, to be run on its stream."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        # DALI copies the last result on its stream, where the pool gives the memory out again only after that.
        self._last: Any = None

    def __call__(self, *batches: list[Any]) -> list[Any]:
        import cupy
        from nvidia.dali.python_function_plugin import current_dali_stream

        with cupy.cuda.Stream.from_external(_Stream(current_dali_stream())):
            result = cupy.ascontiguousarray(self._function(*map(_on_device, batches)))
        self._last = result
        return dlpack.capsules_of(result)


@dataclass(frozen=True)
class _Stream:
    """A CUDA stream, for those who know the CUDA stream protocol."""

    pointer: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


def _on_device(capsules: list[Any]) -> Any:
    """A batch on the GPU as one CuPy array: a view where its samples lie end to end in memory, else a copy."""
    import cupy

    samples = dlpack.samples_of(capsules)

    def array(address: int, shape: tuple[int, ...]) -> Any:
        size = prod(shape) * samples.dtype.itemsize
        memory = cupy.cuda.UnownedMemory(address, size, capsules, samples.device_id)
        return cupy.ndarray(shape, samples.dtype, cupy.cuda.MemoryPointer(memory, 0))

    if samples.packed:
        return array(int(samples.addresses[0]), (len(capsules), *samples.shape))
    return cupy.stack([array(int(address), samples.shape) for address in samples.addresses])


def _single_batch(images: Any, uniform: Any, backend: str, **options: Any) -> Any:
    height, width = images.shape[1:3]
    return functional.single(images, _decoded(uniform, height, width, backend), backend=backend, **options)


def _decoded(uniform: Any, height: int, width: int, backend: str) -> SingleDraws | cupy_backend.DeviceDraws:
    if isinstance(uniform, np.ndarray):
        return SingleDraws.from_uniform(uniform, height, width)
    if dispatch.choose(backend, "cuda") == "cupy":
        return cupy_backend.decode(uniform, height, width)
    return SingleDraws.from_uniform(uniform.get(), height, width)  # synchronises


def _pair_batch(images: Any, draws: Any, probability: float, **options: Any) -> Any:
    """draws: float (N, 2), each image's partner and coin."""
    # Every image has a coin, since DALI draws by the image; the first one's is the batch's. On the GPU it stays there.
    mix = draws[:1, 1].astype(np.float64) < probability
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
    return corruptions.corrupt(images, name, severity, draws, **options)


def as_one_array(samples: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The samples of a batch as one array (N, ...): a view where they lie end to end in memory, else a copy."""
    first = samples[0]
    shapes = {sample.shape for sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"the images of a batch must have one size, got {', '.join(map(str, sorted(shapes)))}")
    start = _address(first)
    packed = first.flags.c_contiguous and all(
        _address(sample) == start + index * first.nbytes for index, sample in enumerate(samples)
    )
    if not packed:
        return np.stack(samples)
    shape, strides = (len(samples), *first.shape), (first.nbytes, *first.strides)
    return np.lib.stride_tricks.as_strided(first, shape, strides)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
