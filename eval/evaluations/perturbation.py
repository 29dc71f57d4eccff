"""How often a network changes its mind while an image is perturbed little by little: ImageNet-P."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from apr_dali.data.videos import Videos, check_reader, find_videos, frames_of
from apr_dali.errors import InputError
from apr_dali.eval.bootstrap import SEED, ends_of, mean_draws
from apr_dali.eval.checks import check_outputs, not_finite
from apr_dali.eval.page import Section, Table, interval_text, percent, spaced, with_interval
from apr_dali.eval.perturbation import PERTURBATIONS, flip_rate, is_noise, normalized_mean, ranked, top5_distance
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject, session_of
from apr_dali.runtime import cpus
from apr_dali.runtime.distributed import gather, on_main
from apr_dali.runtime.text_table import table

if TYPE_CHECKING:
    from typing_extensions import Unpack

REFERENCE = "alexnet.json"
"""The reference beside the folders of a set, where there is one."""
_MEASURES = ("flip_rate", "top5_distance")


@dataclass(frozen=True)
class Perturbation(Result):
    """Flip rates and top-5 distances on the videos of `data`.

    set: 16 hex digits of what the videos are. videos: how many of each perturbation. flip_rate: 0..1, and
    top5_distance, by perturbation. mean_flip_rate, mean_top5_distance: over PERTURBATIONS, or those that are there.
    mfr, mt5d: in percent of the reference's, AlexNet's; None without one, or where one of PERTURBATIONS is missing.
    intervals: of all of these, in the same places; the reference's numbers are taken as they are.
    """

    data: str
    set: str
    videos: dict[str, int]
    flip_rate: dict[str, float]
    top5_distance: dict[str, float]
    mfr: float | None = None
    mt5d: float | None = None
    reference: str | None = None
    intervals: dict[str, Any] = field(default_factory=dict)

    evaluation = "perturbation"

    @property
    def averaged(self) -> tuple[str, ...]:
        """The perturbations that means are over."""
        return averaged(self.flip_rate)

    @property
    def mean_flip_rate(self) -> float:
        return float(np.mean([self.flip_rate[name] for name in self.averaged]))

    @property
    def mean_top5_distance(self) -> float:
        return float(np.mean([self.top5_distance[name] for name in self.averaged]))

    def as_json(self) -> dict[str, Any]:
        keys = ("data", "set", "videos", "flip_rate", "top5_distance", "mean_flip_rate", "mean_top5_distance")
        more = {key: getattr(self, key) for key in ("mfr", "mt5d", "reference") if getattr(self, key) is not None}
        about = {"averaged": list(self.averaged), "intervals": self.intervals}
        return {**{key: getattr(self, key) for key in keys}, **about, **more}

    def text(self) -> str:
        rows = [
            (name, str(self.videos[name]), f"{100 * rate:.2f}", f"{self.top5_distance[name]:.3f}")
            for name, rate in self.flip_rate.items()
        ]
        shown = table(("perturbation", "videos", "flips, %", "top-5 distance"), rows)
        return "\n".join([shown, *(f"{name}: {value}" for name, value in summary(self.as_json()).items())])


def averaged(names: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of the benchmark's 10 that are there, else all."""
    return tuple(name for name in PERTURBATIONS if name in names) or tuple(names)


def evaluate_perturbation(
    model: Subject, data: str | Path, *, alexnet: str | Path | None = None, **options: Unpack[Options]
) -> Perturbation:
    """Flip rates and top-5 distances of ImageNet-P, and with AlexNet's of the same videos mFR and mT5D.

    Args:
        model, options: as for `evaluate_clean`.
        data: folders `<perturbation>/<class>/<video>.mp4`; the middle of each frame is taken, not scaled.
        alexnet: perturbation.json that this evaluation wrote for AlexNet; None for `alexnet.json` in `data`, where that
            is there.

    Raises:
        InputError: for videos or a network that do not fit, a reference of other videos, or without OpenCV.
    """
    check_reader()
    with session_of(model, options) as session:
        found = on_main(session.group, lambda: find_videos(data))
        identity = on_main(session.group, lambda: found.identity)
        beside = Path(data) / REFERENCE
        path = Path(alexnet) if alexnet is not None else beside if beside.is_file() else None
        reference = None if path is None else _read_reference(path, identity)
        result = _measure(session, str(data), found, identity, reference, None if path is None else str(path))
    return result


