"""Images through JPEG files that nobody writes: what a file loses, without its Huffman code, which loses nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.digital import JPEG, jpeg_steps
from apr_dali.corruptions.digital import through_jpeg as by_pillow
from apr_dali.kernels.cpu import backend as native_backend

Images = NDArray[np.uint8]


def through_jpeg(images: Images, quality: int, threads: int | None = None) -> Images:
    """Images as they come out of JPEG files that Pillow writes, 4:2:0, and reads: bit for bit, by the native operator
    where it is there and by Pillow elsewhere.

    Args:
        images: uint8 (N, H, W, 3), contiguous, of any size up to 65500 pixels per side.
        quality: 1 to 100.
        threads: how many; None takes every processor that this process may run on.
    """
    try:
        native_backend.check()
    except ImportError:
        with ThreadPoolExecutor(native_backend.threads_of(threads)) as pool:
            return np.array(list(pool.map(partial(by_pillow, quality=quality), images)), np.uint8).reshape(images.shape)
    nothing_drawn = (0, 0), np.zeros(len(images), np.uint64)
    return native_backend.corrupt(JPEG.name, images, jpeg_steps(quality), [], *nothing_drawn, threads)
