"""Figures of matplotlib that need no window system."""

from __future__ import annotations

import io
import warnings
from typing import Any


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches."""
    # A figure of its own, not pyplot's: no window system is asked, no state is left behind.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png_of(figure: Any, dpi: int = 120) -> bytes:
    """The figure as PNG, whatever its texts are: names of sets, runs and classes are anybody's.

    Dollars are no formula, and a letter that the font lacks is a box.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if "$" in text.get_text():
            text.set_parse_math(False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
