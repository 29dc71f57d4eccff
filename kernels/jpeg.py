"""Images through JPEG files that nobody writes: what a file loses, without its Huffman code, which loses nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.digital import JPEG, jpeg_steps, through_jpeg
from apr_dali.kernels import arrays, dispatch
from apr_dali.kernels.cpu import backend as native_backend
from apr_dali.kernels.cuda import corruptions as cuda_corruptions


def round_trip(images: Any, quality: int, threads: int | None = None) -> Any:
    """Images as they come out of JPEG files that Pillow writes, 4:2:0, and reads: bit for bit.

    On a CUDA device by our kernels, on the CPU by the native operator, and by Pillow where they cannot run.

    Args:
        images: uint8 (N, H, W, 3), of any size up to 65500 pixels per side: a NumPy array, a torch tensor or a CuPy
            array.
        quality: 1 to 100.
        threads: how many on the CPU; None takes every processor that this process may run on.

    Returns:
        The same kind of array on the same device.
    """
    if arrays.on_device(images) and dispatch.availability("cupy").available:
        with arrays.on_the_stream_of(images, "cupy"):
            made = cuda_corruptions.through_jpeg(arrays.as_input(images, "cupy"), quality)
            return arrays.as_output(made, images, "uint8")
    levels = np.ascontiguousarray(arrays.as_input(images, "native"))
    return arrays.as_output(_on_the_cpu(levels, quality, threads), images, "uint8")


def _on_the_cpu(images: NDArray[np.uint8], quality: int, threads: int | None) -> NDArray[np.uint8]:
    try:
        native_backend.check()
    except ImportError:
        with ThreadPoolExecutor(native_backend.threads_of(threads)) as pool:
            made = list(pool.map(partial(through_jpeg, quality=quality), images))
            return np.array(made, np.uint8).reshape(images.shape)
    nothing_drawn = (0, 0), np.zeros(len(images), np.uint64)
    return native_backend.corrupt(JPEG.name, images, jpeg_steps(quality), [], *nothing_drawn, threads)
