"""`apr-dali eval all` and `compare`: every set that is there, and one page about it."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr_dali.commands.adversarial import autoattack
from apr_dali.commands.clean import calibrate, clean
from apr_dali.commands.corruption import corruption
from apr_dali.commands.ood import ood
from apr_dali.commands.session import Session, table
from apr_dali.commands.shifts import SHIFTS, shift
from apr_dali.data.atomic import write_whole
from apr_dali.data.json_text import json_text
from apr_dali.data.small_sets import SIDE
from apr_dali.errors import InputError
from apr_dali.eval.adversarial import Attack
from apr_dali.eval.report import Report, Section, compared, html, markdown, sections
from apr_dali.training.distributed import on_main


@dataclass(frozen=True)
class Wanted:
    """A set below the data root. places: where it is looked for, the first that is there is taken. looks: its form."""

    name: str
    places: tuple[str, ...]
    looks: str


_CLASS_FOLDERS = "<class>/<image>"
_IMAGENET = (
    Wanted("val", ("val", "imagenet/val", "imagenet-val"), _CLASS_FOLDERS),
    Wanted("corruption", ("imagenet-c", "ImageNet-C"), "<corruption>/<1-5>/<class>/<image>"),
    Wanted("imagenet-o", ("imagenet-o",), "<class>/<image> of 200 classes"),
    Wanted("imagenet-a", ("imagenet-a",), "<class>/<image> of 200 classes"),
    Wanted("imagenet-r", ("imagenet-r",), "<class>/<image> of 200 classes"),
    Wanted("imagenet-sketch", ("imagenet-sketch", "sketch"), _CLASS_FOLDERS),
    Wanted("imagenet-v2", ("imagenet-v2", "imagenetv2-matched-frequency-format-val"), "<number of class>/<image>"),
)
_SMALL_OOD = (
    Wanted("SVHN", ("SVHN/test_32x32.mat", "svhn/test_32x32.mat", "test_32x32.mat"), "the published .mat file"),
    Wanted("LSUN_resize", ("LSUN_resize",), "32×32 image files"),
    Wanted("Imagenet_resize", ("Imagenet_resize",), "32×32 image files"),
    Wanted("LSUN_fix", ("LSUN_fix",), "32×32 image files"),
    Wanted("Imagenet_fix", ("Imagenet_fix",), "32×32 image files"),
)


def everything(session: Session, root: str, attacked: int | None) -> tuple[dict[str, Any], str]:
    """Run what the sets below `root` allow and write report.html, report.md and report.json: the report and a text.

    attacked: how many images to attack with AutoAttack, None for none: it takes hours where the others take minutes.
    """
    wanted = _small_sets(session) if session.network.image_size == SIDE else _IMAGENET
    found = on_main(session.group, lambda: _look(root, wanted))
    jobs = (
        _small_jobs(session, found, attacked) if session.network.image_size == SIDE else _jobs(session, found, attacked)
    )
    if not jobs:
        places = "\n".join(f"  {item.places[0]}: {item.looks}" for item in wanted)
        raise InputError(f"{root} has none of the sets that can be evaluated; expected some of\n{places}")
    report: Report = {"evaluations": {}, "failed": []}
    for name, job in jobs.items():
        try:
            record, text = job()
        except InputError as error:
            report["failed"].append([name, str(error)])
            continue
        # Hours of finished evaluations must not go without a page because of a fault in another.
        except Exception as error:
            # Where others may wait in it for this process, all have to end; what is finished is kept.
            if session.group.world > 1:
                raise
            traceback.print_exc()
            report["failed"].append([name, f"{type(error).__name__}: {error}"])
            continue
        report["evaluations"][name] = record.pop("result")
        report.update({key: value for key, value in record.items() if key != "evaluation"})
        if session.group.main:
            print(f"\n{text}", flush=True)
    if not report["evaluations"]:
        raise InputError("no evaluation worked: " + "; ".join(f"{name}: {text}" for name, text in report["failed"]))
    report["missing"] = [[item.name, _missing(root, item)] for item in wanted if item.name not in found]
    on_main(session.group, lambda: _write(report, session.output))
    return report, f"\nevaluations: {len(report['evaluations'])} done, {len(report['failed'])} failed"


Jobs = dict[str, Callable[[], tuple[dict[str, Any], str]]]


def _jobs(session: Session, found: dict[str, str], attacked: int | None) -> Jobs:
    jobs: Jobs = {}
    val = found.get("val")
    if val is not None:
        jobs["clean"] = lambda: clean(session, val)
    if "corruption" in found:
        jobs["corruption"] = lambda: corruption(session, found["corruption"], val)
    for name in SHIFTS:
        if name in found:
            jobs[name] = lambda name=name: shift(session, name, found[name])  # type: ignore[misc]
    if val is not None:
        if "imagenet-o" in found:
            jobs["imagenet-o"] = lambda: ood(session, val, [f"ImageNet-O={found['imagenet-o']}"], True)
        jobs["calibration"] = lambda: calibrate(session, val)
        if attacked is not None:
            jobs["autoattack"] = lambda: autoattack(session, val, Attack(epsilon=4 / 255), attacked, False)
    return jobs


def _small_sets(session: Session) -> tuple[Wanted, ...]:
    ten = len(session.network.classes) == 10
    own, other = ("cifar-10-batches-py", "cifar-100-python") if ten else ("cifar-100-python", "cifar-10-batches-py")
    name = "CIFAR-10-C" if ten else "CIFAR-100-C"
    return (
        Wanted("test", (own,), "CIFAR's published files"),
        Wanted("corruption", (name,), "<corruption>.npy and labels.npy"),
        *_SMALL_OOD,
        Wanted(other.removesuffix("-python").removesuffix("-batches-py"), (other,), "CIFAR's published files"),
    )


def _small_jobs(session: Session, found: dict[str, str], attacked: int | None) -> Jobs:
    jobs: Jobs = {}
    test = found.get("test")
    if "corruption" in found:
        jobs["corruption"] = lambda: corruption(session, found["corruption"], None)
    if test is not None:
        jobs["clean"] = lambda: clean(session, test)
        others = [f"{name}={path}" for name, path in found.items() if name not in ("test", "corruption")]
        if others:
            jobs["ood"] = lambda: ood(session, test, others, False)
        jobs["calibration"] = lambda: calibrate(session, test)
        if attacked is not None:
            jobs["autoattack"] = lambda: autoattack(session, test, Attack(), attacked, False)
    return jobs


def _look(root: str, wanted: tuple[Wanted, ...]) -> dict[str, str]:
    if not os.path.isdir(root):
        raise InputError(f"--data-root {root} is not there")
    found = {}
    for item in wanted:
        place = next((path for p in item.places if os.path.exists(path := os.path.join(root, p))), None)
        if place is not None:
            found[item.name] = place
    return found


def _missing(root: str, item: Wanted) -> str:
    return f"put it in {os.path.join(root, item.places[0])}, which should hold: {item.looks}"


def _write(report: Report, output: Path) -> None:
    pictures = {
        name: [(path.stem.replace("-", ": "), path.read_bytes()) for path in sorted(output.glob(f"{name}-*.png"))]
        for name in report["evaluations"]
    }
    title = f"Robustness of {report['settings']['network']}"
    parts = sections(report, pictures)
    _write_pages(output, "report", title, parts)
    write_whole(output / "report.json", (json_text(report, indent=2) + "\n").encode())


def _write_pages(folder: Path, name: str, title: str, parts: list[Section]) -> None:
    write_whole(folder / f"{name}.html", html(title, parts).encode())
    write_whole(folder / f"{name}.md", markdown(title, parts).encode())


def compare(runs: list[str], output: str) -> str:
    """Write compare.html and compare.md about several runs into the folder `output`; the table as text.

    runs: folders of `eval all`, or their report.json. InputError for one that is none.
    """
    reports: dict[str, Report] = {}
    for run in runs:
        path = Path(run) / "report.json" if os.path.isdir(run) else Path(run)
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            name = report["settings"]["network"]
            if not isinstance(report["evaluations"], dict):
                raise TypeError("evaluations")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not the report.json that `apr-dali eval all` writes ({error})") from error
        # Two runs of one network keep apart by their folders.
        reports[name if name not in reports else f"{name} ({path.parent.name})"] = report
    found = compared(reports)
    Path(output).mkdir(parents=True, exist_ok=True)
    _write_pages(Path(output), "compare", "Networks side by side", [Section("Summary", tables=(found,))])
    return table(found.titles, found.rows)
