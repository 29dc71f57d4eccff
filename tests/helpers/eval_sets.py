"""Small networks and sets for the tests of evaluations, whose right answers are known without the code under test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tar_files import folder_of
from PIL import Image
from torch import nn

from apr_dali.eval import passes
from apr_dali.recipes import Scaling

NAMES = ("fog", "spatter")
CLASSES = ("dark", "gray", "light")
LEVELS = (40, 128, 215)


class Brightness(nn.Module):
    """Logits of CLASSES: minus the distance of the mean brightness from each class's level, in gray levels / 10.

    It takes images normalized with (0.5, 0.25) per channel; a weight makes it one that a checkpoint can hold.
    """

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.tensor(LEVELS, dtype=torch.float32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        level = (images.mean((1, 2, 3)) * 0.25 + 0.5) * 255
        return -(level[:, None] - self.levels).abs() / 10


class Ten(nn.Module):
    """Class 3 of ten, ever surer with the brightness."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((1, 2, 3))[:, None].exp() * torch.eye(10)[3]


class Linear(nn.Module):
    """A fixed linear layer of the means of an image's quarters, channel by channel, which are about 2."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.fc = nn.Linear(12, classes)
        with torch.no_grad():
            self.fc.weight.copy_(torch.randn(classes, 12, generator=torch.Generator().manual_seed(1)))
            self.fc.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) + 2)


def network(size: int = 40, model: nn.Module | None = None, classes: tuple[str, ...] = CLASSES):
    """What a command gets in place of a network from a file."""
    from apr_dali.eval.load_model import Network

    made = (model or Brightness()).eval()
    return Network("brightness", made, classes, (0.5,) * 3, (0.25,) * 3, size, "0123")


def unscaled(model: nn.Module):
    """A network that sees images of its size as they are."""
    return replace(network(model=model), scaling=Scaling(over_crop=1.0))


def batch_of(paths: Iterable[Path]) -> torch.Tensor:
    """Images of one size, as the networks here take them: float32 (N, 3, H, W)."""
    pixels = [np.asarray(Image.open(path)) for path in paths]
    return (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25


def logits_of(model: nn.Module, folder: Path) -> torch.Tensor:
    """Of the PNG files in the class folders of `folder`, in their order."""
    with torch.no_grad():
        return model(batch_of(sorted(folder.glob("*/*.png"))))


def named(root: Path, *names: str) -> list[str]:
    """Arguments NAME=PATH for sets below `root`."""
    return [f"{name}={root / name}" for name in names]


def write_levels(folder: Path, levels: dict[str, list[int]], border: int = 0) -> None:
    """PNG files of noise about a gray level, 40×40 with a white border, `folder/<class>/<number>.png`."""
    for name, values in levels.items():
        (folder / name).mkdir(parents=True)
        for index, level in enumerate(values):
            rng = np.random.default_rng([level, index])
            pixels = np.clip(level + rng.integers(-8, 9, (40, 40, 3)), 0, 255).astype(np.uint8)
            pixels = np.pad(pixels, ((border, border), (border, border), (0, 0)), constant_values=255)
            Image.fromarray(pixels).save(folder / name / f"{index:02d}.png")


def random_levels(seed: int, count: int = 5, spread: float = 60) -> dict[str, list[int]]:
    """Levels about each class's own: `count` for the first class, one fewer for each further one."""
    rng = np.random.default_rng(seed)
    return {
        name: np.clip(rng.normal(level, spread, count - index), 10, 245).astype(int).tolist()
        for index, (name, level) in enumerate(zip(CLASSES, LEVELS, strict=True))
    }


def write_corruptions(root: Path, names: tuple[str, ...]) -> dict[str, list[float]]:
    """An ImageNet-C-like tree of 12 images per cell, and the errors that it must give.

    The images have a border that a center crop of 40 pixels cuts off, and that resizing would leave.
    """
    errors = {}
    for number, name in enumerate(names):
        errors[name] = []
        for severity in range(1, 6):
            folder = root / name / str(severity)
            write_levels(folder, random_levels(10 * number + severity, spread=15 * severity), border=10)
            errors[name].append(error_of(folder))
    return errors


def error_of(folder: Path) -> float:
    """The share of images in class folders that `Brightness` must get wrong, from their pixels."""
    wrong = [nearest(np.asarray(Image.open(path))) != path.parent.name for path in folder.glob("*/*.png")]
    return float(np.mean(wrong))


def nearest(pixels: np.ndarray) -> str:
    """The class whose level is nearest to the mean of the middle 40 pixels of uint8 (H, W, 3)."""
    top, left = (max(0, (side - 40) // 2) for side in pixels.shape[:2])
    pixels = pixels[top : top + 40, left : left + 40]
    return CLASSES[int(np.abs(pixels.astype(np.float64).mean() - LEVELS).argmin())]


def packed(folder: Path) -> Path:
    """The images of class folders in two tars beside it: `own.png` and `id`; and as `other.png` and `cls` another's."""
    files = sorted(folder.rglob("*.png"))
    contents = [path.read_bytes() for path in files]
    labels = [CLASSES.index(path.parent.name) for path in files]
    members: list[tuple[str, bytes]] = []
    for n, (image, label) in enumerate(zip(contents, labels, strict=True)):
        found = {"own.png": image, "other.png": contents[-1 - n], "id": b"%d" % label, "cls": b"%d" % labels[-1 - n]}
        members += [(f"{n:03d}.{name}", content) for name, content in found.items()]
    middle = len(files) // 3 * 4
    return folder_of(folder.parent / "tars", members[:middle], members[middle:], classes="\n".join(CLASSES))


def write_arrays(root: Path, count: int = 10) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two corruptions as CIFAR-C has them, of flat 32×32 images: the arrays and their labels."""
    rng = np.random.default_rng(0)
    root.mkdir()
    labels = np.tile(rng.integers(0, 3, count), 5)
    levels = np.array(LEVELS)[labels] + np.repeat([10, 20, 40, 60, 80], count) * rng.normal(size=5 * count)
    noise = rng.integers(-5, 6, (5 * count, 32, 32, 3))
    images = {"fog": np.clip(levels[:, None, None, None] + noise, 0, 255).astype(np.uint8)}
    images["snow"] = images["fog"][::-1].copy()
    for name, array in images.items():
        np.save(root / f"{name}.npy", array)
    np.save(root / "labels.npy", labels)
    return images, labels


def scores_of(folder: Path) -> dict[str, np.ndarray]:
    """The scores that `Brightness` gives the images below a folder of class folders, in float64."""
    levels = [np.asarray(Image.open(path)).astype(np.float64).mean() for path in sorted(folder.glob("*/*.png"))]
    logits = -np.abs(np.array(levels)[:, None] - LEVELS) / 10
    exponentials = np.exp(logits)
    return {
        "max-softmax": (exponentials / exponentials.sum(1, keepdims=True)).max(1),
        "max-logit": logits.max(1),
        "energy": np.log(exponentials.sum(1)),
    }


def interrupted_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let Ctrl-C come in the place of the set of this number that a network is run over; a list of those begun."""
    real: Callable[..., object] = passes.evaluate
    begun: list[int] = []

    def stopping(*arguments: object) -> object:
        begun.append(1)
        if len(begun) == number:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(passes, "evaluate", stopping)
    return begun
