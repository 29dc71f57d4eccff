"""The evaluations of tables, and the numbers that are taken from their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apr_dali.eval.analyses.fourier import HeatMap
from apr_dali.eval.corruption import CORRUPTIONS, SEVERITIES
from apr_dali.eval.ood_sources import PHOTOGRAPHS
from apr_dali.reproduce.paper import OOD_SETS
from apr_dali.reproduce.plan import Asked, Evaluation, Measure, Results
from apr_dali.reproduce.sets import DIGITS, SAMPLE, Sets, check_word


@dataclass(frozen=True)
class Dataset:
    """A training set: its trainer, its sets of NEEDS ("" for those without files), its numbers of images, their side in
    pixels, its classes, and the epochs that a run has by default."""

    trainer: str
    need: str
    corrupted: str
    train: int
    test: int
    size: int
    classes: int
    epochs: int


DATASETS = {
    "cifar10": Dataset("cifar", "CIFAR-10", "CIFAR-10-C", 50_000, 10_000, 32, 10, 200),
    "cifar100": Dataset("cifar", "CIFAR-100", "CIFAR-100-C", 50_000, 10_000, 32, 100, 200),
    DIGITS: Dataset("cifar", "", "", 1442, 355, 32, 10, 12),
    "imagenet": Dataset("imagenet", "ImageNet", "ImageNet-C", 1_281_167, 50_000, 224, 1000, 100),
    SAMPLE: Dataset("imagenet", "", "", 768, 256, 64, 16, 20),
}
_DIGITS_CELLS = 21
_ATTACKED_DIGITS = 20
_HEATMAP = {DIGITS: (64, 15), SAMPLE: (16, 15)}
"""Images of a heat map and frequencies a side, where these are not a thousand and the published ones."""
_FREQUENCIES = 63
RINGS = 4


def clean_images(asked: Asked, sets: Sets, dataset: str) -> tuple[str, tuple[str, ...]]:
    """Where the test images are or should be, and the name of their set if it is not there."""
    if dataset == DIGITS:
        check_word(DIGITS)
        return DIGITS, ()
    if dataset == SAMPLE:
        return str(sample_folder(asked) / "val"), ()
    need = DATASETS[dataset].need
    path = sets.at(need)
    return str(Path(path) / "val") if dataset == "imagenet" else path, _lacking(sets, need)


def _lacking(sets: Sets, *names: str) -> tuple[str, ...]:
    return tuple(name for name in names if sets.find(name) is None)


def sample_folder(asked: Asked) -> Path:
    """Where the photographs of `apr-dali sample` are written."""
    return asked.output / SAMPLE


def corruption(asked: Asked, sets: Sets, dataset: str) -> Evaluation:
    """`eval corruption`, with the clean error."""
    facts, (images, lacks) = DATASETS[dataset], clean_images(asked, sets, dataset)
    there = facts.corrupted and sets.find(facts.corrupted)
    computed = not there and (dataset == SAMPLE or (asked.on_the_fly and dataset != DIGITS))
    if not computed and facts.corrupted:
        lacks = (*lacks, *_lacking(sets, facts.corrupted))
    corrupted = sets.at(facts.corrupted) if facts.corrupted else images
    options = {"val": (images,)} if computed else {"data": (corrupted,)}
    cells = _DIGITS_CELLS if dataset == DIGITS else len(CORRUPTIONS) * len(SEVERITIES)
    return Evaluation(
        "corruption",
        ("eval", "corruption"),
        {**options, "clean": (images,)},
        (cells + 1) * facts.test,
        lacks=lacks,
        package="imagecorruptions" if computed else "",
    )


def clean(asked: Asked, sets: Sets, dataset: str) -> Evaluation:
    """`eval clean`."""
    images, lacks = clean_images(asked, sets, dataset)
    return Evaluation("clean", ("eval", "clean"), {"data": (images,)}, DATASETS[dataset].test, lacks=lacks)


def ood(asked: Asked, sets: Sets, dataset: str) -> Evaluation:
    """`eval ood` on those of the paper's sets that are there; of digits on tiles of photographs."""
    inside, lacks = clean_images(asked, sets, dataset)
    if dataset == DIGITS:
        check_word(PHOTOGRAPHS)
        others = {PHOTOGRAPHS: PHOTOGRAPHS}
    else:
        missing = _lacking(sets, *OOD_SETS)
        chosen = [name for name in OOD_SETS if name not in missing] or OOD_SETS
        others = {name: sets.at(name) for name in chosen}
        lacks = (*lacks, *(missing if len(missing) == len(OOD_SETS) else ()))
    options = {"data": (inside,), "ood": tuple(f"{name}={path}" for name, path in others.items())}
    return Evaluation("ood", ("eval", "ood"), options, DATASETS[dataset].test * (1 + len(others)), lacks=lacks)


