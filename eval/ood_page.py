"""What a page says of out-of-distribution detection: measures of each set, and the numbers that matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from apr_dali.eval.ood_sources import FAR, MEAN, NEAR
from apr_dali.eval.page import Section, Table, interval_text, percent, with_interval

METRICS = {
    "auroc": "AUROC",
    "aupr_in": "AUPR in",
    "aupr_out": "AUPR out",
    "fpr95": "FPR at 95 % TPR",
    "detection_accuracy": "detection accuracy",
    "oscr": "OSCR",
}
OPENOOD = {
    "auroc": "AUROC",
    "openood_aupr_in": "AUPR in",
    "openood_aupr_out": "AUPR out",
    "openood_fpr95": "FPR at 95 % TPR",
    "oscr": "OSCR",
}
"""What tables show of sets that are near or far: OpenOOD's measures."""


def columns_of(groups: Mapping[str, str]) -> dict[str, str]:
    """The measures that a table shows, with their titles."""
    return OPENOOD if groups else METRICS


def summary_of(name: str) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """What gives the numbers that matter, with their units, of the evaluation `name`."""

    def found(result: Mapping[str, Any]) -> dict[str, str]:
        scores = result["scores"]
        return {label: percent(scores[score][mean][key]) for label, score, mean, key in _labels(name, result)}

    return found


def bounds_of(name: str) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """What gives the intervals of numbers of `summary_of`, by the same names."""

    def found(result: Mapping[str, Any]) -> dict[str, str]:
        ends = result.get("intervals", {}).get("scores", {})  # earlier versions had those of AUROC elsewhere
        return {
            label: interval_text(ends[score][mean][key], 100)
            for label, score, mean, key in _labels(name, result)
            if score in ends
        }

    return found


def _labels(name: str, result: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """What each number that matters is called, and its score, mean and measure."""
    sets = f"{result['images']:,} images against {_counted(result['set_images'])}"
    means = [(mean, f"{mean} ", "auroc", "AUROC") for mean in (NEAR, FAR)]
    if not result.get("groups"):
        means = [(MEAN, "", key, title) for key, title in (("auroc", "AUROC"), ("aupr_out", "AUPR-out"))]
    for score, rows in result["scores"].items():
        for mean, what, key, title in means:
            if mean in rows:
                yield f"{name} {what}{title}, {score}, {sets}", score, mean, key


def section(result: Mapping[str, Any]) -> Section:
    """The part of the page."""
    groups = result.get("groups", {})
    columns = columns_of(groups)
    parameters = result.get("parameters", {})
    ends = result.get("intervals", {})
    tables = tuple(
        Table(
            (f"{score}{title}, percent", *columns.values()),
            tuple(
                (name, *(with_interval(f"{100 * row[key]:.2f}", of.get(name, {}).get(key), 100) for key in columns))
                for name, row in rows.items()
            ),
        )
        for title, place in (("", "scores"), (", full spectrum", "full_spectrum"))
        for score, rows in result.get(place, {}).items()
        for of in [ends.get(place, {}).get(score, {})]
    )
    notes = [f"{result['images']:,} in-distribution images, against {_counted(result['set_images'])} images."]
    notes += result["notes"]
    if groups:
        notes.append(
            "Measures are OpenOOD v1.5's: FPR is the share of in-distribution images taken for others where 95 % of "
            f"the others are found; {NEAR} and {FAR} are means over the near and the far sets."
        )
    else:
        notes.append(
            "In-distribution is the positive class. The APR paper names max-softmax, its released code takes max-logit."
        )
    if result.get("shifted"):
        notes.append(f"Full spectrum: the images of {', '.join(result['shifted'])} count as in-distribution, too.")
    if parameters:
        notes.append("Parameters: " + "; ".join(f"{score}: {text}" for score, text in parameters.items()) + ".")
    if fit := result.get("fit"):
        notes.append(f"Fitted to {fit['images']:,} images of {fit['data']}.")
    return Section("Out of distribution", tuple(notes), tables)


def _counted(images: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in images.items())


def section_of_openood(result: Mapping[str, Any]) -> Section:
    """The part of the page about OpenOOD's sets."""
    return replace(section(result), title="OpenOOD v1.5")


def section_of_imagenet_o(result: Mapping[str, Any]) -> Section:
    """The part of the page about ImageNet-O."""
    found = section(result)
    more = "Logits of ImageNet-O's 200 classes alone; in-distribution: the validation images of the same classes."
    return replace(found, title="ImageNet-O", notes=(*found.notes, more))
