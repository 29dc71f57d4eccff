"""Weights made elsewhere put into a network of ours: those of a file, or fetched ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from apr_dali.errors import InputError
from apr_dali.models.registry import CIFAR, TIMM, create_model, timm_model
from apr_dali.models.weights_file import some

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads that torchvision's GoogLeNet and Inception have in training, and ours do not."""
_SHOWN = 4  # parameters of another shape in an error


def pretrained(name: str, version: str = "DEFAULT") -> nn.Module:
    """torchvision's or timm's network `name`, as `canonical_name` gives it, with weights that they publish.

    version: of torchvision's, such as IMAGENET1K_V1. Raises InputError where they cannot be fetched, or there are none.
    """
    if name.startswith(CIFAR):
        raise InputError(f"nobody has published weights of {name}: give a file with --weights")
    if name.startswith(TIMM):
        if version != "DEFAULT":
            raise InputError(f"timm's weights are named by a tag, such as {name}.a1_in1k, got {name}:{version}")
        return timm_model(name, pretrained=True)
    weights = torchvision_weights(name, version)
    import torchvision

    try:
        return torchvision.models.get_model(name, weights=weights)
    # Whatever a network connection makes of it.
    except Exception as error:
        raise InputError(f"the weights of {name} cannot be fetched ({error}): give a file with --weights") from error


def torchvision_weights(name: str, version: str = "DEFAULT") -> Any:
    """torchvision's description of the weights `version` of its network `name`. InputError where there are none."""
    import torchvision

    known = torchvision.models.get_model_weights(name)
    found = getattr(known, version, None) if version == "DEFAULT" or version in known.__members__ else None
    if found is None:
        raise InputError(
            f"there are no weights {version} of {name}: expected a file, or one of {', '.join(known.__members__)}"
        )
    return found


def begin_with(
    model: nn.Module, name: str, num_classes: int, state: Mapping[str, Tensor], source: str, in_chans: int = 3
) -> str:
    """Put `state` into `create_model(name, num_classes, in_chans)`, except a head of other classes; say so in words.

    source: where `state` is from, for people. Raises InputError where anything but the head does not fit.
    """
    ours = model.state_dict()
    differing = {key for key in ours if key in state and state[key].shape != ours[key].shape}
    missing = _missing(ours, state)
    head = _head(name, ours, num_classes, in_chans)
    unfit = differing - head | {key for key in differing & head if state[key].shape[1:] != ours[key].shape[1:]}
    _refuse(ours, state, missing - head, unfit, source, "this network", f"give --in-chans {4 - in_chans}")
    new = differing | missing & head
    model.load_state_dict({key: state[key] for key in ours if key in state and key not in new}, strict=False)
    if not new:
        return f"starting from {source}, with its head for {num_classes} classes"
    theirs = {str(state[key].shape[0]) for key in differing}
    before = f", there it has {some(theirs) or 'none'}"
    return f"starting from {source}; the head ({some(new)}) is new, for {num_classes} classes{before}"


def put_in(model: nn.Module, state: Mapping[str, Tensor], source: str, name: str) -> None:
    """Put all of `state` into `model`. Raises InputError that says what does not fit; the model is as before then.

    source: where `state` is from, name: what the model is, for people.
    """
    ours = model.state_dict()
    differing = {key for key in ours if key in state and state[key].shape != ours[key].shape}
    gray = "give NET.py:FUNCTION that returns a network which makes its images gray"
    _refuse(ours, state, _missing(ours, state), differing, source, name, gray)
    model.load_state_dict({key: state[key] for key in ours if key in state}, strict=False)


def classes_in(name: str, state: Mapping[str, Tensor], ours: Mapping[str, Tensor], num_classes: int) -> int:
    """For how many classes the head of the network `name` in `state` is; `num_classes`, if it has none.

    ours: the state of `create_model(name, num_classes)`.
    """
    if all(key in state and state[key].shape == value.shape for key, value in ours.items()):
        return num_classes
    found = {len(state[key]) for key in _head(name, ours, num_classes) if key in state and state[key].ndim}
    return found.pop() if len(found) == 1 else num_classes


def _head(name: str, ours: Mapping[str, Tensor], num_classes: int, in_chans: int = 3) -> set[str]:
    """The parameters of the head: those whose shape another number of classes changes."""
    with torch.random.fork_rng(devices=[]):
        other = create_model(name, num_classes + 1, in_chans).state_dict()
    return {key for key, value in other.items() if value.shape != ours[key].shape}


def _missing(ours: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> set[str]:
    return {key for key in ours if key not in state and not key.endswith("num_batches_tracked")}


def _refuse(
    ours: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    missing: set[str],
    differing: set[str],
    source: str,
    name: str,
    advice: str,
) -> None:
    """Raise InputError if anything is missing, of another shape, or not in the network, and say what.

    advice: what to do where the one is for gray images and the other for color ones.
    """
    foreign = {key for key in state if key not in ours and not key.startswith(_AUXILIARY)}
    said = [f"{some(missing)} missing"] * bool(missing)
    shapes = {key: (tuple(state[key].shape), tuple(ours[key].shape)) for key in sorted(differing)}
    shown = [f"{key} {theirs} for {own}" for key, (theirs, own) in shapes.items()]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    said += [f"of another shape: {', '.join(shown[:_SHOWN])}{more}"] * bool(shown)
    said += [f"{some(foreign)} not in the network"] * bool(foreign)
    of_gray = {pair[0][1] == 1 for pair in shapes.values() if _gray_and_color(*pair)}
    if of_gray:
        theirs, own = ("gray", "color") if True in of_gray else ("color", "gray")
        said += [f"they are for {theirs} images, the network for {own} ones: {advice}"]
    if said:
        raise InputError(f"the weights {source} are not of {name}: {'; '.join(said)}")


def _gray_and_color(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether these are shapes of the same convolution of gray images and of color ones."""
    return len(a) == len(b) == 4 and {a[1], b[1]} == {1, 3} and (a[0], a[2:]) == (b[0], b[2:])
