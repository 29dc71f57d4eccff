"""timm: the loader that its training script gets, the wrapper and the example."""

from __future__ import annotations

import inspect
import re
import tarfile
import types
from pathlib import Path

import pytest
import torch
from helpers import forked
from helpers.examples import SIZE
from helpers.project import ROOT
from helpers.tolerances import LEVELS

from apr_dali import ImageNetLoader
from apr_dali.errors import InputError
from apr_dali.transforms import AprPair


def run_wrapper(*given):
    return forked.run("-m", "apr_dali.integrations.timm", *given, cwd=ROOT, CUDA_VISIBLE_DEVICES="")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrapper", "arguments", "rows"),
    [
        (["--loader", "apr-sp"], [], range(129, 256)),
        (["--loader", "apr-sp", "--repeat-unmixed"], [], [256]),
        (["--pair", "0.5"], ["--mixup", "1"], range(129, 256)),
        (["--pair", "0.5", "--repeat-unmixed"], ["--mixup", "1"], [256]),
    ],
)
def test_timm_loop(sample, wrapper, arguments, rows):
    loop = [ROOT / "examples" / "timm_loop.py", "--data-dir", sample, "--img-size", SIZE, *arguments]
    done = run_wrapper(*wrapper, *loop)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"epoch (\d): (\d+) rows, loss ([\d.]+), top-1 ([\d.]+)%", done.stdout)
    assert [epoch for epoch, *_ in found] == ["0", "1"]
    # 128 images, and a second row of those that are mixed.
    assert all(int(seen) in rows for _, seen, *_ in found)
    assert float(found[1][2]) < float(found[0][2])


@pytest.fixture
def timm_loader(sample):
    """A function: the loader that timm's train.py would get, of tiny batches."""
    from timm.data import create_dataset

    from apr_dali.integrations.timm import create_loader

    made = []

    def make(mode="RGB", **options):
        dataset = create_dataset("", root=sample, split="train", is_training=True, input_img_mode=mode)
        options = {"device": "cpu", "num_workers": 1, "aug": "apr-p", "input_size": (3, 16, 16), **options}
        options |= {"batch_size": 8, "is_training": True, "color_jitter": options.get("color_jitter", 0)}
        made.append(create_loader(dataset, **options))
        return dataset, made[-1]

    yield make
    for loader in made:
        loader.loader.close()


def test_timm_loader_has_what_train_py_asks_for(timm_loader, monkeypatch):
    dataset, loader = timm_loader(mean=(0.5,) * 3, std=(0.5,) * 3, img_dtype=torch.bfloat16)
    assert (len(loader), loader.dataset, loader.mixup_enabled) == (16, dataset, False)
    images, targets = next(iter(loader))
    assert images.dtype == torch.bfloat16
    rows = loader.loader.batch_views
    assert images.shape == (8 * rows, 3, 16, 16)
    assert -1 <= float(images[::rows].min()) < float(images[::rows].max()) <= 1
    assert targets.dtype == torch.int64
    # Ranks share the images out.
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert len(timm_loader(distributed=True)[1]) == 8


def test_timm_loader_goes_on_and_begins_later_epochs(timm_loader):
    def targets_of(loader) -> list[int]:
        return [target for _, targets in loader for target in targets.tolist()]

    dataset, loader = timm_loader()
    orders = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        orders.append(targets_of(loader))
    assert orders[0] != orders[1]
    resumed, again = timm_loader()[1], timm_loader()[1]
    for other in (resumed, again):
        other.sampler.set_epoch(5)
    fifth = targets_of(resumed)
    assert fifth == targets_of(again)
    assert fifth not in orders
    resumed.set_epoch(6)
    assert targets_of(resumed) != fifth


def test_every_option_of_timm_is_followed_or_refused():
    from timm.data import Mixup
    from timm.data.loader import create_loader

    from apr_dali.integrations import timm_options as ours

    known = [*ours.FOLLOWED, *ours.FIXED, *ours.WITHOUT_EFFECT]
    assert len(known) == len(set(known))
    assert set(inspect.signature(create_loader).parameters) <= set(known), "new in timm: follow or refuse them"
    followed = {"mixup_alpha", "label_smoothing", "num_classes", "switch_prob", "correct_lam"}
    assert set(inspect.signature(Mixup).parameters) <= followed | set(ours.MIXUP_FIXED)


OTHER = {
    "no_aug": True, "re_prob": 0.25, "train_crop_mode": "rkrc",
    "vflip": 0.5, "color_jitter": 0.4, "grayscale_prob": 0.2, "gaussian_blur_prob": 0.1, "auto_augment": "rand-m9",
    "num_aug_repeats": 3, "num_aug_splits": 2, "interpolation": "random", "tf_preprocessing": True,
    "input_size_choices": [16, 32],
}  # fmt: skip


