"""How image files become RGB: with the levels that the loaders give, or refused by name, in one place."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import tolerances
from helpers.pillow import READS_YCBCR
from helpers.project import ROOT
from helpers.tar_files import folder_of
from PIL import Image

from apr_dali import ImageNetLoader
from apr_dali.commands.analyses import gallery, templates
from apr_dali.data import arrays, imagenet_c
from apr_dali.data.check import quick_check
from apr_dali.data.folders import ImageSet, open_set
from apr_dali.data.image_file import open_image, to_rgb
from apr_dali.errors import InputError
from apr_dali.eval.evaluations import tsne
from apr_dali.eval.evaluations.swap import open_pair
from apr_dali.recipes import IMAGENET
from apr_dali.training import datasets as training_images

SIDE = 32
RAMP = (np.arange(SIDE * SIDE, dtype=np.uint16) * 64).reshape(SIDE, SIDE)
SCALED = np.rint(RAMP / 257).astype(np.uint8)


def twelve_bits(levels: np.ndarray) -> bytes:
    """A TIFF of 12 bits per pixel, which Pillow reads but does not write."""
    bits = "".join(f"{level:012b}" for level in levels.ravel())
    data = bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))
    height, width = levels.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(
        np.array([tag, 3], "<u2").tobytes() + np.array([1, v], "<u4").tobytes() for tag, v in tags.items()
    )
    header = b"II*\0" + np.array([8 + len(data)], "<u4").tobytes()
    return header + data + np.array([len(tags)], "<u2").tobytes() + entries + bytes(4)


def encoded(kind: str) -> bytes:
    """RAMP as a file, with all its bits."""
    out = io.BytesIO()
    if kind == "pgm":
        return b"P5 %d %d 65535\n" % (SIDE, SIDE) + RAMP.astype(">u2").tobytes()
    if kind == "12 bits":
        return twelve_bits(RAMP >> 4)
    if kind == "float":
        Image.fromarray((RAMP / 65535).astype(np.float32)).save(out, "TIFF")
    else:
        Image.fromarray(RAMP).save(out, kind)
    return out.getvalue()


def loaded(path: Path) -> np.ndarray:
    """What ImageNetLoader shows of a file, uint8 (H, W, 3)."""
    source = ImageSet((str(path),), np.zeros(1, np.int64), ("only",))
    with ImageNetLoader(source, 1, train=False, scaling=None, image_size=SIDE, threads=1) as loader:
        images, _ = next(iter(loader))
    return np.rint(255 * (images[0].permute(1, 2, 0).numpy() * IMAGENET.std + IMAGENET.mean)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "pgm", "12 bits", "float"])
def test_more_than_8_bits_are_scaled_as_the_loader_scales_them(kind, tmp_path):
    path = tmp_path / "ramp.tif"
    path.write_bytes(encoded(kind))
    image = open_image(path)
    assert image.mode == "RGB"
    expected = np.rint((RAMP >> 4) / 4095 * 255) if kind == "12 bits" else SCALED
    for channel in range(3):
        np.testing.assert_array_equal(np.asarray(image)[..., channel], expected)
    apart = np.abs(np.asarray(image, np.int64) - loaded(path)).max()
    assert apart <= (tolerances.LEVELS_OF_12_BITS if kind == "12 bits" else 0)
    np.testing.assert_array_equal(np.asarray(open_image(io.BytesIO(path.read_bytes()))), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", *["YCbCr"] * READS_YCBCR])
def test_8_bits_are_as_pillow_converts_them(mode, photos, tmp_path):
    photo = Image.fromarray(photos[0][:SIDE, :SIDE]).convert("L" if mode == "LA" else "RGB").convert(mode)
    path = tmp_path / "photo.tif"
    photo.save(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(open_image(path)), expected)
    np.testing.assert_array_equal(np.asarray(to_rgb(photo)), expected)


NO_RANGE = [
    (np.float32([[0, 255]]), r"floating-point levels must be in 0\.\.1, got 0\.\.255"),
    (np.float32([[-0.5, 1]]), r"floating-point levels must be in 0\.\.1, got -0\.5\.\.1"),
    (np.float32([[0, np.nan]]), r"floating-point levels must be in 0\.\.1, got nan"),
    (np.int32([[0, 70000]]), "32-bit integer levels have no known range"),
    (np.int32([[0, 255]]), "32-bit integer levels have no known range"),
]


@pytest.mark.parametrize(("levels", "told"), NO_RANGE)
def test_levels_of_no_known_range_are_refused_by_name(levels, told, tmp_path):
    Image.fromarray(levels).save(tmp_path / "image.tif")
    with pytest.raises(InputError, match=rf"image\.tif cannot be decoded \({told}"):
        open_image(tmp_path / "image.tif")


@pytest.fixture
def with_a_tiff(tmp_path):
    """A function: the set of a whole image and a TIFF with these bytes, in a folder or a tar."""

    def make(content: bytes, kind: str, name: str = "b.TIF") -> Path:
        whole = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE)).save(whole, "JPEG")
        files = {"a.jpg": whole.getvalue(), name: content}
        if kind == "tar":
            labels = {f"{file[0]}.cls": b"0" for file in files}
            return folder_of(tmp_path / "set", sorted((files | labels).items()), classes="only\n")
        (tmp_path / "set" / "only").mkdir(parents=True)
        for file, data in files.items():
            (tmp_path / "set" / "only" / file).write_bytes(data)
        return tmp_path / "set"

    return make


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize(("levels", "told"), NO_RANGE)
def test_the_loader_refuses_levels_of_no_known_range(levels, told, kind, with_a_tiff):
    """Before work starts; its decoder would show them white."""
    out = io.BytesIO()
    Image.fromarray(levels).save(out, "TIFF")
    root = with_a_tiff(out.getvalue(), kind)
    named = f"{root}/only/b.TIF" if kind == "folder" else f"{root}/0.tar/b"
    with pytest.raises(InputError, match=rf"{named} cannot be decoded \({told}.*leave such images out"):
        ImageNetLoader(root, 2, threads=1, image_size=SIDE)
    with ImageNetLoader(root, 2, train=False, threads=1, image_size=SIDE, on_error="skip") as loader:
        assert [len(images) for images, _ in loader] == [1]
        assert loader.skipped == (named,)


def samples_of(levels: np.ndarray, form: int) -> bytes:
    """A TIFF (H, W, 3) of levels that Pillow can neither write nor read. form: TIFF's number for their kind."""
    height, width, channels = levels.shape
    tags = {256: width, 257: height, 258: levels.itemsize * 8, 259: 1, 262: 2, 273: 8, 277: channels, 278: height}
    tags |= {279: levels.nbytes, 339: form}
    entries = b"".join(np.uint16([tag, 3]).tobytes() + np.uint32([1, v]).tobytes() for tag, v in tags.items())
    header = b"II*\0" + np.uint32([8 + levels.nbytes]).tobytes()
    return header + levels.tobytes() + np.uint16([len(tags)]).tobytes() + entries + bytes(4)


