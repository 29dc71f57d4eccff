"""The search for broken images: what is found, and what must not be taken for broken."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import die
from PIL import Image

from apr_dali.data.check import count_per_class, full_check, quick_check
from apr_dali.data.folders import ImageSet
from apr_dali.errors import InputError


def encode(image_format: str = "JPEG", side: int = 64, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, image_format, **options)
    return out.getvalue()


def write(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def with_preview(jpeg: bytes, preview: bytes) -> bytes:
    """`jpeg` with `preview` in its header, where cameras put a small JPEG with an end marker of its own."""
    segment = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    return jpeg[:2] + segment + jpeg[2:]


@pytest.fixture(params=["quick", "full"])
def check(request):
    """Both checks as a function of the files."""
    return (lambda files: quick_check(files, 2)) if request.param == "quick" else (lambda files: full_check(files, 1))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM"])
def test_good_images_of_every_format_whatever_their_name(tmp_path, check, image_format):
    assert check([write(tmp_path, "a.JPEG", encode(image_format))]) == []


def test_good_jpegs_of_every_kind(tmp_path, check):
    plain = encode()
    files = [
        write(tmp_path, "progressive.jpg", encode(progressive=True)),
        write(tmp_path, "padded.jpg", plain + bytes(40)),
        write(tmp_path, "film_behind.jpg", plain + bytes(5000) + b"\xff\xda" + bytes(5000)),
        write(tmp_path, "fill_bytes.jpg", plain[:2] + b"\xff\xff" + plain[2:] + bytes(100)),
        write(tmp_path, "preview.jpg", with_preview(plain, encode(side=16))),
        write(tmp_path, "padded.png", encode("PNG") + bytes(100)),
    ]
    assert check(files) == []


def test_bad_files_and_why(tmp_path, check):
    plain = encode()
    bad = {
        "empty.jpg": (b"", "empty file"),
        "text.jpg": (b"hello, I am no picture", "not an image"),
        "half.jpg": (plain[: len(plain) // 2], "truncated"),
        "preview_half.jpg": (with_preview(plain, encode(side=16))[:-60], "truncated"),
        "header.jpg": (plain[:300], "truncated"),
        "junk_in_header.jpg": (plain[:20] + b"junk" + plain[20:] + bytes(100), "no end marker"),
        "half.png": (encode("PNG")[:5000], "truncated"),
        "gif.jpg": (encode("GIF"), "not an image: it starts with b'gif"),
    }
    files = [write(tmp_path, name, content) for name, (content, _) in bad.items()]
    files.insert(2, write(tmp_path, "good.jpg", plain))
    found = check(files)
    assert [Path(path).name for path, _ in found] == list(bad)
    for (_, reason), (_, expected) in zip(found, bad.values(), strict=True):
        assert expected in reason.lower()


def test_what_cannot_be_opened(tmp_path, check):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    files = [str(tmp_path / name) for name in ("missing.jpg", "folder.jpg", "loop.jpg")]
    reasons = dict(check(files))
    assert list(reasons) == files
    assert reasons[files[0]] == "No such file or directory"
    assert reasons[files[1]] == "Is a directory"


@pytest.mark.parametrize("image_format", ["TIFF", "WEBP", "BMP", "PPM"])
def test_other_truncated_formats_need_decoding(tmp_path, image_format):
    file = write(tmp_path, "a.jpg", encode(image_format)[:-2000])
    assert quick_check([file], 1) == []
    assert [path for path, _ in full_check([file], 1)] == [file]


@pytest.mark.slow
def test_data_broken_in_the_middle_need_decoding(tmp_path):
    content = bytearray(encode(side=200))
    positions = np.random.default_rng(3).integers(700, len(content) - 2, 2000)
    content[700:-2] = bytes(b ^ 0x5A if i in set(positions) else b for i, b in enumerate(content[700:-2], 700))
    file = write(tmp_path, "a.jpg", bytes(content))
    assert quick_check([file], 1) == []
    assert full_check([file], 1) == [(file, "broken data stream when reading image file")]


def test_a_text_that_starts_like_an_image(tmp_path):
    file = write(tmp_path, "a.bmp", b"BMX bicycles")
    assert full_check([file], 1) == [(file, "not an image, though it starts like one")]


def test_the_words_of_a_missing_format_show_the_content(tmp_path):
    file = write(tmp_path, "a.jpg", b"GIF89a, really")
    assert quick_check([file], 1) == [(file, "not an image: it starts with b'GIF89a, '")]


def test_a_warning_about_a_large_image_is_no_fault(tmp_path, monkeypatch):
    file = write(tmp_path, "a.jpg", encode())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(file).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert full_check([file], 1) == []


def test_an_image_of_any_size_is_no_fault(tmp_path, monkeypatch):
    """Over twice its limit, 179 megapixels, Pillow takes an image for an attack."""
    file = write(tmp_path, "a.png", encode("PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(file)
    assert full_check([file], 1) == []
    assert Image.MAX_IMAGE_PIXELS == 64 * 64 // 2 - 1


def test_a_warning_about_a_truncated_file_is_a_fault(tmp_path, monkeypatch):
    def load(_: Image.Image) -> None:
        warnings.warn("Truncated File Read", stacklevel=1)

    monkeypatch.setattr("PIL.BmpImagePlugin.BmpImageFile.load", load)
    file = write(tmp_path, "a.bmp", encode("BMP"))
    assert full_check([file], 1) == [(file, "Truncated File Read")]


def test_order_does_not_depend_on_workers(tmp_path):
    good, bad = write(tmp_path, "good.jpg", encode(side=8)), encode(side=8)[:-4]
    files = [good] * 700
    expected = [0, 127, 128, 129, 500, 699]
    for index in expected:
        files[index] = write(tmp_path, f"{index}.jpg", bad)
    for found in (full_check(files, 1), full_check(files, 2), quick_check(files, 3)):
        assert [path for path, _ in found] == [files[index] for index in expected]


def test_no_files(check):
    assert check([]) == []


def test_a_process_that_dies_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("apr_dali.data.check._undecodable", die)
    with pytest.raises(InputError, match=r"one of 2 decoding processes died.*--processes"):
        full_check([write(tmp_path, "a.jpg", encode())], 2)


def test_counts_per_class():
    images = ImageSet(("a", "b", "c", "d"), np.array([0, 2, 2, 0]), ("x", "y", "z", "w"))
    assert count_per_class(images).tolist() == [2, 0, 2, 0]
    assert count_per_class(images, ["b", "d", "elsewhere"]).tolist() == [1, 0, 1, 0]
    assert count_per_class(images, images.files).dtype == np.int64


def test_levels_that_a_loader_would_show_white_are_faults(tmp_path):
    files = []
    for name, levels in (("float.tif", np.float32([[0, 255]])), ("right.tif", np.float32([[0, 1]]))):
        files.append(str(tmp_path / name))
        Image.fromarray(levels).save(files[-1])
    ((file, reason),) = full_check(files, 1)
    assert (file, reason.partition(",")[0]) == (files[0], "floating-point levels must be in 0..1")