def test_timm_options_that_would_do_nothing_are_refused(timm_loader):
    from apr_dali.integrations.timm_options import FIXED

    assert set(OTHER) == set(FIXED) - {"collate_fn"}
    from timm.data import create_loader

    known = inspect.signature(create_loader).parameters  # of older versions not all
    for name, value in OTHER.items():
        if name not in known:
            continue
        with pytest.raises(InputError, match=rf"the DALI loader cannot follow timm's {name}=\S.* must be"):
            timm_loader(**{name: value})
    with pytest.raises(
        InputError, match=r"color_jitter=0\.4 .*--color-jitter must be 0\), interpolation='random' \(--train"
    ):
        timm_loader(color_jitter=0.4, interpolation="random")
    for size in ((4, 16, 16), (3, 16, 24), (16, 24)):
        with pytest.raises(InputError, match=r"the DALI loader gives .* got input_size="):
            timm_loader(input_size=size)
    with pytest.raises(InputError, match=r"one value, or three of color images, got mean=\(0\.5, 0\.5\)"):
        timm_loader(mean=(0.5, 0.5))
    with pytest.raises(InputError, match="gives L images with their folders' labels, got RGB"):
        timm_loader(input_size=(1, 16, 16))


def test_timm_trains_networks_of_one_channel(timm_loader):
    gray = {"mode": "L", "input_size": (1, 16, 16), "std": (0.25,), "aug": "none"}
    images, labels = next(iter(timm_loader(**gray, mean=(0.3, 0.4, 0.8))[1]))
    assert images.shape == (8, 1, 16, 16)
    on_average, again = next(iter(timm_loader(**gray, mean=(0.5,))[1]))
    assert torch.equal(images, on_average)
    assert torch.equal(labels, again)
    # What color images of gray ones would be: the same crops, mirrored alike.
    color, again = next(iter(timm_loader(mean=(0.5,), std=(0.25,), aug="none")[1]))
    assert torch.equal(labels, again)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    # In units of the deviation of 0.25.
    assert float(((color * weights).sum(1) - images[:, 0]).abs().mean()) < 4 * LEVELS / 255


def test_timm_draws_by_the_seed_of_the_script():
    from apr_dali.integrations.timm import _seed_of

    drawn = []
    utils = types.SimpleNamespace(random_seed=lambda seed, rank: drawn.append(seed + rank))
    seed = _seed_of(utils)
    assert (seed(), drawn) == (42, [])
    utils.random_seed(7, 3)
    assert (seed(), drawn) == (7, [10])


