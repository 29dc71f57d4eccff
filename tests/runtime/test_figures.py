"""Figures as PNG, whatever their texts are."""

import warnings

import pytest

from apr_dali.runtime.figures import new_figure, png_of

MISSING = "\u732b\u72ac\U0001f431"
"""Two classes and a cat, which matplotlib's own font lacks."""


@pytest.mark.parametrize("name", [MISSING, r"$\frac$", f"${MISSING}$"])
def test_any_name_is_drawn_and_nothing_said(name):
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.set(title=name, yticks=[0], yticklabels=[name])
    axes.set_xlabel(name)
    axes.plot([0], [0], label=name)
    axes.legend()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert png_of(figure).startswith(b"\x89PNG")
        warnings.warn("Glyph 1 missing from a font of somebody else", UserWarning, stacklevel=1)
    # Not what Python says of other tests' garbage, which it may collect just now.
    told = [str(one.message) for one in said if issubclass(one.category, UserWarning)]
    assert told == ["Glyph 1 missing from a font of somebody else"]
