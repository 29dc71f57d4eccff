"""Figures of matplotlib that need no window system."""

from __future__ import annotations

from typing import Any


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches."""
    # A figure of its own, not pyplot's: no window system is asked, no state is left behind.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
