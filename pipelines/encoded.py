"""Encoded images are looked at before DALI decodes them: what its decoder cannot parse may end the process.

In a batch of 32 or more DALI parses headers in several threads, and an error in one of them leaves the others with
memory that is gone. So each header is parsed before, by the same parser, and an image that it refuses raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, partial
from io import BytesIO
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia import nvimgcodec
from nvidia.dali import fn
from nvidia.dali.data_node import DataNode

from apr_dali.data.check import Bad, why_no_image
from apr_dali.data.image_header import why_no_ink
from apr_dali.pipelines import dlpack

_MOST = 2**31
"""Bytes of a decoded image, and what DALI computes in 32 bits: a broken header may ask for more than there is."""
_BY_HEADER = ("bmp", "jpeg2k", "pnm", "tiff")
"""Formats of which some files are decoded to other pictures than their headers say, or end the process."""
_CMYK = 4
_LEVELS = ("uint8", "uint16", "float32")
_UNDER = r"the image of (.+)\n(.+)"


def checked(encoded: DataNode, longest: int = _MOST) -> DataNode:
    """The same encoded images, once all of a batch have a header that can be parsed; raises, see `faults`, if not.

    longest: pixels that a side may have.
    """
    origin = fn.get_property(encoded, key="source_info", name="Origins")
    check = partial(_check, longest=longest)
    shape = fn.dl_tensor_python_function(encoded, origin, function=check, batch_processing=True, name="Headers")
    # Copies nothing: it makes the decoder wait.
    return fn.reshape(encoded, shape=shape, name="Checked")


def longest_side(ratio: tuple[float, float]) -> int:
    """The longest side from which DALI draws crops of these ratios, width by height, without an overflow."""
    return isqrt(int(_MOST / max(ratio[1], 1 / ratio[0])))


def faults(message: str) -> list[Bad]:
    """(origin, reason) of the images that an error of DALI says `checked` has refused."""
    return [(origin, reason) for origin, reason in dict.fromkeys(re.findall(_UNDER, message))]


def _check(images: list[Any], origins: list[Any], longest: int) -> list[Any]:
    """images, origins: DLPack capsules. Returns those of `_whole`."""
    bad = []
    for index in _unusual(images, longest):
        reason = why_unsafe(dlpack.host_bytes(images[index]), longest)
        if reason is not None:
            origin = dlpack.host_bytes(origins[index]).tobytes().decode("utf-8", "surrogateescape")
            bad.append(f"the image of {origin}\n{reason}")
    if bad:
        raise ValueError("\n".join(["", *bad, ""]))
    return dlpack.capsules_of(_whole(len(images)))


@cache
def _whole(count: int) -> NDArray[np.int32]:
    """The shape to give each image: that which it has."""
    return np.full((count, 1), -1, np.int32)


def _unusual(images: list[Any], longest: int) -> Iterable[int]:
    """The numbers of the images that are no JPEGs with a plain header: one in a hundred takes twenty times as long."""
    native = dlpack.native()
    return range(len(images)) if native is None else np.flatnonzero(~native.plain_jpegs(images, longest, _MOST))


def why_unsafe(content: NDArray[np.uint8], longest: int = _MOST) -> str | None:
    """Why DALI is not to decode an encoded image, uint8 (bytes,); None where it may."""
    try:
        found = nvimgcodec.CodeStream(content)
        height, width = found.height, found.width
        levels, codec, channels = str(found.dtype), found.codec_name, found.num_channels
    except (RuntimeError, TypeError):  # of a header, and of levels that NumPy has no type for
        return why_no_image(BytesIO(content.tobytes())) or "broken header"
    if levels not in _LEVELS:
        return f"has levels of the type {levels}: DALI decodes {', '.join(_LEVELS)}"
    if not 0 < 3 * height * width < _MOST or max(height, width) > longest:
        return f"its header says {width}×{height} pixels"
    if codec in _BY_HEADER:
        return why_no_image(BytesIO(content.tobytes()))
    return why_no_ink(BytesIO(content.tobytes())) if codec == "jpeg" and channels == _CMYK else None
