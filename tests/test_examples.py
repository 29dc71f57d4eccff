"""Each example, as it is shown, on the built-in sample: it runs, it learns, and its batches are what it says."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import tarfile
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import PATIENCE

from apr_dali import ImageNetLoader
from apr_dali.data.folders import open_set
from apr_dali.data.sample import write_sample
from apr_dali.errors import InputError
from apr_dali.transforms import AprPair

ROOT = Path(__file__).parents[1]
CLASSES = ("astronaut", "brick", "coins", "page")
SIZE = 32


@pytest.fixture(scope="module")
def whole_sample(tmp_path_factory) -> Path:
    return write_sample(tmp_path_factory.mktemp("written") / "sample")


@pytest.fixture(scope="module")
def sample(whole_sample, tmp_path_factory) -> str:
    """Four classes of the sample, 128 training images."""
    root = tmp_path_factory.mktemp("sample")
    for split, count in (("train", 32), ("val", 8)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for path in sorted((whole_sample / split / name).iterdir())[:count]:
                (root / split / name / path.name).symlink_to(path)
    return str(root)


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # worker processes look up what they run there
    spec.loader.exec_module(module)
    return module


def learns(losses: list[float]) -> bool:
    """Lower at the end than a network that knows nothing, and than at the beginning."""
    return losses[-1] < min(losses[0], np.log(len(CLASSES)))


@pytest.mark.parametrize("views", ["both", "mixed"])
def test_pytorch_loop(sample, views):
    assert learns(example("pytorch_loop").train(sample, views, epochs=5, image_size=SIZE))


def test_torchvision_recipe(sample):
    assert learns(example("torchvision_recipe").train(sample, epochs=4, image_size=SIZE, workers=0))


@pytest.mark.parametrize("columns", [False, True])
def test_accelerate_and_datasets(sample, columns, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    losses = example("accelerate_datasets").train(sample, columns, epochs=4, image_size=SIZE)
    assert learns(losses)


# ---- Lightning -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quiet(tmp_path):
    where = {"default_root_dir": tmp_path, "accelerator": "cpu", "devices": 1}
    return where | {"enable_progress_bar": False, "num_sanity_val_steps": 0}


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers
@pytest.mark.parametrize("callback", [False, True])
def test_lightning(sample, quiet, callback):
    model = example("lightning_module").train(sample, callback, epochs=3, image_size=SIZE, **quiet)
    assert len(model.losses) == 3 * 4
    assert np.mean(model.losses[-4:]) < np.mean(model.losses[:4])
    if not callback:
        assert 0 <= float(model.trainer.callback_metrics["top-1"]) <= 1


@pytest.mark.filterwarnings("ignore")
def test_lightning_continues_in_mid_epoch_with_the_same_batches(sample, quiet, tmp_path):
    from lightning.pytorch.callbacks import ModelCheckpoint

    from apr_dali.integrations.lightning import AprDataModule

    module = example("lightning_module")
    quiet |= {"logger": False, "enable_model_summary": False, "limit_val_batches": 0}

    def fit(ckpt_path: Path | None = None) -> list[float]:
        torch.manual_seed(0)
        model = module.Classifier(16, 2)
        saved = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
        trainer = module.Trainer(max_epochs=2, callbacks=[saved], **quiet)
        trainer.fit(model, AprDataModule(sample, 32, "apr-sp", image_size=SIZE, threads=1), ckpt_path=ckpt_path)
        return model.losses

    expected = fit()
    assert len(expected) == 8
    assert fit(tmp_path / "step=3.ckpt") == expected[3:]
    assert fit(tmp_path / "step=6.ckpt") == expected[6:]


def test_lightning_state_is_that_of_all_processes(sample):
    from apr_dali.integrations.lightning import RankLoader

    loaders = [ImageNetLoader(f"{sample}/train", 8, shard=(rank, 2), image_size=16, threads=1) for rank in range(2)]
    states = []
    for loader in loaders:
        batches = iter(loader)
        next(batches)
        states.append(RankLoader(loader))
    from apr_dali.training.checkpoint import without_bytes

    together = {"ranks": [without_bytes(loader.state_dict()) for loader in loaders]}
    for rank, loader in enumerate(loaders):
        expected = [targets.tolist() for _, targets in list(loader)]
        with ImageNetLoader(f"{sample}/train", 8, shard=(rank, 2), image_size=16, threads=1) as again:
            RankLoader(again).load_state_dict(together)
            assert [targets.tolist() for _, targets in again] == expected[1:]
    with pytest.raises(InputError, match="saved by 2 processes, now there are 1"):
        RankLoader(ImageNetLoader(f"{sample}/train", 8, threads=1)).load_state_dict(together)


def test_lightning_callback_wants_lists():
    from apr_dali.integrations.lightning import AprPairCallback

    callback = AprPairCallback(probability=1, seed=5)
    images, labels = torch.rand(4, 3, 16, 16), torch.arange(4)
    batch = [images.clone(), labels]
    callback.on_train_batch_start(None, None, batch, 0)
    expected, both = AprPair(probability=1, seed=5)(images, labels)
    assert torch.equal(batch[0], expected)
    assert torch.equal(batch[1], both)
    with pytest.raises(InputError, match="got tuple"):
        callback.on_train_batch_start(None, None, (images, labels), 0)


# ---- timm ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrapper", "arguments", "rows"),
    [
        (["--loader", "apr-sp"], [], 256),
        (["--pair", "0.5"], ["--mixup", "1"], 256),
    ],
)
def test_timm_loop(sample, wrapper, arguments, rows):
    run = [sys.executable, "-m", "apr_dali.integrations.timm", *wrapper, ROOT / "examples" / "timm_loop.py"]
    run += ["--data-dir", sample, "--img-size", str(SIZE), *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"epoch (\d): (\d+) rows, loss ([\d.]+), top-1 ([\d.]+)%", done.stdout)
    assert [(epoch, int(seen)) for epoch, seen, *_ in found] == [("0", rows), ("1", rows)]
    assert float(found[1][2]) < float(found[0][2])


@pytest.fixture
def timm_loader(sample):
    """A function: the loader that timm's train.py would get, of tiny batches."""
    from timm.data import create_dataset

    from apr_dali.integrations.timm import create_loader

    def make(**options):
        dataset = create_dataset("", root=sample, split="train", is_training=True)
        options = {"device": "cpu", "num_workers": 1, "aug": "apr-p", **options}
        return dataset, create_loader(dataset, (3, 16, 16), 8, is_training=True, **options)

    return make


