"""A report's numbers for programs and papers: CSV with stable keys, and a LaTeX table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from apr_dali.eval.page import Table

COLUMNS = ("network", "evaluation", "number", "value", "low", "high")
_ESCAPED = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    # Behind the end of a row both have a meaning.
    **{character: f"{{{character}}}" for character in "[*"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
}
"""What LaTeX takes for commands, sets as another letter, or does not have."""


def csv_of(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each number of some reports, which are named by their networks: COLUMNS.

    `number` is its place in the JSON of the evaluation's result, with dots: `errors.fog.1` is that at the first of the
    severities, `errors.fog` the mean over them. `low` and `high` are the ends of its interval, where it has one.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for network, report in reports.items():
        for evaluation, result in report["evaluations"].items():
            numbers = {key: value for key, value in result.items() if key != "intervals"}
            intervals = dict(result.get("intervals", {}))
            ends = {**dict(_ends(intervals.pop("by_severity", {}))), **dict(_ends(intervals))}
            for name, value in _flat(numbers):
                low, high = map(repr, ends[name]) if name in ends else ("", "")
                writer.writerow((network, evaluation, name, repr(value), low, high))
    return text.getvalue()


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and value and all(type(item) in (int, float) for item in value):
        if all(isinstance(item, float) for item in value):
            yield place, sum(value) / len(value)
        for number, item in enumerate(value, 1):
            yield f"{place}.{number}", item


def _ends(intervals: Any, place: str = "") -> Iterator[tuple[str, list[float]]]:
    if isinstance(intervals, Mapping):
        for key, item in intervals.items():
            yield from _ends(item, f"{place}.{key}" if place else str(key))
    elif intervals and isinstance(intervals[0], list):
        for number, item in enumerate(intervals, 1):
            yield f"{place}.{number}", item
    else:
        yield place, list(intervals)


def latex_of(table: Table, caption: str) -> str:
    """A table of the package booktabs, the first column left, the others right."""
    head = [r"% \usepackage{booktabs}", r"\begin{table}", rf"\caption{{{escaped(caption)}}}"]
    return "\n".join([*head, tabular_of(table), r"\end{table}"]) + "\n"


def tabular_of(table: Table) -> str:
    """The same without its caption."""
    head = [rf"\begin{{tabular}}{{l{'r' * (len(table.titles) - 1)}}}", r"\toprule", _line(table.titles), r"\midrule"]
    return "\n".join([*head, *map(_line, table.rows), r"\bottomrule", r"\end{tabular}"])


def _line(cells: tuple[str, ...]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


def escaped(text: str) -> str:
    """The text as LaTeX sets it letter by letter."""
    return "".join(_ESCAPED.get(character, character) for character in text)
