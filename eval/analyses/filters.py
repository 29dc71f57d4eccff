"""Which frequencies the filters of a convolution let through: shares, radial spectra, a picture of all filters.

Our reading of "Exploring Frequency Domain Interpretation of Convolutional Neural Networks" (arXiv 1911.12044). Its full
text was not available to us, and its authors call its main conclusion ambiguous: none of this reproduces it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from apr_dali.errors import InputError
from apr_dali.models.filter_bands import CUT, SIZE, first_convolution, radial_frequency
from apr_dali.runtime.figures import new_figure, png_of

NOTE = (
    "Our reading of arXiv 1911.12044, whose full text was not available to us and whose authors call its main "
    "conclusion ambiguous."
)
RINGS = 16
_SHOWN = 64  # filters in a picture
_NAMED = 12  # layers in an error


@dataclass(frozen=True, eq=False)
class FilterSpectra:
    """The frequencies of N filters.

    low: float (N,), share of each filter's energy at radial frequencies below CUT, 0..1; nan for a filter of zeros.
    mean: float (N,), mean radial frequency by energy, cycles per pixel; nan likewise.
    rings: float (N, RINGS), mean power of a bin in each ring, in units of the filter's mean; nan likewise, and in a
        ring without bins.
    """

    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    rings: NDArray[np.float64]

    @property
    def proportion(self) -> float:
        """The proportion of low-frequency filters, those with a share over one half, among all that are not zero."""
        alive = self.low[~np.isnan(self.low)]
        return float((alive > 0.5).mean()) if len(alive) else float("nan")


def ring_edges(rings: int = RINGS) -> NDArray[np.float64]:
    """The borders of rings of one width from 0 to √½ cycles per pixel, the corner of the spectrum: (rings + 1,)."""
    return np.linspace(0, np.sqrt(0.5), rings + 1)


def power(weight: Tensor, size: int = SIZE) -> NDArray[np.float64]:
    """P(ω) = Σ_channels |DFT|² of filters (N, C, h, w), zero-padded to size×size: (N, size, size), ω = 0 first.

    Raises:
        InputError: if the filters are larger than that.
    """
    taps = weight.detach().cpu().double().numpy()
    if max(taps.shape[-2:]) > size:
        raise InputError(f"--pad must be at least {max(taps.shape[-2:])}, the size of the filters, got {size}")
    return (np.abs(np.fft.fft2(taps, s=(size, size))) ** 2).sum(1)


def filter_spectra(weight: Tensor, size: int = SIZE) -> FilterSpectra:
    """The frequencies of filters (N, C, h, w), zero-padded to size×size."""
    powers, radius = power(weight, size), radial_frequency(size)
    ring = np.minimum(np.digitize(radius, ring_edges()) - 1, RINGS - 1)
    with np.errstate(invalid="ignore"):
        shares = powers / powers.sum((1, 2), keepdims=True)
        # A small DFT has no bin in some rings.
        bins = [shares[:, ring == n].mean(1) if n in ring else np.full(len(shares), np.nan) for n in range(RINGS)]
    return FilterSpectra(
        shares[:, radius < CUT].sum(1), (shares * radius).sum((1, 2)), np.stack(bins, axis=1) * size * size
    )


def find_layer(model: nn.Module, name: str | None = None) -> tuple[str, nn.Conv2d]:
    """The convolution of that name, or the first one that the model defines, with its name.

    Raises:
        InputError: if the model has no convolution, or none of that name; the error lists the nearest names.
    """
    first = first_convolution(model)
    if name is None:
        return first
    layers = {found: layer for found, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    if name not in layers:
        listed = list(layers)
        if len(listed) > _NAMED:
            near = difflib.get_close_matches(name, listed, n=_NAMED, cutoff=0.0)
            raise InputError(f"no convolution {name!r}; {len(listed)} there are, the nearest: {', '.join(near)}")
        raise InputError(f"no convolution {name!r}; there are {', '.join(listed)}")
    return name, layers[name]


# ---- pictures --------------------------------------------------------------------------------------------------------


def gallery_picture(weight: Tensor, found: FilterSpectra, title: str) -> bytes:
    """The filters from low to high by their share, at most 64, evenly taken: their taps and the share in percent.

    Filters of three channels as colors, others as their first principal channel.
    """
    order = np.argsort(-np.nan_to_num(found.low, nan=-1), kind="stable")
    order = order[np.linspace(0, len(order) - 1, min(_SHOWN, len(order))).astype(int)]
    columns = min(8, len(order))
    lines = -(-len(order) // columns)
    figure = new_figure(0.85 * columns + 0.2, 1.02 * lines + 0.5)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    taps = weight.detach().cpu().double().numpy()
    for axes in grid:
        axes.axis("off")
    for axes, n in zip(grid, order, strict=False):
        axes.imshow(_shown(taps[n]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        share = found.low[n]
        axes.set_title("zero" if np.isnan(share) else f"{100 * share:.0f} %", fontsize=8, pad=2)
    figure.suptitle(f"{title}: share of energy below ¼ cycle per pixel", fontsize=9)
    return png_of(figure)


def _shown(taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """A filter (C, h, w) in 0..1, zero in the middle: (h, w, 3) of three channels, else (h, w)."""
    if len(taps) == 3:
        shown = np.moveaxis(taps, 0, -1)
    else:
        # The mixture of channels that has most of its energy.
        values, mixtures = np.linalg.svd(taps.reshape(len(taps), -1), full_matrices=False)[1:]
        shown = (values[0] * mixtures[0]).reshape(taps.shape[1:])
    largest = np.abs(shown).max()
    return 0.5 + 0.5 * shown / (largest or 1.0)


def spectra_picture(found: FilterSpectra, title: str) -> bytes:
    """Left, power over radial frequency, one line per filter and their median; right, the shares below CUT, sorted."""
    figure = new_figure(9, 3.6)
    spectrum, shares = figure.subplots(1, 2)
    used = ~np.isnan(found.rings).all(0)
    centers, lines = ((ring_edges()[1:] + ring_edges()[:-1]) / 2)[used], found.rings[:, used]
    colors = {True: "#0072b2", False: "#d55e00"}
    for low, rings in zip(found.low, lines, strict=True):
        spectrum.plot(centers, rings, color=colors[bool(low > 0.5)], alpha=0.25, linewidth=0.8)
    for low, label in ((True, "low-frequency"), (False, "others")):
        spectrum.plot([], color=colors[low], label=label)
    spectrum.plot(centers, np.nanmedian(lines, axis=0), color="black", linewidth=2, label="median")
    spectrum.axvline(CUT, color="black", linestyle=":", linewidth=1)
    spectrum.set(yscale="log", xlabel="radial frequency (cycles per pixel)", ylabel="power (filter's mean = 1)")
    spectrum.set_ylim(bottom=1e-3)
    spectrum.legend(fontsize=8)
    alive = np.sort(found.low[~np.isnan(found.low)])[::-1]
    shares.bar(np.arange(len(alive)), 100 * alive, 1.0, color=[colors[bool(share > 0.5)] for share in alive])
    shares.axhline(50, color="black", linestyle=":", linewidth=1)
    low = f"{100 * found.proportion:.0f} % are low-frequency"
    shares.set(xlabel="filter, sorted", ylabel="energy below ¼ cycle per pixel (%)", ylim=(0, 100), title=low)
    spectrum.set_title(title)
    return png_of(figure)