def autoattack(asked: Asked, sets: Sets, dataset: str) -> Evaluation:
    """`eval autoattack`, the standard one, L∞ 8/255."""
    facts, (images, lacks) = DATASETS[dataset], clean_images(asked, sets, dataset)
    limit = asked.attack or (_ATTACKED_DIGITS if dataset == DIGITS else None)
    options = {"data": (images,), "epsilon": ("8/255",), **({"limit": (str(limit),)} if limit else {})}
    attacked = min(limit or facts.test, facts.test)
    # APGD-CE's, APGD-T's and FAB-T's steps and Square's queries, for half of the images: the others fall at once.
    steps, queries = (100 + 900 + 900) * attacked / 2, 5000 * attacked / 2
    return Evaluation("autoattack", ("eval", "autoattack"), options, queries, steps, lacks, "pyautoattack")


def heatmap(asked: Asked, sets: Sets, dataset: str) -> Evaluation:
    """`analyze heatmap`."""
    found, lacks = clean_images(asked, sets, dataset)
    images, side = _HEATMAP.get(dataset, (1000, frequencies(dataset)))
    size = {"size": (str(side),)} if dataset in _HEATMAP else {}
    options = {"limit": (str(images),), **size, **({} if dataset == DIGITS else {"data": (found,)})}
    return Evaluation("heatmap", ("analyze", "heatmap"), options, (side * side + 1) / 2 * images, lacks=lacks)


def frequencies(dataset: str) -> int:
    """Frequencies a side of a heat map."""
    _, side = _HEATMAP.get(dataset, (0, min(_FREQUENCIES, DATASETS[dataset].size - 1)))
    return side


# ---- numbers ---------------------------------------------------------------------------------------------------------


def number(evaluation: str, *path: str) -> Measure:
    """The share under `path` of an evaluation's result, in percent."""

    def measure(results: Results) -> float | None:
        found: Any = results.get(evaluation)
        for name in path:
            found = None if found is None else found.get(name)
        return None if found is None else 100 * float(found)

    return measure


def mean_auroc(score: str, names: Sequence[str]) -> Measure:
    """The mean AUROC over all of the sets `names`; None unless all were there."""
    each = [number("ood", "scores", score, name, "auroc") for name in names]

    def measure(results: Results) -> float | None:
        found = [value for one in each if (value := one(results)) is not None]
        return sum(found) / len(found) if len(found) == len(names) else None

    return measure


def corruption_error(name: str | None) -> Measure:
    """A corruption error of ImageNet-C in percent of AlexNet's, of a generated set too; of None the mean, mCE."""

    def measure(results: Results) -> float | None:
        found = results.get("corruption", {})
        key = "mce" if name is None else "ce"
        value = found.get(key, found.get(f"generated_{key}"))
        value = value.get(name) if name is not None and value is not None else value
        return None if value is None else float(value)

    return measure


def heat_map(result: Mapping[str, Any]) -> HeatMap:
    """The heat map that heatmap.json has of its first network."""
    found = result["maps"][0]
    ky, kx = (np.array(found[name], np.int64) for name in ("ky", "kx"))
    error, loss = (np.array(found[name], np.float64) for name in ("error", "loss"))
    return HeatMap(ky, kx, error, loss, found["clean_error"], found["clean_loss"], found["epsilon"], result["images"])


def ring_error(ring: int) -> Measure:
    """The mean error under noise of the frequencies of one of RINGS rings, the lowest first."""

    def measure(results: Results) -> float | None:
        return 100 * heat_map(results["heatmap"]).radial(RINGS)[ring][2] if "heatmap" in results else None

    return measure


def heatmap_clean(results: Results) -> float | None:
    """The error without noise, of the images of the heat map."""
    return 100 * float(results["heatmap"]["maps"][0]["clean_error"]) if "heatmap" in results else None
