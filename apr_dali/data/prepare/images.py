"""What is odd about an image file, and making large ones smaller."""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apr_dali.data.check import undecoded, why_no_image
from apr_dali.data.image_file import any_size, no_ink_known, to_rgb
from apr_dali.errors import InputError, install_command
from apr_dali.kernels.cpu import resample

_FORMATS = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"RIFF": "webp",
}
_SAME = {"jpeg": "jpg", "tiff": "tif"}
_WRITTEN = {"jpg": "JPEG", "png": "PNG"}
"""Formats in which images are made smaller, by their names' extension."""
_START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
BROKEN = "cannot be decoded"
"""How what is said of a broken image begins."""
_CMYK = 4
_EXIF = b"Exif\0\0"


class _Jpeg(NamedTuple):
    """What the header of a JPEG says; exif: as it stands in it."""

    width: int
    height: int
    channels: int
    exif: bytes


def extension_of(content: bytes) -> str:
    """What a file is called by its content; `jpg` where it starts like no known format."""
    return next((name for magic, name in _FORMATS.items() if content.startswith(magic)), "jpg")


def oddities(content: bytes, extension: str) -> list[str]:
    """What a person may want to know of an image file with this extension, the known odd ones of ImageNet among it."""
    broken = why_no_image(io.BytesIO(content))
    if broken is not None:
        return [f"{BROKEN}: {broken}"]
    found = []
    named, meant = _plain(extension), extension_of(content)
    if named != meant and not (meant == "jpg" and not content.startswith(b"\xff\xd8\xff")):
        found.append(f"{meant.upper()} under a name with .{extension}")
    header = _jpeg(content)
    if header is not None and header.channels == _CMYK:
        found.append("CMYK" if _has_ink(content) else "CMYK without Adobe's marker, which no loader takes")
    if header is not None and header.exif and _exif_is_broken(header.exif):
        found.append("broken EXIF data")
    return found


def check_scaling() -> None:
    """Raise InputError where nothing is installed that `smaller` scales images with."""
    if not resample.available() and find_spec("torch") is None:
        raise InputError(
            f"max-side needs the native operators or torch, which scale images: {install_command('cuda12')}"
        )


def smaller(content: bytes, extension: str, max_side: int, quality: int) -> tuple[bytes, str | None]:
    """An image whose longer side is above `max_side` scaled to that; the same bytes for all others.

    JPEG under any name of JPEG files; PNG stays PNG where the name says so. Gray stays gray, everything else becomes
    RGB. Its EXIF data and color profile are kept, but for a profile of CMYK. What cannot be decoded is kept, too: the
    reason comes along.
    """
    header = _jpeg(content)
    if header is not None and max(header.width, header.height) <= max_side:
        return content, None
    try:
        with any_size(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _scaled(content, extension, max_side, quality)
    # A broken image may raise anything.
    except Exception as error:  # noqa: BLE001
        return content, f"left as it is, though it may be larger than {max_side} pixels: {undecoded(error)}"


def _scaled(content: bytes, extension: str, max_side: int, quality: int) -> tuple[bytes, str | None]:
    with Image.open(io.BytesIO(content)) as image:
        if max(image.size) <= max_side:
            return content, None
        written = _WRITTEN.get(_plain(extension))
        if written is None:
            raise InputError(f"only JPEG and PNG files are made smaller, and its name ends with .{extension}")
        kept = {name: image.info[name] for name in ("exif", "icc_profile") if image.info.get(name)}
        width, height = _fitted(image.size, max_side)
        if image.format == "JPEG":
            # The decoder itself halves what stays large enough, which costs less than the filter does.
            image.draft(None, (width, height))
        if image.mode == "CMYK":
            kept.pop("icc_profile", None)  # of colors that it no longer has
        made = _resized(_gray_or_rgb(image), width, height)
        encoded = io.BytesIO()
        if written == "PNG":
            kept.pop("exif", None)
            made = made.convert("RGB") if made.mode == "RGBX" else made
        made.save(encoded, written, quality=quality, **kept)
        return encoded.getvalue(), None


def _gray_or_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as "L" or "RGB", without transparency."""
    mode = "L" if Image.getmodebase(image.mode) == "L" else "RGB"
    return image if image.mode == mode else to_rgb(image).convert(mode)


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    """A gray or RGB image, by the filter of Pillow's BICUBIC over all pixels that one is made of; RGB as RGBX.

    In C++ or, bit for bit the same, by torch: Pillow takes several times as long.
    """
    pixels = (_by_native if resample.available() else _by_torch)(image, width, height)
    mode = "L" if pixels.ndim == 2 else "RGBX"
    found = Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)
    found.readonly = 0  # nobody else has these bytes: saving it copies them otherwise
    return found


def _by_native(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """uint8 (height, width) of a gray image, (height, width, 4) of an RGB one."""
    if image.mode == "RGB":
        return resample.resample(image, width, height)
    return np.ascontiguousarray(resample.resample(image.convert("RGB"), width, height)[:, :, 0])


def _by_torch(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """The same."""
    import torch
    from torch.nn.functional import interpolate

    mode = "RGBX" if image.mode == "RGB" else "L"  # four bytes a pixel, as Pillow has them: nothing to pack
    # torch warns of bytes that cannot be written to; copying them takes little beside decoding.
    levels = torch.frombuffer(bytearray(image.tobytes("raw", mode)), dtype=torch.uint8)
    planes = levels.view(1, image.height, image.width, len(mode)).permute(0, 3, 1, 2)
    made = interpolate(planes, (height, width), mode="bicubic", antialias=True)
    pixels: NDArray[np.uint8] = made[0].permute(1, 2, 0).contiguous().numpy()
    return pixels[:, :, 0] if mode == "L" else pixels


def _fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    width, height = size
    scale = longest / max(size)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _plain(extension: str) -> str:
    return _SAME.get(extension.lower(), extension.lower())


def _jpeg(content: bytes) -> _Jpeg | None:
    """The header of a JPEG; None for another format, or a header without a frame."""
    if not content.startswith(b"\xff\xd8\xff"):
        return None
    exif, position = b"", 2
    while position + 9 < len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:
            position += 1  # a fill byte before a marker
            continue
        if marker in _START_OF_FRAME:
            height = int.from_bytes(content[position + 5 : position + 7], "big")
            width = int.from_bytes(content[position + 7 : position + 9], "big")
            return _Jpeg(width, height, content[position + 9], exif)
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == 0xE1 and content.startswith(_EXIF, position + 4):
            exif = exif or content[position + 4 : position + 2 + length]
        position += 2 + length
    return None


def _has_ink(content: bytes) -> bool:
    with Image.open(io.BytesIO(content)) as image:
        return not no_ink_known(image)


def _exif_is_broken(exif: bytes) -> bool:
    found = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found.load(exif)
            dict(found)
            for ifd in (0x8769, 0x8825):  # of the camera, of the place
                found.get_ifd(ifd)
    except Exception:  # noqa: BLE001 - a broken one may raise anything
        return True
    return False
