"""What DALI must not be given to decode: in a batch of 32 or more it ends the process."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import forked, fuzz_images
from nvidia import nvimgcodec
from PIL import Image

from apr_dali.pipelines import dlpack
from apr_dali.pipelines.encoded import faults, longest_side, why_unsafe

IMAGES = fuzz_images.originals()


def python(*given: object) -> str:
    """What a process of its own prints; fails unless it ends as it should."""
    done = forked.run(*given)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_no_broken_file_ends_the_process():
    lines = python(fuzz_images.__file__, "150", "0").splitlines()
    assert len(lines) == 2
    for line, train in zip(lines, (False, True), strict=True):
        came, left_out = (int(part.split()[0]) for part in line.split(": ")[1].split(", "))
        assert line.startswith(f"0, train={train}: ")
        assert came + left_out == 190
        assert left_out > 50, "the files are hardly broken"


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
def test_a_text_among_images_is_named(tmp_path, train):
    folder, script = tmp_path / "set", tmp_path / "script.py"
    fuzz_images.write(folder, 0, 0)
    text = folder / "class1" / "zz.jpg"
    text.write_text("hello, this is no image")
    script.write_text(
        f"import sys, warnings; sys.path.insert(0, {str(Path(fuzz_images.__file__).parent)!r})\n"
        "import fuzz_images; from apr_dali.errors import InputError\n"
        "warnings.simplefilter('ignore')\n"
        f"print(fuzz_images.epoch({str(folder)!r}, {train}))\n"
        f"try: fuzz_images.epoch({str(folder)!r}, {train}, 'raise')\n"
        "except InputError as error: print(error)"
    )
    skipped, refused = python(script).splitlines()
    assert skipped == "(40, 1)"
    assert refused.startswith(f"the image {text} cannot be decoded (not an image: it starts with b'hello, t'): remove")


def changed(name: str, at: int, value: bytes) -> bytes:
    return IMAGES[name][:at] + value + IMAGES[name][at + len(value) :]


def tiff(dtype: type) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, np.zeros((48, 48), dtype))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello, I am no picture", "not an image: it starts with b'hello, I'"),
        (IMAGES["GIF"], "not an image: it starts with b'GIF8"),
        (IMAGES["JPEG"][:100], "truncated: no end marker"),
        (IMAGES["JPEG"][:20] + bytes(600) + IMAGES["JPEG"][-2:], "broken header"),
        (IMAGES["PNG"][:20], "truncated: no end marker"),
        (changed("BMP", 28, b"\xab\x60"), "broken header"),  # 24747 bits per pixel
        (changed("PNG", 16, (2**31 - 1).to_bytes(4, "big")), "its header says 2147483647×48 pixels"),
        (changed("PNG", 16, (40_000).to_bytes(4, "big") * 2), "its header says 40000×40000 pixels"),
        (changed("BMP", 18, bytes(4)), "its header says 0×48 pixels"),
        (IMAGES["JPEG2000"], "JPEG 2000"),
        (tiff(np.uint32), "has levels of the type uint32: DALI decodes uint8, uint16, float32"),
        (tiff(np.float64), "has levels of the type float64"),
    ],
)
def test_what_is_refused_and_why(content, reason):
    found = why_unsafe(np.frombuffer(content, np.uint8))
    assert found is not None
    assert found.startswith(reason)


def test_crops_are_drawn_from_images_as_long_as_dali_can():
    assert longest_side((3 / 4, 4 / 3)) == 40132
    assert longest_side((0.1, 2)) == 14654
    tall = np.frombuffer(changed("BMP", 22, (40_133).to_bytes(4, "little")), np.uint8)
    assert why_unsafe(tall) is None
    assert why_unsafe(tall, 40_132) == "its header says 48×40133 pixels"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_levels_that_dali_decodes_pass(dtype):
    assert why_unsafe(np.frombuffer(tiff(dtype), np.uint8)) is None


@pytest.mark.parametrize("name", sorted(set(fuzz_images.FORMATS) - {"GIF", "JPEG2000"}))
def test_whole_images_of_all_formats_pass(name):
    assert why_unsafe(np.frombuffer(IMAGES[name], np.uint8)) is None


@pytest.fixture
def plain():
    native = dlpack.native()
    if native is None:
        pytest.skip("the extension was not built")

    def check(content: bytes, longest: int = 2**20) -> bool:
        return bool(native.plain_jpegs([np.frombuffer(content, np.uint8).copy().__dlpack__()], longest, 2**31)[0])

    return check


def jpeg(**options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(out, "JPEG", **options)
    return out.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"comment": b"x"}], ids=str)
def test_jpegs_as_libraries_write_them_are_plain(options, plain):
    content = jpeg(**options)
    assert plain(content)
    assert not plain(content, 63)
    assert plain(content, 64)


def test_gray_jpegs_are_plain_and_what_is_rare_is_looked_at_by_dalis_parser(plain):
    gray, cmyk, exif = io.BytesIO(), io.BytesIO(), Image.Exif()
    Image.new("L", (40, 30)).save(gray, "JPEG")
    Image.new("CMYK", (40, 30)).save(cmyk, "JPEG")
    exif[0x0112] = 6
    assert plain(gray.getvalue())
    for content in (b"", cmyk.getvalue(), jpeg(exif=exif), IMAGES["PNG"], b"hello, I am no picture"):
        assert not plain(content)


def test_a_header_cut_anywhere_or_changed_is_not_plain_unless_the_parser_takes_it(plain):
    content = jpeg(progressive=True, comment=b"some words")
    start = content.index(b"\xff\xda")
    assert not any(plain(content[:size]) for size in range(start + 2))
    random = np.random.default_rng(0)
    taken = 0
    for _ in range(3000):
        changed = bytearray(content)
        for at in random.integers(0, start + 14, random.integers(1, 4)):
            changed[at] = random.integers(0, 256)
        if plain(bytes(changed)):
            taken += 1
            stream = nvimgcodec.CodeStream(bytes(changed))
            assert 0 < stream.height * stream.width * 3 < 2**31
            assert (stream.codec_name, str(stream.dtype)) == ("jpeg", "uint8")
    assert 100 < taken < 2900


def test_every_image_of_a_batch_that_is_refused_is_named():
    text = "Error in\nthe image of /a b/1.jpg\nempty file\nthe image of 3.17\nbroken header\n\nCurrent pipeline"
    assert faults(text + text) == [("/a b/1.jpg", "empty file"), ("3.17", "broken header")]
    assert faults("Failed to decode sample #3 : /a b/1.jpg") == []
