"""The network to evaluate: a module, a checkpoint of ours, a named one, or what a function of a file makes."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from apr_dali.data.arrays import SIDE
from apr_dali.data.kinds import CLASSES, kind_of, unnamed
from apr_dali.errors import InputError, check_whole
from apr_dali.eval.class_names import imagenet_classes, is_imagenet, names_of, read_names
from apr_dali.eval.inference_only import EXPORTED, ONNX, SCRIPTED, is_exported, load_exported
from apr_dali.eval.own_network import made_by, unwrapped
from apr_dali.eval.views import ASSUMED, View, normalized, three, view_of, view_of_timm
from apr_dali.models.auxiliary import without_auxiliary
from apr_dali.models.build import build, describe, options_of
from apr_dali.models.filter_bands import export_plain
from apr_dali.models.gray import SeesGray
from apr_dali.models.registry import PLACES, TIMM, canonical_name, count_outputs, create_model
from apr_dali.models.weights import classes_in, pretrained, put_in
from apr_dali.models.weights_file import Weights, read_weights, some, split_entry
from apr_dali.recipes import STANDARD, WHOLE, AprRecipe, Scaling, is_of_cifar, recipe_of, validation_view
from apr_dali.runtime import checkpoint
from apr_dali.runtime.files import sha256_of

_FILES = (".pt", ".pth", ".ckpt", ".tar", ".bin", ".safetensors", *SCRIPTED, ONNX, EXPORTED)
"""How names of checkpoints end."""
_FACTORY = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)(:(?P<weights>.+))?")


@dataclass(frozen=True)
class Network:
    """A network and what it was trained on.

    name: for people. model: in eval mode, on the CPU. classes: the names that its outputs stand for, in their order.
    mean, std: of the normalization for images in 0..1. image_size: pixels per side.
    fingerprint: of its weights: two networks with the same one give the same results.
    scaling: of images before they are cropped to `image_size`.
    scaled_whole: `scaling` is that of train_cifar.py for the images of a folder, to a square, which Pillow does.
    from_folders: it is made for images of any size, which are scaled; others of 32×32 take only such images.
    amp: the arithmetic that it was trained with, one of AMP_MODES.
    trained_on: the data set, one of DATASETS, where its checkpoint says so; else "".
    classes_from, seen_from: who says what its classes are called, and how it sees images, in words.
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
    from_folders: bool = False
    amp: str = "none"
    trained_on: str = ""
    classes_from: str = "its training"
    seen_from: str = "its training"

    @property
    def kind(self) -> str:
        """The published set that its classes are of: "imagenet", "cifar10", "cifar100" or "digits"; "" for all others.

        Its checkpoint says so, or the names of its classes, or, where these have none and it takes images of 32×32,
        their number.
        """
        if self.trained_on not in ("", "folder"):
            return self.trained_on
        if unnamed(self.classes) and not self.trained_on and self.takes_small:
            return {len(names): kind for kind, names in CLASSES.items()}.get(len(self.classes), "")
        return "imagenet" if is_imagenet(self.classes) else kind_of(self.classes)

    @property
    def takes_small(self) -> bool:
        """Whether it takes the published sets of small images, CIFAR's and their like, as they are."""
        return self.image_size == SIDE

    @property
    def takes_as_they_are(self) -> bool:
        """Whether images must have its size already."""
        return self.takes_small and not (self.scaled_whole or self.from_folders)

    @property
    def seen(self) -> str:
        """How it sees an image, in words."""
        size = self.image_size
        geometry = f"of {size}×{size} as they are" if self.takes_as_they_are else self.scaling.in_words(size)
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"{geometry}, values in 0..1 less ({mean}) over ({std})"

    def description(self) -> str:
        """What people should know before its numbers, in lines."""
        classes = f"{len(self.classes)} classes, their names: {self.classes_from}"
        return f"{self.name}\n{classes}\nimages: {self.seen}; {self.seen_from}"

    @property
    def recipe(self) -> AprRecipe:
        """The normalization as loaders take it."""
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


Classes = str | Path | Sequence[str] | None
"""Names of classes in the order of the outputs, or the file or folder that has them."""


