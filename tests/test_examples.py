"""Each example, as it is shown, on the built-in sample: it runs, it learns, and its batches are what it says."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.examples import CLASSES, SIZE, example, learns
from helpers.forked import in_two
from helpers.project import ROOT

from apr_dali import ImageNetLoader
from apr_dali.data.folders import open_set
from apr_dali.errors import InputError
from apr_dali.eval import evaluate_corruption_on_the_fly
from apr_dali.recipes import IMAGENET

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("views", ["both", "mixed"])
def test_pytorch_loop(sample, views):
    assert learns(example("pytorch_loop").train(sample, views, epochs=5, image_size=SIZE))


def test_pytorch_loop_gives_validation_the_labels_of_training(lacking):
    with pytest.raises(InputError, match=r"must have the training set's 4 classes, got 3 \(1 missing: astronaut\)"):
        example("pytorch_loop").train(lacking, epochs=1, image_size=SIZE)


def test_torchvision_recipe(sample):
    assert learns(example("torchvision_recipe").train(sample, epochs=4, image_size=SIZE, workers=0))


@pytest.mark.parametrize("columns", [False, True])
def test_accelerate_and_datasets(sample, columns, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    losses = example("accelerate_datasets").train(sample, columns, epochs=4, image_size=SIZE)
    assert learns(losses)


def test_accelerate_goes_on_from_the_last_step_of_an_epoch(sample, monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    module, given = example("accelerate_datasets"), {"epochs": 2, "image_size": SIZE}
    expected = module.train(sample, **given)
    save = module.Accelerator.save_state

    def save_once(*args):
        save(*args)
        raise InterruptedError

    monkeypatch.setattr(module.Accelerator, "save_state", save_once)
    with pytest.raises(InterruptedError):
        module.train(sample, **given, checkpoint=str(tmp_path / "place"), every=4)
    monkeypatch.setattr(module.Accelerator, "save_state", save)
    assert module.train(sample, **given, checkpoint=str(tmp_path / "place"), every=4) == expected[1:]


# Processes of their own: accelerate keeps one group of processes for good.
STOPPED = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
import torch
from accelerate import Accelerator
import accelerate_datasets

torch.set_num_threads(1)
sample, folder = sys.argv[2:]
expected = accelerate_datasets.train(sample, epochs=2, image_size=32)

class Stopped(Exception):
    pass

save = Accelerator.save_state
def save_once(self, *given, **options):
    save(self, *given, **options)
    raise Stopped

Accelerator.save_state = save_once
try:
    accelerate_datasets.train(sample, epochs=2, image_size=32, checkpoint=folder, every=1)
except Stopped:
    pass
Accelerator.save_state = save
rest = accelerate_datasets.train(sample, epochs=2, image_size=32, checkpoint=folder, every=1)
assert len(rest) == 2, "the first step was saved, its epoch went on"
assert rest[1] == expected[1], (rest, expected)
"""


