"""Broken image files by the thousand: a loader over them must leave them out, whatever they are, and live.

    python tests/helpers/fuzz_images.py [COUNT] [SEED]

ends with status 0 if all files but those that were left out came, with the images that nobody touched among them.
DALI may end the whole process instead: run it in one of its own.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48
WHOLE = 40
"""Files that stay as they are: batches of 32 and more are parsed by several threads."""
AT_A_TIME = 150
FORMATS = {
    "JPEG": {},
    "progressive": {"format": "JPEG", "progressive": True},
    "CMYK": {"format": "JPEG", "mode": "CMYK"},
    "gray": {"format": "JPEG", "mode": "L"},
    "PNG": {},
    "palette": {"format": "PNG", "mode": "P"},
    "BMP": {},
    "TIFF": {},
    "LZW": {"format": "TIFF", "compression": "tiff_lzw"},
    "BigTIFF": {"format": "TIFF", "big_tiff": True},
    "WEBP": {},
    "lossless": {"format": "WEBP", "lossless": True},
    "PPM": {},
    "GIF": {},
    "JPEG2000": {},
}
_KINDS = ("cut", "cut header", "cut marker", "bits", "header", "size", "zeros", "insert", "graft", "text")
_LARGE = (b"\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\x80\0")


def originals() -> dict[str, bytes]:
    """A photograph-like image in each of FORMATS."""
    ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE))[..., None] * np.array([1, 2, 3])
    noise = np.random.default_rng(0).integers(0, 40, (SIDE, SIDE, 3))
    image = Image.fromarray((ramp % 200 + noise).astype(np.uint8))
    found = {}
    for name, options in FORMATS.items():
        out, given = io.BytesIO(), {"format": name, "mode": "RGB", **options}
        image.convert(given.pop("mode")).save(out, **given)
        found[name] = out.getvalue()
    return found


def mutate(draw: random.Random, content: bytes, other: bytes) -> bytes:
    """`content` broken in one of the ways in which files break, or grafted onto `other`."""
    made = bytearray(content)
    header = min(len(made) - 4, 200)
    at = draw.randrange(len(made))
    kind = draw.choice(
        ["cut", "cut header", "cut marker", "bits", "header", "size", "zeros", "insert", "graft", "text"]
    )
    if kind == "cut":
        return bytes(made[:at])
    if kind == "cut header":
        return bytes(made[: draw.randrange(header)])
    if kind == "cut marker":
        markers = [n for n in range(len(made) - 1) if made[n] == 0xFF and made[n + 1]] or [at]
        return bytes(made[: draw.choice(markers[:20]) + draw.randrange(5)])
    if kind in ("bits", "header"):
        for _ in range(draw.randint(1, 8)):
            made[draw.randrange(len(made) if kind == "bits" else header)] = draw.randrange(256)
    elif kind == "size":
        where, large = draw.randrange(header), draw.choice(_LARGE)
        made[where : where + len(large)] = large
    elif kind == "zeros":
        made[at : at + 300] = bytes(len(made[at : at + 300]))
    elif kind == "insert":
        made[at:at] = draw.randbytes(draw.randint(1, 200))
    elif kind == "graft":
        return bytes(made[: draw.randrange(1, 64)]) + other[draw.randrange(len(other)) :]
    else:
        return draw.choice([b"", b"a", b"hello, this is no image\n", draw.randbytes(600)])
    return bytes(made)


def write(folder: Path, count: int, seed: int) -> None:
    """WHOLE images and `count` broken ones, all named .jpg, in two class folders."""
    images = originals()
    names = list(images)
    for index in range(WHOLE + count):
        draw = random.Random(seed + index)
        content = images["JPEG"]
        if index >= WHOLE:
            content = mutate(draw, images[draw.choice(names)], images[draw.choice(names)])
        path = folder / f"class{index % 2}" / f"{'whole' if index < WHOLE else 'broken'}{index:05d}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content)


def epoch(folder: Path, train: bool, on_error: str = "skip") -> tuple[int, int]:
    """Images that an epoch gives, and that it leaves out; AssertionError unless these are all, and none is whole."""
    from apr_dali import ImageNetLoader

    with ImageNetLoader(
        folder, 64, train=train, image_size=32, threads=2, on_error=on_error, with_index=True
    ) as loader:
        came = [loader.files[number] for _, _, numbers in loader for number in numbers.tolist()]
        assert not [path for path in loader.skipped if Path(path).name.startswith("whole")], "a whole image left out"
        assert set(came) | set(loader.skipped) == set(loader.files), "images are missing"
        assert len(came) + len(loader.skipped) == len(loader.files), "images came twice"
        return len(came), len(loader.skipped)


def main(count: int, seed: int) -> None:
    """Write and read so many broken files, AT_A_TIME of them in a set."""
    warnings.filterwarnings("ignore", message="left out")
    for start in range(0, count, AT_A_TIME):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), min(AT_A_TIME, count - start), seed + start)
            for train in (False, True):
                came, skipped = epoch(Path(folder), train)
                print(f"{start}, train={train}: {came} came, {skipped} left out", flush=True)


if __name__ == "__main__":
    main(*(int(value) for value in (sys.argv[1:] + ["2000", "0"][len(sys.argv) - 1 :])))
