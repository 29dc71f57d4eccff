"""Images made smaller in C++: the same bytes as torch's filter gives."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from apr_dali.kernels.cpu import backend
from apr_dali.kernels.cpu import resample as resample_module
from apr_dali.kernels.cpu.resample import resample

pytestmark = pytest.mark.usefixtures("native")


def by_torch(levels, width, height):
    planes = torch.from_numpy(levels).permute(2, 0, 1)[None]
    made = interpolate(planes, (height, width), mode="bicubic", antialias=True)
    return made[0].permute(1, 2, 0).numpy()


# Sides that are no multiple of what is made at a time; a side that stays; scales that take few neighbors and many.
SIZES = [(90, 60, 50, 33), (64, 48, 50, 38), (67, 33, 41, 20), (51, 7, 50, 7), (20, 51, 20, 50), (300, 40, 17, 2)]


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("from_width", "from_height", "width", "height"), [*SIZES, (1000, 3, 50, 1), (5, 9, 1, 2)])
@pytest.mark.parametrize("extreme", [False, True])
def test_it_is_torchs_filter(from_width, from_height, width, height, extreme):
    """extreme: levels of 0 and 255 alone, which the filter overshoots."""
    levels = np.random.default_rng(0).integers(256, size=(from_height, from_width, 3), dtype=np.uint8)
    levels = levels // 128 * 255 if extreme else levels
    made = resample(Image.fromarray(levels), width, height)
    np.testing.assert_array_equal(made[:, :, :3], by_torch(levels, width, height))


SHOWN = getattr(Image.Image, "__arrow_c_array__", None)


def in_pieces(_):
    raise ValueError("Image is in multiple array blocks, use imaging_new_block for zero copy")


def laid_out_otherwise(_):
    if SHOWN is None:
        pytest.skip("Pillow before 11.2")
    return SHOWN(Image.new("L", (40, 30)))


@pytest.mark.parametrize("shown", [in_pieces, laid_out_otherwise])
def test_an_image_that_pillow_does_not_show_is_copied(shown, monkeypatch):
    """Older Pillow shows none; a large image may lie in several pieces, and newer Pillow may show other pixels."""
    levels = np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8)
    expected = resample(Image.fromarray(levels), 20, 15)
    asked = []
    monkeypatch.setattr(Image.Image, "__arrow_c_array__", lambda it: asked.append(it) or shown(it), raising=False)
    np.testing.assert_array_equal(resample(Image.fromarray(levels), 20, 15), expected)
    assert len(asked) == 1


def test_levels_outlive_the_image():
    image = Image.fromarray(np.full((30, 40, 3), 7, np.uint8))
    levels = resample_module._levels(image)
    del image
    Image.fromarray(np.full((30, 40, 3), 9, np.uint8)).load()
    assert levels.shape == (30, 40, 4)
    assert (levels[:, :, :3] == 7).all()


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4), (0, 4, 4)])
def test_other_shapes_are_refused(shape):
    whole = np.zeros((4, 4, 4), np.uint8)
    for arguments in ((np.zeros(shape, np.uint8), whole), (whole, np.zeros(shape, np.uint8))):
        with pytest.raises(ValueError, match="rows, columns and four channels"):
            backend.extension().resample(*arguments)


def test_without_the_extension_it_is_not_there(monkeypatch):
    def missing():
        raise ImportError("it was not built")

    assert resample_module.available()
    monkeypatch.setattr(resample_module, "extension", missing)
    assert not resample_module.available()
