"""The amplitude of one image with the phase of another, and what a network calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from apr_dali.data.image_file import open_image
from apr_dali.data.sampling import evenly
from apr_dali.errors import InputError, check_choice
from apr_dali.eval.analyses.frequency_pictures import Panel, swap_picture
from apr_dali.eval.analyses.samples import Samples, as_seen, in_words, load_samples, subject_of
from apr_dali.eval.analyses.swap import Followed, follow, partners, probabilities
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject
from apr_dali.functional import recombine
from apr_dali.runtime.text_table import table
from apr_dali.spectral import AXES

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Swap(Result):
    """What a network follows in images with the phase of one and the amplitude of another.

    axes: what was transformed together. panels: of each pair that is shown, title, answer and probability of the two
    images and their two mixes. followed: by what was paired, for two sets both ways; empty for two single images.
    data, other_data: what the images are, in words. images: the files of a single pair.
    """

    axes: str
    panels: list[list[tuple[str, str, float]]]
    followed: dict[str, Followed]
    data: str | None = None
    other_data: str | None = None
    images: tuple[str, str] | None = None

    evaluation = "swap"

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {} if self.images is None else {"images": list(self.images)}
        if self.data is not None:
            found |= {"data": self.data, "pairs": next(iter(self.followed.values())).pairs}
        for ending, one in zip(("", "_other_way"), self.followed.values(), strict=False):
            found |= {f"followed{ending}": asdict(one), f"amplitude_share{ending}": one.amplitude_share}
        if self.other_data is not None:
            found["other_data"] = self.other_data
        return {**found, "panels": self.panels, "axes": self.axes}

    def text(self) -> str:
        if self.followed:
            return "\n".join(_text(found, way) for way, found in self.followed.items())
        (row,) = self.panels
        return "\n".join(f"{title}: {answer} ({share:.0%})".replace("\n", ", ") for title, answer, share in row)


def _text(found: Followed, origin: str) -> str:
    counts = {
        "phase": found.phase,
        "amplitude": found.amplitude,
        "both, having one answer": found.both,
        "neither": found.neither,
    }
    rows = [(name, str(count), f"{100 * count / found.pairs:.1f}") for name, count in counts.items()]
    return f"{found.pairs} pairs of {origin}\n{table(('followed', 'pairs', 'percent'), rows)}"


def analyze_swap(
    model: Subject,
    data: str | Path | None = None,
    *,
    limit: int = 1000,
    other_data: str | Path | None = None,
    images: Sequence[str | Path] | None = None,
    show: int = 3,
    axes: str = "chw",
    seed: int = 0,
    **options: Unpack[Options],
) -> Swap:
    """Whether a network follows the amplitude or the phase of images.

    Args:
        model, data, limit, options: as for `analyze_heatmap`.
        other_data: a second set, whose images are paired with those of the first.
        images: two image files of one size, in place of sets.
        show: random pairs in the picture.
        axes: what is transformed together, see `apr_dali.recombine`.
        seed: of the pairs.

    Raises:
        InputError: for images or a network that do not fit.
    """
    check_choice("axes", axes, AXES)
    given = open_pair(images, other_data)
    with subject_of(model, options) as session:
        if given is None or images is None:
            rows, result = _of_set(session, data, other_data, limit, show, axes, seed)
        else:
            paths = str(images[0]), str(images[1])
            rows = [_panels(session, _sized(session, given), list(paths), axes)]
            result = Swap(axes, _told(rows), {}, images=paths)
        return result.finished(session, {"panels": swap_picture(rows)})


def _told(rows: Sequence[Sequence[Panel]]) -> list[list[tuple[str, str, float]]]:
    return [[(panel.title, panel.answer, panel.share) for panel in row] for row in rows]


def _of_set(
    session: Session,
    data: str | Path | None,
    other_data: str | Path | None,
    limit: int,
    show: int,
    axes: str,
    seed: int,
) -> tuple[list[list[Panel]], Swap]:
    """Panels of the first pairs, and the result, of the images of a set, or of two."""
    first = second = load_samples(session, None if data is None else str(data), limit)
    if other_data is None:
        pairs = _within(len(first), seed)
    else:
        second = load_samples(session, str(other_data), limit)
        pairs = _across(len(first), len(second), seed)
    named = [(in_words(first.names[a]), in_words(second.names[b])) for a, b in pairs]
    # Two images of one name show little: those come last.
    order = sorted(range(len(pairs)), key=lambda n: named[n][0] == named[n][1])[:show]
    rows = [
        _panels(session, [first.images[pairs[n, 0]], second.images[pairs[n, 1]]], list(named[n]), axes) for n in order
    ]
    ways = _followed(session, first, second, pairs, axes)
    return rows, Swap(axes, _told(rows), ways, first.origin, second.origin if second is not first else None)


def _followed(
    session: Session, first: Samples, second: Samples, pairs: NDArray[np.int64], axes: str
) -> dict[str, Followed]:
    """What is followed, by what is paired; for two sets the other way round, too."""
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
    return np.stack([np.arange(count), partners(count, seed)], 1)


def _across(first: int, second: int, seed: int) -> NDArray[np.int64]:
    """Pairs of an image of each of two sets, as many as the smaller has, evenly taken and at random: (N, 2)."""
    count = min(first, second)
    return np.stack([evenly(first, count), np.random.default_rng(seed).permutation(evenly(second, count))], 1)


def _planes(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W) in 0..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255


def _panels(session: Session, pair: list[NDArray[np.uint8]], names: list[str], axes: str) -> list[Panel]:
    """Two images and their two mixes, each with what the network calls it."""
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


def open_pair(images: Sequence[str | Path] | None, other_data: str | Path | None) -> list[NDArray[np.uint8]] | None:
    """Two image files of one size, uint8 (H, W, 3), if they are given; InputError beside a second set."""
    if images is None:
        return None
    if other_data is not None:
        raise InputError("--other-data changes nothing with --images: leave one of them out")
    return _open_two([str(path) for path in images])


def _open_two(paths: list[str]) -> list[NDArray[np.uint8]]:
    """Two image files of one size, uint8 (H, W, 3)."""
    images = [np.asarray(open_image(path)) for path in paths]
    if images[0].shape != images[1].shape:
        sizes = " and ".join(f"{image.shape[1]}×{image.shape[0]}" for image in images)
        raise InputError(f"a swap needs two images of one size, whose frequencies correspond, got {sizes} pixels")
    return images


def _sized(session: Session, images: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Two images as the network takes them; those of its size are not scaled."""
    size = session.network.image_size
    return [image if image.shape[:2] == (size, size) else as_seen(session, Image.fromarray(image)) for image in images]
