"""How many hours a plan takes: images that it sends through its networks, over measured or given rates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from apr_dali.errors import check_choice
from apr_dali.models.registry import canonical_name, cifar_first, create_model
from apr_dali.reproduce.plan import Plan, Run
from apr_dali.reproduce.runner import left
from apr_dali.runtime import torch_threads
from apr_dali.runtime.precision import AMP_TYPES

_FORWARD = 3.0
"""Images forwards in the time of one forwards and backwards, where a person gives the latter's rate alone."""
_ROUNDS = 3
_BATCH = {("cpu", True): 8, ("cpu", False): 2, ("cuda", True): 128, ("cuda", False): 64}
"""Images of a measured batch: on which device, of small images or not."""


@dataclass(frozen=True)
class Rate:
    """Images per second of a network: forwards and backwards, and forwards alone. source: where it is from."""

    training: float
    forward: float
    source: str


@dataclass(frozen=True)
class Hours:
    """Of one GPU, or one share of the CPUs: of what is left to train and to evaluate."""

    training: float
    evaluation: float

    @property
    def total(self) -> float:
        return self.training + self.evaluation


def rates(plan: Plan, given: Mapping[str, float]) -> dict[str, Rate]:
    """The rate of each network of a plan. given: training images per second by network, or under "" for all others.

    Raises InputError for a rate of a network that is not in the plan.
    """
    for name in set(given) - {""}:
        check_choice("--rate", name, tuple(dict.fromkeys(run.network for run in plan.runs)))
    found: dict[str, Rate] = {}
    for run in plan.runs:
        if run.network in found:
            continue
        rate = given.get(run.network, given.get(""))
        said = f"given, and forwards taken for {_FORWARD:g} times as fast"
        found[run.network] = _measured(run, plan) if rate is None else Rate(rate, _FORWARD * rate, said)
    return found


def hours(plan: Plan, known: Mapping[str, Rate]) -> Hours:
    """Of all that is left to do, also of what lacks its images. A training that was stopped is counted as a whole."""
    training = evaluation = 0.0
    for run in plan.runs:
        rate = known[run.network]
        for step in left(run, plan.asked.output):
            if step is None:
                of = run.training
                training += of.epochs * of.images * of.passes / rate.training
            else:
                evaluation += step.forwards / rate.forward + step.steps / rate.training
    return Hours(training / 3600, evaluation / 3600)


def _measured(run: Run, plan: Plan) -> Rate:
    """The rate of a run's network on random images here: the network and its loss alone, without a pipeline."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    exact = cifar_first if run.training.trainer == "cifar" else canonical_name
    batch = _BATCH[device.type, run.size <= 64]
    with torch.random.fork_rng():
        model = create_model(exact(run.network), run.classes)
        torch_threads.choose(model, run.size, 3, device)
        model = model.to(device)
        images = torch.rand(batch, 3, run.size, run.size, device=device)
    targets = torch.zeros(batch, dtype=torch.int64, device=device)
    amp = AMP_TYPES[plan.asked.amp]

    def forward() -> torch.Tensor:
        with torch.autocast(device.type, amp or torch.bfloat16, enabled=amp is not None):
            return F.cross_entropy(model(images), targets)

    training = batch / _seconds(lambda: forward().backward(), device)
    with torch.no_grad():
        evaluating = batch / _seconds(forward, device)
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"the CPU, torch threads: {torch.get_num_threads()}"
    )
    return Rate(training, evaluating, f"measured now on {where}: the network alone, batches of {batch}")


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(1 + _ROUNDS):
        began = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    # The first one makes plans and takes memory.
    return statistics.median(times[1:])