def test_timm_loader_has_what_train_py_asks_for(timm_loader, monkeypatch):
    dataset, loader = timm_loader(mean=(0.5,) * 3, std=(0.5,) * 3, img_dtype=torch.bfloat16)
    assert (len(loader), loader.dataset, loader.mixup_enabled) == (16, dataset, False)
    images, targets = next(iter(loader))
    assert images.dtype == torch.bfloat16
    assert images.shape == (16, 3, 16, 16)
    assert -1 <= float(images[::2].min()) < float(images[::2].max()) <= 1
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


def test_timm_options_that_would_do_nothing_are_refused(timm_loader):
    from apr_dali.integrations.timm import image_set

    with pytest.raises(InputError, match="auto_augment"):
        timm_loader(auto_augment="rand-m9")
    with pytest.raises(InputError, match="folder of class folders"):
        image_set(type("Dataset", (), {"reader": object()})())


@pytest.fixture
def timm_data():
    """What the wrapper sees of `timm.data`: only the names that it replaces."""
    return types.SimpleNamespace(create_loader=lambda *_, **__: "timm's", Mixup=None, FastCollateMixup=None)


def test_timm_scripts_that_would_not_call_the_pair_are_refused(timm_data, timm_loader):
    from apr_dali.integrations.timm import _replace_mixup

    _replace_mixup(timm_data, AprPair())
    assert timm_data.create_loader("set") == "timm's"
    with pytest.raises(InputError, match="add --mixup 1"):
        timm_data.create_loader("set", is_training=True)
    with pytest.raises(InputError, match="add --no-prefetcher"):
        timm_data.FastCollateMixup(num_classes=3)
    timm_data.Mixup(num_classes=3)
    assert timm_data.create_loader("set", is_training=True) == "timm's"
    with pytest.raises(InputError, match="leave out --mixup"):
        timm_loader(collate_fn=lambda batch: batch)


