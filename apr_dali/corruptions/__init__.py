"""The corruptions of ImageNet-C and C-bar as pure functions of (image, draws): the definition of truth.

The 15 corruptions and the 4 extra ones of Hendrycks and Dietterich's "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019), in NumPy and SciPy, float64 where the reference has it. What the reference
takes from OpenCV and ImageMagick is expressed anew. With the reference's draws the result is the reference's.
Beside them the 10 of ImageNet-C-bar and the 10 of CIFAR-10-C-bar: `c_bar`.
"""

from __future__ import annotations

from apr_dali.corruptions.draws import CorruptionDraws
from apr_dali.corruptions.registry import (
    BENCHMARKS,
    C_BAR,
    CIFAR_C_BAR,
    CORRUPTIONS,
    EXTRA,
    NAMES,
    corruptions_of,
    find,
    names_in,
    set_for,
)

__all__ = [
    "BENCHMARKS",
    "CIFAR_C_BAR",
    "CORRUPTIONS",
    "C_BAR",
    "EXTRA",
    "NAMES",
    "CorruptionDraws",
    "corruptions_of",
    "find",
    "names_in",
    "set_for",
]
