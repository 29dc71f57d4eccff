"""Whether a network is as often right as it says, before and after its temperature is tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr_dali.errors import InputError
from apr_dali.eval.bootstrap import Interval
from apr_dali.eval.calibration_rows import measures_of, temperature_of
from apr_dali.eval.page import Section, Table, interval_text, percent, with_interval
from apr_dali.eval.passes import together
from apr_dali.eval.pictures import reliability_picture
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject, session_of
from apr_dali.eval.shared_pass import sharing
from apr_dali.runtime.text_table import table

if TYPE_CHECKING:
    from typing_extensions import Unpack

# One image of so many is held out to tune the temperature on; the others show what it does.
_HELD_OUT = 5


@dataclass(frozen=True)
class Calibration(Result):
    """Calibration errors on the images of `data`, but for those that the temperature was tuned on.

    set: 16 hex digits of what the images are. temperature: the best, 0.05 to 20. tuned_on: how many images.
    rows: the measures of `apr_dali.eval.calibration` by their names, as it is and with the temperature.
    intervals: of these, see `apr_dali.eval.bootstrap`; the temperature is not fitted to each draw anew.
    """

    data: str
    set: str
    temperature: float
    tuned_on: int
    rows: dict[str, dict[str, float | None]]
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)

    evaluation = "calibration"

    def as_json(self) -> dict[str, Any]:
        found = {key: getattr(self, key) for key in ("data", "set", "temperature", "tuned_on", "rows")}
        return {**found, "intervals": {"rows": self.intervals}}

    def text(self) -> str:
        keys = ("accuracy", "confidence", "ece", "classwise_ece", "rms", "rms_as_published", "aurra")
        rows = [(name, *(_percent(row[key]) for key in keys)) for name, row in self.rows.items()]
        scores = [(name, *(f"{row[key]:.4f}" for key in ("nll", "brier"))) for name, row in self.rows.items()]
        tables = f"{table(('percent', *keys), rows)}\n{table(('', 'nll', 'brier'), scores)}"
        return f"{tables}\ntemperature tuned on {self.tuned_on} held-out images"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"


def evaluate_calibration(model: Subject, data: str | Path, **options: Unpack[Options]) -> Calibration:
    """Calibration errors before and after temperature scaling.

    Args:
        model, data, options: as for `evaluate_clean`. Every fifth image tunes the temperature and is not counted.

    Raises:
        InputError: for images or a network that do not fit, or fewer than two images.
    """
    with session_of(model, options) as session:
        return _measure(session, str(data))


def _measure(session: Session, data: str) -> Calibration:
    source = session.labeled(data)
    session.check(source)
    if source.images < 2:
        raise InputError(
            f"calibration needs two images or more, got {source.images} in {data}: "
            f"one of {_HELD_OUT} tunes the temperature, the others show what it does"
        )
    with sharing(session) as shared:
        assert shared.passes is not None
        logits = shared.passes.of(source).logits
        temperature = temperature_of(logits, lambda numbers: numbers % _HELD_OUT == 0)
        found = {
            name: measures_of(logits, lambda numbers: numbers % _HELD_OUT != 0, scale)
            for name, scale in (("as it is", 1.0), (f"temperature {temperature:.2f}", temperature))
        }
    rows = {name: row for name, (row, _, _) in found.items()}
    intervals = {name: ends for name, (_, _, ends) in found.items()}
    tuned = len(logits.labels[::_HELD_OUT])
    result = Calibration(data, together([source]), temperature, tuned, rows, intervals)
    picture = reliability_picture({name: diagram for name, (_, diagram, _) in found.items()})
    return result.finished(session, {"reliability": picture})


# ---- on the page of a benchmark --------------------------------------------------------------------------------------


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that matter, with their units."""
    return {label: percent(result["rows"][name]["ece"]) for label, name in _labels(result).items()}


def bounds(result: Mapping[str, Any]) -> dict[str, str]:
    """The intervals of numbers of `summary`, by the same names."""
    ends = _ends(result)
    return {label: interval_text(ends[name]["ece"], 100) for label, name in _labels(result).items() if name in ends}


def _ends(result: Mapping[str, Any]) -> Mapping[str, Mapping[str, Interval]]:
    """The intervals of each row; earlier versions had none here."""
    found: Mapping[str, Mapping[str, Interval]] = result.get("intervals", {}).get("rows", {})
    return found


def _labels(result: Mapping[str, Any]) -> dict[str, str]:
    """The row of each number of `summary`, by its name there."""
    before, after = result["rows"]
    images = f"{result['rows'][before]['images']:,} images"
    return {f"ECE, {images}": before, f"ECE, temperature tuned, {images}": after}


def section(result: Mapping[str, Any]) -> Section:
    """The part of the page."""
    shares = {
        "accuracy": "accuracy",
        "confidence": "mean confidence",
        "ece": "ECE, 15 bins",
        "classwise_ece": "class-wise ECE, 15 bins",
        "rms": "RMS, all bins of 100",
        "rms_as_published": "RMS as published, last bin left out",
        "aurra": "AURRA",
    }
    scores = {"nll": "negative log-likelihood, nats", "brier": "Brier score, 0 to 2"}
    rows, ends = result["rows"], _ends(result)

    def cells(key: str, shown: Callable[[float | None], str], scale: float, digits: int) -> tuple[str, ...]:
        return tuple(
            with_interval(shown(row[key]), ends.get(name, {}).get(key), scale, digits) for name, row in rows.items()
        )

    table = Table(
        ("measure", *rows),
        (
            *((label, *cells(key, percent, 100, 2)) for key, label in shares.items()),
            *((label, *cells(key, lambda value: f"{value:.4f}", 1, 4)) for key, label in scores.items()),
        ),
    )
    images = next(iter(rows.values()))["images"]
    note = (
        f"Measured on {images:,} images; temperature {result['temperature']:.3f}, tuned on {result['tuned_on']:,} "
        "others that are not counted here."
    )
    return Section("Calibration", (note,), (table,))