def _read_reference(path: Path, identity: str) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record["result"]
        missing = [key for key in ("set", *_MEASURES) if key not in found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not the perturbation.json of AlexNet: run `eval perturbation` on it") from error
    if record.get("evaluation") != Perturbation.evaluation or missing:
        raise InputError(f"{path} is not the perturbation.json of AlexNet: run `eval perturbation` on it")
    if found["set"] != identity:
        raise InputError(f"{path} is of other videos than these: run `eval perturbation` on AlexNet with the same data")
    return dict(found)


def _measure(
    session: Session, data: str, found: Videos, identity: str, reference: dict[str, Any] | None, path: str | None
) -> Perturbation:
    size = session.network.image_size
    first = frames_of(next(iter(found.files.values()))[0], size)
    check_outputs(session.model, session.feeding.normalized(first), len(session.network.classes))
    state = session.state("perturbation")
    total = sum(map(len, found.files.values()))
    with tqdm(total=total, unit=" videos", disable=None if session.group.main else True) as bar:
        for name, files in found.files.items():
            key = f"{name} {identity}"
            if key not in state:
                bar.set_description(name)
                state.put(key, _values(session, name, files, bar))
    kept = {name: state.get(f"{name} {identity}") for name in found.files}
    means = {key: {name: float(np.mean(rows[key])) for name, rows in kept.items()} for key in _MEASURES}
    mfr, mt5d = (None if reference is None else normalized_mean(means[key], reference[key]) for key in _MEASURES)
    videos = {name: len(files) for name, files in found.files.items()}
    intervals = _intervals(kept, reference)
    rates, distances = means.values()
    result = Perturbation(data, identity, videos, rates, distances, mfr, mt5d, path, intervals)
    return result.finished(session, {}, state)


def _intervals(
    kept: Mapping[str, Mapping[str, Sequence[float]]], reference: Mapping[str, Mapping[str, float]] | None
) -> dict[str, Any]:
    """Of measures by perturbation, of their means and of the means of ratios.

    Perturbations of as many videos are of the same images, which are drawn together; else each is drawn for itself.
    """
    alike = len({len(rows[_MEASURES[0]]) for rows in kept.values()}) == 1
    draws = {
        name: mean_draws(np.array([rows[key] for key in _MEASURES]).T, seed=SEED if alike else [SEED, number])
        for number, (name, rows) in enumerate(kept.items())
    }
    found: dict[str, Any] = {}
    for column, (key, normalized) in enumerate(zip(_MEASURES, ("mfr", "mt5d"), strict=True)):
        of = {name: drawn[:, column] for name, drawn in draws.items()}
        found[key] = {name: ends_of(drawn) for name, drawn in of.items()}
        found[f"mean_{key}"] = ends_of(np.mean([of[name] for name in averaged(of)], 0))
        if reference is not None and set(PERTURBATIONS) <= set(of):
            ratios = [of[name] / reference[key][name] for name in PERTURBATIONS]
            found[normalized] = ends_of(100 * np.mean(ratios, 0))
    return found


def _values(session: Session, name: str, files: Sequence[str], bar: tqdm) -> dict[str, list[float]]:
    """The measures of each video, in the order of `files`; each process has the next part of them."""
    rank, world = session.group.rank, session.group.world
    own = files[len(files) * rank // world : len(files) * (rank + 1) // world]
    noise = is_noise(name)
    found: list[tuple[float, float]] = []
    for file, frames in _decoded(session, own):
        logits = _logits(session, frames)
        if not np.isfinite(logits).all():
            raise not_finite(f"some frames of {file}")
        order = ranked(logits)
        found.append((flip_rate(order, noise), top5_distance(order, noise)))
        bar.update(world)
    rows = [row for part in gather(session.group, found) for row in part]
    return {key: [row[number] for row in rows] for number, key in enumerate(_MEASURES)}


def _decoded(session: Session, files: Sequence[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Each video with its frames, several decoded at a time."""
    threads, size = session.feeding.threads or cpus.share(), session.network.image_size
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), 2 * threads):
            part = files[start : start + 2 * threads]
            yield from zip(part, pool.map(lambda file: frames_of(file, size), part), strict=True)


@torch.no_grad()
def _logits(session: Session, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    session.model.eval()
    size = session.feeding.batch_size
    found = []
    for start in range(0, len(frames), size):
        images = session.feeding.normalized(frames[start : start + size])
        with torch.autocast(images.device.type, session.amp or torch.bfloat16, enabled=session.amp is not None):
            found.append(session.model(images).float().cpu().numpy())
    return np.concatenate(found)


# ---- on the page of a benchmark --------------------------------------------------------------------------------------


def _over(result: Mapping[str, Any]) -> str:
    own = result["averaged"]
    if list(own) == list(PERTURBATIONS):
        return "all 10 perturbations of ImageNet-P"
    return f"{len(own)} perturbations ({', '.join(own)})"


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that matter, with their units."""
    return {label: shown(result[key]) for label, key, shown, _, _ in _labels(result)}


def bounds(result: Mapping[str, Any]) -> dict[str, str]:
    """The intervals of numbers of `summary`, by the same names."""
    ends = result["intervals"]
    return {
        label: interval_text(ends[key], scale, digits)
        for label, key, _, scale, digits in _labels(result)
        if key in ends
    }


def _labels(result: Mapping[str, Any]) -> Iterator[tuple[str, str, Callable[[float], str], float, int]]:
    """What each number of `summary` is called, its key, what shows it, and the scale and digits of its interval."""
    over = _over(result)
    yield f"mean flip rate over {over}", "mean_flip_rate", percent, 100, 2
    yield f"mean top-5 distance over {over}", "mean_top5_distance", "{:.3f}".format, 1, 3
    for key, title in (("mfr", "mFR, AlexNet = 100"), ("mt5d", "mT5D, AlexNet = 100")):
        if key in result:
            yield title, key, "{:.2f} %".format, 1, 2


def section(result: Mapping[str, Any]) -> Section:
    """The part of the page."""
    flips, distances = (result["intervals"].get(key, {}) for key in _MEASURES)
    rows = tuple(
        (
            spaced(name),
            f"{result['videos'][name]:,}",
            with_interval(f"{100 * rate:.2f}", flips.get(name), 100),
            with_interval(f"{result['top5_distance'][name]:.3f}", distances.get(name), 1, 3),
        )
        for name, rate in result["flip_rate"].items()
    )
    about = (
        f"Videos of images that are perturbed little by little; {result['data']}. A flip is a frame that is taken for "
        "another class than the one before it, or under noise, than the first."
    )
    told = (
        f"mFR and mT5D are means of the ratios to AlexNet's numbers on the same videos, in {result['reference']}."
        if "reference" in result
        else "Not normalized: mFR and mT5D are ratios to AlexNet's numbers on the same videos, see --alexnet."
    )
    titles = ("perturbation", "videos", "flip rate, %", "top-5 distance")
    return Section("Perturbations", (about, told), (Table(titles, rows),))
