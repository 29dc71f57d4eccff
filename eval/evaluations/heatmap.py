"""How sensitive a network is to noise of each frequency, and a second network beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from apr_dali.data.fingerprint import identity_of_arrays
from apr_dali.eval.analyses.fourier import HeatMap, heatmap
from apr_dali.eval.analyses.frequency_pictures import heatmap_picture
from apr_dali.eval.analyses.samples import Samples, answers, beside, load_samples, subject_of
from apr_dali.eval.checks import not_finite
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject
from apr_dali.eval.state import State
from apr_dali.runtime.text_table import table

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Published: the noise's norm per channel for images of 32 and of 224 pixels, and the frequencies shown.
_EPSILON = {"small": 4.0, "large": 15.7}
_SMALL = 64  # pixels per side up to which the former holds
SIZE = 63
_RINGS = 4


@dataclass(frozen=True)
class Heatmaps(Result):
    """The heat maps of one network or two, on the same images.

    data, labels: what the images are and where their labels come from, in words. images: how many. maps: of each
    network. networks: their names, how they see images, and their fingerprints.
    """

    data: str
    labels: str
    images: int
    maps: tuple[HeatMap, ...]
    networks: tuple[dict[str, str], ...]

    evaluation = "heatmap"

    def as_json(self) -> dict[str, Any]:
        maps = [{**network, **_json(found)} for network, found in zip(self.networks, self.maps, strict=True)]
        return {"data": self.data, "labels": self.labels, "images": self.images, "maps": maps}

    def text(self) -> str:
        """The error by frequency, one column per network."""
        rows = [("none", *(f"{100 * found.clean_error:.1f}" for found in self.maps))]
        # Narrower rings than a cycle may hold no frequency.
        rings = max(1, min(_RINGS, len(self.maps[0].kx) // 2))
        for ring in zip(*(found.radial(rings) for found in self.maps), strict=True):
            rows.append((f"{ring[0][0]:g} to {ring[0][1]:g}", *(f"{100 * one[2]:.1f}" for one in ring)))
        heads = ["error, percent"] if len(self.maps) == 1 else ["first", "second"]
        lines = [f"{self.images} images: {self.data}; labels: {self.labels}"]
        if len(self.maps) > 1:
            lines += [f"{head}: {of['network']}" for head, of in zip(heads, self.networks, strict=True)]
        return "\n".join([*lines, table(("noise, cycles per image", *heads), rows)])


def _json(found: HeatMap) -> dict[str, Any]:
    return {
        "epsilon": found.epsilon,
        "clean_error": found.clean_error,
        "clean_loss": found.clean_loss,
        "ky": found.ky.tolist(),
        "kx": found.kx.tolist(),
        "error": found.error.tolist(),
        "loss": found.loss.tolist(),
    }


def analyze_heatmap(
    model: Subject,
    data: str | Path | None = None,
    *,
    limit: int = 64,
    size: int | None = None,
    epsilon: float | None = None,
    compare: Subject | None = None,
    seed: int = 0,
    **options: Unpack[Options],
) -> Heatmaps:
    """Error and loss under noise of each frequency.

    Args:
        model, options: as for `evaluate_clean`.
        data: folder of class folders; None for the digits of a network of digits, else the built-in photographs.
        limit: images, evenly taken.
        size: frequencies per side; None for the greatest odd number that the images have, at most SIZE.
        epsilon: L2 norm of the noise per channel, images in 0..1; None for 4.0 up to 64 pixels, else 15.7 (published).
        compare: a second network of the same classes.
        seed: of the noise's signs.

    Raises:
        InputError: for images or a network that do not fit.
    """
    with subject_of(model, options) as session, beside(session, compare, options.get("classes")) as networks:
        samples = load_samples(session, None if data is None else str(data), limit)
        side = session.network.image_size
        asked: dict[str, Any] = {
            "size": size or min(SIZE, side - 1 + side % 2),
            "epsilon": _EPSILON["small" if side <= _SMALL else "large"] if epsilon is None else epsilon,
            "seed": seed,
        }
        identity = identity_of_arrays(samples.images, samples.labels)
        states = [one.state("heatmap", data=identity, **asked) for one in networks]
        maps = [_heatmap(one, samples, **asked, state=state) for one, state in zip(networks, states, strict=True)]
        about = tuple({key: getattr(one.network, of) for key, of in _ABOUT.items()} for one in networks)
        result = Heatmaps(samples.origin, samples.labels_of, len(samples), tuple(maps), about)
        return result.finished(session, {"maps": _picture(result, samples)}, *states)


_ABOUT = {"network": "name", "seen": "seen", "fingerprint": "fingerprint"}


def _heatmap(session: Session, samples: Samples, size: int, epsilon: float, seed: int, state: State) -> HeatMap:
    """The map of one network, of which `state` keeps finished parts."""
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


def _picture(result: Heatmaps, samples: Samples) -> bytes:
    names = [of["network"] for of in result.networks]
    titles = names if len(set(names)) == len(names) else [f"{n + 1}: {name}" for n, name in enumerate(names)]
    note = "" if samples.true else f"no true labels: errors against {samples.labels_of}"
    return heatmap_picture(dict(zip(titles, result.maps, strict=True)), note)
