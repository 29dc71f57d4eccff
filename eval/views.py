"""How a network wants its images: one description, from its training, that every command follows and prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path
from typing import Any

from apr_dali.data.arrays import SIDE
from apr_dali.errors import InputError
from apr_dali.models.registry import CIFAR as CIFAR_NAMES
from apr_dali.models.registry import TIMM
from apr_dali.models.weights import torchvision_weights
from apr_dali.models.weights_file import Fitting, Weights
from apr_dali.recipes import CIFAR, IMAGENET, STANDARD, Scaling

_IMAGENET_SIZE = 224
_TIMM_OPTIONS = ("input_size", "img_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")


@dataclass(frozen=True)
class View:
    """What becomes of an image before a network sees it.

    mean, std: of the normalization of values in 0..1, a channel each. size: pixels per side. scaling: of images before
    they are cropped to `size`. origin: who says so, in words. small: images are of `size` already.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    scaling: Scaling
    origin: str
    small: bool = False


ASSUMED = View(IMAGENET.mean, IMAGENET.std, _IMAGENET_SIZE, STANDARD, "assumed, as published for ImageNet")


def view_of(
    name: str, model: Any, version: str | None, file: Weights | None, fitting: Fitting | None, size: int | None
) -> View:
    """The view of the network `name`, as `canonical_name` gives it.

    model: the network, for what timm keeps in it. version: of torchvision's weights. file, fitting: with whose weights,
    in place of published ones. size: pixels per side instead of its own.
    """
    options = _options(file)
    if name.startswith(TIMM):
        found = view_of_timm(model.pretrained_cfg, size, {key: options.get(key) for key in _TIMM_OPTIONS})
    elif name.startswith(CIFAR_NAMES):
        found = View(CIFAR.mean, CIFAR.std, SIDE, STANDARD, "assumed, as published for CIFAR", small=True)
    elif version is not None:
        found = _of_torchvision(name, version)
    else:
        found = _of_torchvisions_script(options) or _of_same_name(name, file)
    # Another size is scaled as much over the crop.
    return normalized(replace(found, size=size or found.size), fitting)


def normalized(view: View, fitting: Fitting | None) -> View:
    """The view with the normalization that lies beside the weights in their file, if one does."""
    if fitting is None or fitting.normalization is None:
        return view
    mean, std = map(three, fitting.normalization)
    return replace(view, mean=mean, std=std, origin=f"{view.origin}; normalization from the file")


def view_of_timm(config: Any, size: int | None = None, options: Mapping[str, Any] | None = None) -> View:
    """The view that timm's configuration of a network asks for in tests, or `options` of its training script.

    size: pixels per side instead of what they say. Raises InputError for another filter or shape than we have.
    """
    from timm.data import resolve_data_config

    followed = {key: value for key, value in (options or {}).items() if value}
    # A published network may be tested at another size than it was trained at; a run of one's own is at its size.
    resolved = resolve_data_config(followed, pretrained_cfg=config, use_test_size=not followed)
    channels, height, width = resolved["input_size"]
    if channels != 3 or height != width:
        raise InputError(f"the network takes images of {channels}×{height}×{width}: expected 3 channels, and squares")
    size = size or height
    # To the pixel: timm rounds down.
    over_crop = floor(size / resolved["crop_pct"]) / size
    scaling = Scaling(over_crop, resolved["interpolation"], resolved["crop_mode"])
    origin = "timm's configuration" + f", with the file's {', '.join(followed)}" * bool(followed)
    return View(three(resolved["mean"]), three(resolved["std"]), size, scaling, origin)


def _options(file: Weights | None) -> dict[str, Any]:
    """The options of the script that wrote the file, where it kept them."""
    options = file.facts.get("args") if file is not None else None
    return dict(options) if isinstance(options, Mapping) else dict(getattr(options, "__dict__", {}))


def _of_torchvision(name: str, version: str) -> View:
    weights = torchvision_weights(name, version)
    given = weights.transforms()
    (crop,), (resized,) = given.crop_size, given.resize_size
    scaling = Scaling(resized / crop, given.interpolation.value)
    return View(three(given.mean), three(given.std), crop, scaling, f"torchvision's {weights.name}")


def _of_torchvisions_script(options: Mapping[str, Any]) -> View | None:
    """What torchvision's training script validated with."""
    try:
        crop, resized = int(options["val_crop_size"]), int(options["val_resize_size"])
        scaling = Scaling(resized / crop, options["interpolation"])
    except KeyError:
        return None
    return replace(ASSUMED, size=crop, scaling=scaling, origin="the options in the file")


def _of_same_name(name: str, file: Weights | None) -> View:
    """The view of torchvision's own weights if this file is one of those, or if all of them have the same."""
    import torchvision

    weights = tuple(torchvision.models.get_model_weights(name))
    same = [w for w in weights if file is not None and Path(w.url).name == Path(file.source).name]
    views = [_of_torchvision(name, w.name) for w in same or weights]
    if not views or any(replace(view, origin="") != replace(views[0], origin="") for view in views):
        return ASSUMED
    return views[0] if same else replace(views[0], origin=f"assumed, as torchvision's {name}")


def three(values: Any) -> tuple[float, float, float]:
    """Values of the three channels; InputError for another number of them."""
    found = [float(value) for value in values]
    if len(found) != 3:
        raise InputError(f"expected mean and std of three channels, got {found}")
    return found[0], found[1], found[2]
