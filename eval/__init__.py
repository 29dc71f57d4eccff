"""Evaluation of networks: whole benchmarks, single evaluations, and the measures that they are made of.

    from apr_dali.eval import benchmark, evaluate_corruption, ece

    results = benchmark(model, "/data", output="runs/mine")
    results["corruption"].mce

A model is a module, a checkpoint or a name. The names are imported on first use: a measure needs no more than NumPy,
torch and scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apr_dali.eval.autoattack import robust_accuracy as robust_accuracy
    from apr_dali.eval.calibration import aurra as aurra
    from apr_dali.eval.calibration import brier as brier
    from apr_dali.eval.calibration import classwise_ece as classwise_ece
    from apr_dali.eval.calibration import ece as ece
    from apr_dali.eval.calibration import fit_temperature as fit_temperature
    from apr_dali.eval.calibration import rms as rms
    from apr_dali.eval.clean import evaluate as evaluate
    from apr_dali.eval.comparison import compare as compare
    from apr_dali.eval.corruption import corruption_errors as corruption_errors
    from apr_dali.eval.corruption import mce as mce
    from apr_dali.eval.corruption import mean_error as mean_error
    from apr_dali.eval.corruption import relative_mce as relative_mce
    from apr_dali.eval.evaluations.autoattack import evaluate_autoattack as evaluate_autoattack
    from apr_dali.eval.evaluations.calibration import evaluate_calibration as evaluate_calibration
    from apr_dali.eval.evaluations.clean import evaluate_clean as evaluate_clean
    from apr_dali.eval.evaluations.corruption import evaluate_corruption as evaluate_corruption
    from apr_dali.eval.evaluations.corruption_on_the_fly import (
        evaluate_corruption_on_the_fly as evaluate_corruption_on_the_fly,
    )
    from apr_dali.eval.evaluations.distribution_shift import evaluate_shift as evaluate_shift
    from apr_dali.eval.evaluations.filters import analyze_filters as analyze_filters
    from apr_dali.eval.evaluations.gradcam import analyze_gradcam as analyze_gradcam
    from apr_dali.eval.evaluations.heatmap import analyze_heatmap as analyze_heatmap
    from apr_dali.eval.evaluations.ood import evaluate_ood as evaluate_ood
    from apr_dali.eval.evaluations.openood import evaluate_openood as evaluate_openood
    from apr_dali.eval.evaluations.swap import analyze_swap as analyze_swap
    from apr_dali.eval.evaluations.templates import analyze_templates as analyze_templates
    from apr_dali.eval.evaluations.tsne import analyze_tsne as analyze_tsne
    from apr_dali.eval.ood import auroc as auroc
    from apr_dali.eval.ood import energy as energy
    from apr_dali.eval.ood import fpr95 as fpr95
    from apr_dali.eval.ood import max_logit as max_logit
    from apr_dali.eval.ood import max_softmax as max_softmax
    from apr_dali.eval.ood import ood_metrics as ood_metrics
    from apr_dali.eval.ood import oscr as oscr
    from apr_dali.eval.session import open_session as open_session
    from apr_dali.eval.suite import benchmark as benchmark

_NAMES = {
    "suite": ("benchmark",),
    "evaluations.autoattack": ("evaluate_autoattack",),
    "evaluations.calibration": ("evaluate_calibration",),
    "evaluations.clean": ("evaluate_clean",),
    "evaluations.corruption": ("evaluate_corruption",),
    "evaluations.corruption_on_the_fly": ("evaluate_corruption_on_the_fly",),
    "evaluations.distribution_shift": ("evaluate_shift",),
    "evaluations.filters": ("analyze_filters",),
    "evaluations.gradcam": ("analyze_gradcam",),
    "evaluations.heatmap": ("analyze_heatmap",),
    "evaluations.swap": ("analyze_swap",),
    "evaluations.tsne": ("analyze_tsne",),
    "evaluations.templates": ("analyze_templates",),
    "evaluations.ood": ("evaluate_ood",),
    "evaluations.openood": ("evaluate_openood",),
    "session": ("open_session",),
    "comparison": ("compare",),
    "clean": ("evaluate",),
    "corruption": ("corruption_errors", "mce", "mean_error", "relative_mce"),
    "ood": ("auroc", "energy", "fpr95", "max_logit", "max_softmax", "ood_metrics", "oscr"),
    "calibration": ("aurra", "brier", "classwise_ece", "ece", "fit_temperature", "rms"),
    "autoattack": ("robust_accuracy",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [
    "analyze_filters",
    "analyze_gradcam",
    "analyze_heatmap",
    "analyze_swap",
    "analyze_templates",
    "analyze_tsne",
    "auroc",
    "aurra",
    "benchmark",
    "brier",
    "classwise_ece",
    "compare",
    "corruption_errors",
    "ece",
    "energy",
    "evaluate",
    "evaluate_autoattack",
    "evaluate_calibration",
    "evaluate_clean",
    "evaluate_corruption",
    "evaluate_corruption_on_the_fly",
    "evaluate_ood",
    "evaluate_openood",
    "evaluate_shift",
    "fit_temperature",
    "fpr95",
    "max_logit",
    "max_softmax",
    "mce",
    "mean_error",
    "ood_metrics",
    "open_session",
    "oscr",
    "relative_mce",
    "rms",
    "robust_accuracy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'apr_dali.eval' has no attribute {name!r}")
    return getattr(importlib.import_module(f"apr_dali.eval.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
