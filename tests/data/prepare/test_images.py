"""What is said of image files, and how large ones are made smaller."""

import io

import numpy as np
import pytest
import torch
from helpers.archives import encoded
from PIL import Image

from apr_dali.data.image_file import to_rgb
from apr_dali.data.prepare import images
from apr_dali.data.prepare.images import extension_of, oddities, smaller
from apr_dali.errors import InputError


def photo(crops, height: int, width: int, **options) -> bytes:
    """A JPEG file of a photograph."""
    buffer = io.BytesIO()
    Image.fromarray(crops(1, height, width)[0]).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("form", "name"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")])
def test_extensions_by_the_content(form, name):
    assert extension_of(encoded(1, form=form)) == name
    assert oddities(encoded(1, form=form), form.lower()) == []


def test_names_of_another_format():
    assert oddities(encoded(1), "png") == ["JPG under a name with .png"]
    assert oddities(encoded(1), "JPEG") == []


def test_a_jpeg_of_four_channels():
    assert oddities(encoded(1, mode="CMYK"), "jpg") == ["CMYK"]
    plain = encoded(1, mode="CMYK")
    at = plain.index(b"Adobe")
    assert oddities(plain[: at - 4] + plain[at + 12 :], "jpg") == ["CMYK without Adobe's marker, which no loader takes"]


def test_exif_that_is_whole_is_not_odd():
    exif = Image.Exif()
    exif[274], exif[271] = 6, "maker"
    assert oddities(encoded(1, exif=exif.tobytes()), "jpg") == []
    assert oddities(encoded(1, exif=b"Exif\0\0" + b"rubbish"), "jpg") == ["broken EXIF data"]


@pytest.mark.parametrize("size", [(50, 50), (50, 20), (1, 50)])
def test_what_is_not_larger_keeps_its_bytes(size):
    content = encoded(1, *size)
    assert smaller(content, "jpg", 50, 90) == (content, None)


@pytest.mark.parametrize(
    ("size", "made"), [((51, 20), (50, 20)), ((20, 51), (20, 50)), ((400, 100), (50, 12)), ((1000, 3), (50, 1))]
)
def test_the_longer_side(size, made):
    content, why_not = smaller(encoded(1, *size), "jpg", 50, 90)
    assert (Image.open(io.BytesIO(content)).size, why_not) == (made, None)


@pytest.mark.parametrize("side", [130, 300])
def test_it_shows_the_same(crops, side):
    """Against a filter that takes all of the image's area: few levels, where another photograph is tens away."""
    content, _ = smaller(photo(crops, side, side), "jpg", 100, 95)
    got = np.asarray(Image.open(io.BytesIO(content)), np.float64)
    whole = Image.fromarray(crops(1, side, side)[0]).resize((100, 100), Image.Resampling.LANCZOS)
    assert np.abs(got - np.asarray(whole)).mean() < 5
    assert np.abs(got - np.asarray(whole)[::-1]).mean() > 15


@pytest.mark.parametrize("by", [images._by_native, images._by_torch])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_filter_is_pillows_bicubic_one(crops, mode, by, request):
    """Weights of whole numbers of fewer bits: a level aside at most. JPEG would add its own."""
    if by is images._by_native:
        request.getfixturevalue("native")
    whole = Image.fromarray(crops(1, 60, 90)[0]).convert(mode)
    made = by(whole, 50, 33)
    expected = whole.resize((50, 33), Image.Resampling.BICUBIC)
    assert made.shape == ((33, 50) if mode == "L" else (33, 50, 4))
    assert np.abs(made.reshape(33, 50, -1)[:, :, :3].squeeze().astype(np.int64) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_torch_has_nothing_to_warn_of(crops, mode, recwarn):
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # not only the first time in this process
    try:
        images._by_torch(Image.fromarray(crops(1, 60, 90)[0]).convert(mode), 50, 33)
    finally:
        torch.set_warn_always(always)
    # Not what Python says of other tests' garbage, which it may collect just now.
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_torch_gives_the_same_bytes_where_nothing_was_built(crops, mode, monkeypatch):
    content = io.BytesIO()
    Image.fromarray(crops(1, 60, 90)[0]).convert(mode).save(content, "JPEG")
    made, _ = smaller(content.getvalue(), "jpg", 50, 90)
    monkeypatch.setattr(images.resample, "available", lambda: False)
    assert smaller(content.getvalue(), "jpg", 50, 90) == (made, None)


def test_without_anything_to_scale_with_it_is_refused(monkeypatch):
    monkeypatch.setattr(images, "find_spec", {}.get)
    monkeypatch.setattr(images.resample, "available", lambda: True)
    images.check_scaling()
    monkeypatch.setattr(images.resample, "available", lambda: False)
    with pytest.raises(InputError, match="max-side needs the native operators or torch"):
        images.check_scaling()


def test_quality_says_how_large_it_is(crops):
    content = photo(crops, 200, 200)
    sizes = [len(smaller(content, "jpg", 150, quality)[0]) for quality in (30, 90)]
    assert sizes[0] < sizes[1] / 2


def test_gray_stays_gray_and_orientation_is_kept():
    exif = Image.Exif()
    exif[274] = 6
    content, _ = smaller(encoded(1, 90, 60, mode="L", exif=exif.tobytes()), "JPEG", 50, 90)
    image = Image.open(io.BytesIO(content))
    assert (image.mode, image.size, image.getexif()[274]) == ("L", (50, 33), 6)


def test_other_formats():
    png = encoded(1, 90, 60, form="PNG")
    assert Image.open(io.BytesIO(smaller(png, "png", 50, 90)[0])).format == "PNG"
    # A name that says JPEG, as one of ImageNet's does.
    assert Image.open(io.BytesIO(smaller(png, "JPEG", 50, 90)[0])).format == "JPEG"
    webp = encoded(1, 90, 60, form="WEBP")
    content, why_not = smaller(webp, "webp", 50, 90)
    assert content == webp
    assert "only JPEG and PNG files are made smaller, and its name ends with .webp" in why_not


def test_cmyk_becomes_rgb_without_its_profile():
    content, why_not = smaller(encoded(1, 90, 60, mode="CMYK", icc_profile=b"of CMYK"), "jpg", 50, 90)
    image = Image.open(io.BytesIO(content))
    assert (image.mode, image.info.get("icc_profile"), why_not) == ("RGB", None, None)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGBA"])
def test_a_png_stays_gray_or_colored_without_transparency(mode):
    levels = np.random.default_rng(1).integers(0, 2, (60, 90), np.uint16) * 65535
    whole = Image.fromarray(levels) if mode == "I;16" else Image.fromarray(levels.astype(np.uint8)).convert(mode)
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", icc_profile=b"profile")
    made, why_not = smaller(buffer.getvalue(), "png", 50, 90)
    image = Image.open(io.BytesIO(made))
    kept = (image.mode, image.size, image.info["icc_profile"], why_not)
    assert kept == ("RGB" if mode in ("P", "RGBA") else "L", (50, 33), b"profile", None)
    shown = to_rgb(Image.open(buffer)).resize((50, 33), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(image.convert("RGB"), np.int64) - np.asarray(shown)).max() <= 1


@pytest.mark.parametrize(
    "broken", [b"", b"\xff\xd8\xff", encoded(1, 90, 60)[:300], encoded(1, 90, 60, form="PNG")[:50]]
)
def test_what_cannot_be_decoded_stays_and_is_named(broken):
    content, why_not = smaller(broken, "jpg", 50, 90)
    assert content == broken
    assert why_not.startswith("left as it is, though it may be larger than 50 pixels: ")
