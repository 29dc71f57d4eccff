"""A plan for people at a terminal: its commands, what is missing, and how long it may take."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from apr_dali.reproduce.estimate import Hours, Rate, hours, rates
from apr_dali.reproduce.plan import Plan
from apr_dali.reproduce.results import commands, outcomes

_ATTACK = "AutoAttack is counted as if half of the images were right to its end"
_COMPUTED = "corruptions on the fly are not counted: the CPU makes them, and may take longer than the network"


def left_out(plan: Plan) -> str:
    """The methods that are not trained, and the sets that are missing; "" for none."""
    lines = [f"not trained here: {method}: {why}" for method, why in plan.not_trained.items()]
    lines += [f"missing: {name}: {what}" for name, what in plan.missing.items()]
    return "".join(f"{line}\n" for line in lines)


def text(plan: Plan, given: Mapping[str, float], gpus: int) -> str:
    """All commands with what has become of them, and an estimate of the hours that are left.

    given: as for `rates`. gpus: on which the runs are dealt out.
    """
    lines = [f"{plan.title}, runs: {len(plan.runs)}"]
    lines += [f"$ {shlex.join(words)}" for words in plan.prepared]
    for key, outcome in outcomes(plan).items():
        lines += ["", key]
        lines += [f"  [{state}] {command}" for _, state, command in commands(outcome, plan, ())]
    known = rates(plan, given)
    return "\n".join([*lines, "", left_out(plan) + _told(plan, hours(plan, known), known, gpus)])


def _told(plan: Plan, left: Hours, known: Mapping[str, Rate], gpus: int) -> str:
    shared = f", {left.total / gpus:.3g} on {gpus} GPUs" if gpus > 1 else ""
    lines = [f"hours left: {left.total:.3g} (training {left.training:.3g}, evaluation {left.evaluation:.3g}){shared}"]
    for network, rate in known.items():
        numbers = f"{rate.training:.4g} training images/s, {rate.forward:.4g} forwards"
        lines.append(f"  {network}: {numbers}; {rate.source}")
    if any(evaluation.steps for run in plan.runs for evaluation in run.evaluations):
        lines.append(f"  {_ATTACK}")
    if any("val" in evaluation.options for run in plan.runs for evaluation in run.evaluations):
        lines.append(f"  {_COMPUTED}")
    return "\n".join(lines)
