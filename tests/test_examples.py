"""Each example, as it is shown, on the built-in sample: it runs, it learns, and its batches are what it says."""

from __future__ import annotations

import importlib.util
import inspect
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
from helpers.processes import PATIENCE, torchrun
from helpers.project import ROOT
from helpers.tolerances import LEVELS

from apr_dali import ImageNetLoader
from apr_dali.data.folders import open_set
from apr_dali.data.sample import write_sample
from apr_dali.errors import InputError
from apr_dali.transforms import AprPair

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


@pytest.fixture
def lacking(sample, tmp_path) -> str:
    """The sample with no validation images of its first class."""
    (tmp_path / "train").symlink_to(Path(sample) / "train")
    (tmp_path / "val").mkdir()
    for name in CLASSES[1:]:
        (tmp_path / "val" / name).symlink_to(Path(sample) / "val" / name)
    return str(tmp_path)


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
    run = torchrun("stopped.py", ROOT / "examples", sample, "checkpoint", cwd=tmp_path, **variables)
    assert run.returncode == 0, run.stderr[-3000:]


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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", [3, 4])
@pytest.mark.parametrize("length", [{"max_epochs": 3}, {"max_steps": 10, "max_epochs": -1}])
def test_lightning_continues_as_if_it_had_not_stopped(sample, quiet, tmp_path, limit, length):
    """From checkpoints within an epoch, after its last batch, at its end, and of a run that has ended."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    from apr_dali.integrations.lightning import AprDataModule

    class Recording(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(3, 16), []

        def training_step(self, batch, _):
            self.seen.append(batch[0].numpy().tobytes())
            return torch.nn.functional.cross_entropy(self.layer(batch[0].mean((2, 3))), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    quiet |= {"logger": False, "enable_model_summary": False, "limit_val_batches": 0, "limit_train_batches": limit}

    def fit(*callbacks, ckpt_path=None, **length) -> tuple[list[bytes], Trainer]:
        model, trainer = Recording(), Trainer(callbacks=list(callbacks), **quiet, **length)
        data = AprDataModule(sample, 32, "apr-p", image_size=16, threads=1)
        trainer.fit(model, data, ckpt_path=ckpt_path)
        return model.seen, trainer

    expected, _ = fit(
        ModelCheckpoint(tmp_path / "step", "{step}", every_n_train_steps=1, save_top_k=-1),
        ModelCheckpoint(tmp_path / "epoch", "{step}", save_top_k=-1),
        **length,
    )
    assert len(set(expected)) == len(expected) == (3 * limit if "max_steps" not in length else 10)
    places = ["step/step=2", f"step/step={limit}", f"step/step={limit + 1}"]
    places += [f"epoch/step={limit}", f"epoch/step={2 * limit}"]
    for saved in places:
        seen, _ = fit(ckpt_path=tmp_path / f"{saved}.ckpt", **length)
        assert seen == expected[-len(seen) :], saved
        assert len(seen) == len(expected) - int(saved.rpartition("=")[2]), saved
    shorter = {"max_steps": limit - 1, "max_epochs": -1} if "max_steps" in length else {"max_epochs": 1}
    seen, trainer = fit(**shorter)
    trainer.save_checkpoint(tmp_path / "ended.ckpt")
    assert seen + fit(ckpt_path=tmp_path / "ended.ckpt", **length)[0] == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{"limit_train_batches": 2}, {"reload_dataloaders_every_n_epochs": 1}])
def test_lightning_never_repeats_an_epoch(sample, quiet, options):
    """Neither where it leaves each epoch early nor where it asks for another loader."""
    from apr_dali.integrations.lightning import AprDataModule

    module, seen = example("lightning_module"), []

    class Recording(module.Classifier):
        def training_step(self, batch, index):
            seen.append(batch[0].numpy().tobytes())
            return super().training_step(batch, index)

        def on_train_epoch_end(self):
            held.append(len(os.listdir("/proc/self/task")))

    held = []
    trainer = module.Trainer(max_epochs=3, logger=False, enable_checkpointing=False, **quiet | options)
    trainer.fit(Recording(16, 2), AprDataModule(sample, 32, "apr-sp", image_size=SIZE, threads=1))
    assert len(seen) == 3 * options.get("limit_train_batches", 4)
    assert len(set(seen)) == len(seen)
    assert held[2] <= held[0]


def test_lightning_state_is_that_of_all_processes(sample):
    from apr_dali.integrations.lightning import RankLoader

    loaders = [ImageNetLoader(f"{sample}/train", 8, shard=(rank, 2), image_size=16, threads=1) for rank in range(2)]
    epochs = [iter(loader) for loader in loaders]
    for batches in epochs:
        next(batches)
    together = {"ranks": [loader.state_dict() for loader in loaders]}
    for rank, batches in enumerate(epochs):
        expected = [targets.tolist() for _, targets in batches]
        with ImageNetLoader(f"{sample}/train", 8, shard=(rank, 2), image_size=16, threads=1) as again:
            RankLoader(again, bool).load_state_dict(together)
            assert [targets.tolist() for _, targets in again] == expected
    with pytest.raises(InputError, match="saved by 2 processes, now there are 1"):
        RankLoader(ImageNetLoader(f"{sample}/train", 8, threads=1), bool).load_state_dict(together)


class Probe:
    """Stands for a Trainer on the CPU, which a data module asks where it is."""

    global_rank, world_size = 0, 1
    strategy = types.SimpleNamespace(root_device=torch.device("cpu"))


PARTS = ("val_dataloader", "test_dataloader", "predict_dataloader")


@pytest.fixture
def data_module():
    from apr_dali.integrations.lightning import AprDataModule

    made = []

    def make(path, **options):
        made.append(AprDataModule(path, 8, image_size=16, threads=1, **options))
        made[-1].trainer = Probe()
        return made[-1]

    yield make
    for module in made:
        module.teardown("fit")


@pytest.mark.parametrize("part", PARTS)
def test_lightning_gives_every_part_the_labels_of_training(lacking, data_module, part):
    with pytest.raises(InputError, match="1 missing: astronaut"):
        getattr(data_module(lacking), part)()
    for options in ({}, {"classes": CLASSES}):
        loader = getattr(data_module(lacking, allow_missing_classes=True, **options), part)()
        assert loader.classes == CLASSES
        assert [label for _, targets in loader for label in targets.tolist()] == 8 * [1] + 8 * [2] + 8 * [3]
    (Path(lacking) / "val" / "zebra").symlink_to(Path(lacking) / "val" / "page")
    with pytest.raises(InputError, match="1 extra: zebra"):
        getattr(data_module(lacking, allow_missing_classes=True), part)()


def test_lightning_tests_on_the_test_part_where_there_is_one(lacking, data_module):
    (Path(lacking) / "test").symlink_to(Path(lacking) / "train")
    for part, count in zip(PARTS, (24, 128, 128), strict=True):
        assert getattr(data_module(lacking, allow_missing_classes=True), part)().num_images == count


@pytest.mark.parametrize("where", ["", "predict", "test"])
def test_lightning_predicts_images_without_classes(sample, tmp_path, data_module, where):
    """Their targets are their numbers, by which the loader names them."""
    folder = tmp_path / "set" / where
    folder.mkdir(parents=True)
    files = sorted(Path(sample, "val").rglob("*.png")) or sorted(Path(sample, "val").rglob("*.jp*g"))
    for number, file in enumerate(files[:11]):
        (folder / f"{10 - number:02d}{file.suffix}").symlink_to(file)
    (folder / "notes.txt").touch()
    loader = data_module(tmp_path / "set").predict_dataloader()
    assert [label for _, targets in loader for label in targets.tolist()] == list(range(11))
    assert [Path(file).resolve() for file in loader.files] == [file.resolve() for file in files[10::-1]]
    assert loader.classes == tuple(os.path.basename(file) for file in loader.files)


def test_lightning_predicts_in_the_part_for_it(lacking, data_module):
    (Path(lacking) / "predict").symlink_to(Path(lacking) / "train")
    module = data_module(lacking, allow_missing_classes=True)
    assert [getattr(module, part)().num_images for part in PARTS] == [24, 24, 128]
    with pytest.raises(InputError, match="is not there"):
        data_module(Path(lacking) / "nothing").predict_dataloader()


def test_lightning_asks_anew_and_the_next_epoch_comes(sample, data_module):
    module = data_module(sample)
    first = [targets.tolist() for _, targets in module.train_dataloader()]
    again = module.train_dataloader()
    assert [targets.tolist() for _, targets in again] != first
    assert len(module._open) == 1
    module.setup("fit")  # another run begins at the beginning
    with pytest.raises(RuntimeError, match="closed"):
        next(iter(again))
    assert [targets.tolist() for _, targets in module.train_dataloader()] == first


@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_tests_and_predicts(sample, quiet, data_module):
    from lightning.pytorch import Trainer

    module = example("lightning_module")

    class Whole(module.Classifier):
        def test_step(self, batch, batch_idx):
            self.validation_step(batch, batch_idx)

        def predict_step(self, batch):
            return batch[1]

    trainer = Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, **quiet)
    data = data_module(sample)
    (found,) = trainer.test(Whole(4, 2), data, verbose=False)
    assert 0 <= found["top-1"] <= 1
    assert torch.cat(trainer.predict(Whole(4, 2), data)).tolist() == [label for label in range(4) for _ in range(8)]
    assert not data._open


def test_lightning_parts_go_to_spawned_processes(sample):
    import pickle

    from apr_dali.integrations.lightning import AprDataModule, AprPairCallback

    images, labels = torch.rand(4, 3, 16, 16), torch.arange(4)
    callback = pickle.loads(pickle.dumps(AprPairCallback(p=1, seed=5, views="mixed")))
    callback.setup(Probe(), None, "fit")
    batch = [images.clone(), labels]
    callback.on_train_batch_start(None, None, batch, 0)
    assert torch.equal(batch[0], AprPair(p=1, seed=5, views="mixed")(images, labels)[0])
    pickle.loads(pickle.dumps(AprPairCallback())).setup(Probe(), None, "fit")
    module = pickle.loads(pickle.dumps(AprDataModule(sample, 8, image_size=16, threads=1)))
    module.trainer = Probe()
    assert len(module.val_dataloader()) == 4
    module.teardown("fit")


def test_lightning_processes_draw_differently_though_seeded_alike():
    from apr_dali.integrations.lightning import AprPairCallback

    def partners(rank: int, seed: int | None) -> torch.Tensor:
        torch.manual_seed(0)  # as seed_everything does it in every process
        callback = AprPairCallback(p=1, seed=seed, views="mixed")
        callback.setup(types.SimpleNamespace(global_rank=rank, world_size=2), None, "fit")
        batch = [torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8)]
        callback.on_train_batch_start(None, None, batch, 0)
        return batch[0]

    for seed in (None, 3):
        assert torch.equal(partners(0, seed), partners(0, seed))
        assert not torch.equal(partners(0, seed), partners(1, seed))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [None, 3])
def test_lightning_callback_goes_on_drawing_where_it_was(quiet, tmp_path, seed):
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    from apr_dali.integrations.lightning import AprPairCallback

    class Recording(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(3, 2), []

        def training_step(self, batch, _):
            self.seen.append(batch[0].numpy().tobytes())
            return self.layer(batch[0].mean((2, 3))).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    images = torch.rand(24, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, torch.zeros(24)), 4)

    def fit(ckpt_path: Path | None = None) -> list[bytes]:
        model, saved = Recording(), ModelCheckpoint(tmp_path, "{step}", save_top_k=-1)
        options = quiet | {"logger": False, "enable_model_summary": False, "max_epochs": 2}
        trainer = Trainer(callbacks=[AprPairCallback(0.5, views="mixed", seed=seed), saved], **options)
        trainer.fit(model, batches, ckpt_path=ckpt_path)
        return model.seen

    expected = fit()
    assert len(expected) == 12
    assert expected[:6] != expected[6:]
    assert fit(tmp_path / "step=6.ckpt") == expected[6:]


def test_lightning_callback_wants_lists():
    from apr_dali.integrations.lightning import AprPairCallback

    callback = AprPairCallback(p=1, seed=5)
    images, labels = torch.rand(4, 3, 16, 16), torch.arange(4)
    batch = [images.clone(), labels]
    callback.on_train_batch_start(None, None, batch, 0)
    expected, both = AprPair(p=1, seed=5)(images, labels)
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
    for name, value in OTHER.items():
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
    run = [sys.executable, "-m", "apr_dali.integrations.timm", "--loader", "none", script, *given]
    env = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=env)
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

    _replace_mixup(timm_data, AprPair())
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