def test_accelerate_goes_on_in_every_process(sample, tmp_path):
    """The second epoch is the same to the bit only if each process went on with its own batches of the first."""
    (tmp_path / "stopped.py").write_text(STOPPED)
    variables = {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = in_two("stopped.py", ROOT / "examples", sample, "checkpoint", cwd=tmp_path, **variables)
    assert run.returncode == 0, run.stderr[-3000:]


# ---- DALI ------------------------------------------------------------------------------------------------------------


def test_dali_pipelines(sample):
    module = example("dali_pipeline")
    files = open_set(f"{sample}/train")
    plain = module.classic(f"{sample}/train", SIZE)
    sometimes = module.classic(f"{sample}/train", SIZE, sometimes=True)
    both = module.generic(f"{sample}/train", SIZE)
    # A batch that is not mixed comes once. Adjacent rows of one label are the views of an image.
    rows = [len(labels) // min(32, len(files) - 32 * n) for n, (_, labels) in enumerate(both)]
    assert set(rows) <= {1, 2}
    twice = both[rows.index(2)][0]
    both = [(images[::views], labels[::views]) for views, (images, labels) in zip(rows, both, strict=True)]
    for batches in (plain, sometimes, both):
        labels = torch.cat([labels for _, labels in batches]).flatten().tolist()
        assert sorted(labels) == sorted(files.labels.tolist())
        images = torch.cat([images for images, _ in batches])
        assert images.shape == (len(files), 3, SIZE, SIZE)
        assert 0.3 < float(images.std()) < 3
    clean, mixed = twice[::2], twice[1::2]
    spectra = [torch.fft.fft2(view).abs().sum(dim=(1, 2, 3)).sort().values for view in (clean, mixed)]
    torch.testing.assert_close(*spectra, rtol=0.2, atol=0)


def test_dynamic_mode(sample):
    pytest.importorskip("nvidia.dali.experimental.dynamic.capture", reason="needs DALI 2.3 or newer")
    assert_an_epoch(list(example("dynamic_mode").epoch(f"{sample}/train", SIZE)), sample)


def test_dali_proxy(sample):
    assert_an_epoch(list(example("dali_proxy").epoch(f"{sample}/train", SIZE)), sample)


@pytest.mark.usefixtures("no_driver")
def test_dali_torchvision(sample):
    pytest.importorskip("nvidia.dali.experimental.torchvision")
    assert_an_epoch(list(example("dali_torchvision").epoch(f"{sample}/train", SIZE)), sample)


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


def test_corrupted_loader(sample):
    class Brightness(torch.nn.Module):
        """The first class for dark images, the last one for bright ones."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return -(images.mean((1, 2, 3))[:, None] - torch.linspace(-1, 1, len(CLASSES))).abs()

    chosen = {"corruptions": ["brightness", "fog"], "severities": [1, 5], "image_size": SIZE}
    found = example("corrupted_loader").accuracies(Brightness(), f"{sample}/val", **chosen)
    assert list(found) == [("brightness", 1), ("brightness", 5), ("fog", 1), ("fog", 5)]
    assert all(0 < top1 < 1 for top1 in found.values())
    seen = {"mean": IMAGENET.mean, "std": IMAGENET.std, "classes": CLASSES, "device": "cpu"}
    chosen = {"corruptions": ["brightness", "fog"], "severities": [1, 5], "image_size": SIZE}
    table = evaluate_corruption_on_the_fly(Brightness(), f"{sample}/val", **chosen, **seen).table.errors
    for (name, severity), top1 in found.items():
        assert 1 - top1 == pytest.approx(table[name][severity // 5], abs=2 / 32), "images a level apart"


# ---- other loaders ---------------------------------------------------------------------------------------------------


def test_torchdata_nodes(sample):
    pytest.importorskip("torchdata.nodes")
    module = example("torchdata_nodes")
    whole, _ = module.batches(f"{sample}/train", SIZE, 4)
    first, place = module.batches(f"{sample}/train", SIZE, 1)
    rest, _ = module.batches(f"{sample}/train", SIZE, 3, place)
    for (images, targets), (expected, labels) in zip(first + rest, whole, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(targets, labels)


def test_spdl_threads(sample):
    pytest.importorskip("spdl.pipeline")
    batches = list(example("spdl_threads").epoch(f"{sample}/train", SIZE))
    assert_an_epoch(batches, sample)


def test_what_fails_in_spdl_ends_the_epoch(tmp_path):
    failure = pytest.importorskip("spdl.pipeline").PipelineFailure
    (tmp_path / "a").mkdir()
    (tmp_path / "a/broken.jpg").write_bytes(b"no image")
    with pytest.raises(failure, match="pipeline stages failed"):
        list(example("spdl_threads").epoch(str(tmp_path), SIZE))


def test_litdata_stream(sample, tmp_path, monkeypatch):
    pytest.importorskip("litdata")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(ROOT / "examples")  # for LitData's processes, which import it by its name
    module = example("litdata_stream")
    module.write(f"{sample}/train", str(tmp_path / "chunks"), workers=1)
    loader = module.loader(str(tmp_path / "chunks"), SIZE, workers=0)
    pickle.dumps(loader.collate_fn)  # LitData lets all later processes be spawned once it has written
    batches = list(loader)
    views = [len(images) // 32 for images, _ in batches]
    assert set(views) <= {1, 2}
    assert_an_epoch([(images[::n], labels[::n]) for n, (images, labels) in zip(views, batches, strict=True)], sample)


def assert_an_epoch(batches: list, sample: str) -> None:
    """Each image's label once, and images as they are to be."""
    labels = torch.cat([labels for _, labels in batches]).flatten().tolist()
    assert sorted(labels) == sorted(open_set(f"{sample}/train").labels.tolist())
    assert [tuple(images.shape) for images, _ in batches] == [(32, 3, SIZE, SIZE)] * 4
    assert all(0.05 < float(images.std()) < 1 for images, _ in batches)


# ---- object storage --------------------------------------------------------------------------------------------------


def test_webdataset_on_s3(sample, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
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
    for path in folder.iterdir():
        s3.upload_file(str(path), "images", f"train/{path.name}")
    local = list(ImageNetLoader(folder, 8, "apr-sp", image_size=16, threads=1, seed=1))
    with example("webdataset_s3").loader("s3://images/train/", 8, 16, threads=1, seed=1) as loader:
        remote = list(loader)
    assert len(remote) == 4
    for (images, targets), (expected, labels) in zip(remote, local, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(targets, labels)
