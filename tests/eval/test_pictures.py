"""What pictures of evaluations and analyses say: their scales, their titles, and that these fit."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.textpath import TextPath
from skimage.color import rgb2lab

from apr_dali.bands import BANDS, BandFilter, banded
from apr_dali.eval import pictures
from apr_dali.eval.analyses import frequency_pictures
from apr_dali.eval.analyses.fourier import HeatMap
from apr_dali.eval.analyses.frequency_pictures import (
    Panel,
    heatmap_picture,
    labels_picture,
    swap_picture,
    through_filters,
)
from apr_dali.eval.pictures import corruption_picture, fitted, score_picture
from apr_dali.runtime.figures import png_of

PATH = "/data/sets/imagenet/val/n01440764/ILSVRC2012_val_00000293.JPEG"


@pytest.fixture
def figures(monkeypatch):
    """The figures themselves in place of their PNG."""
    for module in (pictures, frequency_pictures):
        monkeypatch.setattr(module, "png_of", lambda figure: figure)


def test_great_errors_have_colors_of_their_own():
    colors = colormaps[pictures.ERRORS](np.linspace(0, 1, 11))[:, :3]
    lightness = rgb2lab(colors[None])[0, :, 0]
    assert np.diff(lightness).max() < -4, "ten points more are visibly darker, from 0 to 100"


@pytest.mark.parametrize(("inches", "points"), [(2.6, 8), (1.65, 7), (3.6, 8)])
@pytest.mark.parametrize("text", [PATH, "phase of American Staffordshire terrier\namplitude of " + PATH, "cat"])
def test_titles_fit_and_are_whole(text, inches, points):
    lines = fitted(text, inches, points).split("\n")
    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        # A letter is as long as a line of capitals would allow, at most.
        assert TextPath((0, 0), line, size=points).get_extents().width <= 1.1 * 72 * inches, line


@pytest.mark.usefixtures("figures")
def test_the_mixes_of_a_swap_say_what_they_are():
    image = np.zeros((4, 4, 3))
    named = Panel(f"phase of {PATH}\namplitude of {PATH}", image, "American Staffordshire terrier", 0.5)
    (axes,) = swap_picture([[named]]).axes
    message = " ".join(axes.get_title().split())
    assert message.startswith("phase of ")
    assert " amplitude of " in message
    assert axes.get_xlabel().replace("\n", " ") == "→ American Staffordshire terrier (50%)"


def heat_map(error: float, loss: float) -> HeatMap:
    k = np.arange(-1, 2)
    values = np.full((3, 3), error), np.full((3, 3), loss)
    return HeatMap(k, k, *values, clean_error=0.0, clean_loss=0.0, epsilon=4.0, images=1234)


@pytest.mark.usefixtures("figures")
def test_heat_maps_have_one_scale_and_say_what_they_are_of():
    for maps in ({"a": heat_map(0.1, 0.2)}, {"a": heat_map(0.1, 0.2), "b": heat_map(0.9, 8.0)}):
        figure = heatmap_picture(maps)
        assert figure.get_suptitle() == "noise of L2 norm ε = 4 per channel, 1,234 images"
        note = heatmap_picture(maps, "no true labels: errors against the answers").get_suptitle()
        assert note.splitlines()[0] == figure.get_suptitle()
        assert " ".join(note.splitlines()[1:]) == "no true labels: errors against the answers"
        limits = [axes.images[0].get_clim() for axes in figure.axes if axes.images]
        shown = [(0, 100), (0, 7)] if len(maps) == 1 else [(0, 100), (0, 100), (-50, 50), (0, 7), (0, 7), (-3.5, 3.5)]
        assert limits == shown
    bars = [axes.images[0].colorbar.extend for axes in figure.axes if axes.images]
    assert bars == ["neither", "neither", "max", "neither", "max", "max"], "an arrow where something lies beyond"


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("severities", [3, 5])
def test_the_title_of_a_corruption_picture_is_not_cut(severities):
    name = "corrupted digits (made here, no published set), 355 images per cell"
    figure = corruption_picture({"fog": [0.5] * severities}, name, range(1, severities + 1))
    figure.draw_without_rendering()
    left, right = figure._suptitle.get_window_extent().intervalx
    assert 0 <= left < right <= figure.bbox.width
    assert figure.get_suptitle().replace("\n", " ") == f"{name}: error in percent"
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["severity 1", *map(str, range(2, severities + 1)), "mean"]


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("sets", [0, 1, 12])
def test_every_set_has_its_curve(sets):
    auroc = {"max-softmax": {f"set {n}": 0.5 + n / 100 for n in range(sets)}} if sets else {}
    row = {"clean_error": 0.1, "corrupted_error": 0.3 if sets else None, "auroc": auroc}
    figure = labels_picture([{"weight": 0.0, **row}, {"weight": 1.0, **row}], "title", "corrupted")
    shown = [[line.get_ydata() for line in axes.lines] for axes in figure.axes]
    assert np.allclose(shown[0], [[90, 90], [70, 70]][: 1 + bool(sets)])
    assert len(shown) == 1 + bool(sets)
    if sets:
        assert np.allclose(shown[1], [[50 + n, 50 + n] for n in range(sets)])
        assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == list(auroc["max-softmax"])


@pytest.mark.usefixtures("figures")
def test_probabilities_near_one_are_told_apart():
    inside, outside = np.array([0.9, 0.999999]), np.array([0.5, 1.0])
    (axes,) = score_picture(inside, {"other": outside}, "max-softmax").axes
    assert axes.get_xlabel() == "max-softmax p, as log₁₀ p / (1 − p)"
    heights = np.array([patch.get_height() for patch in axes.patches]).reshape(2, -1)
    edges = [patch.get_x() for patch in axes.patches[: heights.shape[1]]]
    assert np.count_nonzero(heights[0]) == 2
    assert heights.sum(1) == pytest.approx([1, 1])
    assert edges[0] == pytest.approx(0)
    (axes,) = score_picture(10 * inside, {"other": outside}, "max-logit").axes
    assert axes.get_xlabel() == "max-logit"


def test_a_photograph_through_filters():
    photograph = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    filters = [BandFilter(amplitude, phase) for amplitude in BANDS for phase in BANDS]
    seen = through_filters(photograph, filters)
    assert seen.shape == (4, 4, 8, 12, 3)
    for row, column, channel in ((0, 0, 0), (1, 3, 2), (3, 1, 1)):
        (expected,) = banded(photograph[None, ..., channel] / 255, BandFilter(BANDS[row], BANDS[column]))
        np.testing.assert_allclose(seen[row, column, ..., channel], expected, atol=1e-12)
    np.testing.assert_allclose(seen[0, 0], photograph / 255, atol=1e-12)


@pytest.mark.usefixtures("figures")
def test_names_of_sets_are_no_formulas_and_all_in_the_legend():
    values = np.linspace(-1, 2, 20)
    figure = score_picture(values, {"_hidden": values, r"$\frac$": values}, "energy")
    shown = [text.get_text().strip() for axes in figure.axes for text in axes.get_legend().get_texts()]
    assert shown == ["in-distribution", "_hidden", "in-distribution", r"$\frac$"]
    assert png_of(figure).startswith(b"\x89PNG")
