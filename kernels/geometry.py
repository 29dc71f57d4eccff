"""How the CUDA kernels are launched: blocks, threads and shared memory as pure functions of sizes.

The numbers follow the definitions in kernels/cuda/transform.cuh, fused.cu and whole.cu.
"""

from __future__ import annotations

from dataclasses import dataclass

WHOLE_SIZES = (32,)
FUSED_SIZES = (64, 96, 128, 160, 192, 224, 256)
DEFAULT_SHARED = 48 * 1024
"""Bytes of shared memory that a block may have without asking for more."""

_WARP = 32
_TEAMS = {32: 4, 64: 8, 96: 16, 128: 16, 160: 16}
_STRIP = 4
_ROWS = 8
_COMPLEX = 8
_WORKSPACE = 3 * 256 * 4 + 9 * 4 + 3 * 256
_ELEMENT_THREADS = 256


@dataclass(frozen=True)
class Geometry:
    """Blocks, threads a block, bytes of dynamic shared memory a block."""

    grid: int
    block: int
    shared: int = 0


def _team(size: int) -> int:
    return _TEAMS.get(size, _WARP)


def _pitch(size: int) -> int:
    return size + 4


def rows(size: int, images: int) -> Geometry:
    """Of rows_forward and rows_back: eight rows of an image a block."""
    teams = 3 * _ROWS // 2
    return Geometry(images * size // _ROWS, teams * _team(size), _COMPLEX * (teams * _pitch(size) + size))


def strips(size: int) -> int:
    """Strips of four columns that hold a half spectrum."""
    return -(-(size // 2 + 1) // _STRIP)


def columns(size: int, images: int) -> Geometry:
    """Of columns: a strip of an image and of its partner a block."""
    teams = 3 * _STRIP
    return Geometry(images * strips(size), teams * _team(size), _COMPLEX * (2 * teams * _pitch(size) + size))


def whole(size: int, images: int) -> Geometry:
    """Of whole_images: a pair of images a block."""
    teams, in_a_warp = 3 * size // 2, _WARP // _team(size)
    space = -(-3 * (size // 2 + 1) // in_a_warp) * in_a_warp
    points = (teams + 2 * space) * _pitch(size) + size
    return Geometry(images, teams * _team(size), _COMPLEX * points)


def elements(planes: int, items: int) -> tuple[Geometry, int]:
    """Of the kernels around cuFFT: a thread for each of `items` of each plane; also the blocks a plane."""
    parts = -(-items // _ELEMENT_THREADS)
    return Geometry(planes * parts, _ELEMENT_THREADS), parts


def operate(images: int, pixels: int) -> Geometry:
    """Of operate: an image a block."""
    return Geometry(images, min(512, -(-pixels // _WARP) * _WARP), _WORKSPACE)


def decode(images: int) -> Geometry:
    """Of decode: a thread for each of the two operations of an image."""
    return Geometry(-(-2 * images // _ELEMENT_THREADS), _ELEMENT_THREADS)


def path(height: int, width: int, channels: int, shared_limit: int) -> str:
    """Which kernels serve images of this shape: "whole", "fused", or "generic" with cuFFT.

    shared_limit: bytes of shared memory that a block can have on the device.
    """
    if height == width and channels == 3:
        if height in WHOLE_SIZES and whole(height, 1).shared <= shared_limit:
            return "whole"
        if height in FUSED_SIZES and columns(height, 1).shared <= shared_limit:
            return "fused"
    return "generic"
