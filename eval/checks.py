"""What can be wrong with a network's outputs, looked at on one batch before hours of work start."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from apr_dali.errors import InputError


@torch.no_grad()
def check_outputs(model: nn.Module, images: Tensor, classes: int) -> None:
    """Raise InputError unless `model`, in eval mode, maps `images` to finite logits (N, classes).

    images: as the model takes them, on its device. Probabilities instead of logits are refused too: energies,
    temperatures and attacks mean nothing for them.
    """
    training = model.training
    try:
        logits = model.eval()(images)
    # A network may fail in any way on images that it was not made for.
    except Exception as error:
        raise InputError(
            f"the network fails on {len(images)} images of the shape {tuple(images.shape[1:])} "
            f"({type(error).__name__}: {error}): give an --image-size and a --batch-size that it can take"
        ) from error
    finally:
        model.train(training)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (len(images), classes):
        raise InputError(
            f"the network must give logits of the shape {(len(images), classes)}, got {shape}: "
            f"it is no classifier, or was not trained on these {classes} classes"
        )
    check_finite(logits, "the first ")
    if are_probabilities(logits):
        raise InputError("the network gives probabilities: expected logits, so take off its last softmax")


def check_finite(logits: Tensor, which: str = "") -> None:
    """Raise InputError if a row of `logits` (N, classes) is not finite. which: words before N in the message."""
    broken = int((~logits.isfinite()).any(1).sum())  # synchronizes
    if broken:
        raise not_finite(f"{broken} of {which}{len(logits)} images")


def not_finite(images: str) -> InputError:
    """The error about a network whose logits are nan or infinite for `images`, in words."""
    return InputError(
        f"the network's logits are nan or infinite for {images}: "
        "its weights are broken, or 16-bit arithmetic is too coarse for it (--amp none)"
    )


def are_probabilities(logits: Tensor) -> bool:
    """Whether all rows of `logits` (N, classes) are in 0..1 and of sum 1."""
    values = logits.double()
    return bool(((values >= 0) & (values <= 1)).all() and (values.sum(1) - 1).abs().max() < 1e-3)


def numpy_of(values: ArrayLike) -> NDArray[Any]:
    """Numbers of any kind as an array; those of bfloat16, which NumPy lacks, as float32."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    held = values.detach().cpu()
    found: NDArray[Any] = (held.float() if held.dtype == torch.bfloat16 else held).numpy()
    return found
