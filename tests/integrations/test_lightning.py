"""Lightning: the data module, the callback and the example, on the built-in sample."""

from __future__ import annotations

import os
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.examples import CLASSES, SIZE, example
from helpers.waiting import until

from apr_dali import ImageNetLoader
from apr_dali.errors import InputError
from apr_dali.transforms import AprPair


@pytest.fixture
def quiet(tmp_path):
    where = {"default_root_dir": tmp_path, "accelerator": "cpu", "devices": 1}
    return where | {"enable_progress_bar": False, "num_sanity_val_steps": 0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers
@pytest.mark.parametrize("callback", [False, True])
def test_lightning(sample, quiet, callback):
    model = example("lightning_module").train(sample, callback, epochs=3, image_size=SIZE, **quiet)
    assert len(model.losses) == 3 * 4
    assert np.mean(model.losses[-4:]) < np.mean(model.losses[:4])
    if not callback:
        assert 0 <= float(model.trainer.callback_metrics["top-1"]) <= 1


@pytest.mark.filterwarnings("ignore")
def test_overfit_batches_is_refused(sample, quiet):
    """Each epoch would show other batches, without a word."""
    from apr_dali.integrations.lightning import AprDataModule

    module = example("lightning_module")
    trainer = module.Trainer(max_epochs=2, overfit_batches=1, logger=False, **quiet)
    with pytest.raises(InputError, match=r"overfit_batches shows the same batches in every epoch.*limit_train_batches"):
        trainer.fit(module.Classifier(16, 1), AprDataModule(sample, 32, image_size=SIZE, threads=1))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{"limit_train_batches": 2}, {"reload_dataloaders_every_n_epochs": 1}])
def test_lightning_never_repeats_an_epoch(sample, quiet, options):
    """Neither where it leaves each epoch early nor where it asks for another loader."""
    from apr_dali.integrations.lightning import AprDataModule

    module, seen = example("lightning_module"), []

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    class Recording(module.Classifier):
        def training_step(self, batch, index):
            seen.append(batch[0].numpy().tobytes())
            return super().training_step(batch, index)

        def on_train_epoch_end(self):
            if not self.current_epoch:
                held.append(threads())
            until(lambda: threads() <= held[0])  # those of an ended loader end a moment later

    held = []
    trainer = module.Trainer(max_epochs=3, logger=False, enable_checkpointing=False, **quiet | options)
    trainer.fit(Recording(16, 2), AprDataModule(sample, 32, "apr-sp", image_size=SIZE, threads=1))
    assert len(seen) == 3 * options.get("limit_train_batches", 4)
    assert len(set(seen)) == len(seen)


@pytest.mark.slow
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
    strategy = types.SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda given: given)


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
        strategy = types.SimpleNamespace(broadcast=lambda given: given)
        callback.setup(types.SimpleNamespace(global_rank=rank, world_size=2, strategy=strategy), None, "fit")
        batch = [torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8)]
        callback.on_train_batch_start(None, None, batch, 0)
        return batch[0]

    for seed in (None, 3):
        assert torch.equal(partners(0, seed), partners(0, seed))
        assert not torch.equal(partners(0, seed), partners(1, seed))


def test_lightning_data_module_can_repeat_unmixed_batches(sample):
    from apr_dali.integrations.lightning import AprDataModule

    for options, rows in (({}, {8, 16}), ({"repeat_unmixed": True}, {16})):
        module = AprDataModule(sample, 8, "apr-p", image_size=16, threads=1, **options)
        module.trainer = Probe()
        assert {len(images) for images, _ in module.train_dataloader().loader} == rows
        assert len(module.val_dataloader()) == 4
        module.teardown("fit")


def test_lightning_data_module_changes_training_images_alone(sample):
    from apr_dali.integrations.lightning import AprDataModule

    options = {"policy": "randaugment", "policy_magnitude": 5, "random_erasing": 1.0}
    module = AprDataModule(sample, 8, image_size=16, threads=1, **options)
    module.trainer = Probe()
    assert all((images == 0).all(1).any() for images, _ in module.train_dataloader().loader)
    assert not any((images == 0).all(1).any() for images, _ in module.val_dataloader())
    module.teardown("fit")


def test_lightning_processes_have_one_coin():
    from apr_dali.integrations.lightning import AprPairCallback

    def rows(rank: int, **options) -> list[int]:
        torch.manual_seed(rank)
        # What the main process broadcasts.
        strategy = types.SimpleNamespace(broadcast=lambda _: 11)
        callback = AprPairCallback(**options)
        callback.setup(types.SimpleNamespace(global_rank=rank, world_size=2, strategy=strategy), None, "fit")
        found = []
        for _ in range(16):
            batch = [torch.rand(2, 3, 4, 4), torch.arange(2)]
            callback.on_train_batch_start(None, None, batch, 0)
            found.append(len(batch[0]))
        return found

    assert rows(0) == rows(1)
    assert set(rows(0)) == {2, 4}
    assert set(rows(0, repeat_unmixed=True)) == {4}


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
