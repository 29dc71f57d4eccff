"""Where one or two networks look, on clean and on corrupted images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.sampling import evenly
from apr_dali.data.small_corruptions import SHOWN
from apr_dali.errors import InputError, check_choice
from apr_dali.eval.analyses.gradcam import Looks, Target, agreement, gradcam_picture, joined, looks, target_layer
from apr_dali.eval.analyses.samples import Samples, beside, in_words, load_samples, subject_of
from apr_dali.eval.inference_only import refuse_inference_only
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject
from apr_dali.runtime.text_table import table

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PROBES = 2  # images that the layer is looked for with
_SHOWN = 5  # images in the picture; the numbers are of all


@dataclass(frozen=True)
class GradCam(Result):
    """Grad-CAM of the images in numbers.

    images, labels: what the images are and where their labels come from, in words. corruption, strength: what was done
    to them. networks: of each by its short name, `network`, `seen`, `layer`, the share of images with their label on
    clean and corrupted images (`right`, or `same_answer` without true labels), `confidence` and the maps' `agreement`.
    """

    images: str
    labels: str
    corruption: str
    strength: float
    networks: dict[str, dict[str, Any]]
    true: bool

    evaluation = "gradcam"

    @property
    def note(self) -> str:
        """What the maps are of where there are no true labels."""
        return "" if self.true else f"no true labels: maps of {self.labels}"

    def as_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("images", "labels", "corruption", "strength", "networks")}

    def text(self) -> str:
        share = _share(self.true)
        head = share.replace("_", " ")
        titles = ("network", "layer", f"{head}, clean", f"{head}, corrupted", "maps' agreement")
        cells = [
            (name, row["layer"], *(f"{value:.0%}" for value in row[share]), f"{row['agreement'] or math.nan:.2f}")
            for name, row in self.networks.items()
        ]
        return table(titles, cells) + (f"\n{self.note}" if self.note else "")


def _share(true: bool) -> str:
    return "right" if true else "same_answer"


def analyze_gradcam(
    model: Subject,
    data: str | Path | None = None,
    *,
    limit: int = 60,
    compare: Subject | None = None,
    names: Sequence[str] | None = None,
    layer: str | None = None,
    corruption: str = "gaussian noise",
    strength: int = 2,
    **options: Unpack[Options],
) -> GradCam:
    """Grad-CAM of one or two networks on clean and corrupted images.

    Args:
        model, data, limit, options: as for `analyze_heatmap`.
        compare: a second network of the same classes.
        names: what the networks are called in the picture; None for their run folder or model.
        layer: of both; None for the last that gives a map.
        corruption: of `apr_dali.data.small_corruptions.SHOWN`. strength: of it, 1 to 3.

    Raises:
        InputError: for images or a network that do not fit, or a layer that gives no map.
    """
    check_choice("corruption", corruption, tuple(SHOWN))
    corrupt, strengths = SHOWN[corruption]
    if not 1 <= strength <= len(strengths):
        raise InputError(f"strength must be in 1..{len(strengths)}, got {strength}")
    with subject_of(model, options) as session, beside(session, compare, options.get("classes")) as networks:
        samples = load_samples(session, None if data is None else str(data), limit)
        for one in networks:
            refuse_inference_only(one.network.model, one.network.name, "Grad-CAM needs layers and gradients")
        sessions = dict(zip(names or _names(networks), networks, strict=True))
        views = {"clean": samples.images, corruption: corrupt(samples.images, strengths[strength - 1])}
        layers = {name: _layer(one, samples.images, layer) for name, one in sessions.items()}
        seen = {
            view: {name: _looks(one, layers[name], images, samples.labels) for name, one in sessions.items()}
            for view, images in views.items()
        }
        rows = {
            name: {
                "network": one.network.name,
                "seen": one.network.seen,
                "layer": layers[name].name,
                **_numbers([found[name] for found in seen.values()], samples.labels, _share(samples.true)),
            }
            for name, one in sessions.items()
        }
        result = GradCam(samples.origin, samples.labels_of, corruption, strengths[strength - 1], rows, samples.true)
        return result.finished(session, {"maps": _picture(session, samples, views, seen, result.note)})


def _picture(
    session: Session,
    samples: Samples,
    views: dict[str, NDArray[np.uint8]],
    seen: dict[str, dict[str, Looks]],
    note: str,
) -> bytes:
    shown = evenly(len(samples), _SHOWN)
    panels = [
        (view, views[view][shown], {name: looks.take(shown) for name, looks in found.items()})
        for view, found in seen.items()
    ]
    classes = session.network.classes
    return gradcam_picture(panels, lambda n: in_words(classes[n]), samples.labels[shown], note)


def _names(networks: Sequence[Session]) -> list[str]:
    names = [_short(one.network.name) for one in networks]
    return names if len(set(names)) == len(names) else [names[0], names[1] + " (2)"]


def _short(name: str) -> str:
    """The run folder of a checkpoint, or the model's own name."""
    model, _, path = name.partition(" of ")
    return (Path(path).parent.name or Path(path).stem) if path else model.rpartition("/")[2]


def _layer(session: Session, images: NDArray[Any], name: str | None) -> Target:
    return target_layer(session.model, _batch(session, images[:_PROBES]), name)


def _looks(session: Session, layer: Target, images: NDArray[Any], labels: NDArray[Any]) -> Looks:
    """In batches of the command line's size: gradients take memory."""
    size = session.feeding.batch_size
    return joined(
        looks(session.model, layer, _batch(session, images[start : start + size]), labels[start : start + size])
        for start in range(0, len(images), size)
    )


def _batch(session: Session, images: NDArray[Any]) -> Any:
    """uint8 (N, S, S, 3) as the network takes them."""
    with session.feeding.array("images", images, np.zeros(len(images), np.int64)).open() as batches:
        return next(iter(batches))[0].to(session.group.device)


def _numbers(views: list[Looks], labels: NDArray[Any], share: str) -> dict[str, Any]:
    """Of one network: the share that has its label, clean and corrupted, and how alike its maps are on the two.

    share: what that is called.
    """
    clean, corrupted = views
    alike = agreement(clean.maps, corrupted.maps)
    return {
        share: [float((view.answers == labels).mean()) for view in views],
        "confidence": [float(view.confidence.mean()) for view in views],
        # A map may be empty: no evidence for the class.
        "agreement": float(np.nanmean(alike)) if not np.isnan(alike).all() else None,
    }
