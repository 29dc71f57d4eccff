"""Checkpoints as the tools of others write them: by those tools."""

import argparse
import copy

import pytest
import torch
from torch import nn

from apr_dali.errors import InputError
from apr_dali.eval.load_model import load_model
from apr_dali.models import create_model

NAME, COUNT = "resnet18", 4
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def made(name: str = NAME, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create_model(name, COUNT).eval()


def same(found, model: nn.Module) -> None:
    with torch.no_grad():
        torch.testing.assert_close(found.model(IMAGES), model.eval()(IMAGES))
    assert len(found.classes) == COUNT


def averaged(model: nn.Module, other: nn.Module) -> nn.Module:
    """What an average of the weights of two has."""
    mean = copy.deepcopy(model)
    with torch.no_grad():
        for own, theirs in zip(mean.parameters(), other.parameters(), strict=True):
            own.lerp_(theirs, 0.5)
    return mean


def test_timms_saver_with_an_average(tmp_path):
    timm_utils = pytest.importorskip("timm.utils")
    model = made("timm/resnet10t")
    options = argparse.Namespace(
        model="resnet10t", num_classes=COUNT, mean=[0.4, 0.5, 0.6], std=[0.2, 0.2, 0.2], img_size=96, crop_pct=0.9,
        interpolation="bicubic",
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    average = timm_utils.ModelEmaV3(model, decay=0.5)
    with torch.no_grad():
        next(iter(average.module.parameters())).add_(1)
    for module, folder in ((model, "plain"), (nn.DataParallel(model), "parallel")):
        (tmp_path / folder).mkdir()
        saver = timm_utils.CheckpointSaver(
            module, optimizer, options, model_ema=average, checkpoint_dir=str(tmp_path / folder)
        )
        saver.save_checkpoint(0, 50.0)
        found = load_model(tmp_path / folder / "last.pth.tar")
        same(found, average.module)
        assert (found.mean, found.std, found.image_size) == ((0.4, 0.5, 0.6), (0.2, 0.2, 0.2), 96)
        assert found.scaling.filter == "bicubic"
        assert "an average of weights" in found.name
        assert "timm's configuration, with the file's img_size, mean, std" in found.seen_from
        same(load_model(f"{tmp_path / folder / 'last.pth.tar'}:state_dict"), model)


def test_torchvisions_reference_script(tmp_path):
    model, average = made(), averaged(made(), made(seed=1))
    options = argparse.Namespace(
        model=NAME, val_crop_size=64, val_resize_size=72, interpolation="bicubic", model_ema=True
    )
    swa = torch.optim.swa_utils.AveragedModel(average)
    checkpoint = {"model": model.state_dict(), "args": options, "epoch": 3, "model_ema": swa.state_dict()}
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    found = load_model(tmp_path / "checkpoint.pth")
    same(found, average)
    assert (found.image_size, found.scaling.filter) == (64, "bicubic")
    assert found.scaling.resized(72, 72, 64) == (72, 72)


def test_lightnings_trainer(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model, self.loss = model, nn.CrossEntropyLoss(weight=torch.ones(COUNT))

        def training_step(self, batch, _):
            return self.loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    module = Module(made())
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    batches = torch.utils.data.TensorDataset(IMAGES, torch.zeros(2, dtype=torch.long))
    trainer.fit(module, torch.utils.data.DataLoader(batches, 2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    same(load_model(f"{NAME}:{tmp_path / 'last.ckpt'}"), module.model)


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "torch.compile": torch.compile,
    "DataParallel, compiled": lambda model: torch.compile(nn.DataParallel(model)),
    "an average of torch's": torch.optim.swa_utils.AveragedModel,
}


@pytest.mark.parametrize(
    ("wrapper", "key"),
    [
        *((wrapper, "model") for wrapper in WRAPPERS),
        *(("DataParallel, compiled", key) for key in (None, "state_dict", "state_dict_ema", "model_state_dict")),
    ],
)
def test_a_wrapped_network(tmp_path, wrapper, key):
    model = made()
    state = WRAPPERS[wrapper](model).state_dict()
    torch.save(state if key is None else {key: state, "epoch": 2}, tmp_path / "w.pth")
    same(load_model(f"{NAME}:{tmp_path / 'w.pth'}"), model)


@pytest.mark.parametrize("wrapper", ["DataParallel", "torch.compile"])
def test_safetensors(tmp_path, wrapper):
    torch_files = pytest.importorskip("safetensors.torch")
    model = made()
    torch_files.save_file(WRAPPERS[wrapper](model).state_dict(), tmp_path / "w.safetensors")
    same(load_model(f"{NAME}:{tmp_path / 'w.safetensors'}"), model)


def test_timms_folder_for_a_hub(tmp_path):
    """config.json and model.safetensors, as timm pushes them to Hugging Face's hub."""
    hub = pytest.importorskip("timm.models._hub")
    import timm

    model = timm.create_model("resnet10t", num_classes=COUNT).eval()
    model.pretrained_cfg.update(mean=(0.1, 0.2, 0.3), input_size=(3, 64, 64), test_input_size=(3, 64, 64))
    hub.save_for_hf(model, str(tmp_path), model_config={"num_classes": COUNT})
    found = load_model(f"timm/local-dir:{tmp_path}")
    same(found, model)
    assert (found.mean, found.image_size) == ((0.1, 0.2, 0.3), 64)
    assert found.seen_from == "timm's configuration"


def test_a_checkpoint_of_another_network_is_named(tmp_path):
    torch.save({"state_dict": nn.DataParallel(made("resnet34")).state_dict()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth.* not of resnet18: .*layer1\.2.* not in the network"):
        load_model(f"{NAME}:{tmp_path / 'w.pth'}")
