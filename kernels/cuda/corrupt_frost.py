"""Launches of corrupt_frost.cu."""

from __future__ import annotations

import numpy as np

from apr_dali.corruptions.frost import PHOTOGRAPHS, covering
from apr_dali.kernels.cuda import launch, paths
from apr_dali.kernels.cuda.corrupt_job import Array, Job
from apr_dali.kernels.cuda.device import Cache
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_frost.cu", fused_multiply_add=False)
photographs = Cache(limit=4)
"""On the device: some 6 MB for each scale, more for images that they have to be enlarged for."""
_PIXELS = 4  # a thread


def frost(job: Job) -> None:
    of_image, of_frost, scale = job.parameters
    key = (job.device.key, scale, job.height, job.width)
    levels, sizes = photographs.shared(key, lambda: _uploaded(job, scale))
    with paths.work.borrowed((job.device.key, "pieces", job.n), lambda: job.device.empty((job.n, 2), "i8")) as pieces:
        of_batch = (np.int32(job.n), np.int32(job.height), np.int32(job.width))
        args = (*of_batch, *job.draws(3), sizes, np.int32(len(PHOTOGRAPHS)), pieces)
        job.device.launch(PROGRAM, "choose_pieces", launch.elements(1, job.n)[0], args)
        job.each(PROGRAM, "frost", 3 * _PIXELS, levels, pieces, np.float64(of_image), np.float64(of_frost))


def _uploaded(job: Job, scale: float) -> tuple[Array, Array]:
    """All photographs end to end, and (count, 3): the height and width of each and where it starts."""
    pieces = [covering(index, scale, job.height, job.width) for index in range(len(PHOTOGRAPHS))]
    starts = np.cumsum([0, *(piece.size for piece in pieces)])
    sizes = [(*piece.shape[:2], start) for piece, start in zip(pieces, starts, strict=False)]
    flat = np.concatenate([piece.reshape(-1) for piece in pieces])
    levels, places = job.device.put((flat, "u1"), (sizes, "i8"))
    return levels, places


LAUNCHERS = {"frost": frost}
