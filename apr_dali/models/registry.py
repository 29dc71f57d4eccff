"""One registry over torchvision's, timm's and the paper's CIFAR classification models.

A plain name is torchvision's where torchvision has it, else timm's, else one of CIFAR_MODELS; `timm/NAME` and
`cifar/NAME` are always those: cifar/resnet18 is for images of 32×32, resnet18 for those of ImageNet. timm's names may
have the tag of published weights (resnet50.a1_in1k) or be a place (hf-hub:OWNER/NAME, local-dir:FOLDER). Weights are
random: training from scratch is what the recipes do.
"""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

import torch
from torch import nn

from apr_dali.errors import InputError, check_choice, check_whole, first_line, install_command
from apr_dali.models.cifar import CIFAR_MODELS
from apr_dali.models.gray import make_gray
from apr_dali.recipes import CHANNELS

TIMM, CIFAR = "timm/", "cifar/"
PLACES = ("hf-hub:", "hf_hub:", "local-dir:")
"""Where timm finds networks that are in no list: a repository of Hugging Face's hub, a folder."""
# These two return extra heads in training mode unless they are asked not to, and a loss takes one.
_TORCHVISION_ARGUMENTS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def create_model(name: str, num_classes: int, in_chans: int = 3) -> nn.Module:
    """The network `name` with random weights and `num_classes` outputs, on the CPU, in training mode.

    It maps float images (N, in_chans, H, W), in_chans 1 or 3, to logits (N, num_classes). The weights come from torch's
    global generator. Raises InputError with the nearest names when there is no such model.
    """
    name = canonical_name(name)
    check_whole("num_classes", num_classes, 1)
    check_choice("in_chans", in_chans, CHANNELS)
    if name.startswith(TIMM):
        return timm_model(name, num_classes=num_classes, in_chans=in_chans).train()
    if name.startswith(CIFAR):
        model: nn.Module = CIFAR_MODELS[name.removeprefix(CIFAR)](num_classes)
    else:
        import torchvision

        extra = _TORCHVISION_ARGUMENTS.get(name, {})
        model = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **extra)
    if in_chans == 1:
        make_gray(model)
    return model.train()


def canonical_name(name: str) -> str:
    """`name` as checkpoints keep it: torchvision's plain, others with `timm/` or `cifar/`. InputError if unknown."""
    if not isinstance(name, str):
        raise InputError(f"the name of a network must be text, got {name!r}")
    torchvision_names = _torchvision_names()
    if name in torchvision_names:
        return name
    if name.startswith(CIFAR):
        return _cifar_name(name.removeprefix(CIFAR))
    timm_names = _timm_names()
    plain = name.removeprefix(TIMM)
    if plain.startswith(PLACES) or plain in timm_names:
        return TIMM + plain
    if plain.partition(".")[0] in timm_names:
        return _tagged(plain)
    if name in CIFAR_MODELS:
        return CIFAR + name
    # Compared without the prefix, so that a misspelt plain name finds timm's too. Torchvision's win.
    known = {other: CIFAR + other for other in CIFAR_MODELS} | {other: TIMM + other for other in timm_names}
    known |= {other: other for other in torchvision_names}
    near = [known[other] for other in difflib.get_close_matches(plain, known, n=3, cutoff=0.0)]
    missing = "" if timm_names else " (timm is not installed: pip install timm)"
    raise InputError(f"unknown model {name!r}{missing}; the nearest names: {', '.join(near)}")


def cifar_first(name: str) -> str:
    """`name` as checkpoints keep it, where a plain name is the paper's CIFAR network if there is one of that name."""
    return CIFAR + name if name in CIFAR_MODELS else canonical_name(name)


def timm_model(name: str, **arguments: Any) -> nn.Module:
    """`timm.create_model` with a name as `canonical_name` gives it. InputError where timm cannot make it."""
    try:
        import timm

        return timm.create_model(name.removeprefix(TIMM), **arguments)
    except ImportError as error:
        raise InputError(f"{name} needs timm: {install_command('eval')}") from error
    # Whatever a network connection, a folder or a model without weights makes of it.
    except Exception as error:
        asked = "its weights cannot be fetched" if arguments.get("pretrained") else "it cannot be made"
        raise InputError(f"{name}: {asked} ({first_line(error)})") from error


def _tagged(plain: str) -> str:
    import timm

    architecture, _, tag = plain.partition(".")
    tags = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag not in tags:
        raise InputError(f"timm has no weights {tag!r} of {architecture}; it has {', '.join(tags) or 'none'}")
    return TIMM + plain


def _cifar_name(plain: str) -> str:
    if plain not in CIFAR_MODELS:
        raise InputError(f"unknown model {CIFAR + plain!r}; there are {', '.join(CIFAR_MODELS)}")
    return CIFAR + plain


def check_input(model: nn.Module, image_size: int, num_classes: int, in_chans: int = 3) -> None:
    """Raise InputError unless `model` (on the CPU) maps (1, in_chans, image_size, image_size) to (1, num_classes)."""
    outputs = count_outputs(model, image_size, in_chans)
    if outputs != num_classes:
        raise InputError(
            f"the model is no classifier: expected logits of the shape (1, {num_classes}), got (1, {outputs})"
        )


def count_outputs(model: nn.Module, image_size: int, in_chans: int = 3) -> int:
    """K, if `model` (on the CPU) maps (1, in_chans, image_size, image_size) to logits (1, K); else InputError."""
    training = model.training
    shape = (1, in_chans, image_size, image_size)
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(shape))
    # A network may fail in any way on images that are too small for it.
    except Exception as error:
        raise InputError(f"the model cannot take images of {image_size}×{image_size}: {first_line(error)}") from error
    finally:
        model.train(training)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 1:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InputError(f"the model is no classifier: expected logits of the shape (1, classes), got {got}")
    return int(logits.shape[1])


@cache
def _torchvision_names() -> tuple[str, ...]:
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


@cache
def _timm_names() -> tuple[str, ...]:
    """Names without pretraining tags, () where timm is not installed: it is an extra."""
    try:
        import timm
    except ImportError:
        return ()
    return tuple(timm.list_models())
