"""`apr-dali analyze gradcam`: where one or two networks look, on clean and on corrupted images."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr_dali.commands.analyses import common

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apr_dali.eval.analyses.gradcam import Looks, Target
    from apr_dali.eval.session import Session

_CORRUPTIONS = ("gaussian noise", "impulse noise", "blur", "contrast", "brightness", "pixelation", "jpeg", "fog")
_PROBES = 2  # images that the layer is looked for with
_SHOWN = 5  # images in the picture; the numbers are of all


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    common.add_subject(parser, limit=60)
    parser.add_argument(
        "--other", metavar="MODEL", help="a second network (default, without MODEL: one trained with APR-SP)"
    )
    parser.add_argument("--layer", metavar="NAME", help="of both (default: the last that gives a map)")
    parser.add_argument("--corruption", choices=_CORRUPTIONS, default=_CORRUPTIONS[0], help="(default: %(default)s)")
    parser.add_argument("--strength", type=int, choices=(1, 2, 3), default=2, help="(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Write gradcam.json and gradcam-maps.png."""
    from apr_dali.data.sampling import evenly
    from apr_dali.data.small_corruptions import SHOWN
    from apr_dali.eval.analyses import gradcam
    from apr_dali.runtime.text_table import table

    with common.open_subject(args) as session:
        samples = common.load_samples(session, args.data, args.limit)
        sessions = _sessions(args, session)
        corrupt, strengths = SHOWN[args.corruption]
        views = {"clean": samples.images, args.corruption: corrupt(samples.images, strengths[args.strength - 1])}
        layers = {name: _layer(one, samples.images, args.layer) for name, one in sessions.items()}
        seen = {
            view: {name: _looks(one, layers[name], images, samples.labels) for name, one in sessions.items()}
            for view, images in views.items()
        }
        share = "right" if samples.true else "same_answer"
        rows = {name: _numbers([found[name] for found in seen.values()], samples.labels, share) for name in sessions}
        result = {
            "images": samples.origin,
            "labels": samples.labels_of,
            "corruption": args.corruption,
            "strength": strengths[args.strength - 1],
            "networks": {
                name: {"network": one.network.name, "seen": one.network.seen, "layer": layers[name].name, **rows[name]}
                for name, one in sessions.items()
            },
        }
        shown = evenly(len(samples), _SHOWN)
        panels = [
            (view, views[view][shown], {name: looks.take(shown) for name, looks in found.items()})
            for view, found in seen.items()
        ]
        classes = session.network.classes
        note = "" if samples.true else f"no true labels: maps of {samples.labels_of}"
        picture = gradcam.gradcam_picture(panels, lambda n: common.in_words(classes[n]), samples.labels[shown], note)
        session.finish("gradcam", result, {"maps": picture})
        head = share.replace("_", " ")
        titles = ("network", "layer", f"{head}, clean", f"{head}, corrupted", "maps' agreement")
        cells = [
            (
                name,
                layers[name].name,
                *(f"{value:.0%}" for value in row[share]),
                f"{row['agreement'] or math.nan:.2f}",
            )
            for name, row in rows.items()
        ]
        print(table(titles, cells) + (f"\n{note}" if note else ""))
        print(f"written: {session.output / 'gradcam.json'}")


def _sessions(args: argparse.Namespace, session: Session) -> dict[str, Session]:
    """The networks by a short name."""
    from apr_dali.commands.analyses.small_network import SMALL, digits_network
    from apr_dali.errors import InputError
    from apr_dali.eval.datasets import listed

    if args.other is not None:
        other = common.other_network(session, args.other, args.classes)
        if other.network.classes != session.network.classes:
            raise InputError(
                f"{args.other} has other classes than {args.model or 'the network of digits'}, or another order: "
                f"expected {listed(session.network.classes)}, got {listed(other.network.classes)}"
            )
        names = [_short(one.network.name) for one in (session, other)]
        return {names[0]: session, names[1] if names[1] != names[0] else names[1] + " (2)": other}
    if args.model is not None:
        return {_short(session.network.name): session}
    options = replace(SMALL, seed=args.seed, aug="apr-sp")
    trained = digits_network(session.output / "apr-sp", session.group, options)
    return {"standard": session, "APR-SP": common.other_network(session, str(trained))}


def _short(name: str) -> str:
    """The run folder of a checkpoint, or the model's own name."""
    model, _, path = name.partition(" of ")
    return (Path(path).parent.name or Path(path).stem) if path else model.rpartition("/")[2]


def _layer(session: Session, images: NDArray[Any], name: str | None) -> Target:
    from apr_dali.eval.analyses.gradcam import target_layer

    return target_layer(session.model, _batch(session, images[:_PROBES]), name)


def _looks(session: Session, layer: Target, images: NDArray[Any], labels: NDArray[Any]) -> Looks:
    """In batches of the command line's size: gradients take memory."""
    from apr_dali.eval.analyses.gradcam import joined, looks

    size = session.feeding.batch_size
    return joined(
        looks(session.model, layer, _batch(session, images[start : start + size]), labels[start : start + size])
        for start in range(0, len(images), size)
    )


def _batch(session: Session, images: NDArray[Any]) -> Any:
    """uint8 (N, S, S, 3) as the network takes them."""
    import numpy as np

    with session.feeding.array("images", images, np.zeros(len(images), np.int64)).open() as batches:
        return next(iter(batches))[0].to(session.group.device)


def _numbers(views: list[Looks], labels: NDArray[Any], share: str) -> dict[str, Any]:
    """Of one network: the share that has its label, clean and corrupted, and how alike its maps are on the two.

    share: what that is called.
    """
    import numpy as np

    from apr_dali.eval.analyses.gradcam import agreement

    clean, corrupted = views
    alike = agreement(clean.maps, corrupted.maps)
    return {
        share: [float((view.answers == labels).mean()) for view in views],
        "confidence": [float(view.confidence.mean()) for view in views],
        # A map may be empty: no evidence for the class.
        "agreement": float(np.nanmean(alike)) if not np.isnan(alike).all() else None,
    }
