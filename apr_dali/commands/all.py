"""`apr-dali eval all` and `compare`: every set that is there, and one page about it."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apr_dali.commands.autoattack import autoattack
from apr_dali.commands.clean import calibrate, clean
from apr_dali.commands.corruption import corruption
from apr_dali.commands.distribution_shift import SHIFTS, shift
from apr_dali.commands.ood import PHOTOGRAPHS, ood
from apr_dali.data.arrays import DIGITS, SIDE
from apr_dali.data.hidden import is_hidden
from apr_dali.errors import InputError
from apr_dali.eval.autoattack import Attack
from apr_dali.eval.class_names import is_imagenet
from apr_dali.eval.page import Section, html, markdown
from apr_dali.eval.report import Report, compared, runs, sections
from apr_dali.eval.session import Session, about_run, kept_text, make_output, table
from apr_dali.runtime.distributed import on_main
from apr_dali.runtime.files import write_whole
from apr_dali.runtime.json_text import json_text


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


_ARCHIVES = {
    "cifar-10": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "cifar-100": ("cifar-100-python", "cifar-100-python.tar.gz"),
}
_CIFARS = {name: Wanted(name, places, "CIFAR's published files") for name, places in _ARCHIVES.items()}


def _cifar_sets(own: str, other: str) -> tuple[Wanted, ...]:
    return (
        Wanted("test", (*_ARCHIVES[own], "val"), "CIFAR's published files"),
        Wanted("corruption", (own.upper() + "-C",), "<corruption>.npy and labels.npy"),
        *_SMALL_OOD,
        _CIFARS[other],
    )


_SETS = {
    "cifar10": _cifar_sets("cifar-10", "cifar-100"),
    "cifar100": _cifar_sets("cifar-100", "cifar-10"),
    DIGITS: (*_SMALL_OOD, *_CIFARS.values()),
    "": (
        Wanted("test", ("val",), _CLASS_FOLDERS),
        Wanted("corruption", ("corruptions",), "<corruption>/<1-5>/<class>/<image>"),
        *_SMALL_OOD,
        *_CIFARS.values(),
    ),
}
"""By the kind of a network of 32×32 images."""


def evaluate_all(session: Session, root: str | None, attacked: int | None) -> tuple[dict[str, Any], str]:
    """Run what the sets below `root` allow and write report.html, report.md and report.json: the report and a text.

    root: None for digits alone, which need no file.
    attacked: how many images to attack with AutoAttack, None for none: it takes hours where the others take minutes.
    """
    network = session.network
    small = network.image_size == SIDE and not is_imagenet(network.classes)
    if root is None and network.kind != DIGITS:
        raise InputError("--data-root is missing: networks of digits alone need none")
    wanted = _SETS[network.kind] if small else _IMAGENET
    found = on_main(session.group, lambda: _look(root, wanted) if root is not None else {})
    session = session.of_several(found.values()) if found else session
    if network.kind == DIGITS:
        found = _words() | found
    jobs = (_small_jobs if small else _jobs)(session, found, attacked)
    if not jobs:
        places = "\n".join(f"  {item.places[0]}: {item.looks}" for item in wanted)
        raise InputError(f"{root} has none of the sets that can be evaluated; expected some of\n{places}")
    report: Report = {"evaluations": {}, "kept": {}, "failed": [], **about_run(session.group, session.about())}
    pictures: dict[str, list[str]] = {}
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
        report["evaluations"][name], report["kept"][name] = record["result"], record["kept"]
        pictures[name] = record["pictures"]
        if session.group.main:
            print(f"\n{text}{kept_text(record)}", flush=True)
    if not report["evaluations"]:
        raise InputError("no evaluation worked: " + "; ".join(f"{name}: {text}" for name, text in report["failed"]))
    report["missing"] = [[item.name, _missing(root, item)] for item in wanted if root and item.name not in found]
    report["skipped"] = on_main(session.group, lambda: _skipped(root, found, jobs, attacked))
    on_main(session.group, lambda: _write(report, pictures, session.output))
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


def _words() -> dict[str, str]:
    """The sets of a network of digits that need no file."""
    for word in (DIGITS, PHOTOGRAPHS):
        if os.path.exists(word):
            raise InputError(f"something is called {word} here, where the word must mean the set: start it elsewhere")
    return {"test": DIGITS, "corruption": DIGITS, PHOTOGRAPHS: PHOTOGRAPHS}


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


def _skipped(root: str | None, found: dict[str, str], jobs: Jobs, attacked: int | None) -> list[list[str]]:
    """What lies below `root` and was not run, with the reason."""
    clean = "val" if "val" in found else "test"
    # Words stand for what needs no file.
    used = {Path(os.path.relpath(path, root)).parts[0] for path in found.values()}
    skipped = [
        [name, "is not among the sets that are known for this network"]
        for name in (sorted(os.listdir(root)) if root is not None else ())
        if name not in used and not is_hidden(name)
    ]
    if clean not in found:
        known = [name for name in found if name not in jobs]
        skipped += [[name, "needs the clean images of the same classes, which are missing"] for name in known]
    elif attacked is None:
        skipped.append(["autoattack", "takes hours: give --attack N to attack N images"])
    return skipped


def _write(report: Report, pictures: dict[str, list[str]], output: Path) -> None:
    # Those of this run alone: others may lie in the folder.
    pngs = {
        name: {title: (output / f"{name}-{title}.png").read_bytes() for title in titles}
        for name, titles in pictures.items()
    }
    title = f"Robustness of {report['settings']['network']}"
    parts = sections(report, pngs)
    _write_pages(output, "report", title, parts)
    write_whole(output / "report.json", (json_text(report, indent=2) + "\n").encode())


def _write_pages(folder: Path, name: str, title: str, parts: list[Section]) -> None:
    write_whole(folder / f"{name}.html", html(title, parts).encode())
    write_whole(folder / f"{name}.md", markdown(title, parts).encode())


def compare(given: list[str], output: str) -> str:
    """Write compare.html and compare.md about several runs into the folder `output`; the table as text.

    given: folders of `eval all`, or their report.json. InputError for one that is none.
    """
    paths = [(Path(run) / "report.json" if os.path.isdir(run) else Path(run)).absolute() for run in given]
    reports = [_read(path) for path in paths]
    names = [report["settings"]["network"] for report in reports]
    if len(set(names)) < len(names):
        # Runs of one network are distinguished by their folders.
        names = [f"{name} ({folder})" for name, folder in zip(names, _told_apart(paths), strict=True)]
    named = dict(zip(names, reports, strict=True))
    found = compared(named)
    parts = [Section("Summary", tables=(found,)), Section("Runs", tables=(runs(named),))]
    _write_pages(make_output(output), "compare", "Networks side by side", parts)
    return table(found.titles, found.rows)


def _read(path: Path) -> Report:
    try:
        report: Report = json.loads(path.read_text(encoding="utf-8"))
        # Whatever is not there or has another form shows here.
        compared({report["settings"]["network"]: report})
        runs({"": report})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not the report.json that this `apr-dali eval all` writes ({error!r})") from error
    return report


def _told_apart(paths: list[Path]) -> list[str]:
    """The last folders of each path, as many as tell them apart."""
    if len(set(paths)) < len(paths):
        raise InputError(f"{next(path for path in paths if paths.count(path) > 1)} is given twice")
    folders = [path.parent for path in paths]
    if len(set(folders)) < len(folders):
        folders = paths
    for count in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-count:]) for folder in folders]
        if len(set(names)) == len(names):
            break
    return names
