"""The network that a command evaluates: from a checkpoint of ours, or from torchvision or timm by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import floor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from apr_dali.bands import RADII
from apr_dali.config import CIFAR, CIFAR_ADVERSARIAL, IMAGENET, STANDARD, AprRecipe, Scaling
from apr_dali.errors import InputError, install_command
from apr_dali.models.banded import SEEING, behind
from apr_dali.models.cifar import TWO_HEADS, SmallClassifier, TwoHeads
from apr_dali.models.filter_bands import MODULATED, export_plain, modulate_first
from apr_dali.models.gray import GRAY, SeesGray
from apr_dali.models.registry import TIMM, canonical_name, create_model
from apr_dali.models.weights import pretrained, read_weights
from apr_dali.training import checkpoint

_CIFAR_SIZE, _IMAGENET_SIZE = 32, 224


@dataclass(frozen=True)
class Network:
    """A network and what it was trained on.

    name: for people. model: in eval mode, on the CPU. classes: the names that its outputs stand for, in their order.
    mean, std: of the normalisation for images in 0..1. image_size: pixels a side.
    fingerprint: of its weights: two networks with the same one give the same results.
    scaling: of images before they are cropped to `image_size`.
    scaled_whole: images are not cropped but scaled to a square, as train_cifar.py does with those of a folder.
    amp: the arithmetic that it was trained with, one of AMP_MODES.
    """

    name: str
    model: nn.Module
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int
    fingerprint: str
    scaling: Scaling = STANDARD
    scaled_whole: bool = False
    amp: str = "none"

    @property
    def recipe(self) -> AprRecipe:
        """The normalisation as loaders take it."""
        return AprRecipe(0.0, True, self.mean, self.std)

    def indices(self, names: tuple[str, ...]) -> list[int]:
        """The outputs that stand for the classes `names`; InputError if there is none for one of them."""
        position = {name: index for index, name in enumerate(self.classes)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise InputError(
                f"{self.name} has no class {', '.join(unknown[:5])}{' …' if len(unknown) > 5 else ''}: "
                f"{len(unknown)} of {len(names)} classes are not among its {len(self.classes)}"
            )
        return [position[name] for name in names]


def load_network(model: str, weights: str | None = None, image_size: int | None = None) -> Network:
    """The network that a command line names.

    Args:
        model: a checkpoint file of our trainers, or the name of a torchvision or timm model, whose pretrained weights
            for ImageNet are then fetched.
        weights: a file with the weights of the named model instead, as `torch.save` writes a state dict: such as the
            released ones. Read without running what it contains.
        image_size: pixels a side instead of what it was trained at.

    Raises:
        InputError: if it cannot be found, read or fetched, or the weights do not fit the model.
    """
    if os.path.isfile(model) or model.endswith(".pt"):
        if weights:
            raise InputError(f"--weights changes nothing with a checkpoint: {model} has its own")
        return _from_checkpoint(Path(model), image_size)
    name = canonical_name(model)
    made = create_model(name, 1000) if weights else pretrained(name)
    if weights:
        _load_weights(made, name, Path(weights))
    if name.startswith(TIMM):
        mean, std, size, scaling = _view_of_timm(made.pretrained_cfg, image_size)
    elif weights:
        # They do not say how they were trained: by the published recipe, as the released ones.
        mean, std, size, scaling = IMAGENET.mean, IMAGENET.std, image_size or _IMAGENET_SIZE, STANDARD
    else:
        mean, std, size, scaling = _view_of_torchvision(name, image_size)
    return Network(name, made.eval(), imagenet_classes(), mean, std, size, _fingerprint(made), scaling)


_View = tuple[tuple[float, float, float], tuple[float, float, float], int, Scaling]
"""mean, std, image size and scaling that a network was evaluated with by those who trained it."""


def _view_of_timm(config: Any, image_size: int | None) -> _View:
    size = image_size or config["input_size"][-1]
    # To the pixel: timm rounds down.
    scaling = Scaling(floor(size / config["crop_pct"]) / size, config["interpolation"])
    return tuple(config["mean"]), tuple(config["std"]), size, scaling


def _view_of_torchvision(name: str, image_size: int | None) -> _View:
    import torchvision

    given = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    (crop,), (resized,) = given.crop_size, given.resize_size
    scaling = Scaling(resized / crop, given.interpolation.value)
    return tuple(given.mean), tuple(given.std), image_size or crop, scaling


def _from_checkpoint(path: Path, image_size: int | None) -> Network:
    state = checkpoint.load_any(path)
    classes, architecture = tuple(state["classes"]), state["architecture"]
    plain, options = architecture.partition(SEEING)[0], state["options"]
    single = plain.removesuffix(TWO_HEADS)
    base = single.removesuffix(MODULATED)
    in_chans = 1 if base.endswith(GRAY) else 3
    made = create_model(base.removesuffix(GRAY), len(classes), in_chans)
    if single.endswith(MODULATED):
        modulate_first(made)
    if plain.endswith(TWO_HEADS):
        assert isinstance(made, SmallClassifier), architecture
        made = TwoHeads(made, options["phase_weight"])
    recipe = _recipe(options)
    made = behind(made, options.get("spectrum", ""), tuple(options.get("radii", RADII)), recipe)
    made.load_state_dict(state["model"])
    export_plain(made)
    if in_chans == 1:
        # Whatever reads images for it gives three channels.
        recipe = recipe.gray()
        made = SeesGray(made, recipe)
    size = image_size or options.get("image_size", _CIFAR_SIZE)
    name = f"{architecture} of {path}"
    whole, amp = options.get("dataset") == "folder", options.get("amp", "none")
    of_run = {"scaled_whole": whole, "amp": amp}
    return Network(name, made.eval(), classes, recipe.mean, recipe.std, size, _fingerprint(made), **of_run)


def _recipe(options: dict[str, Any]) -> AprRecipe:
    """The normalisation that a trainer with these options used: the CIFAR trainer's alone name a data set."""
    if "dataset" not in options:
        return IMAGENET
    return CIFAR if options["adversarial"] == "none" else CIFAR_ADVERSARIAL


def _load_weights(model: nn.Module, name: str, path: Path) -> None:
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2]
        raise InputError(f"{path} does not fit {name} with 1000 classes:{''.join(first)[:300]}") from error


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1000 classes in the order of every published network, which is sorted."""
    try:
        from timm.data import ImageNetInfo
    except ImportError as error:
        raise InputError(f"the names of ImageNet's classes come from timm: {install_command('eval')}") from error
    return tuple(ImageNetInfo().label_names())


def is_imagenet(classes: Sequence[str]) -> bool:
    """Whether these are ImageNet's 1,000 classes, in any order."""
    return len(classes) == 1000 and set(classes) == set(imagenet_classes())


def _fingerprint(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()[:16]
