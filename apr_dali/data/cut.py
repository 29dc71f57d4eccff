"""The evaluation's cut of an image by Pillow, for single images; sets go through DALI, whose geometry is the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apr_dali.config import Scaling

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def cut(image: Image.Image, size: int, scaling: Scaling, mean: Sequence[float]) -> NDArray[np.uint8]:
    """An RGB image as a network of size × size pixels sees it: uint8 (size, size, 3).

    mean: the network's, in 0..1: the color beside an image that does not fill its crop, see `Scaling`.
    """
    height, width = scaling.resized(image.height, image.width, size)
    scaled = image.resize((width, height), _FILTERS[scaling.filter])
    left, top = (_start(side - size) for side in scaled.size)
    whole = Image.new("RGB", (size, size), scaling.border(mean))
    whole.paste(scaled, (-left, -top))
    return np.asarray(whole)


def _start(margin: int) -> int:
    # Python rounds half to even, as torchvision does; it pads less on the left.
    return round(margin / 2) if margin >= 0 else -(-margin // 2)