@pytest.mark.parametrize(("dtype", "form"), [("float32", 3), ("float64", 3), ("uint32", 1), ("int16", 2)])
@pytest.mark.parametrize("name", ["b.tiff", "b.jpg"])
def test_the_quick_check_knows_levels_of_no_known_range(dtype, form, name, with_a_tiff):
    root = with_a_tiff(samples_of(np.zeros((4, 4, 3), dtype), form), "folder", name)
    files = open_set(root).files
    bits = np.dtype(dtype).itemsize * 8
    told = f"levels of {bits} bits in TIFF's sample format {form} have no known range: save the image with 8 or 16 bits"
    assert quick_check(files, 1) == [(f"{root}/only/{name}", f"{told}, unsigned")]


@pytest.mark.parametrize("kind", ["TIFF", "12 bits", "float", "big", "motorola", "jpeg", "nothing", "cut"])
def test_the_quick_check_passes_levels_that_are_known(kind, with_a_tiff, photos):
    """What is broken otherwise is for the decoder to say."""
    out = io.BytesIO()
    if kind in ("big", "jpeg"):
        options = {"big_tiff": True} if kind == "big" else {"compression": "jpeg"}
        Image.fromarray(photos[0][:SIDE, :SIDE]).save(out, "TIFF", **options)
    contents = {"motorola": b"MM\0*\0\0\0\x08\0\0", "nothing": b"II*\0", "cut": encoded("TIFF")[:-90]}
    content = out.getvalue() or contents.get(kind) or encoded(kind)
    assert quick_check(open_set(with_a_tiff(content, "folder")).files, 1) == []


