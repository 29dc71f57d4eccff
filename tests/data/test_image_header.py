"""What DALI would decode to another picture than the header says is refused, whatever the file is called."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.pillow import READS_YCBCR
from PIL import Image

from apr_dali import ImageNetLoader
from apr_dali.data.check import full_check, quick_check
from apr_dali.data.image_file import open_image
from apr_dali.data.image_header import why_misread, why_no_ink
from apr_dali.errors import InputError
from apr_dali.pipelines.encoded import why_unsafe
from apr_dali.recipes import IMAGENET

SIDE = 32
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.uint8)
COLOR = np.stack([8 * ROWS, 8 * COLUMNS, 4 * (ROWS + COLUMNS)], -1)
GRAY = COLOR[..., 2]
ALPHA = np.full((SIDE, SIDE, 1), 128, np.uint8)


def tiff(levels: np.ndarray, photometric: str | int = "minisblack", orientation: int = 1, **options) -> bytes:
    out = io.BytesIO()
    turned = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(out, levels, photometric=photometric, planarconfig="contig", extratags=turned, **options)
    return out.getvalue()


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def bmp(bits: int, masks: tuple[int, ...], pixels: bytes) -> bytes:
    """A BMP with masks that say where the colors are."""
    fields = (40, SIDE, SIDE, 1, bits, 3 if masks else 0, len(pixels), 0, 0, 0, 0)
    header = struct.pack("<IiiHHIIiiII", *fields) + struct.pack(f"<{len(masks)}I", *masks)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def pnm(kind: bytes, white: int, levels: np.ndarray, comment: bytes = b"") -> bytes:
    data = levels.astype(">u2" if white > 255 else np.uint8).tobytes()
    return b"%b\n%b%d %d\n%d\n" % (kind, comment, SIDE, SIDE, white) + data


def without_adobe(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


FOUR = np.concatenate([COLOR[::-1, :, ::-1], 0 * ALPHA], -1)
CMYK = saved(Image.fromarray(COLOR).convert("CMYK"), "JPEG", quality=95)
REFUSED = {
    "gray, white 15": (pnm(b"P5", 15, GRAY >> 4), "white is 15"),
    "gray, white 4095": (pnm(b"P5", 4095, GRAY.astype(int) * 16, b"# a comment\n"), "white is 4095"),
    "color, white 100": (pnm(b"P6", 100, COLOR // 3), "white is 100"),
    "levels as text": (b"P2\n2 2\n255\n0 1 2 3\n", "levels as text"),
    "float 0..255": (tiff(GRAY.astype(np.float32)), r"floating-point levels must be in 0\.\.1, got 0"),
    "float, color": (tiff((COLOR / 255).astype(np.float32), "rgb"), "levels of 32 bits"),
    "signed": (tiff(GRAY.astype(np.int8)), "levels of 8 bits in TIFF's sample format 2"),
    "lab": (tiff(COLOR, "cielab"), "colors of the kind 8"),
    "gray, alpha": (tiff(np.stack([GRAY, GRAY // 2], -1), extrasamples=["unassalpha"]), "2 samples per pixel"),
    "premultiplied": (tiff(np.concatenate([COLOR // 2, ALPHA], -1), "rgb", extrasamples=["assocalpha"]), "4 samples"),
    "turned": (tiff(COLOR, "rgb", 6), "lies on its side"),
    "mirrored": (tiff(GRAY, orientation=2), "lies on its side or mirrored"),
    "no bits": (saved(Image.fromarray(GRAY).convert("1"), "TIFF"), "does not say how many bits"),
    "BMP of 16 bits": (bmp(16, (), bytes(2 * SIDE * SIDE)), "BMP of 16 bits"),
    "BMP, red last": (bmp(32, (0xFF, 0xFF00, 0xFF0000), FOUR.tobytes()), "BMP of 32 bits"),
}
TAKEN = {
    "gray, white 255": pnm(b"P5", 255, GRAY, b"# a comment\n"),
    "color, 16 bits": pnm(b"P6", 65535, COLOR.astype(int) * 257),
    "float 0..1": tiff((GRAY / 255).astype(np.float32)),
    "alpha": tiff(np.concatenate([COLOR, ALPHA], -1), "rgb", extrasamples=["unassalpha"]),
    "white 0": tiff(GRAY, "miniswhite"),
    "16 bits": tiff(GRAY.astype(np.uint16) * 257),
    "palette": saved(Image.fromarray(COLOR).quantize(16), "TIFF"),
    "CMYK": saved(Image.fromarray(COLOR).convert("CMYK"), "TIFF"),
    "YCbCr": saved(Image.fromarray(COLOR).convert("YCbCr"), "TIFF"),
    "1 bit": saved(Image.fromarray(GRAY).convert("1"), "TIFF", compression="group4"),
    "BMP, blue last": bmp(32, (0xFF0000, 0xFF00, 0xFF), FOUR.tobytes()),
    "BMP": saved(Image.fromarray(COLOR), "BMP"),
    "CMYK of Adobe": CMYK,
}
if not READS_YCBCR:
    del TAKEN["YCbCr"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_misread_is_refused_by_its_header(name):
    content, message = REFUSED[name]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(why_misread(io.BytesIO(content)))
    assert why_unsafe(np.frombuffer(content, np.uint8)) is not None


def folder_with(tmp_path: Path, contents: dict[str, bytes]) -> list[str]:
    (tmp_path / "only").mkdir()
    files = [tmp_path / "only" / f"{n:02d}.jpg" for n in range(len(contents))]
    for file, content in zip(files, contents.values(), strict=True):
        file.write_bytes(content)
    return [str(file) for file in files]


@pytest.mark.filterwarnings("ignore:left out")
def test_checks_and_loaders_leave_out_the_same(tmp_path):
    contents = {name: content for name, (content, _) in REFUSED.items()}
    files = folder_with(tmp_path, contents | {"whole": TAKEN["BMP"]})
    assert [path for path, _ in quick_check(files, 1)] == files[:-1]
    assert [path for path, _ in full_check(files, 1)] == files[:-1]
    with ImageNetLoader(tmp_path, 4, train=False, threads=1, image_size=SIDE, on_error="skip") as loader:
        assert sum(len(images) for images, _ in loader) == 1
        assert sorted(loader.skipped) == files[:-1]


def test_what_is_taken_is_the_picture_of_the_header(tmp_path):
    files = folder_with(tmp_path, TAKEN)
    assert quick_check(files, 1) == full_check(files, 1) == []
    with ImageNetLoader(tmp_path, len(files), train=False, scaling=None, image_size=SIDE, threads=1) as loader:
        ((images, _),) = loader
    levels = 255 * (images.permute(0, 2, 3, 1).numpy() * IMAGENET.std + IMAGENET.mean)
    for name, file, shown in zip(TAKEN, files, levels, strict=True):
        # Two decoders of JPEG differ by a level or two.
        np.testing.assert_allclose(shown, np.asarray(open_image(file)), atol=2.5, err_msg=name)


def test_cmyk_that_does_not_say_how_it_is_meant_is_refused(tmp_path):
    unknown = without_adobe(CMYK)
    assert why_no_ink(io.BytesIO(CMYK)) is None
    assert "Adobe" in why_no_ink(io.BytesIO(unknown))
    assert "Adobe" in why_unsafe(np.frombuffer(unknown, np.uint8))
    (file,) = folder_with(tmp_path, {"unknown": unknown})
    assert [path for path, _ in full_check([file], 1)] == [file]
    with pytest.raises(InputError, match="Adobe"):
        open_image(file)


@pytest.mark.parametrize("orientation", [2, 6])
def test_pillow_does_not_turn_what_the_loader_does_not(orientation, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(COLOR, "rgb", orientation))
    with pytest.raises(InputError, match="save it upright"):
        open_image(tmp_path / "a.tif")


def test_what_cannot_be_read_is_for_the_decoder_to_say():
    for content in (b"", b"BM", b"P5\n", b"II*\0", b"II*\0\xff\xff\xff\xff", b"hello", TAKEN["16 bits"][:8]):
        assert why_misread(io.BytesIO(content)) is None