def test_timm_mixup_gives_soft_targets():
    from apr_dali.integrations.timm import AprMixup

    images, labels = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 1])
    mixup = AprMixup(AprPair(probability=1, seed=3), mixup_alpha=0.8, label_smoothing=0.1, num_classes=3)
    mixed, soft = mixup(images, labels)
    assert torch.equal(mixed, AprPair(probability=1, seed=3)(images, labels)[0])
    expected = torch.full((8, 3), 0.1 / 3)
    expected[torch.arange(8), labels.repeat_interleave(2)] += 0.9
    torch.testing.assert_close(soft, expected)
    mixup.mixup_enabled = False
    assert torch.equal(mixup(images, labels)[0], images)


# ---- DALI ------------------------------------------------------------------------------------------------------------


def test_dali_pipelines(sample):
    module = example("dali_pipeline")
    files = open_set(f"{sample}/train")
    plain = module.classic(f"{sample}/train", SIZE)
    sometimes = module.classic(f"{sample}/train", SIZE, sometimes=True)
    both = module.generic(f"{sample}/train", SIZE)
    for batches, views in ((plain, 1), (sometimes, 1), (both, 2)):
        labels = torch.cat([labels for _, labels in batches]).flatten().tolist()
        assert sorted(labels) == sorted(views * files.labels.tolist())
        images = torch.cat([images for images, _ in batches])
        assert images.shape == (views * len(files), 3, SIZE, SIZE)
        assert 0.3 < float(images.std()) < 3
    clean, mixed = both[0][0][::2], both[0][0][1::2]
    spectra = [torch.fft.fft2(view).abs().sum(dim=(1, 2, 3)).sort().values for view in (clean, mixed)]
    torch.testing.assert_close(*spectra, rtol=0.2, atol=0)


def test_conditions_reach_some_of_the_images(sample):
    """APR-S within an `if`: only the images of that branch are changed."""
    from nvidia.dali import fn, pipeline_def, types

    from apr_dali.pipelines.operators import apr_single

    @pipeline_def(batch_size=32, num_threads=1, device_id=None, enable_conditionals=True, seed=2)
    def pipeline():
        encoded, _ = fn.readers.file(file_root=f"{sample}/train", name="Reader")
        images = before = fn.resize(fn.decoders.image(encoded), size=(SIZE, SIZE))
        chosen = fn.random.coin_flip(dtype=types.BOOL)
        if chosen:
            images = apr_single(images)
        return before, images, chosen

    made = pipeline()
    made.build()
    before, after, chosen = (np.asarray(output.as_tensor()) for output in made.run())
    changed = (before != after).any(axis=(1, 2, 3))
    assert not changed[chosen == 0].any()
    assert changed[chosen == 1].sum() > 5


# ---- object storage --------------------------------------------------------------------------------------------------


@pytest.fixture
def s3(monkeypatch):
    """A client of an S3 server on this machine, to which DALI is directed too."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    values |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert server.poll() is None
            assert time.monotonic() < end, "the S3 server does not answer"
            time.sleep(0.1)
        yield boto3.client("s3")
    finally:
        server.terminate()
        server.wait()


def test_webdataset_on_s3(sample, s3, tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    files = open_set(f"{sample}/train")
    for number in range(2):
        chosen = range(number, len(files), 8)
        with tarfile.open(folder / f"{number}.tar", "w", dereference=True) as tar:
            for index in chosen:
                tar.add(files.files[index], f"{index}.jpg")
                label = tmp_path / "label"
                label.write_text(str(files.labels[index]))
                tar.add(label, f"{index}.cls")
        indexer = Path(sys.executable).with_name("wds2idx")
        index = [indexer, folder / f"{number}.tar", folder / f"{number}.idx"]
        subprocess.run(index, check=True, stdout=subprocess.DEVNULL)
    s3.create_bucket(Bucket="images")
    for path in folder.glob("*.tar"):
        s3.upload_file(str(path), "images", f"train/{path.name}")
    local = list(ImageNetLoader(folder, 8, "apr-sp", image_size=16, threads=1, seed=1))
    for path in folder.glob("*.tar"):
        path.unlink()
    source = example("webdataset_s3").open_s3("s3://images/train/", folder)
    with ImageNetLoader(source, 8, "apr-sp", image_size=16, threads=1, seed=1) as loader:
        remote = list(loader)
    assert len(remote) == 4
    for (images, targets), (expected, labels) in zip(remote, local, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(targets, labels)
