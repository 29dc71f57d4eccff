"""ImageNet's graphs against Pillow, torchvision and timm: geometries, crops and the order of what is done."""

import itertools

import numpy as np
import pytest
import torch
from helpers import tolerances
from helpers.loaders import gpu_graph
from PIL import Image
from torchvision.transforms import v2

from apr_dali import ImageNetLoader, recipes
from apr_dali.data.image_file import cut
from apr_dali.errors import InputError
from apr_dali.pipelines import imagenet
from apr_dali.pipelines.graph import pair_scales
from apr_dali.recipes import GEOMETRIES, AprRecipe, Scaling

SIZE = 64


def levels(images: torch.Tensor) -> np.ndarray:
    """Normalized (N, 3, H, W) as gray levels 0..255."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (recipes.IMAGENET.mean, recipes.IMAGENET.std))
    return ((images * std + mean) * 255).numpy()


def write(folder, images, name="{:02d}.png", **options) -> None:
    (folder / "only").mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / "only" / name.format(index), **options)


def load(folder, count, **options) -> np.ndarray:
    return levels(next(iter(ImageNetLoader(folder, count, image_size=SIZE, threads=1, **options)))[0])


@pytest.fixture(scope="module")
def varied(photos):
    """Natural images of many sizes, so that every rounding of the geometry occurs."""
    sizes = [(300, 301), (301, 300), (97, 201), (201, 97), (128, 128), (73, 74), (80, 200), (149, 150), (151, 333)]
    return [photos[k % 4][30 : 30 + h, 50 : 50 + w] for k, (h, w) in enumerate(sizes)]


def by_torchvision(images, shorter: int = round(SIZE * 256 / 224), kind: str = "bilinear") -> np.ndarray:
    resize = v2.Compose([v2.Resize(shorter, v2.InterpolationMode(kind)), v2.CenterCrop(SIZE)])
    return np.stack([np.asarray(resize(Image.fromarray(image))) for image in images]).transpose(0, 3, 1, 2)


def test_evaluation_is_torchvisions_geometry(varied, tmp_path):
    write(tmp_path, varied)
    got = load(tmp_path, len(varied), train=False)
    apart = np.abs(got - by_torchvision(varied))
    assert apart.max() <= tolerances.RESIZE_LEVELS
    assert apart.mean() < tolerances.RESIZE_LEVELS / 4


def test_evaluation_scales_as_the_network_wants_it(varied, tmp_path):
    write(tmp_path, varied)
    got = load(tmp_path, len(varied), train=False, scaling=Scaling(1.0, "bicubic"))
    apart = np.abs(got - by_torchvision(varied, SIZE, "bicubic"))
    # Bicubic weights overshoot, and Pillow clamps to 0..255 between its two passes: single pixels at hard edges.
    assert np.mean(apart > tolerances.RESIZE_LEVELS) < 0.005
    assert apart.mean() < tolerances.RESIZE_LEVELS / 4
    assert np.abs(got - by_torchvision(varied, SIZE)).max() > 10 * tolerances.RESIZE_LEVELS


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("crop_pct", [0.875, 1.0, 1.15])
def test_each_geometry_is_timms(varied, tmp_path, geometry, crop_pct):
    """By DALI for sets and by Pillow for single images; a crop_pct over 1 leaves a border."""
    from timm.data import create_transform

    mean = (0.5, 0.25, 0.75)
    scaling = Scaling(int(SIZE / crop_pct) / SIZE, "bilinear", geometry)
    given = {"crop_pct": crop_pct, "crop_mode": geometry, "interpolation": "bilinear", "mean": mean, "std": (1, 1, 1)}
    transform = create_transform((3, SIZE, SIZE), normalize=False, **given)
    photos = [Image.fromarray(image) for image in varied]
    theirs = np.stack([transform(photo).permute(1, 2, 0).numpy() for photo in photos]).astype(int)
    assert np.array_equal(np.stack([cut(photo, SIZE, scaling, mean) for photo in photos]), theirs)
    write(tmp_path, varied)
    recipe = AprRecipe(0.0, True, mean, (1.0,) * 3)
    with ImageNetLoader(
        tmp_path, len(varied), train=False, image_size=SIZE, scaling=scaling, threads=1, recipe=recipe
    ) as loader:
        planes = next(iter(loader))[0].numpy()
    apart = np.abs((planes.transpose(0, 2, 3, 1) + np.array(mean)) * 255 - theirs)
    # A side that timm rounds half to even may be a pixel longer here.
    assert np.mean(apart > tolerances.RESIZE_LEVELS) < 0.01
    assert apart.mean() < tolerances.RESIZE_LEVELS / 4


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((0.0,), "over_crop must be a positive"),
        ((1.1, "box"), "filter must"),
        ((1.1, "bicubic", "crop"), "geometry must"),
    ],
)
def test_scaling_that_cannot_be(given, told):
    with pytest.raises(InputError, match=told):
        Scaling(*given)


def test_evaluation_of_jpegs_is_pillows_but_for_the_decoder(varied, tmp_path):
    write(tmp_path, varied, "{:02d}.jpg", quality=90)
    decoded = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "only").iterdir())]
    got = load(tmp_path, len(varied), train=False)
    assert np.abs(got - by_torchvision(decoded)).mean() < tolerances.JPEG_MEAN_LEVELS


def ramp(height: int, width: int) -> np.ndarray:
    """Red counts columns and green rows, up to 255: a crop of it tells where it was taken from."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(width), np.arange(height)[:, None]
    return image


