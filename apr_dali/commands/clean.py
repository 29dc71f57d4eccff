"""`apr-dali eval clean` and `calibration`: a network on the images it was made for."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from apr_dali.errors import InputError
from apr_dali.eval import calibration
from apr_dali.eval.passes import Source, collect, counted, evaluate_each, progress, together
from apr_dali.eval.pictures import reliability_picture
from apr_dali.eval.session import Session, table

# One image of so many is held out to tune the temperature on; the others show what it does.
_HELD_OUT = 5


def labelled(session: Session, data: str, name: str = "clean") -> Source:
    """The images of a folder with the network's classes; for a network of 32×32 images, of `open_small`."""
    if session.takes_small(data):
        return session.feeding.small(name, data)
    return session.feeding.folder(name, data, classes=session.network.classes)


def clean(session: Session, data: str) -> tuple[dict[str, Any], str]:
    """Top-1 and top-5 on a folder: the record and its text."""
    source = labelled(session, data)
    session.check(source)
    state = session.state("clean")
    result = asdict(evaluate_each(session.model, [source], session.group.device, state, session.amp)["clean"])
    record = session.finish("clean", {"data": data, "set": together([source]), **result}, {}, state)
    shares = f"top-1 {result['top1']:.2%}, top-5 {result['top5']:.2%}"
    return record, f"{shares}, loss {result['loss']:.4f} on {result['images']} images"


def calibrate(session: Session, data: str) -> tuple[dict[str, Any], str]:
    """Calibration errors before and after temperature scaling: the record and its text."""
    source = labelled(session, data)
    session.check(source)
    with progress([source]) as bar, source.open() as batches:
        found = collect(
            session.model,
            counted(batches, bar),
            {"logits": lambda logits, _: logits, "labels": lambda _, targets: targets},
            session.group.device,
            session.amp,
        )
    logits, labels = torch.from_numpy(found["logits"]), torch.from_numpy(found["labels"])
    if len(labels) < 2:
        raise InputError(
            f"calibration needs two images or more, got {len(labels)} in {data}: "
            f"one of {_HELD_OUT} tunes the temperature, the others show what it does"
        )
    held_out = torch.arange(len(labels)) % _HELD_OUT == 0
    temperature = calibration.fit_temperature(logits[held_out], labels[held_out])
    scaled = {
        "as it is": logits[~held_out],
        f"temperature {temperature:.2f}": logits[~held_out] / temperature,
    }
    rows = {name: _measures(values, labels[~held_out]) for name, values in scaled.items()}
    result = {
        "data": data,
        "set": together([source]),
        "temperature": temperature,
        "tuned_on": int(held_out.sum()),
        "rows": rows,
    }
    diagrams = {
        name: calibration.reliability(*calibration.confidences(values.softmax(1), labels[~held_out]))
        for name, values in scaled.items()
    }
    record = session.finish("calibration", result, {"reliability": reliability_picture(diagrams)})
    return record, calibration_text(result)


def _measures(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float | None]:
    probabilities = logits.softmax(1)
    confidence, correct = calibration.confidences(probabilities, labels)
    many = len(labels) >= calibration.RMS_BIN_SIZE
    return {
        "images": len(labels),
        "accuracy": float(correct.mean()),
        "confidence": float(confidence.mean()),
        "nll": float(torch.nn.functional.cross_entropy(logits.double(), labels)),
        "brier": calibration.brier(probabilities, labels),
        "ece": calibration.ece(probabilities, labels),
        "classwise_ece": calibration.classwise_ece(probabilities, labels),
        "rms": calibration.rms(probabilities, labels) if many else None,
        "rms_as_published": calibration.rms(probabilities, labels, as_published=True) if many else None,
        "aurra": calibration.aurra(probabilities, labels),
    }


def calibration_text(result: dict[str, Any]) -> str:
    """The calibration table in percent."""
    keys = ("accuracy", "confidence", "ece", "classwise_ece", "rms", "rms_as_published", "aurra")
    rows = [
        (name, *("–" if row[key] is None else f"{100 * row[key]:.2f}" for key in keys))
        for name, row in result["rows"].items()
    ]
    scores = [(name, *(f"{row[key]:.4f}" for key in ("nll", "brier"))) for name, row in result["rows"].items()]
    tables = f"{table(('percent', *keys), rows)}\n{table(('', 'nll', 'brier'), scores)}"
    return f"{tables}\ntemperature tuned on {result['tuned_on']} held-out images"
