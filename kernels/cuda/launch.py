"""How the CUDA kernels are launched: blocks, threads and shared memory as pure functions of sizes.

The kernels are compiled with the same numbers, as `definitions`: none is written a second time in a .cu file.
"""

from __future__ import annotations

from typing import NamedTuple

# By size: points of the first of the two steps of a transform, and threads of a team, which hold 8 to 16 points each.
_STEPS = {
    32: (8, 4),
    64: (8, 8),
    96: (12, 8),
    128: (16, 8),
    160: (16, 16),
    192: (16, 16),
    224: (16, 16),
    256: (16, 16),
}
WHOLE_SIZES = (32,)
FUSED_SIZES = tuple(size for size in _STEPS if size not in WHOLE_SIZES)
SHARED_LIMIT = 48 * 1024
"""Bytes of shared memory that every device gives a block unasked: no kernel takes more."""

_WARP = 32
_STRIP = 4
"""Columns of a block of `columns`: a thread beside another reads what lies beside it, whole sectors of 32 bytes."""
_ROWS = 8
"""Rows of a block of rows_forward and rows_back."""
_COMPLEX = 8
WORKSPACE = 3 * 256 * 4 + 3 * 16 * 4 + 9 * 4 + 3 * 256
"""Bytes of the counts and tables of `operate`."""
ELEMENT_THREADS = 256
"""Of a block of the kernels that take each element by itself."""
_SQUARES = 4  # of an image in a JPEG file, with 6 blocks of 8 rows each, which are 9 ints apart in shared memory
CHANNEL_SUMS = 3 * ELEMENT_THREADS * 8
"""Bytes of the sums of a block of `channel_sums`."""
CHANNEL_TABLES = 4 * 8 + 3 * 256
"""Bytes of the means and tables of a block of `contrast`."""
LIGHTS = 256 * 4
"""Bytes of the levels in 0..1 of a block of `zoom_blur`."""
_ITEMS_OF_A_THREAD, _MOST_SHARES = 4, 64


class Launch(NamedTuple):
    """Blocks, threads per block, bytes of dynamic shared memory per block."""

    grid: int
    block: int
    shared: int = 0


def factors(size: int) -> tuple[int, int]:
    """Of the two steps of a transform of `size` points."""
    first, _ = _steps(size)
    return first, size // first


def team(size: int) -> int:
    """Threads of a transform."""
    return _steps(size)[1]


def _steps(size: int) -> tuple[int, int]:
    if size not in _STEPS:
        raise ValueError(f"there are kernels for squares of {', '.join(map(str, _STEPS))}, got {size}")
    return _STEPS[size]


def pitch(size: int) -> int:
    """Points that a transform takes in shared memory.

    Groups of the first step's points are one point apart: threads beside each other, which write groups, meet in no
    bank. Nor do four transforms beside each other: they start 8 banks apart.
    """
    first, second = factors(size)
    return (second * (first + 1) + 11) // 16 * 16 + 4


def definitions(size: int, across_channels: bool) -> dict[str, int]:
    """What every kernel for images of `size` × `size` is compiled with."""
    first, second = factors(size)
    sizes = {"FIRST": first, "SECOND": second, "TEAM": team(size), "PITCH": pitch(size)}
    return {"SIZE": size, "ACROSS": int(across_channels), **sizes}


def fused_definitions(size: int, across_channels: bool) -> dict[str, int]:
    """What the three kernels for images of `size` × `size` are compiled with."""
    return {
        **definitions(size, across_channels),
        "STRIP": _STRIP,
        "STRIPS": strips(size, across_channels),
        "ROWS": _ROWS,
        "ROW_THREADS": rows(size, 1).block,
        "COLUMN_THREADS": columns(size, 1, across_channels).block,
    }


def whole_definitions(size: int, across_channels: bool) -> dict[str, int]:
    """What the one kernel for images of `size` × `size` is compiled with."""
    return {**definitions(size, across_channels), "THREADS": whole(size, 1, across_channels).block}


def rows(size: int, images: int) -> Launch:
    """Of rows_forward and rows_back: eight rows of one image per block."""
    teams = 3 * _ROWS // 2
    return Launch(images * size // _ROWS, teams * team(size), _COMPLEX * teams * pitch(size))


def strips(size: int, across_channels: bool) -> int:
    """Strips of four columns that hold the spectrum of an image: a half and a whole one, or three halves."""
    half = -(-(size // 2 + 1) // _STRIP)
    return half + size // _STRIP if across_channels else 3 * half


def columns(size: int, images: int, across_channels: bool) -> Launch:
    """Of columns: a strip of an image and of its partner a block."""
    return Launch(images * strips(size, across_channels), _STRIP * team(size), _COMPLEX * _STRIP * pitch(size))


def whole(size: int, images: int, across_channels: bool) -> Launch:
    """Of whole_images: a pair of images per block."""
    half = size // 2 + 1
    threads = -(-(half + size if across_channels else 3 * half) * team(size) // _WARP) * _WARP
    teams = threads // team(size) + 3 * size // 2
    return Launch(images, threads, _COMPLEX * teams * pitch(size))


def elements(planes: int, items: int) -> tuple[Launch, int]:
    """Of the kernels around cuFFT: a thread for each of `items` of each plane; also the blocks per plane."""
    parts = -(-items // ELEMENT_THREADS)
    return Launch(planes * parts, ELEMENT_THREADS), parts


def pixels(images: int, count: int) -> tuple[Launch, int]:
    """Of `before` and `after`: a thread for four of `count` pixels of each image; also the blocks per image."""
    return elements(images, -(-count // 4))


def shares(images: int, items: int) -> tuple[Launch, int]:
    """Of kernels that have work once a block: a thread takes several items; also the blocks per image, at most 64."""
    parts = min(-(-items // (ELEMENT_THREADS * _ITEMS_OF_A_THREAD)), _MOST_SHARES)
    return Launch(images * parts, ELEMENT_THREADS), parts


def jpeg_squares(images: int, squares: int) -> tuple[Launch, int]:
    """Of `to_planes`: four squares of 16 × 16 pixels a block, a thread for 2 × 2; also the blocks per image."""
    parts = -(-squares // _SQUARES)
    return Launch(images * parts, _SQUARES * 8 * 8, _SQUARES * 6 * 8 * 9 * 4), parts


def operate(images: int, pixels: int) -> Launch:
    """Of operate: one image per block."""
    return Launch(images, min(512, -(-pixels // _WARP) * _WARP), WORKSPACE)


def decode(images: int) -> Launch:
    """Of decode: a thread for each of the two operations of an image."""
    return Launch(-(-2 * images // ELEMENT_THREADS), ELEMENT_THREADS)


def path(height: int, width: int, channels: int) -> str:
    """Which kernels serve images of this shape: "whole", "fused", or "generic" with cuFFT."""
    if height == width and channels == 3:
        if height in WHOLE_SIZES:
            return "whole"
        if height in FUSED_SIZES:
            return "fused"
    return "generic"