@pytest.mark.slow
@pytest.mark.parametrize("given", [[], ["--seed", "7"]])
def test_timms_seed_reaches_the_loader(sample, tmp_path, given):
    """A script that looks at its first batch, as train.py seeds itself."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\nfrom timm import utils\nfrom timm.data import create_dataset, create_loader\n"
        "utils.random_seed(int(sys.argv[-1]) if '--seed' in sys.argv else 42, 0)\n"
        f"data = create_dataset('', root={str(sample)!r}, split='train', is_training=True)\n"
        "loader = create_loader(data, (3, 16, 16), 8, True, color_jitter=0, device='cpu')\n"
        "print(next(iter(loader))[1].tolist())\n"
    )
    done = run_wrapper("--loader", "none", script, *given)
    assert done.returncode == 0, done.stderr
    seed = int(given[1]) if given else 42
    with ImageNetLoader(f"{sample}/train", 8, image_size=16, threads=1, seed=seed) as loader:
        assert done.stdout.strip() == str(next(iter(loader))[1].tolist())


def test_timm_crops_and_flips_are_followed(timm_loader):
    # All of each image, scaled to a square, and never or always mirrored.
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    (plain, _), (mirrored, _) = (next(iter(timm_loader(**whole, hflip=share)[1])) for share in (0.0, 1.0))
    assert torch.equal(plain.flip(-1), mirrored)
    other, _ = next(iter(timm_loader()[1]))
    assert not torch.equal(plain, other)


def test_timm_options_that_say_what_is_done_anyhow_are_taken(timm_loader):
    plain = {"scale": [0.08, 1.0], "ratio": [0.75, 1.3333], "hflip": 0.5, "train_crop_mode": "rrc", "auto_augment": ""}
    images, _ = next(iter(timm_loader(**plain, crop_pct=0.9, re_count=2)[1]))
    expected, _ = next(iter(timm_loader(input_size=16)[1]))
    assert torch.equal(images, expected)
    assert next(iter(timm_loader(fp16=True)[1]))[0].dtype == torch.float16


def test_an_option_that_a_newer_timm_has_is_refused_unless_it_has_its_default(timm_loader, monkeypatch):
    from timm.data import loader as timms

    signature = inspect.signature(timms.create_loader)
    new = inspect.Parameter("solarize_prob", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=0.0)

    def newer():
        raise AssertionError("for training it is only asked what it takes")

    newer.__signature__ = signature.replace(parameters=[*signature.parameters.values(), new])
    monkeypatch.setattr(timms, "create_loader", newer)
    assert len(timm_loader(solarize_prob=0.0)[1]) == 16
    with pytest.raises(InputError, match=r"solarize_prob=0\.1 \(--solarize-prob must be 0\.0\)"):
        timm_loader(solarize_prob=0.1)


def test_timm_datasets_that_are_no_folder_of_color_images_are_refused(sample):
    from timm.data import create_dataset

    from apr_dali.integrations.timm import image_set

    with pytest.raises(InputError, match=r"gives RGB images .* got L"):
        image_set(create_dataset("", root=sample, split="train", input_img_mode="L"))
    in_a_tar = types.SimpleNamespace(samples=[(tarfile.TarInfo("a.jpg"), 0)], class_to_idx={"a": 0})
    with pytest.raises(InputError, match="folder of class folders"):
        image_set(types.SimpleNamespace(reader=in_a_tar))
    with pytest.raises(InputError, match="folder of class folders"):
        image_set(type("Dataset", (), {"reader": object()})())


def test_timm_validation_has_the_labels_of_training(sample, lacking, tmp_path):
    from timm.data import create_dataset

    from apr_dali.integrations.timm import _with_the_same_labels

    def opened(split, root=lacking, **options):
        return create_dataset("", root=root, split=split, **options)

    make = _with_the_same_labels(lambda dataset, *_, **__: dataset)
    trained = make(opened("train"), 16, is_training=True)
    with pytest.raises(InputError, match=r"'brick' is 0 and was 1; .*--class-map"):
        make(opened("val"))
    assert make(opened("val", class_map=trained.reader.class_to_idx))[0][1] == 1
    (tmp_path / "val" / "zebra").symlink_to(Path(sample) / "val" / "page")
    (tmp_path / "val" / "astronaut").symlink_to(Path(sample) / "val" / "page")
    with pytest.raises(InputError, match="'zebra' is 4 and was not there"):
        make(opened("val"))
    assert make(opened("val", root=sample)).reader.class_to_idx == trained.reader.class_to_idx


@pytest.fixture
def timm_data():
    """What the wrapper sees of `timm.data`: only the names that it replaces."""
    return types.SimpleNamespace(create_loader=lambda *_, **__: "timm's", Mixup=None, FastCollateMixup=None)


def test_timm_scripts_that_would_not_call_the_pair_are_refused(timm_data, timm_loader):
    from apr_dali.integrations.timm import _replace_mixup

    _replace_mixup(timm_data, AprPair)
    assert timm_data.create_loader("set") == "timm's"
    with pytest.raises(InputError, match="add --mixup 1"):
        timm_data.create_loader("set", is_training=True)
    for options, flag in (
        ({"cutmix_alpha": 1.0}, "--cutmix"),
        ({"prob": 0.5}, "--mixup-prob"),
        ({"mode": "elem"}, "--mixup-mode"),
    ):
        with pytest.raises(InputError, match=rf"in Mixup's place cannot follow timm's .*{flag} must be"):
            timm_data.Mixup(num_classes=3, **options)
    with pytest.raises(InputError, match="add --no-prefetcher"):
        timm_data.FastCollateMixup(num_classes=3)
    timm_data.Mixup(num_classes=3)
    assert timm_data.create_loader("set", is_training=True) == "timm's"
    with pytest.raises(InputError, match="leave out --mixup"):
        timm_loader(collate_fn=lambda batch: batch)


def test_timm_mixup_gives_unmixed_batches_once():
    from apr_dali.integrations.timm import AprMixup

    images, labels = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 1])
    for repeat, rows in ((False, 4), (True, 8)):
        out, soft = AprMixup(AprPair(p=0, repeat_unmixed=repeat), label_smoothing=0.0, num_classes=3)(images, labels)
        assert len(out) == rows
        assert soft.argmax(1).tolist() == labels.repeat_interleave(rows // 4).tolist()


def test_timm_loader_can_repeat_unmixed_batches(timm_loader):
    once, repeated = timm_loader()[1], timm_loader(repeat_unmixed=True)[1]
    assert {len(images) for images, _ in once} == {8, 16}
    assert {len(images) for images, _ in repeated} == {16}


def test_timm_mixup_gives_soft_targets():
    from apr_dali.integrations.timm import AprMixup

    images, labels = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 1])
    mixup = AprMixup(AprPair(p=1, seed=3), mixup_alpha=0.8, label_smoothing=0.1, num_classes=3)
    mixed, soft = mixup(images, labels)
    assert torch.equal(mixed, AprPair(p=1, seed=3)(images, labels)[0])
    expected = torch.full((8, 3), 0.1 / 3)
    expected[torch.arange(8), labels.repeat_interleave(2)] += 0.9
    torch.testing.assert_close(soft, expected)
    mixup.mixup_enabled = False
    assert torch.equal(mixup(images, labels)[0], images)
