"""The weights of SciPy's Gaussian filters, for the native operators."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def half(sigma: float, cut: float) -> NDArray[np.float64]:
    """From the middle on, up to `cut` standard deviations; they and their mirror images add up to 1."""
    reach = int(cut * sigma + 0.5)
    if reach == 0:
        return np.ones(1)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-reach, reach + 1) ** 2)
    return (weights / weights.sum())[reach:]
