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

from apr_dali.errors import InputError
from apr_dali.pipelines import dlpack
from apr_dali.pipelines.handover import Handover

_FRAME = "N"  # of the axis that `dlpack.capsules_of` puts before those of a sample


def per_batch(
    function: Callable[..., Any],
    images: DataNode,
    *draws: DataNode,
    on_host: Sequence[DataNode] = (),
    layout: str,
    handover: Handover | None = None,
) -> DataNode:
    """function(images, *draws, *on_host) -> images, of arrays (N, ...) of one device: NumPy's or CuPy's.

    on_host: draws that function looks at, on the CPU: always NumPy's arrays, for which nobody waits on a GPU either.
    layout: of an image of the result, in DALI's letters. handover: gets the results of the CPU, whose numbers then take
    their place.
    """
    if any(draw.device == "gpu" for draw in on_host):
        raise InputError("draws that the host looks at must be on the CPU, got some on the GPU: leave out their .gpu()")
    if images.device == "gpu":
        kept = KeptDraws() if on_host else None
        numbers = [] if kept is None else [kept.numbers(*on_host)]
        on_device = [draw.gpu() for draw in (*draws, *numbers)]
        return _from_capsules(_OnDaliStream(function, kept), images, *on_device, layout=layout)

    def on_samples(*batches: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        result = function(*map(as_one_array, batches))
        return list(result) if handover is None else handover.put(result)

    layouts = [layout if handover is None else ""]
    return fn.python_function(
        images, *draws, *on_host, function=on_samples, device="cpu", batch_processing=True, output_layouts=layouts
    )


def _from_capsules(function: Callable[..., list[Any]], *batches: DataNode, layout: str) -> DataNode:
    """function(*batches) -> samples of one more axis, of DLPack's capsules; the images without that axis."""
    framed = fn.dl_tensor_python_function(
        *batches,
        function=function,
        device=batches[0].device,
        batch_processing=True,
        synchronize_stream=False,
        output_layouts=[_FRAME + layout],
    )
    return fn.squeeze(framed, axes=[0])


class KeptDraws:
    """Draws on the CPU for a function that DALI runs on a GPU, which would have to be waited for to be read there.

    They are kept here, and the batch's number goes through the graph in their place: as the shape of empty samples,
    which the host knows of a batch on a GPU, too.
    """

    def __init__(self) -> None:
        self._kept = Handover()

    def numbers(self, *draws: DataNode) -> DataNode:
        """Keep each batch of these; uint8 (0, number) per image."""
        return fn.python_function(*draws, function=self._keep, device="cpu", batch_processing=True)

    def take(self, capsules: list[Any]) -> list[NDArray[Any]]:
        """The draws of a batch, (N, ...) each, by the capsules of what `numbers` gave."""
        draws: list[NDArray[Any]] = self._kept.take(dlpack.samples_of(capsules).shape[1])
        return draws

    def _keep(self, *batches: Sequence[NDArray[Any]]) -> list[NDArray[np.uint8]]:
        # A copy: DALI's memory is for other batches once the operators on the CPU are done.
        number = self._kept.keep([as_one_array(samples).copy() for samples in batches])
        return [np.empty((0, number), np.uint8)] * len(batches[0])


class _OnDaliStream:
    """A function of CuPy arrays as DALI calls it: with the capsules of each batch, to be run on its stream.

    kept: the draws that it gets on the host; the last of the batches is then that of their numbers.
    """

    def __init__(self, function: Callable[..., Any], kept: KeptDraws | None = None) -> None:
        self._function, self._kept = function, kept
        # DALI copies the last result on its stream, where the pool gives the memory out again only after that.
        self._last: Any = None

    def __call__(self, *batches: list[Any]) -> list[Any]:
        import cupy
        from nvidia.dali.python_function_plugin import current_dali_stream

        given, on_host = (batches, []) if self._kept is None else (batches[:-1], self._kept.take(batches[-1]))
        with cupy.cuda.Stream.from_external(_Stream(current_dali_stream())):
            result = cupy.ascontiguousarray(self._function(*map(_on_device, given), *on_host))
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
