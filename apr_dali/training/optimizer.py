"""The optimizers, and which parameters they decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from apr_dali.errors import InputError, install_command
from apr_dali.training.options import TrainingOptions


def make_optimizer(model: nn.Module, options: TrainingOptions) -> Optimizer:
    """The optimizer that the options name, over every parameter of the model that is trained.

    sgd and nesterov: torch's SGD with options.momentum. adamw: torch's AdamW (Loshchilov and Hutter 2019). lamb: timm's
    Lamb (You et al. 2020), which clips the norm of the gradient to 1 by itself unless options.clip_grad does.
    """
    name, groups = options.chosen_optimizer, parameter_groups(model, options)
    common: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay}
    if name == "adamw":
        return AdamW(groups, **common)
    if name == "lamb":
        return _lamb()(groups, max_grad_norm=None if options.clip_grad else 1.0, **common)
    # Without momentum Nesterov's is the same, and torch refuses it.
    nesterov = name == "nesterov" and options.momentum > 0
    return SGD(groups, momentum=options.momentum, nesterov=nesterov, **common)


def parameter_groups(model: nn.Module, options: TrainingOptions) -> list[dict[str, Any]]:
    """One group with every parameter; with --no-decay norms-and-biases those that are not decayed are the first of two.

    They are timm's: parameters of fewer than two dimensions, biases, and those that the model itself names in its
    method `no_weight_decay`.
    """
    if options.no_decay == "none":
        return [{"params": list(model.parameters())}]
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    exempt: Iterable[str] = getattr(model, "no_weight_decay", tuple)()
    spared = {
        name
        for name, parameter in named
        if parameter.ndim <= 1 or name.endswith(".bias") or any(fnmatch(name, pattern) for pattern in exempt)
    }
    groups: list[dict[str, Any]] = [
        {"params": [parameter for name, parameter in named if name in spared], "weight_decay": 0.0},
        {"params": [parameter for name, parameter in named if name not in spared]},
    ]
    return [group for group in groups if group["params"]]


def load_gathered(optimizer: Optimizer, state: Mapping[str, Any], kind: str) -> None:
    """Take what an optimizer has gathered, such as momentum, from `state`; its settings stay those of our options.

    kind: the name of the class whose state it is. Raises InputError if it is another, or of other groups of parameters.
    """
    settings = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
    sizes, theirs = (
        [len(group["params"]) for group in found] for found in (optimizer.param_groups, state["param_groups"])
    )
    if (type(optimizer).__name__, sizes) != (kind, theirs):
        raise InputError(
            f"the checkpoint has the state of {kind} over groups of {theirs} parameters, which does not fit "
            f"{type(optimizer).__name__} over {sizes}: continue with the --optimizer and the --no-decay of before"
        )
    optimizer.load_state_dict(dict(state))
    for group, ours in zip(optimizer.param_groups, settings, strict=True):
        group.update(ours)


def _lamb() -> Any:
    try:
        from timm.optim import Lamb
    except ImportError as error:
        raise InputError(f"--optimizer lamb is timm's, which is not installed: {install_command('eval')}") from error
    return Lamb
