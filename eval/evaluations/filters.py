"""The frequencies of a layer's filters: our reading of arXiv 1911.12044."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from apr_dali.eval.analyses import filters
from apr_dali.eval.analyses.samples import subject_of
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Subject

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Filters(Result):
    """The frequencies of the filters of one convolution.

    layer: its name. kernel: (height, width). channels: of each filter. padded_to: pixels of the transform. found: of
    each filter.
    """

    layer: str
    kernel: tuple[int, int]
    channels: int
    padded_to: int
    found: filters.FilterSpectra

    evaluation = "filters"

    def as_json(self) -> dict[str, Any]:
        found = self.found
        return {
            "note": filters.NOTE,
            "layer": self.layer,
            "filters": len(found.low),
            "kernel": list(self.kernel),
            "padded_to": self.padded_to,
            "cut": filters.CUT,
            "low_frequency": _number(found.proportion),
            "zero_filters": int(np.isnan(found.low).sum()),
            "shares": [_number(share) for share in found.low],
            "mean_frequency": [_number(mean) for mean in found.mean],
            "ring_edges": filters.ring_edges().tolist(),
            "rings": [[_number(value) for value in row] for row in found.rings],
        }

    def text(self) -> str:
        found, (height, width) = self.found, self.kernel
        low = (
            f"{found.proportion:.1%} are low-frequency: over half of their energy below {filters.CUT} cycles per pixel"
        )
        share, mean = np.nanmedian(found.low), np.nanmean(found.mean)
        return "\n".join(
            [
                f"{self.layer}: {len(found.low)} filters of {height}×{width}, {self.channels} channels",
                low,
                f"median share {share:.1%}, mean frequency {mean:.3f} cycles per pixel",
                filters.NOTE,
            ]
        )


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return None if math.isnan(value) else float(value)


def analyze_filters(model: Subject, *, layer: str | None = None, pad: int = 32, **options: Unpack[Options]) -> Filters:
    """Which frequencies the filters of a convolution let through.

    Args:
        model, options: as for `evaluate_clean`.
        layer: the convolution's name; None for the first.
        pad: filters are zero-padded to pad × pad.

    Raises:
        InputError: if there is no such layer, or its filters are larger than `pad`.
    """
    with subject_of(model, options) as session:
        name, convolution = filters.find_layer(session.model, layer)
        found = filters.filter_spectra(convolution.weight, pad)
        height, width = convolution.kernel_size
        title = f"{session.network.name.partition(' of ')[0]}, {name}"
        pictures = {
            "gallery": filters.gallery_picture(convolution.weight, found, title),
            "spectra": filters.spectra_picture(found, title),
        }
        result = Filters(name, (height, width), convolution.weight.shape[1], pad, found)
        return result.finished(session, pictures)
