"""Weights made elsewhere: read from the files that others write, or fetched, and put into a network of ours."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from apr_dali.errors import InputError
from apr_dali.models.registry import CIFAR, TIMM, create_model

_WITHIN = ("state_dict", "model_state_dict", "model")
"""Where torchvision's, timm's, Lightning's and our own checkpoints keep the network."""
_WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before the name of each parameter."""
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads that torchvision's GoogLeNet and Inception have in training, and ours do not."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers in a file, by name: a state dict, a checkpoint that holds one, or safetensors.

    Read without running what the file contains. Raises InputError where it holds none.
    """
    if not path.is_file():
        raise InputError(f"there are no weights {path}")
    try:
        found: Any = _read(path)
    # What a broken file raises depends on where it is broken.
    except Exception as error:
        # Only its first line: torch goes on with advice on how to run what the file contains.
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise InputError(
            f"{path} cannot be read as weights ({reason}): save the network's state_dict() alone"
        ) from error
    while isinstance(found, Mapping) and (inner := next((k for k in _WITHIN if isinstance(found.get(k), Mapping)), "")):
        found = found[inner]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(
            f"{path} holds no weights: expected a state dict, or a checkpoint with one as {_some(_WITHIN)}"
        )
    # An average of weights counts its steps.
    state = {str(name): value for name, value in found.items() if name != "n_averaged"}
    while wrapper := next((w for w in _WRAPPERS if all(name.startswith(w) for name in state)), ""):
        state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    # The options of torchvision's and timm's scripts: plain values, no code.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def pretrained(name: str) -> nn.Module:
    """torchvision's or timm's network `name`, as `canonical_name` gives it, with its weights for ImageNet.

    Raises InputError where they cannot be fetched, or there are none.
    """
    if name.startswith(CIFAR):
        raise InputError(f"nobody has published weights of {name}: give a file with --weights")
    try:
        if name.startswith(TIMM):
            import timm

            return timm.create_model(name.removeprefix(TIMM), pretrained=True)
        import torchvision

        return torchvision.models.get_model(name, weights="DEFAULT")
    # Whatever a network connection, or a model without weights, makes of it.
    except Exception as error:
        raise InputError(f"the weights of {name} cannot be fetched ({error}): give a file with --weights") from error


def begin_with(
    model: nn.Module, name: str, num_classes: int, state: Mapping[str, Tensor], source: str, in_chans: int = 3
) -> str:
    """Put `state` into `create_model(name, num_classes, in_chans)`, except a head of other classes; say so in words.

    source: where `state` is from, for people. Raises InputError where anything but the head does not fit.
    """
    ours = model.state_dict()
    differing = {key for key in ours if key in state and state[key].shape != ours[key].shape}
    missing = {key for key in ours if key not in state and not key.endswith("num_batches_tracked")}
    foreign = {key for key in state if key not in ours and not key.startswith(_AUXILIARY)}
    head = _head(name, ours, num_classes, in_chans)
    unfit = (differing | missing) - head
    unfit |= {key for key in differing & head if state[key].shape[1:] != ours[key].shape[1:]}
    if unfit or foreign:
        said = [f"{_some(unfit)} missing or of another shape"] * bool(unfit)
        said += [f"{_some(foreign)} not in the network"] * bool(foreign)
        raise InputError(f"the weights {source} are not of this network: {'; '.join(said)}")
    new = differing | missing & head
    model.load_state_dict({key: state[key] for key in ours if key in state and key not in new}, strict=False)
    if not new:
        return f"starting from {source}, with its head for {num_classes} classes"
    theirs = {str(state[key].shape[0]) for key in differing}
    before = f", there it has {_some(theirs) or 'none'}"
    return f"starting from {source}; the head ({_some(new)}) is new, for {num_classes} classes{before}"


def _head(name: str, ours: Mapping[str, Tensor], num_classes: int, in_chans: int) -> set[str]:
    """The parameters of the head: those whose shape another number of classes changes."""
    with torch.random.fork_rng(devices=[]):
        other = create_model(name, num_classes + 1, in_chans).state_dict()
    return {key for key, value in other.items() if value.shape != ours[key].shape}


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
