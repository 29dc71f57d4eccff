"""Grad-CAM (Selvaraju et al. 2017): where a network looks, on clean and corrupted images, as in the paper's Fig. 8."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apr_dali.errors import InputError, install_command
from apr_dali.eval.checks import check_finite
from apr_dali.eval.pictures import fitted
from apr_dali.runtime.figures import new_figure, png_of

_NAMED = 12  # layers in an error
_INCHES = 1.75  # of a panel


@dataclass(frozen=True, eq=False)
class Looks:
    """What a network sees in N images: float32.

    maps: (N, H, W), 0..1, where it looks for the class in question. answers: int64 (N,), its predictions.
    confidence: (N,), their probabilities.
    """

    maps: NDArray[np.float32]
    answers: NDArray[np.int64]
    confidence: NDArray[np.float32]

    def take(self, chosen: NDArray[np.integer]) -> Looks:
        """Those of some of the images, by their numbers."""
        return Looks(self.maps[chosen], self.answers[chosen], self.confidence[chosen])


def joined(parts: Iterable[Looks]) -> Looks:
    """What several batches gave, as one."""
    every = list(parts)
    return Looks(
        np.concatenate([part.maps for part in every]),
        np.concatenate([part.answers for part in every]),
        np.concatenate([part.confidence for part in every]),
    )


@dataclass(frozen=True, eq=False)
class Target:
    """The layer to look at: its name, and what makes maps (N, C, h, w) of its output."""

    name: str
    layer: nn.Module
    mapped: Callable[[Tensor], Tensor]


def target_layer(model: nn.Module, images: Tensor, name: str | None = None) -> Target:
    """The layer to look at: by default the last whose output is a map of more than a value.

    Maps are (N, C, h, w), or have their channels last. Transformers whose tokens are known to be those of patches in
    their order are looked at before the last attention, as grad-cam's authors do; other tokens are refused.

    images: any (N, C, S, S) that the model takes. Raises InputError if no layer has that name, naming the nearest, or
    the layer asked for, or every layer, gives no map.
    """
    layers = dict(model.named_modules())
    if name is not None and name not in layers:
        near = difflib.get_close_matches(name, [known for known in layers if known], n=_NAMED, cutoff=0.0)
        raise InputError(f"no layer {name!r}; the nearest of {len(layers) - 1}: {', '.join(near)}")
    tokens = _tokens_of(model)
    shapes = _shapes(model, layers, images)
    maps = {found: mapped for found, shape in shapes if (mapped := _mapped(shape, tokens)) is not None}
    if name is None:
        name = _last_map(shapes, maps) if tokens is None else tokens.layer
    if name not in maps:
        raise InputError(f"the layer {name!r} gives no map (N, C, h, w): choose a convolution or a block of them")
    return Target(name, layers[name], maps[name])


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a family of transformers. layer: where to look. prefix: how many are before the patches'."""

    layer: str
    prefix: int


def _tokens_of(model: nn.Module) -> _Tokens | None:
    """Of the families that grad-cam's reshape transforms are made for; None for all others."""
    from torchvision.models import VisionTransformer

    if isinstance(model, VisionTransformer):
        return _Tokens(f"encoder.layers.{_last(model.encoder.layers)}.ln_1", 1)
    try:
        from timm.models import beit, eva, levit, mlp_mixer, vision_transformer
    except ImportError:
        return None
    if isinstance(model, (vision_transformer.VisionTransformer, beit.Beit, eva.Eva, mlp_mixer.MlpMixer)):
        return _Tokens(f"blocks.{_last(model.blocks)}.norm1", getattr(model, "num_prefix_tokens", 0))
    if isinstance(model, levit.Levit) and not model.use_conv:
        return _Tokens(f"stages.{_last(model.stages)}", 0)
    return None


def _last(blocks: Any) -> str:
    return [name for name, _ in blocks.named_children()][-1]


