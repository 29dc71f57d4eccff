"""Gray networks: what their loaders give, their first layer, and how color images reach them."""

import numpy as np
import pytest
import torch
from helpers import tolerances
from PIL import Image
from torchvision.transforms import v2

from apr_dali import CifarLoader, ImageNetLoader, recipes
from apr_dali.data.arrays import ArraySet
from apr_dali.errors import InputError
from apr_dali.models import check_input, create_model
from apr_dali.models.gray import SeesGray
from apr_dali.pillow_ops import gray_levels
from apr_dali.training.options import CifarOptions, ImageNetOptions

SIZE = 32
MEAN, STD = (sum(values) / 3 for values in (recipes.IMAGENET.mean, recipes.IMAGENET.std))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, crops):
    """Images as PNG files in color, and the same in gray as Pillow makes them."""
    root = tmp_path_factory.mktemp("folder")
    for index, image in enumerate(crops(8, 40, 50)):
        for kind in ("color", "gray"):
            (root / kind / "only").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).convert("L" if kind == "gray" else "RGB").save(root / kind / "only" / f"{index}.png")
    return root


def images_of(folder, **options):
    with ImageNetLoader(folder, 8, image_size=SIZE, threads=1, seed=3, **options) as loader:
        return torch.cat([images for images, _ in loader])


def test_gray_levels_are_pillows(crops):
    images = crops(4, 30, 20)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])
    found = gray_levels(images)
    assert found.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], expected)


def test_evaluation_gives_pillows_gray_levels(folder):
    images = images_of(folder / "color", train=False, in_chans=1, scaling=None)
    assert images.shape == (8, 1, SIZE, SIZE)
    assert images.is_contiguous()
    paths = sorted((folder / "color" / "only").iterdir())
    expected = [np.asarray(v2.functional.center_crop(Image.open(p).convert("L"), [SIZE])) for p in paths]
    levels = (images[:, 0].numpy() * STD + MEAN) * 255
    assert np.abs(levels - np.stack(expected)).max() < tolerances.LEVELS + 0.01


@pytest.mark.parametrize("aug", recipes.AUGMENTATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_training_in_gray_is_training_on_gray_photographs(folder, aug, dtype):
    """One channel of what color training makes of images that have but gray levels."""
    recipe = recipes.IMAGENET.gray()
    expected = images_of(folder / "gray", aug=aug, recipe=recipe, dtype=dtype)
    found = images_of(folder / "gray", aug=aug, in_chans=1, dtype=dtype)
    assert found.shape == (len(expected), 1, SIZE, SIZE)
    torch.testing.assert_close(found, expected[:, :1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("aug", recipes.CIFAR_AUGMENTATIONS)
def test_small_images_in_gray(crops, aug):
    images = crops(8, SIZE, SIZE)
    labels, names = np.zeros(8, np.int64), ("only",)
    gray = ArraySet(gray_levels(images), labels, names)
    options = {"aug": aug, "threads": 1, "seed": 3}
    (expected, _), (found, _) = (
        next(iter(loader))
        for loader in (
            CifarLoader(gray, 8, recipe=recipes.CIFAR.gray(), **options),
            CifarLoader(ArraySet(images, labels, names), 8, in_chans=1, **options),
        )
    )
    assert found.shape == (len(expected), 1, SIZE, SIZE)
    torch.testing.assert_close(found, expected[:, :1], rtol=0, atol=0)


def test_the_recipe_in_gray_is_the_average():
    gray = recipes.CIFAR.gray()
    assert gray.mean == pytest.approx((sum(recipes.CIFAR.mean) / 3,) * 3)
    assert gray.std == pytest.approx((sum(recipes.CIFAR.std) / 3,) * 3)
    assert gray.gray() == gray
    assert gray.pair_probability == recipes.CIFAR.pair_probability


@pytest.mark.parametrize("name", ["resnet18", "timm/test_resnet", "cifar/wrn-16-1", "cifar/allconv", "squeezenet1_1"])
def test_a_gray_network_gives_what_the_color_network_gives_for_gray_images(name):
    torch.manual_seed(0)
    color = create_model(name, 5).eval()
    torch.manual_seed(0)
    gray = create_model(name, 5, in_chans=1)
    check_input(gray, 64, 5, in_chans=1)
    gray.eval()
    if not name.startswith("timm"):
        # timm's gray networks draw weights of their own.
        images = torch.randn(2, 1, 64, 64)
        torch.testing.assert_close(gray(images), color(images.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="cannot take images"):
        check_input(gray, 64, 5)


def test_color_images_reach_a_gray_network_as_gray_levels(crops):
    images = crops(4, SIZE, SIZE)
    recipe = recipes.IMAGENET.gray()
    normalized = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - recipe.mean[0]) / recipe.std[0]
    seen = SeesGray(torch.nn.Identity(), recipe)(normalized)
    assert seen.shape == (4, 1, SIZE, SIZE)
    levels = (seen[:, 0] * recipe.std[0] + recipe.mean[0]) * 255
    assert (levels - torch.from_numpy(gray_levels(images)[..., 0].astype(np.float32))).abs().max() < 0.51


@pytest.mark.parametrize("channels", [2, 4, "1"])
def test_other_numbers_of_channels_are_refused(folder, channels):
    with pytest.raises(InputError, match="in_chans must be one of 1, 3"):
        images_of(folder / "color", in_chans=channels)
    with pytest.raises(InputError, match="--in-chans must be one of 1, 3"):
        ImageNetOptions(data="x", in_chans=channels)
    with pytest.raises(InputError, match="does not go with --spectrum"):
        CifarOptions(in_chans=1, adversarial="fgsm")
