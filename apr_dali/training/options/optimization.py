"""Options of the optimizer, its learning rate and the loss that it minimizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apr_dali.draws import SEEDS
from apr_dali.errors import InputError
from apr_dali.training.options.declare import Options, flag, option

OPTIMIZERS = ("auto", "sgd", "nesterov", "adamw", "lamb")
SCHEDULES = ("auto", "step", "cosine", "linear", "cyclic")
NO_DECAY = ("none", "norms-and-biases")
ON_NONFINITE = ("stop", "skip")
_REFERENCE_BATCH = 256
_OF_SGD = ("sgd", "nesterov")
_FALLING = ("cosine", "linear")
"""Schedules that fall smoothly over all epochs after the warm-up."""


@dataclass(frozen=True)
class OptimizationOptions(Options):
    """How the weights are changed from step to step."""

    epochs: int = option("optimization", 100, "passes over the training images", low=1)
    batch_size: int = option("optimization", 256, "images of a batch, over all processes, however often shown", low=1)
    accumulate: int = option("optimization", 1, "batches that make up one step of the weights", low=1)
    optimizer: str = option(
        "optimization", "auto", "auto is the published one, SGD; lamb is timm's, and needs it", choices=OPTIMIZERS
    )
    lr: float = option("optimization", 0.1, "learning rate", low=0)
    schedule: str = option(
        "optimization", "auto", "how the learning rate goes; auto is the published way, in steps", choices=SCHEDULES
    )
    lr_steps: tuple[int, ...] = option(
        "optimization", (30, 60, 90), "--schedule step: epochs after which it falls", low=0
    )
    lr_factor: float = option("optimization", 0.1, "--schedule step: what it is multiplied by there", low=0, high=1)
    min_lr: float = option("optimization", 0.0, "--schedule cosine and linear: the rate that it falls to", low=0)
    scale_lr: bool = option("optimization", False, "multiply --lr by images of a step / 256")
    warmup_epochs: float = option("optimization", 0.0, "epochs over which the learning rate first rises", low=0)
    warmup_lr: float | None = option(
        "optimization", None, "the rate that it rises from; without it the first step is one equal part", low=0
    )
    momentum: float = option("optimization", 0.9, "of SGD", low=0, high=1)
    weight_decay: float = option(
        "optimization", 1e-4, "of the optimizer, on every parameter; decoupled with adamw", low=0
    )
    no_decay: str = option(
        "optimization", "none", "parameters that --weight-decay leaves out, as timm does", choices=NO_DECAY
    )
    clip_grad: float | None = option("optimization", None, "greatest norm of the gradient of all parameters", low=0)
    ema: float | None = option(
        "optimization",
        None,
        "also average the weights over the steps with this decay, such as 0.9998; best.pt is the better of both",
        low=0,
        high=1,
        metavar="DECAY",
    )
    label_smoothing: float = option("optimization", 0.0, "share of the target spread over all classes", low=0, high=1)
    on_nonfinite: str = option(
        "optimization",
        "stop",
        "a loss or gradient that is not finite stops the run, or its step is skipped; fp16 always skips",
        choices=ON_NONFINITE,
    )
    skip_limit: int = option("optimization", 20, "so many steps in a row may be skipped before the run stops", low=1)
    # Epochs and processes are added to it.
    seed: int = option("optimization", 0, "of the weights, the order of images and every draw", low=0, high=SEEDS // 2)

    @property
    def chosen_optimizer(self) -> str:
        """--optimizer, or what auto stands for."""
        return "sgd" if self.optimizer == "auto" else self.optimizer

    @property
    def chosen_schedule(self) -> str:
        """--schedule, or what auto stands for."""
        return "step" if self.schedule == "auto" else self.schedule

    @property
    def images_of_a_step(self) -> int:
        """Images, over all processes, from which the weights move once."""
        return self.batch_size * self.accumulate

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_schedule()
        self._check_optimizer()
        if self.ema is not None and self.ema in (0, 1):
            raise InputError(f"--ema must be between 0 and 1, got {self.ema:g}: leave it out for no average")
        if self.clip_grad in (0, math.inf):
            raise InputError(f"--clip-grad must be above 0 and finite, got {self.clip_grad:g}: leave it out for none")

    def _check_schedule(self) -> None:
        for name, schedules in (
            ("lr_steps", ("step",)),
            ("lr_factor", ("step",)),
            ("min_lr", _FALLING),
            ("warmup_epochs", ("step", *_FALLING)),
        ):
            self.refuse(name, self.chosen_schedule in schedules, f"--schedule {' or '.join(schedules)}")
        self.refuse("warmup_lr", self.warmup_epochs > 0, "--warmup-epochs")
        for name in ("min_lr", "warmup_lr"):
            if (getattr(self, name) or 0) > self.peak_lr:
                raise InputError(f"{flag(name)} {getattr(self, name):g} is above the learning rate {self.peak_lr:g}")
        if self.chosen_schedule in _FALLING and self.warmup_epochs >= self.epochs:
            raise InputError(f"--warmup-epochs {self.warmup_epochs:g} leaves none of {self.epochs} --epochs to fall in")

    def _check_optimizer(self) -> None:
        name = self.chosen_optimizer
        self.refuse("momentum", name in _OF_SGD, "--optimizer sgd or nesterov")
        if name not in _OF_SGD and not self.changed("lr"):
            raise InputError(f"--lr {self.lr:g} is a rate of SGD: with --optimizer {name} give one such as 1e-3")
        if self.optimizer == "nesterov" and not self.momentum:
            raise InputError("--optimizer nesterov needs a --momentum above 0")
        self.refuse("no_decay", self.weight_decay > 0, "a --weight-decay above 0")

    @property
    def peak_lr(self) -> float:
        """The greatest learning rate of the run: --lr, scaled if --scale-lr says so."""
        return self.lr * (self.images_of_a_step / _REFERENCE_BATCH if self.scale_lr else 1.0)
