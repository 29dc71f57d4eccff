"""Random Erasing (Zhong et al. 2020) in the training graphs: a rectangle of a normalized view set to 0, the mean.

Area, aspect ratio and position are drawn as timm's RandomErasing and torchvision's draw them. Each view has a rectangle
of its own, but the views of a batch that a coin leaves unmixed stay one and the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from apr_dali.pipelines.per_batch import per_batch

AREA = (0.02, 1 / 3)
"""Share of the image that a rectangle has, from and to."""
ASPECT = (0.3, 1 / 0.3)
"""Height by width of a rectangle, from and to, uniform in its logarithm."""
_TRIES = 10
"""Rectangles that are drawn until one fits; an image for which none does stays whole."""
DRAWS = 1 + 2 * _TRIES + 2
"""Uniform numbers of a rectangle: the coin, area and aspect ratio of each try, row and column."""


def rectangles(uniform: NDArray[np.floating], height: int, width: int, p: float) -> NDArray[np.int64]:
    """Rectangles (..., 4), as top, left, height, width in pixels, of uniform numbers 0..1 (..., DRAWS); none is 0 × 0.

    height, width: of the images. p: share of them that get one.
    """
    tries = uniform[..., 1:-2].reshape(*uniform.shape[:-1], _TRIES, 2).astype(np.float64)
    area = height * width * (AREA[0] + tries[..., 0] * (AREA[1] - AREA[0]))
    low, high = map(math.log, ASPECT)
    aspect = np.exp(low + tries[..., 1] * (high - low))
    sides = np.rint(np.sqrt(np.stack([area * aspect, area / aspect], -1))).astype(np.int64)
    fits = (sides < (height, width)).all(-1)
    first = np.take_along_axis(sides, fits.argmax(-1)[..., None, None], -2)[..., 0, :]
    erased = (uniform[..., 0] < p) & fits.any(-1)
    first = np.where(erased[..., None], first, 0)
    # A number may be 1 in float32.
    room = (height, width) - first
    corner = np.minimum((uniform[..., -2:] * (room + 1)).astype(np.int64), room)
    return np.concatenate([corner, first], -1)


def erased(
    images: DataNode,
    p: float,
    size: tuple[int, int],
    views: int = 0,
    differ: Callable[[], DataNode] | None = None,
) -> DataNode:
    """Normalized CHW images, or FCHW with up to `views` views (0: CHW), a share p of them with a rectangle of 0.

    size: (H, W). differ: gives int32 () per image, 0 where the views of the batch are one and the same; None: nowhere.
    """
    if p == 0:
        return images
    uniform = fn.random.uniform(range=(0.0, 1.0), shape=(max(views, 1), DRAWS))
    whether = () if differ is None else (differ(),)
    regions = per_batch(partial(_regions, size=size, p=p, views=views), uniform, *whether, layout="")
    axes = "FHW" if views else "HW"
    return fn.erase(images, anchor=regions[0], shape=regions[1], axis_names=axes, fill_value=0.0)


def _regions(uniform: NDArray[np.float32], differ: Any = None, *, size: tuple[int, int], p: float, views: int) -> Any:
    """What `fn.erase` takes: float32 (N, 2, regions · axes), anchors and shapes."""
    found = rectangles(uniform, *size, p)
    if differ is not None:
        found = np.where(differ.reshape(-1, 1, 1) != 0, found, found[:, :1])
    anchors, shapes = found[..., :2], found[..., 2:]
    if views:
        # A region is of one view; those of views that a batch has not, DALI passes over.
        number = np.broadcast_to(np.arange(views)[:, None], (*found.shape[:2], 1))
        anchors, shapes = np.concatenate([number, anchors], -1), np.concatenate([np.ones_like(number), shapes], -1)
    return np.stack([anchors, shapes], 1).reshape(len(found), 2, -1).astype(np.float32)
