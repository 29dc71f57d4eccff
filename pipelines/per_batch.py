"""One call of a Python function per batch of a DALI graph, with each batch as one array.

On the CPU the function runs inside `fn.python_function` on the executor's thread; on a GPU inside
`fn.dl_tensor_python_function`, with CuPy arrays on DALI's stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from apr_dali.pipelines import dlpack
from apr_dali.pipelines.handover import Handover

_FRAME = "N"  # of the axis that `dlpack.capsules_of` puts before those of a sample


def per_batch(
    function: Callable[..., Any], images: DataNode, *draws: DataNode, layout: str, handover: Handover | None = None
) -> DataNode:
    """function(images, *draws) -> images, of arrays (N, ...) of one device: NumPy's or CuPy's.

    layout: of an image of the result, in DALI's letters. handover: gets the results of the CPU, whose numbers then take
    their place.
    """
    if images.device == "gpu":
        return from_capsules(function, [images, *(draw.gpu() for draw in draws)], layout)

    def on_samples(*batches: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        result = function(*map(as_one_array, batches))
        return list(result) if handover is None else handover.put(result)

    layouts = [layout if handover is None else ""]
    return fn.python_function(
        images, *draws, function=on_samples, device="cpu", batch_processing=True, output_layouts=layouts
    )


def from_capsules(function: Callable[..., Any], batches: list[DataNode], layout: str) -> DataNode:
    """function(*batches) -> images, of CuPy arrays (N, ...), by way of DLPack's capsules."""
    framed = fn.dl_tensor_python_function(
        *batches,
        function=_OnDaliStream(function),
        device=batches[0].device,
        batch_processing=True,
        synchronize_stream=False,
        output_layouts=[_FRAME + layout],
    )
    return fn.squeeze(framed, axes=[0])


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
        return dlpack.capsules_of(result, framed=True)


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
