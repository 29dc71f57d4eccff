"""`apr-dali analyze swap`: the amplitude of one image with the phase of another, and what a network calls it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from apr_dali.commands.analyses.common import add_subject, as_seen, in_words, load_samples, open_subject
from apr_dali.commands.arguments import positive
from apr_dali.errors import InputError
from apr_dali.spectral import AXES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from apr_dali.commands.analyses.common import Samples
    from apr_dali.eval.analyses.frequency_pictures import Panel
    from apr_dali.eval.analyses.swap import Followed
    from apr_dali.eval.session import Session


def add(parser: argparse.ArgumentParser) -> None:
    add_subject(parser, limit=1000)
    parser.add_argument(
        "--other-data",
        metavar="DIR",
        help="a second set, whose images are paired with those of the first, as in the paper's Fig. 3",
    )
    parser.add_argument("--images", nargs=2, metavar=("A", "B"), help="show these two image files, of one size")
    parser.add_argument(
        "--show", type=positive, default=3, metavar="N", help="random pairs in the picture (default: %(default)s)"
    )
    parser.add_argument("--axes", choices=AXES, default="chw", help="what is transformed together (%(default)s)")


def run(args: argparse.Namespace) -> None:
    from apr_dali.eval.analyses.frequency_pictures import swap_picture

    if args.images and args.other_data:
        raise InputError("--other-data changes nothing with --images: leave one of them out")
    given = _open_two(args.images) if args.images else None
    with open_subject(args) as session:
        if given is None:
            rows, result, text = _of_set(session, args)
        else:
            rows = [_panels(session, _sized(session, given), args.images, args.axes)]
            result = {"images": args.images}
            text = "\n".join(
                f"{panel.title}: {panel.answer} ({panel.share:.0%})".replace("\n", ", ") for panel in rows[0]
            )
        result["panels"] = [[(panel.title, panel.answer, panel.share) for panel in row] for row in rows]
        session.finish("swap", {**result, "axes": args.axes}, {"panels": swap_picture(rows)})
        print(f"{text}\nwritten: {session.output / 'swap.json'}, swap-panels.png")


def _of_set(session: Session, args: argparse.Namespace) -> tuple[list[list[Panel]], dict[str, Any], str]:
    """Panels of the first pairs, the record and the text of the images of a set, or of two."""
    first = second = load_samples(session, args.data, args.limit)
    if args.other_data is None:
        pairs = _within(len(first), args.seed)
    else:
        second = load_samples(session, args.other_data, args.limit)
        pairs = _across(len(first), len(second), args.seed)
    ways = _followed(session, first, second, pairs, args.axes)
    named = [(in_words(first.names[a]), in_words(second.names[b])) for a, b in pairs]
    # Two images of one name show little: those come last.
    order = sorted(range(len(pairs)), key=lambda n: named[n][0] == named[n][1])[: args.show]
    rows = [
        _panels(session, [first.images[pairs[n, 0]], second.images[pairs[n, 1]]], list(named[n]), args.axes)
        for n in order
    ]
    result: dict[str, Any] = {"data": first.origin, "pairs": len(pairs)}
    for ending, found in zip(("", "_other_way"), ways.values(), strict=False):
        result |= {f"followed{ending}": asdict(found), f"amplitude_share{ending}": found.amplitude_share}
    if second is not first:
        result["other_data"] = second.origin
    return rows, result, "\n".join(_text(found, way) for way, found in ways.items())


def _followed(
    session: Session, first: Samples, second: Samples, pairs: NDArray[np.int64], axes: str
) -> dict[str, Followed]:
    """What is followed, by what is paired; for two sets the other way round, too."""
    from apr_dali.eval.analyses.swap import follow

    mixed = partial(
        follow,
        session.model,
        mean=session.network.mean,
        std=session.network.std,
        device=session.group.device,
        amp=session.amp,
        axes=axes,
        batch_size=session.feeding.batch_size,
    )
    one, two = _planes(first.images[pairs[:, 0]]), _planes(second.images[pairs[:, 1]])
    if second is first:
        return {first.origin: mixed(one, two)}
    return {
        f"the phase of {first.origin} with the amplitude of {second.origin}": mixed(one, two),
        f"the phase of {second.origin} with the amplitude of {first.origin}": mixed(two, one),
    }


def _within(count: int, seed: int) -> NDArray[np.int64]:
    """Pairs of an image with another one of the set, each once on either side: (N, 2)."""
    import numpy as np

    from apr_dali.eval.analyses.swap import partners

    return np.stack([np.arange(count), partners(count, seed)], 1)


def _across(first: int, second: int, seed: int) -> NDArray[np.int64]:
    """Pairs of an image of each of two sets, as many as the smaller has, evenly taken and at random: (N, 2)."""
    import numpy as np

    from apr_dali.data.sampling import evenly

    count = min(first, second)
    return np.stack([evenly(first, count), np.random.default_rng(seed).permutation(evenly(second, count))], 1)


def _planes(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W) in 0..1."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255


def _text(found: Followed, origin: str) -> str:
    from apr_dali.runtime.text_table import table

    rows = [
        (name, str(count), f"{100 * count / found.pairs:.1f}")
        for name, count in (
            ("phase", found.phase),
            ("amplitude", found.amplitude),
            ("both, having one answer", found.both),
            ("neither", found.neither),
        )
    ]
    return f"{found.pairs} pairs of {origin}\n{table(('followed', 'pairs', 'percent'), rows)}"


def _panels(session: Session, pair: list[NDArray[np.uint8]], names: list[str], axes: str) -> list[Panel]:
    """Two images and their two mixes, each with what the network calls it."""
    import numpy as np
    import torch

    from apr_dali.eval.analyses.frequency_pictures import Panel
    from apr_dali.eval.analyses.swap import probabilities
    from apr_dali.functional import recombine

    network = session.network
    plain = _planes(np.stack(pair))
    images = torch.cat([plain, recombine(plain, plain.flip(0), axes=axes)])
    found = probabilities(session.model, images, network.mean, network.std, session.group.device, session.amp).cpu()
    best = found.max(1)
    a, b = names
    titles = (a, b, f"phase of {a}\namplitude of {b}", f"phase of {b}\namplitude of {a}")
    shown = images.permute(0, 2, 3, 1).clamp(0, 1).numpy()
    return [
        Panel(title, image, in_words(network.classes[index]), share)
        for title, image, index, share in zip(titles, shown, best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _open_two(paths: list[str]) -> list[NDArray[np.uint8]]:
    """Two image files of one size, uint8 (H, W, 3)."""
    import numpy as np

    from apr_dali.data.image_file import open_image

    images = [np.asarray(open_image(path)) for path in paths]
    if images[0].shape != images[1].shape:
        sizes = " and ".join(f"{image.shape[1]}×{image.shape[0]}" for image in images)
        raise InputError(f"a swap needs two images of one size, whose frequencies correspond, got {sizes} pixels")
    return images


def _sized(session: Session, images: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Two images as the network takes them; those of its size are not scaled."""
    from PIL import Image

    size = session.network.image_size
    return [image if image.shape[:2] == (size, size) else as_seen(session, Image.fromarray(image)) for image in images]
