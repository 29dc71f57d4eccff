"""What it takes to keep GPUs fed, from measured rates. Arithmetic only."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from apr_dali.augmentations.plan import TRAINABLE, form_here, plan
from apr_dali.bench.rows import APR, PUBLISHED, WAYS, matching
from apr_dali.errors import InputError
from apr_dali.recipes import CIFAR, IMAGENET, uses_pair

_FORM = "gpus=8 step=90ms [batch=256] [cores=64]"
_UNITS = {"ms": 1e-3, "s": 1.0}
_MOST = 1_000_000
"""GPUs, images of a step, cores."""
_SHORTEST, _LONGEST = 1e-6, 3600.0
"""Of steps, in seconds."""


@dataclass(frozen=True)
class Plan:
    """Training to feed. batch: images per GPU and step. cores: at hand, if known.

    step: seconds of one on every GPU where the network sees each image once; see `rows_per_image`.
    """

    gpus: int
    step: float
    batch: int = 256
    cores: int | None = None

    @property
    def need(self) -> float:
        """Images per second, all GPUs together."""
        return self.gpus * self.batch / self.step


def parse_plan(words: Sequence[str]) -> Plan:
    """The plan of `gpus=8 step=90ms`, with `batch=256` and `cores=64` if given; InputError for anything else."""
    given: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in ("gpus", "step", "batch", "cores") or not equals:
            raise InputError(f"--simulate takes {_FORM}, got {word!r}")
        if key in given:
            raise InputError(f"--simulate: {key} is given twice")
        given[key] = _seconds(value) if key == "step" else _count(key, value)
    missing = [key for key in ("gpus", "step") if key not in given]
    if missing:
        raise InputError(f"--simulate needs {' and '.join(missing)}: {_FORM}")
    return Plan(**given)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(ms|s)", text, re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not _SHORTEST <= seconds <= _LONGEST:
        raise InputError(f"--simulate: step must be a time such as 90ms or 0.25s, 0.001ms to 3600s, got {text!r}")
    return seconds


def _count(key: str, text: str) -> int:
    digits = re.fullmatch("0*([0-9]{1,7})", text)
    if digits is None or not 1 <= int(digits[1]) <= _MOST:
        raise InputError(f"--simulate: {key} must be a whole number in 1..{_MOST:,}, got {text!r}")
    return int(digits[1])


def rows_per_image(name: str, repeat_unmixed: bool = False) -> float:
    """Rows that a network sees of an image on average; `name` is a row's of the benchmark.

    1 + p with APR-P, where p is the recipe's share of batches that are mixed, since an unmixed one comes once, and
    likewise of other methods with a coin; all views where it is repeated, as the published code does; 3 with AugMix.
    """
    _, aug, size = name.split("/")
    method = aug.removeprefix(PUBLISHED)
    repeats = repeat_unmixed or aug.startswith(PUBLISHED)
    if uses_pair(method):
        return 2.0 if repeats else 1 + (IMAGENET if size == "224" else CIFAR).pair_probability
    if method in TRAINABLE:
        dataset = "imagenet" if size == "224" else "cifar10"
        chosen = plan(method, dataset, form_here(method, dataset))
        return chosen.views if repeats else chosen.rows
    return 3.0 if method == "augmix" else 1.0


def answer(
    plan: Plan, records: Sequence[dict[str, Any]], only: Sequence[str] = (), repeat_unmixed: bool = False
) -> str:
    """The cores or the share of the GPU that feed `plan`: what it needs, a line for each measured way, and the verdict.

    records: of `apr_dali.bench.measure.records`. only: the rows to answer for; () for none and the heaviest APR that
    was measured at 224 px, by DALI or, if DALI was not measured, by all ways.
    repeat_unmixed: see `rows_per_image`.

    Raises:
        InputError: if no such row was measured.
    """
    chosen = _chosen(records, only)
    per_gpu = plan.batch / plan.step
    said = [
        f"{plan.gpus} GPU{'s' if plan.gpus > 1 else ''}, {plan.batch} images each every {1000 * plan.step:g} ms, need "
        f"{plan.need:,.0f} images/s, {per_gpu:,.0f} per GPU."
    ]
    for record in chosen:
        slower = _with_views(plan, record, repeat_unmixed)
        line = _on_gpu(slower, record) if "gpu_mib" in record else _on_cpu(slower, record)
        if slower != plan:
            rows = rows_per_image(record["name"], repeat_unmixed)
            line = f"{_of_views(record['name'], rows, slower)} {line}"
        said.append(line)
    said.append(verdict(plan, chosen, repeat_unmixed))
    said.append("This takes it that cores and GPUs do nothing else and add up evenly.")
    return "\n".join(said)


def verdict(plan: Plan, records: Sequence[dict[str, Any]], repeat_unmixed: bool = False) -> str:
    """Which of the ways feed the plan, the fewest cores first; without the number of cores, those that could."""
    needs = {record["name"]: _with_views(plan, record, repeat_unmixed) for record in records}
    ordered = sorted(records, key=lambda record: cores_needed(needs[record["name"]], record))
    fed = [record["name"] for record in ordered if feeds(needs[record["name"]], record)]
    starved = [record["name"] for record in ordered if record["name"] not in fed]
    gpus = "The GPU is" if plan.gpus == 1 else f"The {plan.gpus} GPUs are"
    if not fed:
        return f"{gpus} fed by none of them."
    enough = " with the cores for it" if plan.cores is None else ""
    rest = f", not by {', '.join(starved)}" if starved else ""
    return f"{gpus} fed{enough} by {', '.join(fed)}{rest}: those that take the fewest cores come first."


def feeds(plan: Plan, record: dict[str, Any]) -> bool:
    """Whether the way of a record makes the images that the plan needs, with the cores at hand if they are known."""
    if "gpu_mib" in record and gpu_share(plan, record) > 1:
        return False
    return plan.cores is None or cores_needed(plan, record) <= plan.cores


def _with_views(plan: Plan, record: dict[str, Any], repeat_unmixed: bool) -> Plan:
    return replace(plan, step=plan.step * rows_per_image(record["name"], repeat_unmixed))


def _of_views(name: str, rows: float, plan: Plan) -> str:
    return (
        f"With {name} the network sees {rows:g} rows of an image on average: a step takes {1000 * plan.step:g} ms, and "
        f"needs {plan.need:,.0f} images/s."
    )


def _on_cpu(plan: Plan, record: dict[str, Any]) -> str:
    cores = cores_needed(plan, record)
    text = f"{record['name']} costs {record['cpu_ms']:.3g} ms of a core an image: {_cores(math.ceil(cores))}"
    text += f", {_short(cores / plan.gpus)} per GPU"
    if plan.cores is None:
        return f"{text}."
    rate = 1000 * plan.cores / record["cpu_ms"]
    if cores <= plan.cores:
        return f"{text}; {_cores(plan.cores)} will do, busy for {cores / plan.cores:.0%} of the time."
    fed = int(plan.gpus * rate / plan.need)
    return (
        f"{text}; {_cores(plan.cores)} can do {rate:,.0f} images/s, which feeds {fed} of the GPUs, or all of them at "
        f"{1000 * plan.gpus * plan.batch / rate:.0f} ms per step."
    )


def _on_gpu(plan: Plan, record: dict[str, Any]) -> str:
    share = gpu_share(plan, record)
    beside = f"and {_short(cores_needed(plan, record) / plan.gpus)} cores per GPU"
    if share > 1:
        return (
            f"{record['name']} makes {record['images_per_s']:,.0f} images/s with a whole GPU, {1 / share:.0%} of what "
            f"the step takes: it cannot feed it, {beside}."
        )
    return f"{record['name']} takes at most {share:.1%} of each GPU {beside}."


def _cores(count: int) -> str:
    return f"{count:,} core{'s' if count > 1 else ''}"


def _short(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:.3g}" if number < 999 else f"{number:,.0f}"


def cores_needed(plan: Plan, record: dict[str, Any]) -> float:
    """Cores that the CPU time of the needed images fills."""
    return plan.need * record["cpu_ms"] / 1000


def gpu_share(plan: Plan, record: dict[str, Any]) -> float:
    """Share of each GPU's time: the needed rate over the rate with a GPU to itself, which the CPU may have limited."""
    return plan.batch / plan.step / float(record["images_per_s"])


def _chosen(records: Sequence[dict[str, Any]], only: Sequence[str]) -> list[dict[str, Any]]:
    names = [record["name"] for record in records]
    wanted = matching(names, only) if only else _default(names)
    if not wanted:
        asked = " ".join(only) if only else "DALI or a DataLoader at 224 px"
        raise InputError(f"--simulate: nothing was measured of {asked}; measured: {', '.join(names) or 'nothing'}")
    return [record for record in records if record["name"] in wanted]


def _default(names: Sequence[str]) -> list[str]:
    at_224 = [name for name in names if name.endswith("/224")]
    by_dali = [name for name in at_224 if name.startswith("dali")]
    found = []
    for way in WAYS:
        heaviest = next((f"{way}/{aug}/224" for aug in reversed(APR) if f"{way}/{aug}/224" in names), None)
        found += [f"{way}/none/224", *([heaviest] if heaviest else [])]
    return [name for name in by_dali or at_224 if name in found]