HEIGHT, WIDTH, CROPS = 180, 240, 400


def windows(images: np.ndarray) -> np.ndarray:
    """(left, top, width, height) of the crops that resized to `images`, by fitting their ramps; width < 0: flipped."""
    middle = np.arange(SIZE)[SIZE // 4 : -SIZE // 4] + 0.5
    out = []
    for image in images:
        columns = np.polyfit(middle, image[0].mean(axis=0)[SIZE // 4 : -SIZE // 4] + 0.5, 1)
        rows = np.polyfit(middle, image[1].mean(axis=1)[SIZE // 4 : -SIZE // 4] + 0.5, 1)
        width, height = columns[0] * SIZE, rows[0] * SIZE
        out.append((columns[1] if width > 0 else columns[1] + width, rows[1], width, height))
    return np.array(out)


@pytest.fixture(scope="module")
def cropped(tmp_path_factory):
    """Crops of a ramp of 240 × 180 as the training graph makes them, and their windows."""
    folder = tmp_path_factory.mktemp("ramps")
    write(folder, [ramp(HEIGHT, WIDTH)] * CROPS, "{:04d}.png")
    return windows(load(folder, CROPS, seed=11))


def test_without_resizing_the_middle_is_cut_out(tmp_path, crops):
    """As ImageNet-C wants it; PNG files, so that not one level may differ."""
    images = [crops(1, SIZE + more, SIZE + wider, seed=more)[0] for more, wider in ((0, 0), (3, 10), (6, 1))]
    write(tmp_path, images)
    with ImageNetLoader(tmp_path, 3, train=False, image_size=SIZE, scaling=None, threads=1) as loader:
        got = levels(next(iter(loader))[0]).transpose(0, 2, 3, 1)
    expected = [np.array(v2.functional.center_crop(Image.fromarray(image), [SIZE])) for image in images]
    np.testing.assert_allclose(got, np.stack(expected), atol=1e-3)
    with pytest.raises(InputError, match="scaling has no effect with train=True"):
        ImageNetLoader(tmp_path, 3, image_size=SIZE, scaling=None)


def test_crops_have_torchvisions_distribution(cropped):
    width, height = np.abs(cropped[:, 2]), cropped[:, 3]
    area, ratio = width * height / (WIDTH * HEIGHT), width / height
    assert area.min() > 0.06
    assert area.max() < 1.02
    crop = v2.RandomResizedCrop(SIZE)
    drawn = [crop.make_params([torch.empty(3, HEIGHT, WIDTH)]) for _ in range(3000)]
    expected = np.array([(params["height"], params["width"]) for params in drawn])
    expected_area = expected.prod(axis=1) / (WIDTH * HEIGHT)
    for quantile in (0.1, 0.5, 0.9):
        assert abs(np.quantile(area, quantile) - np.quantile(expected_area, quantile)) < 0.08
    expected_ratio = expected[:, 1] / expected[:, 0]
    for quantile in (0.1, 0.5, 0.9):
        assert abs(np.quantile(ratio, quantile) - np.quantile(expected_ratio, quantile)) < 0.06
    assert 0.4 < (cropped[:, 2] < 0).mean() < 0.6  # half of them flipped
    assert len(np.unique(cropped.round(), axis=0)) > CROPS * 0.95


@pytest.mark.parametrize(("share", "mirrored"), [(0.0, (0, 0)), (1.0, (1, 1)), (0.2, (0.1, 0.3))])
def test_crops_and_flips_are_drawn_as_asked(tmp_path, share, mirrored):
    write(tmp_path, [ramp(HEIGHT, WIDTH)] * 200, "{:04d}.png")
    found = windows(load(tmp_path, 200, seed=3, scale=(0.3, 0.5), ratio=(1.4, 1.5), hflip=share))
    width, height = np.abs(found[:, 2]), found[:, 3]
    area = width * height / (WIDTH * HEIGHT)
    # Windows are whole pixels, and their fit is good to one or two.
    assert 0.28 < area.min() < 0.35
    assert 0.45 < area.max() < 0.52
    assert 1.33 < (width / height).min() < (width / height).max() < 1.57
    assert mirrored[0] <= (found[:, 2] < 0).mean() <= mirrored[1]


@pytest.mark.parametrize(("options", "told"), [
    ({"scale": (0.5, 0.2)}, "scale must be two positive numbers, the smaller first, got \\(0.5, 0.2\\)"),
    ({"scale": (0.5,)}, "scale must be two positive numbers, the smaller first, got \\(0.5,\\)"),
    ({"scale": 0.5}, "scale must be two positive numbers, the smaller first, got 0.5"),
    ({"ratio": ("1", None)}, "ratio must be two positive numbers"),
    ({"hflip": "half"}, "hflip must be in 0..1, got 'half'"),
    ({"scale": (0.0, 1.0)}, "scale must be two positive numbers"),
    ({"scale": (0.5, 1.5)}, "scale must be at most 1, the whole image, got \\(0.5, 1.5\\)"),
    ({"ratio": (0.75, float("nan"))}, "ratio must be two positive numbers"),
    ({"hflip": 1.5}, r"hflip must be in 0\.\.1, got 1.5"),
    ({"hflip": 0.0, "train": False}, "scale, ratio and hflip have no effect with train=False"),
    ({"scale": (0.5, 1.0), "train": False}, "scale, ratio and hflip have no effect with train=False"),
    ({"hw_decoder_load": 0.9}, "hw_decoder_load has no effect with device='cpu'"),
    ({"hw_decoder_load": -1}, r"hw_decoder_load must be in 0\.\.1, got -1"),
])  # fmt: skip
def test_crops_that_cannot_be_are_refused(tmp_path, options, told):
    write(tmp_path, [ramp(HEIGHT, WIDTH)])
    with pytest.raises(InputError, match=told):
        ImageNetLoader(tmp_path, 1, **options)


def test_a_state_is_of_the_crops_it_was_taken_with(tmp_path):
    write(tmp_path, [ramp(HEIGHT, WIDTH)] * 2)
    state = ImageNetLoader(tmp_path, 1, threads=1, scale=(0.5, 1)).state_dict()
    ImageNetLoader(tmp_path, 1, threads=1, scale=[0.5, 1.0]).load_state_dict(state)
    with pytest.raises(InputError, match=r"scale \[0.5, 1.0\], now \[0.08, 1.0\]"):
        ImageNetLoader(tmp_path, 1, threads=1).load_state_dict(state)


@pytest.mark.parametrize(("given", "load"), [({}, 0.65), ({"hw_decoder_load": 0.4}, 0.4)])
def test_the_share_of_the_hardware_decoder_reaches_it(tmp_path, monkeypatch, given, load):
    write(tmp_path, [ramp(HEIGHT, WIDTH)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    loader = ImageNetLoader(tmp_path, 1, device="gpu", **given)
    made = imagenet.train_pipeline(loader._set, loader._graph, 0, batch_size=1, num_threads=1, device_id=0)
    made._build_graph()
    (decoder,) = [op for op in made._ops if "ImageRandomCrop" in op.name]
    assert f"hw_decoder_load: {load:f}" in str(decoder.spec)


def crop_by_pillow(photo: np.ndarray, left: int, top: int, width: int, height: int, flipped: bool) -> np.ndarray:
    crop = Image.fromarray(photo).crop((left, top, left + width, top + height))
    image = np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return (image[:, ::-1] if flipped else image).transpose(2, 0, 1)


def test_training_crops_are_resized_as_by_pillow(photos, tmp_path):
    # The same seed and size give the same windows: the ramps tell them, the photographs are compared.
    photo = photos[0][100 : 100 + HEIGHT, 50 : 50 + WIDTH]
    write(tmp_path / "photos", [photo] * 12)
    write(tmp_path / "ramps", [ramp(HEIGHT, WIDTH)] * 12)
    got = load(tmp_path / "photos", 12, seed=4)
    found = windows(load(tmp_path / "ramps", 12, seed=4))
    for image, window in zip(got, found, strict=True):
        guess = np.round(np.abs(window)).astype(int)
        # The fit is good to a pixel or two; the right window is the one that matches.
        apart = min(
            np.abs(image - crop_by_pillow(photo, *(guess + shift), window[2] < 0)).mean()
            for shift in itertools.product((-2, -1, 0, 1, 2), repeat=4)
        )
        assert apart < tolerances.RESIZE_LEVELS / 4


def test_clean_view_is_the_image_without_apr(tmp_path, photos):
    # Without APR-S the clean views of apr-p are what aug=none gives for the same seed, but for the flips' draws.
    write(tmp_path, [photos[k][:100, :100] for k in range(4)])
    first = load(tmp_path, 4, aug="apr-p", seed=3, repeat_unmixed=True)[::2]
    plain = load(tmp_path, 4, aug="none", seed=3)
    for image, expected in zip(first, plain, strict=True):
        either = min(np.abs(image - side).max() for side in (expected, expected[:, :, ::-1]))
        assert either < 0.01


def test_published_order_on_imagenet_and_cifar():
    # Normalize, then mix, against mix, then normalize.
    mean, std = np.array(recipes.IMAGENET.mean), np.array(recipes.IMAGENET.std)
    scales = pair_scales(recipes.IMAGENET)
    np.testing.assert_allclose(np.array(scales["in_scale"]) * 255 * std, 1)
    np.testing.assert_allclose(np.array(scales["in_bias"]) * std, -mean)
    assert set(scales) == {"in_scale", "in_bias"}
    scales = pair_scales(recipes.CIFAR)
    assert scales["in_scale"] == (1 / 255,) * 3
    np.testing.assert_allclose(np.array(scales["out_scale"]) * recipes.CIFAR.std, 1)
    np.testing.assert_allclose(np.array(scales["out_bias"]) * recipes.CIFAR.std, -np.array(recipes.CIFAR.mean))


@pytest.mark.parametrize("aug", recipes.AUGMENTATIONS)
@pytest.mark.parametrize("train", [True, False])
def test_gpu_graph_is_complete(aug, train, tmp_path, photos):
    """Every operator and argument of the GPU graph is known to DALI; building it needs a driver."""
    from apr_dali.data.folders import open_set

    write(tmp_path, [photos[0][:50, :50]])
    graph = imagenet.Graph(**gpu_graph(aug, recipes.IMAGENET), image_size=SIZE)
    options = {"batch_size": 4, "num_threads": 2, "device_id": 0}
    made = (
        imagenet.train_pipeline(open_set(tmp_path), graph, 0, **options)
        if train
        else imagenet.eval_pipeline(open_set(tmp_path), graph, **options)
    )
    made._build_graph()
    devices = {op.name: op.outputs[0].device for op in made._ops}
    assert devices["__ImageRandomCrop_0" if train else "__Image_4"] == "gpu"
    own = [device for name, device in devices.items() if "DLTensorPythonFunction" in name]
    assert "gpu" not in {device for name, device in devices.items() if "Constant" in name}
    assert own == ["gpu"] * ({"none": 0, "apr-p": 1, "apr-s": 1, "apr-sp": 2}[aug] if train else 0)
