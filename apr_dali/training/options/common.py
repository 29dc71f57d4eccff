"""The options that all trainers have."""

from __future__ import annotations

from dataclasses import dataclass

from apr_dali.training.options.mixing import MixingOptions
from apr_dali.training.options.network import NetworkOptions
from apr_dali.training.options.run import RunOptions


@dataclass(frozen=True)
class TrainingOptions(RunOptions, MixingOptions, NetworkOptions):
    """What a training run can be asked for, whatever its data set: each option's type, default, help and range.

    The command line is made from these fields, see `command_line`. Defaults are the published ImageNet
    recipe; a subclass for another data set redeclares the fields in which it differs.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        # In validation the limit is the run's, and the arithmetic may be another.
        usable = self.on_nonfinite == "skip" or self.amp == "fp16" or bool(self.eval_only)
        self.refuse("skip_limit", usable, "--on-nonfinite skip or --amp fp16")
