"""One way to build a network: from the options of a trainer, which its checkpoints hold; and what it is, in words.

Options are a mapping: `vars(CifarOptions(...))`, or the entry "options" of a checkpoint. What they lack, as those of
the other trainer or of an earlier version, is as if it were not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from apr_dali.bands import RADII, BandFilter
from apr_dali.errors import InputError
from apr_dali.models.banded import Banded
from apr_dali.models.cifar import SmallClassifier, TwoHeads
from apr_dali.models.filter_bands import modulate_first
from apr_dali.models.registry import canonical_name, cifar_first, create_model
from apr_dali.recipes import is_of_cifar, recipe_of

# What earlier versions added to the registry's name of a checkpoint's network, which the options say as well.
_FORMER_ADDITIONS = (" of gray images", " with a modulated first layer", " with two heads", " seeing ")


def build(options: Mapping[str, Any], classes: int, begin: Callable[[nn.Module, str], None] | None = None) -> nn.Module:
    """The network that `options` describe, on the CPU, in training mode, with `classes` outputs.

    Its weights come from torch's global generator. It maps float images (N, in_chans, H, W) to logits (N, classes); in
    training one with two heads gives (N, 2, classes).

    begin: is called with the bare network and its registry name before anything is built around it: it may put
        weights into it.

    Raises:
        InputError: if there is no such model, or it cannot have what the options ask for.
    """
    name = model_name(options)
    model = create_model(name, classes, _channels(options))
    if begin is not None:
        begin(model, name)
    if _is_modulated(options):
        modulate_first(model, options.get("modulation_noise", 0.0), options.get("seed", 0))
    if _has_two_heads(options):
        if not isinstance(model, SmallClassifier):
            raise InputError(f"--phase-weight needs one of the CIFAR networks, such as wrn-40-2, got {name}")
        model = TwoHeads(model, options["phase_weight"])
    spectrum = _spectrum(options)
    return model if spectrum is None else Banded(model, spectrum, recipe_of(options))


def describe(options: Mapping[str, Any]) -> str:
    """What `build` builds, in words: "cifar/wrn-16-1 of gray images with two heads"."""
    spectrum, radii = _spectrum(options), options.get("radii", RADII)
    parts = [
        model_name(options),
        "of gray images" if _channels(options) == 1 else "",
        "with a modulated first layer" if _is_modulated(options) else "",
        "with two heads" if _has_two_heads(options) else "",
        "" if spectrum is None else f"seeing {spectrum} about {radii[0]:g} and {radii[1]:g}",
    ]
    return " ".join(filter(None, parts))


def model_name(options: Mapping[str, Any]) -> str:
    """The registry's name of the network; a plain name of the CIFAR trainer is first one of its own networks."""
    return cifar_first(options["model"]) if is_of_cifar(options) else canonical_name(options["model"])


def options_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """The options that rebuild the network of a checkpoint: those that it holds, the model by its registry name.

    A plain name may mean another network in a later torchvision. `state` may be of an earlier version, whose names say
    more than the registry's.
    """
    name = state["architecture"]
    for addition in _FORMER_ADDITIONS:
        name = name.partition(addition)[0]
    return {**state["options"], "model": name}


def _channels(options: Mapping[str, Any]) -> int:
    return options.get("in_chans", 3)


def _is_modulated(options: Mapping[str, Any]) -> bool:
    return options.get("first_layer", "plain") == "modulated"


def _has_two_heads(options: Mapping[str, Any]) -> bool:
    return options.get("phase_weight", 1.0) != 1


def _spectrum(options: Mapping[str, Any]) -> BandFilter | None:
    """The filter in front of the network, None without one."""
    if not options.get("spectrum"):
        return None
    return BandFilter.parse(options["spectrum"], tuple(options.get("radii", RADII)))
