"""`apr-dali analyze heatmap`: how sensitive a network is to noise of each frequency."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from apr_dali.commands.analyses.common import Samples, add_subject, answers, load_samples, open_subject, other_network
from apr_dali.commands.arguments import positive
from apr_dali.errors import InputError

if TYPE_CHECKING:
    from apr_dali.eval.analyses.fourier import HeatMap
    from apr_dali.eval.session import Session
    from apr_dali.eval.state import State

# Published: the noise's norm a channel for images of 32 and of 224 pixels, and the frequencies shown.
_EPSILON = {"small": 4.0, "large": 15.7}
_SMALL = 64  # pixels a side up to which the former holds
_SIZE = 63
_RINGS = 4


def add(parser: argparse.ArgumentParser) -> None:
    add_subject(parser, limit=64)
    parser.add_argument(
        "--size",
        type=positive,
        metavar="N",
        help=f"frequencies a side (default: the greatest odd number that the images have, at most {_SIZE})",
    )
    parser.add_argument(
        "--epsilon",
        type=float,
        metavar="E",
        help="L2 norm of the noise a channel, images in 0..1 (default: 4.0 up to 64 pixels, 15.7 above, as published)",
    )
    parser.add_argument(
        "--compare", metavar="MODEL", help="a second network, shown beside the first, and the difference"
    )


def run(args: argparse.Namespace) -> None:
    from apr_dali.data.fingerprint import identity_of_arrays
    from apr_dali.eval.datasets import listed
    from apr_dali.eval.session import kept_text

    with open_subject(args) as session:
        other = other_network(session, args.compare, args.classes) if args.compare else None
        samples = load_samples(session, args.data, args.limit)
        if other is not None and other.network.classes != session.network.classes:
            raise InputError(
                "--compare needs a network of the same classes as the first, in their order: the labels are theirs; "
                f"expected {listed(session.network.classes)}, got {listed(other.network.classes)}"
            )
        side = session.network.image_size
        size = args.size or min(_SIZE, side - 1 + side % 2)
        epsilon = _EPSILON["small" if side <= _SMALL else "large"] if args.epsilon is None else args.epsilon
        networks = [session] if other is None else [session, other]
        asked = {"size": size, "epsilon": epsilon, "seed": args.seed}
        data = identity_of_arrays(samples.images, samples.labels)
        states = [one.state("heatmap", data=data, **asked) for one in networks]
        maps = [_heatmap(one, samples, **asked, state=state) for one, state in zip(networks, states, strict=True)]
        record = _write(session, networks, maps, samples, states)
        print(_text([one.network.name for one in networks], maps, samples) + kept_text(record))
        print(f"written: {session.output / 'heatmap.json'}, heatmap-maps.png")


def _heatmap(session: Session, samples: Samples, size: int, epsilon: float, seed: int, state: State) -> HeatMap:
    """The map of one network, of which `state` keeps finished parts."""
    import numpy as np
    import torch

    from apr_dali.eval.analyses.fourier import heatmap
    from apr_dali.eval.checks import not_finite

    # Raises if the logits are not finite, before thousands of passes and not after.
    answers(session, samples.images)
    images = torch.from_numpy(samples.images).permute(0, 3, 1, 2).contiguous() / 255
    found = heatmap(
        session.model,
        [(images, torch.from_numpy(samples.labels))],
        epsilon=epsilon,
        size=size,
        mean=session.network.mean,
        std=session.network.std,
        device=session.group.device,
        amp=session.amp,
        seed=seed,
        batch_size=session.feeding.batch_size,
        state=state,
    )
    if not np.isfinite(found.loss).all():
        raise not_finite(f"some of the {found.images} images under noise")
    return found


def _write(
    session: Session, networks: list[Session], maps: list[HeatMap], samples: Samples, states: list[State]
) -> dict[str, Any]:
    """Write the picture and the record, which is returned."""
    from apr_dali.eval.analyses.frequency_pictures import heatmap_picture

    result = {
        "data": samples.origin,
        "labels": samples.labels_of,
        "images": len(samples),
        "maps": [_record(one, found) for one, found in zip(networks, maps, strict=True)],
    }
    names = [one.network.name for one in networks]
    titles = names if len(set(names)) == len(names) else [f"{n + 1}: {name}" for n, name in enumerate(names)]
    note = "" if samples.true else f"no true labels: errors against {samples.labels_of}"
    picture = heatmap_picture(dict(zip(titles, maps, strict=True)), note)
    return session.finish("heatmap", result, {"maps": picture}, *states)


def _record(of: Session, found: HeatMap) -> dict[str, Any]:
    return {
        "network": of.network.name,
        "seen": of.network.seen,
        "fingerprint": of.network.fingerprint,
        "epsilon": found.epsilon,
        "clean_error": found.clean_error,
        "clean_loss": found.clean_loss,
        "ky": found.ky.tolist(),
        "kx": found.kx.tolist(),
        "error": found.error.tolist(),
        "loss": found.loss.tolist(),
    }


def _text(names: list[str], maps: list[HeatMap], samples: Samples) -> str:
    """The error by frequency, a column a network."""
    from apr_dali.runtime.text_table import table

    rows = [("none", *(f"{100 * found.clean_error:.1f}" for found in maps))]
    # Narrower rings than a cycle may hold no frequency.
    rings = max(1, min(_RINGS, len(maps[0].kx) // 2))
    for ring in zip(*(found.radial(rings) for found in maps), strict=True):
        rows.append((f"{ring[0][0]:g} to {ring[0][1]:g}", *(f"{100 * one[2]:.1f}" for one in ring)))
    heads = ["error, percent"] if len(maps) == 1 else ["first", "second"]
    lines = [f"{len(samples)} images: {samples.origin}; labels: {samples.labels_of}"]
    lines += [] if len(maps) == 1 else [f"{head}: {name}" for head, name in zip(heads, names, strict=True)]
    return "\n".join([*lines, table(("noise, cycles an image", *heads), rows)])
