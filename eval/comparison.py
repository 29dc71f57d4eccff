"""Several runs of `benchmark` side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from apr_dali.errors import InputError
from apr_dali.eval.page import Section, write_pages
from apr_dali.eval.report import Report, compared, runs
from apr_dali.runtime.files import make_output
from apr_dali.runtime.text_table import table


def compare(given: Sequence[str | Path], output: str | Path) -> str:
    """Write compare.html and compare.md about several runs into the folder `output`; the table as text.

    given: output folders of `benchmark`, or their report.json. InputError for one that is none.
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
    write_pages(make_output(output), "compare", "Networks side by side", parts)
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
