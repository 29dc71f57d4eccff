"""`apr-dali analyze filters`: the frequencies of a layer's filters."""

from __future__ import annotations

import argparse
import math

from apr_dali.commands.analyses import common
from apr_dali.commands.arguments import add_network, positive


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser, optional=True)
    parser.add_argument("--layer", metavar="NAME", help="a convolution by its name (default: the first one)")
    parser.add_argument(
        "--pad", type=positive, default=32, metavar="N", help="zero-pad filters to N×N (default: %(default)s)"
    )
    parser.set_defaults(seed=0)


def run(args: argparse.Namespace) -> None:
    """Write filters.json, filters-gallery.png and filters-spectra.png."""
    import numpy as np

    from apr_dali.eval.analyses import filters

    with common.open_subject(args) as session:
        name, layer = filters.find_layer(session.model, args.layer)
        found = filters.filter_spectra(layer.weight, args.pad)
        height, width = layer.kernel_size
        kind = f"{len(found.low)} filters of {height}×{width}, {layer.weight.shape[1]} channels"
        title = f"{session.network.name.partition(' of ')[0]}, {name}"
        result = {
            "note": filters.NOTE,
            "layer": name,
            "filters": len(found.low),
            "kernel": [height, width],
            "padded_to": args.pad,
            "cut": filters.CUT,
            "low_frequency": _number(found.proportion),
            "zero_filters": int(np.isnan(found.low).sum()),
            "shares": [_number(share) for share in found.low],
            "mean_frequency": [_number(mean) for mean in found.mean],
            "ring_edges": filters.ring_edges().tolist(),
            "rings": [[_number(value) for value in row] for row in found.rings],
        }
        pictures = {
            "gallery": filters.gallery_picture(layer.weight, found, title),
            "spectra": filters.spectra_picture(found, title),
        }
        session.finish("filters", result, pictures)
        print(f"{name}: {kind}")
        print(f"{found.proportion:.1%} are low-frequency: over half of their energy below {filters.CUT} cycles a pixel")
        print(f"median share {np.nanmedian(found.low):.1%}, mean frequency {np.nanmean(found.mean):.3f} cycles a pixel")
        print(filters.NOTE)
        print(f"written: {session.output / 'filters.json'}")


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return None if math.isnan(value) else float(value)