def _shapes(model: nn.Module, layers: dict[str, nn.Module], images: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """The layers that give a tensor of these images, in the order in which they do, with its shape."""
    found: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim and len(output) == len(images):
            found.append((name, tuple(output.shape)))

    hooks = [
        layer.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return found


def _mapped(shape: tuple[int, ...], tokens: _Tokens | None) -> Callable[[Tensor], Tensor] | None:
    """What makes a map of an output of this shape; None where that is none.

    Images are squares and so are their maps, which distinguishes channels that come last from those that come first.
    """
    if len(shape) == 4 and shape[2] == shape[3] > 1:
        # Behind the patches, squares are attention between tokens.
        return (lambda output: output) if tokens is None else None
    if len(shape) == 4 and shape[1] == shape[2] > 1:
        return lambda output: _laid_out(output.flatten(1, 2), shape[1])
    if len(shape) == 3 and tokens is not None:
        side = isqrt(max(0, shape[1] - tokens.prefix))
        if side > 1 and side**2 + tokens.prefix == shape[1]:
            return lambda output: _laid_out(output[:, tokens.prefix :], side)
    return None


def _laid_out(patches: Tensor, side: int) -> Tensor:
    """Tokens of patches (N, side · side, C) as maps (N, C, side, side)."""
    from pytorch_grad_cam.utils.reshape_transforms import swinT_reshape_transform

    maps: Tensor = swinT_reshape_transform(patches, side, side)
    return maps


def _last_map(shapes: list[tuple[str, tuple[int, ...]]], maps: Collection[str]) -> str:
    """The last layer that gives a map, unless the network turns it into tokens that we do not know."""
    last = max((n for n, (name, _) in enumerate(shapes) if name in maps), default=None)
    if last is None:
        raise InputError("no layer gives a map (N, C, h, w): Grad-CAM needs a convolutional network")
    behind = next((name for name, shape in shapes[last + 1 :] if len(shape) == 3 and shape[1] > 1), None)
    if behind is not None:
        raise InputError(
            f"the last map, of {shapes[last][0]!r}, becomes tokens in {behind!r}, and how this family lays them out is "
            "not known: name a layer before them with --layer"
        )
    return shapes[last][0]


def looks(model: nn.Module, target: Target, images: Tensor, targets: NDArray[np.int64]) -> Looks:
    """Grad-CAM of the outputs `targets` (N,) at the layer `target`, for images (N, C, H, W) as the model takes them.

    The maps are scaled to the size of the images and each to 0..1, by the package grad-cam. Raises InputError where no
    output depends on the layer's map.
    """
    images = images.contiguous()
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise InputError(f"this needs the package grad-cam: {install_command('eval')}") from error
    matters: list[bool] = []

    def shield(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        # What comes next may work in place, as DenseNet's last ReLU does: on a copy, not on what grad-cam keeps.
        copy = output.clone()
        copy.register_hook(lambda gradient: matters.append(bool(target.mapped(gradient).any())))
        return copy

    # Of a network whose weights are frozen too, or that begins in place.
    given = images.contiguous().detach().requires_grad_().clone()
    with GradCAM(model=model, target_layers=[target.layer], reshape_transform=target.mapped) as cam:
        hook = target.layer.register_forward_hook(shield)
        maps = cam(input_tensor=given, targets=[ClassifierOutputTarget(int(one)) for one in targets])
        hook.remove()
    if not any(matters):
        raise InputError(f"no answer depends on the map of {target.name!r}: choose a layer before it")
    with torch.no_grad():
        logits = model(images).float()
    check_finite(logits)
    confidence, answers = logits.softmax(1).max(1)
    return Looks(maps, answers.cpu().numpy(), confidence.cpu().numpy())


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """How alike two maps (N, H, W) are, image by image: Pearson's correlation, −1..1; nan where one is constant."""
    flat = [maps.reshape(len(maps), -1).astype(np.float64) for maps in (first, second)]
    centered = [maps - maps.mean(1, keepdims=True) for maps in flat]
    norms = np.linalg.norm(centered[0], axis=1) * np.linalg.norm(centered[1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centered[0] * centered[1]).sum(1) / norms


Panel = tuple[str, NDArray[np.uint8], dict[str, Looks]]
"""Title, images uint8 (N, H, W, 3), and what each network sees in them, by its name."""


def gradcam_picture(
    panels: Sequence[Panel], words: Callable[[int], str], targets: NDArray[np.int64], note: str = ""
) -> bytes:
    """One line per image; for clean and corrupted, the image and each network's map over it, with its prediction.

    words: the name of a class. targets: int64 (N,), the classes that the maps are of. note: what these are where they
    are not the true labels; where they are, predictions have a ✓ or a ✗.
    """
    columns = sum(1 + len(seen) for _, _, seen in panels)
    figure = new_figure(_INCHES * columns, (_INCHES + 0.1) * len(targets) + 0.25)
    grid = figure.subplots(len(targets), columns, squeeze=False)
    column = 0
    for title, images, seen in panels:
        for row, axes in enumerate(grid[:, column]):
            axes.imshow(images[row])
            axes.set_xlabel(fitted(f"map of: {words(targets[row])}", _INCHES - 0.1, 7), fontsize=7)
        grid[0, column].set_title(fitted(title, _INCHES - 0.1, 9), fontsize=9)
        for offset, (name, found) in enumerate(seen.items(), 1):
            for row, axes in enumerate(grid[:, column + offset]):
                axes.imshow(images[row].mean(2), cmap="gray", vmin=0, vmax=255)
                axes.imshow(found.maps[row], cmap="viridis", vmin=0, vmax=1, alpha=0.55)
                mark = "" if note else "✓ " if found.answers[row] == targets[row] else "✗ "
                caption = f"{mark}{words(found.answers[row])} {found.confidence[row]:.0%}"
                axes.set_xlabel(fitted(caption, _INCHES - 0.1, 7), fontsize=7)
            grid[0, column + offset].set_title(fitted(f"{name}, {title}", _INCHES - 0.1, 9), fontsize=9)
        column += 1 + len(seen)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    if note:
        figure.supxlabel(fitted(note, _INCHES * columns, 8), fontsize=8)
    return png_of(figure)