@pytest.mark.parametrize("content", [None, b"", b"no image", encoded("PNG")[:80]], ids=["none", "empty", "text", "cut"])
def test_a_broken_file_is_named(content, tmp_path):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.png cannot be decoded \("):
        open_image(path)
    if content is not None:
        with path.open("rb") as file, pytest.raises(InputError, match=r"broken\.png cannot be decoded \("):
            open_image(file)
        with pytest.raises(InputError, match=r"^an image cannot be decoded"):
            open_image(io.BytesIO(content))


@pytest.fixture
def gray(tmp_path) -> Path:
    """A folder train/a and val/a of one image with 16 gray bits."""
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "ramp.png").write_bytes(encoded("PNG"))
    return tmp_path


def test_everything_that_opens_images_scales_them(gray):
    path = str(gray / "train" / "a" / "ramp.png")
    expected = np.stack([SCALED] * 3, axis=-1)
    found = {
        "train_cifar": arrays.load_set("folder", "train", gray, SIDE).images[0],
        "small sets": arrays.open_images(gray / "train")[0][0],
        "swap": open_pair([path, path], None)[1],
        "tsne": tsne._read(str(gray / "train"), SIDE, 1)[0],
        "samples.png": np.asarray(training_images.some_images(training_images.open_set(gray / "train"), 1)[0][0]),
        "templates": np.stack([255 * templates._gray(path)] * 3, axis=-1),
    }
    for name, image in found.items():
        np.testing.assert_array_equal(image, expected, err_msg=name)
    # These scale the shorter side to 8/7 of the crop first: 32 for 28.
    for crop in (imagenet_c.cropped(path, 28), gallery._photographs([path, path], 28)[0][1]):
        np.testing.assert_array_equal(crop, expected[2:-2, 2:-2])


def test_no_other_place_decodes_an_image_file():
    # What looks at sizes or for broken files, and what reads back what it has just encoded itself.
    allowed = {
        "apr_dali/corruptions/digital.py",
        "apr_dali/corruptions/frost.py",  # its own photographs
        "apr_dali/data/image_file.py",
        "apr_dali/data/check.py",
        "apr_dali/data/image_header.py",
        "apr_dali/data/prepare/images.py",  # to encode smaller what the trainers read later
        "apr_dali/data/corruption_sets.py",
        "apr_dali/data/small_corruptions.py",
        "eval/analyses/gallery.py",
        "examples/litdata_stream.py",  # whose bytes go into the chunks as they are
        "eval/analyses/method_gallery.py",  # what it has just drawn
        "pipelines/loader.py",  # their sizes alone
    }
    places = [*ROOT.glob("*.py"), *ROOT.glob("examples/*.py")]
    for room in ("apr_dali", "eval", "pipelines", "kernels"):
        places += ROOT.glob(f"{room}/**/*.py")
    opening = re.compile(r"Image\.open\(|imread\(|read_image\(|decode_image\(|default_loader")
    found = {str(path.relative_to(ROOT)) for path in places if opening.search(path.read_text())}
    linked = re.compile("^apr_dali/(eval|pipelines|kernels)/")
    assert {name for name in found if not linked.match(name)} == allowed
