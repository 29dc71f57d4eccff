"""The training engine: steps over any iterable of (images, targets), and the checkpoints of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from apr_dali.errors import InputError
from apr_dali.models.auxiliary import add_auxiliary, without_auxiliary
from apr_dali.runtime import checkpoint, distributed
from apr_dali.runtime.best_effort import say
from apr_dali.runtime.checkpoint import Position
from apr_dali.runtime.distributed import Group
from apr_dali.runtime.interrupts import Interrupted, Interrupts
from apr_dali.runtime.precision import AMP_TYPES
from apr_dali.training import finite, wrap
from apr_dali.training.ema import Average
from apr_dali.training.logger import Logger
from apr_dali.training.optimizer import load_gathered, make_optimizer
from apr_dali.training.options import TrainingOptions
from apr_dali.training.schedule import learning_rate, set_learning_rate
from apr_dali.training.teacher import TaughtLoss, Teacher

# Steps between two agreements on whether to stop or save. On the CPU a step takes seconds and torchrun kills 30 s
# after the signal; on a GPU the processes should not meet more often than they have to.
_AGREE_EVERY = {"cpu": 1, "cuda": 10}
_LOGS_PER_EPOCH = 20
_NOT_FINITE = "the loss or a gradient was not finite"
_CALLED = {"average": "an average", "teacher": "a teacher"}


class Loader(Protocol):
    """What the loop needs of a loader: one epoch of (images, targets) an iteration, and a state to continue from.

    The state holds numbers, strings, and lists and dicts of these.
    """

    views: int
    batch_views: int
    """Rows of an image in the batch given last: `views`, or 1 where the views were one and the same."""
    classes: tuple[str, ...]

    def __len__(self) -> int: ...
    def __iter__(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""


def view_loss(logits: Tensor, targets: Tensor, views: int, label_smoothing: float = 0.0) -> Tensor:
    """The published loss: the sum over the views of the mean cross-entropy of each view, a scalar.

    With APR-P the network sees each image clean and mixed and the released code adds the two mean losses, also
    when the coin leaves the batch unmixed. As all views have as many rows, this is `views` times the mean over all
    rows, in whatever order they lie, and also over a batch whose views are one and the same and that comes once. A
    mean alone would halve the gradient, so the learning rate.

    Args:
        logits: floating (views·B, classes), or (B, classes) of an unmixed batch that comes once.
        targets: int64 (views·B,) or (B,), one class number per row.
        views: images that the network sees of each photograph: the loader's `views`.
        label_smoothing: share of the target spread evenly over all classes, 0..1.
    """
    return views * F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


Objective = Callable[[nn.Module, Tensor, Tensor, int, int], Tensor]
"""(network, images (V·B, 3, H, W), targets (V·B, ...), views, V) → the loss of a step, a scalar. V is `views`, or 1
where the views are one and the same; an objective that is another number then has its loader repeat such batches."""


class Trainer:
    """A network in training: its optimizer, its position, its checkpoints.

    Every method is called by all processes together.
    """

    def __init__(
        self,
        model: nn.Module,
        options: TrainingOptions,
        group: Group,
        architecture: str,
        objective: Objective | None = None,
    ) -> None:
        """`model` is on the CPU; checkpoints keep `architecture`, its registry name; `objective` replaces view_loss."""
        self.options, self.group, self.architecture = options, group, architecture
        self.amp = AMP_TYPES[options.amp]
        self.objective = objective or self._published
        layout = torch.channels_last if options.memory_format == "channels_last" else torch.contiguous_format
        if options.sync_bn and not options.eval_only:
            model = wrap.shared_batch_norm(model, group)
        if options.has_auxiliary:
            add_auxiliary(model)
        self.model = model.to(group.device, memory_format=layout)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(self.model, options)
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=options.amp == "fp16")
        self._exchanging = wrap.exchanging(self.model, group)
        # Compiled around DDP, not within: gradients are then sent while the backward pass still runs.
        self._network = wrap.compiled(self._exchanging, options.compile)
        self.evaluated = wrap.compiled(self.model, options.compile)
        self.average = None if options.ema is None else Average(self.model, options.ema)
        self.evaluated_average = None if self.average is None else wrap.compiled(self.average.model, options.compile)
        self.position = Position()
        self.teacher: Teacher | None = None
        if isinstance(self.objective, TaughtLoss):
            self.teacher = self.objective.begin(self.model, lambda: self.position.epoch, options.compile)
        self.images_per_second = 0.0
        self.rate = options.lr
        self._images, self._seconds = 0, 0.0
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=group.device)
        # GradScaler leaves steps out in any case, and synchronizes for it.
        self._skips = options.on_nonfinite == "skip" or options.amp == "fp16"
        self._in_cycle = 0  # batches whose gradients wait for the update
        self._before: finite.Buffers | None = None
        self._sound = torch.ones((), dtype=torch.bool, device=group.device)
        self._saved_at = time.monotonic()
        # Dropout and its kin differ between the processes; the weights above came from one seed on all.
        torch.manual_seed(options.seed + 1 + group.rank)

    def _published(self, network: nn.Module, images: Tensor, targets: Tensor, views: int, _: int) -> Tensor:
        return view_loss(network(images), targets, views, self.options.label_smoothing)

    def step(
        self, images: Tensor, targets: Tensor, views: int, cycle: int = 1, batch_views: int | None = None
    ) -> Tensor:
        """The gradient of floating images (V·B, C, H, W) with targets; returns the loss, a tensor ().

        views, batch_views: the loader's; V is batch_views, by default `views`.

        The last of `cycle` calls updates the weights by the mean of their gradients. Where a loss or the gradient is
        not finite on any process, and such updates are to be skipped, the network stays as it was before the first of
        them and the position counts their batches.
        """
        if len(images) == 1:
            # Broken images that were left out may leave a single one, which batch norm refuses. Twice: the same mean.
            images, targets = torch.cat([images, images]), torch.cat([targets, targets])
        if self._in_cycle == 0:
            self._before = finite.Buffers(*self._networks()) if self._skips else None
            self.optimizer.zero_grad(set_to_none=True)
        self._in_cycle += 1
        # Processes exchange the sum, not its parts.
        with wrap.apart(self._exchanging) if self._in_cycle < cycle else nullcontext():
            with torch.autocast(self.group.device.type, self.amp or torch.bfloat16, enabled=self.amp is not None):
                loss = self.objective(self._network, images, targets, views, batch_views or views)
            self.scaler.scale(finite.spread(loss) / cycle).backward()
        if self._in_cycle == cycle:
            self._update(cycle)
        return loss.detach()

    def _update(self, cycle: int) -> None:
        """Move the weights by the gradients of `cycle` batches, unless they are to be left out."""
        self._in_cycle = 0
        self.scaler.unscale_(self.optimizer)
        sound = finite.sound_gradients(self.model)
        if self._before is not None and not sound:  # synchronizes
            self._before.put_back()
            self.position.skipped += cycle
            self.position.in_a_row += 1
        else:
            self._sound &= sound
            self.position.in_a_row = 0
            if self.options.clip_grad is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_grad)
            self.scaler.step(self.optimizer)
            for follower in self._followers().values():
                follower.update(self.model)
        self.scaler.update()

    def _followers(self) -> dict[str, Average | Teacher]:
        """What follows the weights from step to step, by its name in checkpoints."""
        found = {"average": self.average, "teacher": self.teacher}
        return {name: follower for name, follower in found.items() if follower is not None}

    def _networks(self) -> list[nn.Module]:
        return [self.model, *(follower.model for follower in self._followers().values())]

    def train_epoch(self, loader: Loader, folder: Path, logger: Logger, interrupts: Interrupts) -> float:
        """The rest of the current epoch; returns its mean loss over all processes.

        Saves to `folder` every --checkpoint-minutes and at the end. After a signal it saves and raises Interrupted.
        """
        position, steps = self.position, len(loader)
        logger.begin_epoch(position.epoch, position.step, steps)
        if not position.trained:
            self._train_steps(loader, folder, logger, interrupts)
            self._check_finite(folder)
            (loss,) = distributed.total(self.group, [float(self._loss_sum)])
            counted = self.group.world * (steps - position.skipped)
            position.trained, position.loss = True, loss / counted if counted else float("nan")
            if position.skipped and self.group.main:
                say(f"epoch {position.epoch + 1}: {position.skipped} of {steps} steps skipped, {_NOT_FINITE}")
            # Validation can take long: what was trained is safe before it.
            self.save(loader, folder)
        self.rate = learning_rate(self.options, position.epoch, steps - 1, steps)
        return position.loss

    def _train_steps(self, loader: Loader, folder: Path, logger: Logger, interrupts: Interrupts) -> None:
        self.model.train()
        position, steps = self.position, len(loader)
        started = time.perf_counter() - self._seconds
        for images, targets in loader:
            if self._in_cycle == 0:
                # The last cycle of an epoch has the batches that are left.
                cycle = min(self.options.accumulate, steps - position.step)
                rate = learning_rate(self.options, position.epoch, position.step, steps)
                set_learning_rate(self.optimizer, rate)
                losses = torch.zeros_like(self._loss_sum)
            losses += self.step(images, targets, loader.views, cycle, loader.batch_views)
            position.step += 1
            self._images += len(targets) // loader.batch_views * self.group.world
            self._seconds = time.perf_counter() - started
            self.images_per_second = self._images / self._seconds
            logger.advance(self.images_per_second)
            if self._in_cycle:
                continue
            if position.in_a_row == 0:
                self._loss_sum += losses
            elif position.in_a_row > self.options.skip_limit:
                raise self._diverged(folder, f", as in the {self.options.skip_limit} steps before")
            if self._passed(max(1, steps // _LOGS_PER_EPOCH), cycle):
                self._check_finite(folder)
                if position.in_a_row == 0:
                    logger.step(position.epoch, position.step, float(losses) / cycle, rate, self.images_per_second)
            if position.step < steps and self._passed(_AGREE_EVERY[self.group.device.type], cycle):
                self._agree(loader, folder, interrupts)
        if position.step != steps:
            raise RuntimeError(f"the epoch had {position.step} batches, the loader's length is {steps}")

    def _passed(self, every: int, cycle: int) -> bool:
        """Whether a multiple of `every` batches of the epoch is among the last `cycle`, the batches of an update."""
        return self.position.step // every > (self.position.step - cycle) // every

    def end_epoch(self, loader: Loader, folder: Path, top1: float, averaged: bool = False) -> None:
        """Count the epoch as done, with `top1` in validation (0..1), and save: as best if it is.

        averaged: it is that of the averaged weights, which then are the checkpoint's "model".
        """
        self.position.averaged = averaged
        better = top1 > self.position.best
        self.position.best = max(self.position.best, top1)
        self.position.epoch, self.position.step, self.position.trained = self.position.epoch + 1, 0, False
        self.position.loss, self.position.skipped = 0.0, 0
        self._loss_sum.zero_()
        self.save(loader, folder, best=better)

    def _agree(self, loader: Loader, folder: Path, interrupts: Interrupts) -> None:
        """Save if it is time, stop if a process got a signal: decided together, at the same step."""
        # Only the main process's clock counts.
        due = self.group.main and time.monotonic() - self._saved_at >= 60 * self.options.checkpoint_minutes
        signum, due_anywhere = distributed.maximum(self.group, [interrupts.signum, int(due)])
        if not signum and not due_anywhere:
            return
        self._check_finite(folder)
        self.save(loader, folder)
        if signum:
            raise Interrupted(signum, f"stopped; continue with --resume auto --output {folder}")

    def _check_finite(self, folder: Path) -> None:
        """Raise InputError if a step was not sound: what came after it is lost, and must not be saved."""
        if not self._sound:  # synchronizes
            raise self._diverged(folder, "; --on-nonfinite skip leaves out single batches that do this")

    def _diverged(self, folder: Path, how: str) -> InputError:
        latest = checkpoint.find_latest(folder)
        before = f"Continue with --resume {latest}" if latest else f"No checkpoint has been written to {folder} yet"
        rising = "" if self.options.chosen_schedule == "cyclic" else " or a longer --warmup-epochs"
        return InputError(
            f"training diverged: {_NOT_FINITE} at epoch {self.position.epoch + 1}, step {self.position.step}{how}. "
            f"Try a smaller --lr{rising}. {before}"
        )

    def save(self, loader: Loader, folder: Path, best: bool = False) -> None:
        """Write the checkpoint of this moment, between two steps or two epochs."""
        for network in self._networks():
            distributed.same_buffers(self.group, network)
        mine = {
            "loader": loader.state_dict(),
            "loss_sum": float(self._loss_sum),
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state() if self.group.device.type == "cuda" else None,
        }
        everyone = distributed.gather(self.group, mine)

        def write() -> None:
            state = {
                "architecture": self.architecture,
                "classes": list(loader.classes),
                "options": asdict(self.options),
                "position": asdict(self.position),
                **self._weights(),
                "optimizer": self.optimizer.state_dict(),
                "optimizer_kind": type(self.optimizer).__name__,
                "scaler": self.scaler.state_dict(),
                "processes": everyone,
            }
            checkpoint.save(folder, state, best)

        distributed.on_main(self.group, write)
        self._saved_at = time.monotonic()

    def _weights(self) -> dict[str, Any]:
        """The better weights by the last validation as "model", and with --ema both. A file has equal ones once."""
        weights = self.model.state_dict()
        found = {name: follower.state_dict() for name, follower in self._followers().items()}
        if "average" not in found:
            return {"model": weights, **found}
        better = found["average"]["model"] if self.position.averaged else weights
        return {"model": better, "raw": weights, **found}

    def load(self, state: dict[str, Any]) -> None:
        """Take weights, what follows them, optimizer and position from `state`, as `checkpoint.load` gives it.

        An average that it does not hold begins with the next step, a teacher with the weights. Raises InputError where
        it holds what our options have no use for, an average, a teacher, or what another optimizer has gathered, and
        where it lacks the auxiliary batch norms that we have.
        """
        self._load_weights(state.get("raw", state["model"]))
        followers = self._followers()
        for name, needed in (("average", "--ema DECAY"), ("teacher", "the --aug and --aug-form of before")):
            if name in state and name not in followers:
                raise InputError(f"the checkpoint has the weights of {_CALLED[name]}: continue with {needed}")
            if name in state:
                followers[name].load_state_dict(state[name])
        if self.teacher is not None and "teacher" not in state:
            self.teacher.model.load_state_dict(self.model.state_dict())
        load_gathered(self.optimizer, state["optimizer"], state.get("optimizer_kind", SGD.__name__))
        # Continuing with another --amp is allowed: a disabled scaler has no state to give or take.
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.position = Position(**state["position"])

    def _load_weights(self, weights: dict[str, Any]) -> None:
        # What the network has, not what is asked for: one without batch norm has none.
        theirs, ours = (bool(without_auxiliary(state)[1]) for state in (weights, self.model.state_dict()))
        if theirs != ours:
            raise InputError(
                f"the checkpoint has {'' if theirs else 'no '}auxiliary batch norms: continue with the --aug and "
                "--aug-form of before, or begin a run with its weights by --weights"
            )
        self.model.load_state_dict(weights)

    def load_stream(self, state: dict[str, Any], loader: Loader) -> str | None:
        """Continue the stream of images where `state` was saved; None if that worked, else the reason why not."""
        processes = state["processes"]
        if len(processes) != self.group.world:
            return f"it was saved by {len(processes)} processes, now there are {self.group.world}"
        mine = processes[self.group.rank]
        try:
            loader.load_state_dict(mine["loader"])
        except InputError as error:
            return str(error)
        self._loss_sum.fill_(mine["loss_sum"])
        torch.set_rng_state(mine["random"])
        if mine["random_gpu"] is not None and self.group.device.type == "cuda":
            torch.cuda.set_rng_state(mine["random_gpu"])
        return None

    def restart_epoch(self) -> None:
        """Begin the interrupted epoch again, in a new order of images; the weights stay as they are."""
        position = self.position
        if not position.trained:
            position.step = position.skipped = 0
            self._loss_sum.zero_()
        position.stream = position.epoch + 1
        torch.manual_seed(self.options.seed + 1 + self.group.rank + self.group.world * position.stream)

    def loader_seed(self) -> int:
        """The seed of the loader's order and draws."""
        return self.options.seed + self.position.stream


class ClosableLoader(Loader, Protocol):
    """A loader that holds threads and memory until it is closed."""

    def close(self) -> None:
        """Free them."""
