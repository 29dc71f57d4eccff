"""Options of the machine and of the run folder."""

from __future__ import annotations

from dataclasses import dataclass

from apr_dali.errors import InputError
from apr_dali.training.options.declare import Options, option

LOGGERS = ("tensorboard", "wandb", "mlflow", "none")


@dataclass(frozen=True)
class RunOptions(Options):
    """Where a run computes, what it writes, and from where it continues."""

    device: str = option("machine", "auto", "auto takes the GPU where there is one", choices=("auto", "cpu", "gpu"))
    threads: int = option("machine", 0, "data threads of a process; 0 chooses", low=0)

    output: str = option("run", "", "run folder; default runs/MODEL-AUG-TIME", metavar="DIR")
    resume: str = option(
        "run", "", "continue: a checkpoint, or auto for the latest in --output, if any", metavar="auto|PATH"
    )
    logger: str = option(
        "run",
        "tensorboard",
        "what keeps the metrics beside metrics.jsonl; wandb and mlflow are extras",
        choices=LOGGERS,
    )
    checkpoint_minutes: float = option("run", 10.0, "also save after so many minutes within an epoch", low=0)
    eval_only: str = option("run", "", "only validate this checkpoint, write nothing", metavar="PATH")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eval_only and self.resume:
            raise InputError("--eval-only and --resume exclude each other: validate a checkpoint or train on from it")
        if self.resume == "auto" and not self.output:
            raise InputError("--resume auto needs --output DIR, the run folder to continue")