def load_model(
    model: str | Path | nn.Module,
    weights: str | None = None,
    image_size: int | None = None,
    classes: Classes = None,
) -> Network:
    """The network that a caller or a command line gives.

    Args:
        model: a module that gives logits, which is put into eval mode; it is seen as timm's `pretrained_cfg` says where
            it has one, else as published for ImageNet. Or a checkpoint file, of our trainers or of others that say
            which network it is of; a network that was exported as ONNX, TorchScript or by torch.export, for inference
            only; the name of a torchvision or timm model, whose published weights are then fetched;
            `FILE.py:FUNCTION`, which makes one. A name or a function may be followed by `:WEIGHTS`.
        weights: the same as `:WEIGHTS`: a file of the model's weights in any usual form, `FILE:ENTRY` for a part of it,
            or a version of torchvision's, such as IMAGENET1K_V1. Files are read without running what they contain.
        image_size: pixels per side instead of what it was trained at.
        classes: names of its classes, or what `read_names` takes, where the weights do not say them.

    Raises:
        InputError: if it cannot be found, read or fetched, or the weights do not fit the model.
    """
    if image_size is not None:
        check_whole("image_size", image_size, 1)
    if isinstance(model, nn.Module):
        if weights:
            raise InputError(f"weights {weights} change nothing with a module, which has its own: load them into it")
        return _from_module(type(unwrapped(model)).__name__, model, "", image_size, classes)
    model = str(model)
    if factory := _FACTORY.fullmatch(model):
        return _from_function(factory, _one(weights, factory["weights"]), image_size, classes)
    if model.endswith(".py"):
        raise InputError(f"{model} may have many functions: give {model}:FUNCTION, the one that returns the network")
    if _is_file(model):
        if weights:
            raise InputError(f"--weights changes nothing with a checkpoint: {model} has its own")
        return _from_file(model, image_size, classes)
    name, _, own = (model, "", "") if model.removeprefix(TIMM).startswith(PLACES) else model.partition(":")
    return _named(canonical_name(name), _one(weights, own), image_size, classes)


def seen_as(
    network: Network,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop_pct: float | None = None,
    interpolation: str | None = None,
) -> Network:
    """The network, fed as a person says, where nobody else knows: `seen_from` has what was given.

    Raises InputError for values out of range, and where a checkpoint of ours says how it was trained to see.
    """
    scaling = network.scaling
    if crop_pct is not None:
        if not 0 < crop_pct < math.inf:
            raise InputError(f"--crop-pct must be a positive number, got {crop_pct}")
        scaling = replace(scaling, over_crop=math.floor(network.image_size / crop_pct) / network.image_size)
    scaling = replace(scaling, filter=interpolation or scaling.filter)
    # "not (0 < ...)": it also refuses nan.
    for name, values, low in (("mean", mean, -math.inf), ("std", std, 0.0)):
        if values is not None and not all(low < value < math.inf for value in values):
            raise InputError(f"--{name} must be three {'positive ' * (low == 0)}numbers, got {list(values)}")
    options = {"mean": mean, "std": std, "crop-pct": crop_pct, "interpolation": interpolation}
    given = [f"--{name}" for name, value in options.items() if value is not None]
    found = replace(network, mean=three(mean or network.mean), std=three(std or network.std), scaling=scaling)
    if found == network:
        return network
    if network.seen_from == Network.seen_from:
        raise InputError(
            f"{network.name} was trained to see images {network.seen}, and says so: leave out {', '.join(given)}"
        )
    if network.takes_as_they_are and scaling != network.scaling:
        raise InputError(f"{network.name} takes images as they are: --crop-pct and --interpolation change nothing")
    return replace(found, seen_from=f"{network.seen_from}; {', '.join(given)} as given")


def _is_file(model: str) -> bool:
    path, _ = split_entry(model)
    return path.is_file() or (path.suffix in _FILES and ":" not in model)


def _one(weights: str | None, own: str | None) -> str:
    """--weights, or those after the model's name."""
    if weights and own:
        raise InputError(f"--weights {weights} and {own} after MODEL exclude each other: leave one out")
    return weights or own or ""


def _from_file(model: str, image_size: int | None, classes: Classes) -> Network:
    path, entry = split_entry(model)
    if not entry and is_exported(path):
        return _from_exported(path, image_size, classes)
    if not entry and path.suffix != ".safetensors":
        try:
            state = checkpoint.load_any(path)
        except InputError as error:
            not_ours = error
        else:
            if classes is not None and read_names(classes) != tuple(state["classes"]):
                raise InputError(f"--classes {classes} are not those that {path} says itself: {some(state['classes'])}")
            return _from_checkpoint(path, state, image_size)
        try:
            file = read_weights(model)
        except InputError as error:
            # One that can be read and has no weights is no broken checkpoint.
            raise (error if path.is_file() and error.__cause__ is None else not_ours) from None
    else:
        file = read_weights(model)
    return _named(_architecture(file), model, image_size, classes)


def _from_exported(path: Path, image_size: int | None, classes: Classes) -> Network:
    """A network that was exported: its size is what it is fixed to; its normalization nobody says."""
    made = load_exported(path)
    if image_size and made.image_size and image_size != made.image_size:
        raise InputError(f"{path} is fixed to images of {made.image_size}×{made.image_size}: leave out --image-size")
    size = image_size or made.image_size or ASSUMED.size
    view = replace(ASSUMED, size=size, small=size == SIDE, origin=f"{made.kind} does not say: {ASSUMED.origin}")
    found = _finished(f"{path} ({made.kind}, inference only)", made, view, {}, classes, None)
    return replace(found, fingerprint=sha256_of(path)[:16])


def _architecture(file: Weights) -> str:
    """The network that a file is of, as timm's and torchvision's scripts and many like them say."""
    facts = file.facts
    options = facts.get("args")
    name = facts.get("arch") or getattr(options, "model", None) or getattr(options, "arch", None)
    if not isinstance(name, str):
        raise InputError(f"{file.source} does not say which network its weights are of: give NAME:{file.source}")
    try:
        # timm's saver numbers its format, and says its own names.
        return canonical_name(name if "version" not in facts or name.startswith(TIMM) else TIMM + name)
    except InputError as error:
        raise InputError(f"{file.source} is of {name!r} ({error}): give NAME:{file.source}") from error


