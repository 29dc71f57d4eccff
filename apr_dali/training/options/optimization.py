"""Options of the optimizer, its learning rate and the loss that it minimizes."""

from __future__ import annotations

from dataclasses import dataclass

from apr_dali.draws import SEEDS
from apr_dali.training.options.declare import Options, option

ON_NONFINITE = ("stop", "skip")


@dataclass(frozen=True)
class OptimizationOptions(Options):
    """How the weights are changed from step to step."""

    epochs: int = option("optimization", 100, "passes over the training images", low=1)
    batch_size: int = option("optimization", 256, "images of a step, over all processes, however often shown", low=1)
    lr: float = option("optimization", 0.1, "learning rate", low=0)
    lr_steps: tuple[int, ...] = option("optimization", (30, 60, 90), "epochs after which it falls", low=0)
    lr_factor: float = option("optimization", 0.1, "what it is multiplied by there", low=0, high=1)
    scale_lr: bool = option("optimization", False, "multiply --lr by batch size / 256")
    warmup_epochs: float = option("optimization", 0.0, "epochs over which the learning rate first rises", low=0)
    momentum: float = option("optimization", 0.9, "of SGD", low=0, high=1)
    weight_decay: float = option("optimization", 1e-4, "of SGD, on every parameter", low=0)
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
    def nesterov(self) -> bool:
        """Whether SGD's momentum is Nesterov's."""
        return False

    @property
    def cyclic(self) -> bool:
        """Whether the learning rate rises to --lr in the middle of the run and falls to 0, instead of in steps."""
        return False
