"""Grad-CAM (Selvaraju et al. 2017): where a network looks, on clean and corrupted images, as in the paper's Fig. 8."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apr_dali.errors import InputError, install_command
from apr_dali.eval.checks import check_finite
from apr_dali.eval.pictures import new_figure, png_of

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


def target_layer(model: nn.Module, images: Tensor, name: str | None = None) -> tuple[str, nn.Module]:
    """The layer to look at with its name: by default the last whose output is a map (N, C, h, w) of more than a value.

    images: any (N, C, H, W) that the model takes. Raises InputError if no layer has that name, naming the nearest, or
    the layer asked for, or every layer, gives no such map.
    """
    layers = dict(model.named_modules())
    if name is not None and name not in layers:
        near = difflib.get_close_matches(name, [known for known in layers if known], n=_NAMED, cutoff=0.0)
        raise InputError(f"no layer {name!r}; the nearest of {len(layers) - 1}: {', '.join(near)}")
    mapped: list[str] = []

    def note(found: str) -> None:
        mapped.append(found)

    hooks = [
        layer.register_forward_hook(lambda _, __, output, found=found: note(found) if _is_map(output) else None)
        for found, layer in layers.items()
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    if name is not None and name not in mapped:
        raise InputError(f"the layer {name!r} gives no map (N, C, h, w): choose a convolution or a block of them")
    if not mapped:
        raise InputError("no layer gives a map (N, C, h, w): Grad-CAM needs a convolutional network")
    return name or mapped[-1], layers[name or mapped[-1]]


def _is_map(output: object) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] * output.shape[-2] > 1


def looks(model: nn.Module, layer: nn.Module, images: Tensor, targets: NDArray[np.int64]) -> Looks:
    """Grad-CAM of the outputs `targets` (N,) at `layer`, for images (N, C, H, W) as the model takes them.

    The maps are scaled to the size of the images and each to 0..1, by the package grad-cam.
    """
    images = images.contiguous()
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise InputError(f"this needs the package grad-cam: {install_command('eval')}") from error
    with GradCAM(model=model, target_layers=[layer]) as cam:
        maps = cam(input_tensor=images, targets=[ClassifierOutputTarget(int(target)) for target in targets])
    with torch.no_grad():
        logits = model(images).float()
    check_finite(logits)
    confidence, answers = logits.softmax(1).max(1)
    return Looks(maps, answers.cpu().numpy(), confidence.cpu().numpy())


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """How alike two maps (N, H, W) are, image by image: Pearson's correlation, −1..1; nan where one is constant."""
    flat = [maps.reshape(len(maps), -1).astype(np.float64) for maps in (first, second)]
    centred = [maps - maps.mean(1, keepdims=True) for maps in flat]
    norms = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred[0] * centred[1]).sum(1) / norms


Panel = tuple[str, NDArray[np.uint8], dict[str, Looks]]
"""Title, images uint8 (N, H, W, 3), and what each network sees in them, by its name."""


def gradcam_picture(panels: Sequence[Panel], words: Callable[[int], str], targets: NDArray[np.int64]) -> bytes:
    """A line an image; for clean and corrupted, the image and each network's map over it, with its prediction.

    Predictions that are not the target have a ✗. words: the name of a class. targets: int64 (N,), the classes that the
    maps are of.
    """
    columns = sum(1 + len(seen) for _, _, seen in panels)
    figure = new_figure(_INCHES * columns, (_INCHES + 0.1) * len(targets) + 0.25)
    grid = figure.subplots(len(targets), columns, squeeze=False)
    column = 0
    for title, images, seen in panels:
        for row, axes in enumerate(grid[:, column]):
            axes.imshow(images[row])
            axes.set_xlabel(f"map of: {_short(words(targets[row]))}", fontsize=7)
        grid[0, column].set_title(title, fontsize=9)
        for offset, (name, found) in enumerate(seen.items(), 1):
            for row, axes in enumerate(grid[:, column + offset]):
                axes.imshow(images[row].mean(2), cmap="gray", vmin=0, vmax=255)
                axes.imshow(found.maps[row], cmap="viridis", vmin=0, vmax=1, alpha=0.55)
                mark = "✓" if found.answers[row] == targets[row] else "✗"
                answer = _short(words(found.answers[row]))
                axes.set_xlabel(f"{mark} {answer} {found.confidence[row]:.0%}", fontsize=7)
            grid[0, column + offset].set_title(f"{name}, {title}", fontsize=9)
        column += 1 + len(seen)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    return png_of(figure)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
