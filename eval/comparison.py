"""Several runs of `benchmark` side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from apr_dali.errors import InputError
from apr_dali.eval.comparison_picture import comparison_picture, point_of
from apr_dali.eval.page import Section, Table, write_pages
from apr_dali.eval.report import INTERVALS, Report, bounds, compared, runs
from apr_dali.eval.report_files import csv_of, latex_of
from apr_dali.runtime.files import make_output, write_whole
from apr_dali.runtime.text_table import table


def compare(given: Sequence[str | Path], output: str | Path, *, latex: bool = False) -> str:
    """Write compare.html, .md and .csv about several runs into the folder `output`; the table as text.

    given: output folders of `benchmark`, or their report.json. InputError for one that is none. latex: write the table
    as compare.tex, too.
    """
    paths = [(Path(run) / "report.json" if os.path.isdir(run) else Path(run)).absolute() for run in given]
    reports = [_read(path) for path in paths]
    names = [report["settings"]["network"] for report in reports]
    if len(set(names)) < len(names):
        # Runs of one network are distinguished by their folders.
        names = [f"{name} ({folder})" for name, folder in zip(names, _told_apart(paths), strict=True)]
    named = dict(zip(names, reports, strict=True))
    found = compared(named)
    folder = make_output(output)
    notes = (INTERVALS,) if any(map(bounds, reports)) else ()
    parts = [Section("Summary", notes, (found,)), *_plotted(named), Section("Runs", tables=(runs(named),))]
    write_pages(folder, "compare", "Networks side by side", parts)
    write_whole(folder / "compare.csv", csv_of(named).encode())
    if latex:
        write_whole(folder / "compare.tex", latex_of(found, "Networks side by side.").encode())
    return table(found.titles, found.rows)


def _plotted(named: dict[str, Report]) -> list[Section]:
    """Clean against corrupted error of the runs that have both, of one corrupted set; none with fewer than two."""
    points = [point for name, report in named.items() if (point := point_of(name, report)) is not None]
    same = [point for point in points if point.set == points[0].set]
    if len(same) < 2:
        return []
    others = [name for name in named if name not in {point.name for point in same}]
    note = f"Both errors are of the same images in all runs: {same[0].about}. The lines are 95 % intervals."
    left = [f"Without {', '.join(others)}: not both errors on these images."] if others else []
    rows = tuple((p.name, f"{100 * p.clean:.2f}", f"{100 * p.corrupted:.2f}") for p in same)
    pictured = Table(("network", "clean error, percent", "corrupted error, percent"), rows)
    picture = ("Clean against corrupted error: the lower and the further left, the better", comparison_picture(same))
    return [Section("Clean and corrupted error", (note, *left), pictures=(picture,), pictured=(pictured,))]


def _read(path: Path) -> Report:
    if not path.is_file():
        raise InputError(f"{path} is not there: expected an output folder of `apr-dali eval all`")
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