def _named(name: str, weights: str, image_size: int | None, classes: Classes) -> Network:
    """A network by its name, with fetched weights or those of a file."""
    timms = name.startswith(TIMM)
    if weights and (split_entry(weights)[0].exists() or Path(weights).suffix in _FILES or timms):
        file, usual = read_weights(weights), len(imagenet_classes())
        made = create_model(name, usual)
        fitting = file.fitting(made.state_dict())
        source = weights + fitting.said
        outputs = classes_in(name, fitting.state, made.state_dict(), usual)
        if outputs != usual:
            made = create_model(name, outputs)
        put_in(made, fitting.state, source, name)
        view = view_of(name, made, None, file, fitting, image_size)
        title, facts = f"{name} of {source}", file.facts
    else:
        version = weights or "DEFAULT"
        made = pretrained(name, version)
        view = view_of(name, made, version, None, None, image_size)
        title, facts = f"{name}:{weights}" if weights else name, {}
    return _finished(title, made, view, facts, classes, getattr(made, "pretrained_cfg", None))


def _from_function(factory: re.Match[str], weights: str, image_size: int | None, classes: Classes) -> Network:
    """What a function of somebody's file returns: a network, with timm's `pretrained_cfg` where it says its view."""
    given = f"{factory['file']}:{factory['function']}"
    return _from_module(given, made_by(Path(factory["file"]), factory["function"], given), weights, image_size, classes)


def _from_module(given: str, made: nn.Module, weights: str, image_size: int | None, classes: Classes) -> Network:
    """A network of somebody's own; `given`: its name."""
    made = unwrapped(made)
    config = getattr(made, "pretrained_cfg", None)
    view = replace(ASSUMED, size=image_size or ASSUMED.size) if config is None else view_of_timm(config, image_size)
    facts = {key: getattr(made, key) for key in ("classes", "class_names") if hasattr(made, key)}
    if weights:
        file = read_weights(weights)
        fitting = file.fitting(made.state_dict())
        put_in(made, fitting.state, weights + fitting.said, given)
        view = normalized(view, fitting)
        facts, given = file.facts | facts, f"{given} of {weights}{fitting.said}"
    return _finished(given, made, view, facts, classes, config)


def _finished(name: str, model: nn.Module, view: View, facts: dict[str, Any], classes: Classes, config: Any) -> Network:
    """The network, once it has shown what it makes of an image."""
    names, classes_from = names_of(_outputs(name, model, view.size), classes, facts, config)
    return Network(
        name,
        model.eval(),
        names,
        view.mean,
        view.std,
        view.size,
        _fingerprint(model),
        view.scaling,
        from_folders=not view.small,
        classes_from=classes_from,
        seen_from=view.origin,
    )


def _outputs(name: str, model: nn.Module, size: int) -> int:
    """How many classes it tells apart; InputError unless it takes images of this size, as those of one size may not."""
    try:
        return count_outputs(model, size)
    except InputError as error:
        raise InputError(f"{name}: {error}; {_advice(model, failed=error.__cause__ is not None)}") from error


def _advice(model: nn.Module, failed: bool) -> str:
    """What to do about a network that gives no logits. failed: it gives nothing at all."""
    types = {value.dtype for value in model.parameters() if value.is_floating_point()} - {torch.float32}
    if failed and types:
        return f"its weights are {', '.join(map(str, types))}: give it in float32, after .float()"
    if failed:
        return "give another --image-size, or none"
    return "give one that returns its logits alone"


def _from_checkpoint(path: Path, state: dict[str, Any], image_size: int | None) -> Network:
    classes, options = tuple(state["classes"]), options_of(state)
    made, recipe = build(options, len(classes)), recipe_of(options)
    weights, left_out = without_auxiliary(state["model"])
    made.load_state_dict(weights)
    export_plain(made)
    if options.get("in_chans", 3) == 1:
        # Whatever reads images for it gives three channels.
        recipe = recipe.gray()
        made = SeesGray(made, recipe)
    whole = options.get("dataset") == "folder"
    if is_of_cifar(options):
        size, scaling = image_size or options.get("image_size", SIDE), WHOLE if whole else STANDARD
    else:
        size, scaling = validation_view(options if image_size is None else {**options, "val_size": image_size})
    name = f"{describe(options)} of {path}" + (f", {left_out}" if left_out else "")
    if image_size is not None:
        _outputs(name, made, size)
    return Network(
        name,
        made.eval(),
        classes,
        recipe.mean,
        recipe.std,
        size,
        _fingerprint(made),
        scaling,
        scaled_whole=whole,
        from_folders=not is_of_cifar(options),
        amp=options.get("amp", "none"),
        trained_on=options.get("dataset", ""),
    )


def _fingerprint(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()[:16]
