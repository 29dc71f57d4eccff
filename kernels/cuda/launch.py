"""How the CUDA kernels are launched: blocks, threads and shared memory as pure functions of sizes.

The numbers follow the definitions in kernels/cuda/transform.cuh, fused.cu and whole.cu.
"""

from __future__ import annotations

from typing import NamedTuple

WHOLE_SIZES = (32,)
FUSED_SIZES = (64, 96, 128, 160, 192, 224, 256)
SHARED_LIMIT = 48 * 1024
"""Bytes of shared memory that every device gives a block unasked: no kernel takes more."""

_WARP = 32
_FIRST = {32: 8, 64: 8, 96: 12}
_TEAMS = {32: 4, 64: 8, 96: 8, 128: 8}
_STRIP = 4
_ROWS = 8
_COMPLEX = 8
_WORKSPACE = 3 * 256 * 4 + 3 * 16 * 4 + 9 * 4 + 3 * 256
_ELEMENT_THREADS = 256


class Launch(NamedTuple):
    """Blocks, threads a block, bytes of dynamic shared memory a block."""

    grid: int
    block: int
    shared: int = 0


def factors(size: int) -> tuple[int, int]:
    """Of the two steps of a transform of `size` points."""
    first = _FIRST.get(size, 16)
    return first, size // first


def team(size: int) -> int:
    """Threads of a transform."""
    return _TEAMS.get(size, 16)


def pitch(size: int) -> int:
    """Points that a transform takes in shared memory."""
    first, second = factors(size)
    return (second * (first + 1) + 11) // 16 * 16 + 4


def rows(size: int, images: int) -> Launch:
    """Of rows_forward and rows_back: eight rows of an image a block."""
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
    """Of whole_images: a pair of images a block."""
    half = size // 2 + 1
    threads = -(-(half + size if across_channels else 3 * half) * team(size) // _WARP) * _WARP
    teams = threads // team(size) + 3 * size // 2
    return Launch(images, threads, _COMPLEX * teams * pitch(size))


def elements(planes: int, items: int) -> tuple[Launch, int]:
    """Of the kernels around cuFFT: a thread for each of `items` of each plane; also the blocks a plane."""
    parts = -(-items // _ELEMENT_THREADS)
    return Launch(planes * parts, _ELEMENT_THREADS), parts


def operate(images: int, pixels: int) -> Launch:
    """Of operate: an image a block."""
    return Launch(images, min(512, -(-pixels // _WARP) * _WARP), _WORKSPACE)


def decode(images: int) -> Launch:
    """Of decode: a thread for each of the two operations of an image."""
    return Launch(-(-2 * images // _ELEMENT_THREADS), _ELEMENT_THREADS)


def path(height: int, width: int, channels: int) -> str:
    """Which kernels serve images of this shape: "whole", "fused", or "generic" with cuFFT."""
    if height == width and channels == 3:
        if height in WHOLE_SIZES:
            return "whole"
        if height in FUSED_SIZES:
            return "fused"
    return "generic"
