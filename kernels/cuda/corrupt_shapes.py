"""Launches of the corruptions' kernels whose blocks make tiles or whole images, and what these are compiled with.

Pure functions of sizes; none of the numbers is written a second time in a .cu file.
"""

from __future__ import annotations

from apr_dali.kernels.cuda.launch import Launch

_DOUBLE = 8
_BELOW = 4
"""Values below each other of a thread that smooths."""
_TILE_ROWS, _TILE_VALUES = 32, 48
_TILE_PITCH = 51
"""Threads beside each other, which go down the columns of a tile at its end, meet in no bank."""
SMOOTH = (("BELOW", _BELOW), ("TILE_ROWS", _TILE_ROWS), ("TILE_VALUES", _TILE_VALUES), ("TILE_PITCH", _TILE_PITCH))
"""What kernels that call `smooth` of smooth.cuh are compiled with."""

_DISK_TILE = 32
DISK = (("DISK_TILE", _DISK_TILE),)

_DOWN, _ACROSS, _EACH = 64, 32, 8
PRODUCT = (("DOWN", _DOWN), ("ACROSS", _ACROSS), ("EACH", _EACH))

_CLOUD_THREADS, _CLOUD_TILE = 256, 32
_RANGE = 3 * _DOUBLE
_LARGE, _SMALL = 35 * 35, 19 * 19
"""Points of a tile of a cloud with some around it, and of every second of them."""
CLOUD = (
    ("CLOUD_THREADS", _CLOUD_THREADS),
    ("TILE", _CLOUD_TILE),
    ("RANGE", _RANGE),
    ("LARGE", _LARGE),
    ("SMALL", _SMALL),
)

_DROP_THREADS = 1024
BORDER = 2
"""Of the plane of distances."""
STEPS = 20
"""Along a row, after which distances need not be told apart."""
DROP_ROOM = 3 * 4 + 256 * 4 + 256
"""Bytes of what a block knows of an image's drops: three numbers, a histogram and a table."""
DROPS = (("BORDER", BORDER), ("STEPS", STEPS), ("DROP_ROOM", DROP_ROOM))


def smooth(images: int, rows: int, values: int, reach: int) -> Launch:
    """Of kernels that call `smooth` for images of so many values a row."""
    tiles = -(-rows // _TILE_ROWS) * -(-values // _TILE_VALUES)
    shared = _DOUBLE * _TILE_PITCH * (_TILE_ROWS + 2 * reach)
    return Launch(images * tiles, _TILE_ROWS // _BELOW * _TILE_VALUES, shared)


def column(reach: int) -> int:
    """Weights of a column of a disk, with those of 0 that the last of a thread's values sees."""
    return 2 * reach + _BELOW


def defocus(images: int, height: int, width: int, reach: int) -> Launch:
    """Of defocus."""
    tiles = -(-height // _DISK_TILE) * -(-width // _DISK_TILE)
    shared = _DOUBLE * ((2 * reach + 1) * column(reach) + (_DISK_TILE + 2 * reach) ** 2)
    return Launch(3 * images * tiles, _DISK_TILE // _BELOW * _DISK_TILE, shared)


def product(images: int, rows: int, columns: int) -> Launch:
    """Of kernels that call `multiply` of product.cuh."""
    tiles = -(-rows // _DOWN) * -(-columns // _ACROSS)
    return Launch(images * tiles, _DOWN // _EACH * _ACROSS, _DOUBLE * _DOWN * (_ACROSS + 1))


def padding(rows: int) -> int:
    """Columns of 0 that the matrix of a product takes behind its own."""
    return -rows % _DOWN


def tiles(side: int) -> int:
    """Of a cloud of side × side points: a power of two, 32 at least."""
    return (side // _CLOUD_TILE) ** 2


def cloud(images: int, side: int) -> Launch:
    """Of cloud: a tile a block."""
    shared = _DOUBLE * (_LARGE + _SMALL) + _RANGE * _CLOUD_THREADS
    return Launch(images * tiles(side), _CLOUD_THREADS, shared)


def whole_range(images: int) -> Launch:
    """Of whole_range: an image a block."""
    return Launch(images, _CLOUD_THREADS, _RANGE * _CLOUD_THREADS)


def drops(images: int) -> Launch:
    """Of light_on_drops: an image a block."""
    return Launch(images, _DROP_THREADS, DROP_ROOM)
