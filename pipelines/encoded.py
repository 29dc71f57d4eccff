"""Encoded images are looked at before DALI decodes them: what its decoder cannot parse may end the process.

In a batch of 32 or more DALI parses headers in several threads, and an error in one of them leaves the others with
memory that is gone. So each header is parsed before, by the same parser, and an image that it refuses raises.
"""

from __future__ import annotations

import re
from functools import partial
from io import BytesIO
from math import isqrt

import numpy as np
from numpy.typing import NDArray
from nvidia import nvimgcodec
from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from apr_dali.data.check import Bad, why_no_image

_MOST = 2**31
"""Bytes of a decoded image, and what DALI computes in 32 bits: a broken header may ask for more than there is."""
_LEVELS = ("uint8", "uint16", "float32")
_UNDER = r"the image of (.+)\n(.+)"
_WHOLE = np.array([-1], np.int32)


def checked(encoded: DataNode, longest: int = _MOST) -> DataNode:
    """The same encoded images, once all of a batch have a header that can be parsed; raises, see `faults`, if not.

    longest: pixels that a side may have.
    """
    origin = fn.get_property(encoded, key="source_info", name="Origins")
    check = partial(_check, longest=longest)
    shape = fn.python_function(encoded, origin, function=check, batch_processing=True, name="Headers")
    # Copies nothing: it makes the decoder wait.
    return fn.reshape(encoded, shape=shape, name="Checked")


def longest_side(ratio: tuple[float, float]) -> int:
    """The longest side from which DALI draws crops of these ratios, width by height, without an overflow."""
    return isqrt(int(_MOST / max(ratio[1], 1 / ratio[0])))


def faults(message: str) -> list[Bad]:
    """(origin, reason) of the images that an error of DALI says `checked` has refused."""
    return [(origin, reason) for origin, reason in dict.fromkeys(re.findall(_UNDER, message))]


def _check(images: list[NDArray[np.uint8]], origins: list[NDArray[np.uint8]], longest: int) -> list[NDArray[np.int32]]:
    bad = [
        f"the image of {bytes(origin).decode('utf-8', 'surrogateescape')}\n{reason}"
        for image, origin in zip(images, origins, strict=True)
        if (reason := why_unsafe(image, longest)) is not None
    ]
    if bad:
        raise ValueError("\n".join(["", *bad, ""]))
    return [_WHOLE] * len(images)


def why_unsafe(content: NDArray[np.uint8], longest: int = _MOST) -> str | None:
    """Why DALI is not to decode an encoded image, uint8 (bytes,); None where it may."""
    try:
        found = nvimgcodec.CodeStream(content)
        height, width = found.height, found.width
        levels, codec = str(found.dtype), found.codec_name
    except (RuntimeError, TypeError):  # of a header, and of levels that NumPy has no type for
        return why_no_image(BytesIO(content.tobytes())) or "broken header"
    if levels not in _LEVELS:
        return f"has levels of the type {levels}: DALI decodes {', '.join(_LEVELS)}"
    if not 0 < 3 * height * width < _MOST or max(height, width) > longest:
        return f"its header says {width}×{height} pixels"
    # Its decoder writes where it must not when the data are broken, and no check before it finds them all.
    return why_no_image(BytesIO(content.tobytes())) if codec == "jpeg2k" else None
