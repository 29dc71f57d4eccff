"""A page of sections with tables and pictures, as HTML and as Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from apr_dali.eval.bootstrap import error_interval
from apr_dali.runtime.files import write_whole


@dataclass(frozen=True)
class Table:
    """A table of text. rows: each as long as `titles`; the first column names, the others are numbers, or `words`."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading, notes in sentences, tables, and captions of pictures with their PNG.

    pictured: tables that say what the pictures show, for Markdown, which has no pictures.
    """

    title: str
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[tuple[str, bytes], ...] = ()
    pictured: tuple[Table, ...] = ()


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child, table.words td, table.words th { text-align: left; }
td:not(:first-child) { white-space: nowrap; } table.words td:first-child { min-width: 7rem; }
table.words td:not(:first-child) { white-space: normal; overflow-wrap: anywhere; }
tbody tr:nth-child(even) { background: var(--faint); }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; background: white; }
@media (max-width: 40rem) {
  table { font-size: .8rem; } th, td { padding: .25rem .35rem; }
  .scroll img { max-width: none; width: 40rem; }
}
figcaption { font-size: .85rem; opacity: .75; }
.whole { white-space: nowrap; }
.ends { display: block; font-size: .85em; opacity: .75; }
@media print {
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; } table { font-size: 8pt; } th, td { padding: .2rem .4rem; }
  .scroll { overflow: visible; } th { overflow-wrap: anywhere; }
  tr, p, figure { break-inside: avoid; } h2, section > p, thead, tr:nth-child(-n+2) { break-after: avoid; }
  tr:nth-last-child(-n+2) { break-before: avoid; }
  img { max-height: 20cm; }
}
"""


def html(title: str, parts: Sequence[Section]) -> str:
    """One page in one file: style and pictures are inside, and it needs no script."""
    body = "\n".join(_html_section(part) for part in parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{_html_title(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html_section(part: Section) -> str:
    lines = [f"<section>\n<h2>{escape(part.title)}</h2>", *(f"<p>{escape(note)}</p>" for note in part.notes)]
    for table in part.tables:
        words = ' class="words"' if table.words else ""
        head = "".join(f'<th scope="col">{_html_title(cell)}</th>' for cell in table.titles)
        rows = "\n".join(
            "<tr>" + "".join(f"<td>{_html_cell(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
        )
        body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
        lines.append(f'<div class="scroll" tabindex="0"><table{words}>\n{body}\n</table></div>')
    for title, png in part.pictures:
        data = base64.b64encode(png).decode()
        caption = f"<figcaption>{escape(title)}</figcaption>"
        image = f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
        lines.append(f'<figure><div class="scroll" tabindex="0">{image}</div>{caption}</figure>')
    return "\n".join([*lines, "</section>"])


def _html_title(text: str) -> str:
    """The text, which may go on in another line behind a slash: a network's path may be long, its numbers are short."""
    return escape(text).replace("/", "/<wbr>")


def _html_cell(text: str) -> str:
    """The text, an interval behind a number in a line of its own, options of commands in one piece."""
    shown = re.sub(r" (\(-?[\d.]+ to -?[\d.]+\))$", r'<span class="ends"> \1</span>', escape(text))
    return re.sub(r"(?<!\S)--[\w-]{1,20}(?!\S)", r'<span class="whole">\g<0></span>', shown)


def markdown(title: str, parts: Sequence[Section]) -> str:
    """The same as Markdown, without the pictures."""
    lines = [f"# {_plain(title)}"]
    for part in parts:
        lines += ["", f"## {_plain(part.title)}", *("\n" + _plain(note) for note in part.notes)]
        for table in (*part.pictured, *part.tables):
            rule = "---" if table.words else "---:"
            lines += ["", _line(table.titles), f"| --- |{f' {rule} |' * (len(table.titles) - 1)}"]
            lines += [_line(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
    """The text on one line, its letters without the meaning that Markdown gives them."""
    marked = re.sub(r"[\\`*<|~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)", r"\\\g<0>", text)
    return marked.replace("\n", " ")


def write_pages(folder: Path, name: str, title: str, parts: Sequence[Section]) -> None:
    """Write the page as NAME.html and as NAME.md into `folder`."""
    write_whole(folder / f"{name}.html", html(title, parts).encode())
    write_whole(folder / f"{name}.md", markdown(title, parts).encode())


def percent(share: float | None) -> str:
    """A share in 0..1 as percent, – for None."""
    return "–" if share is None else f"{100 * share:.2f} %"


def interval_text(ends: Sequence[float], scale: float = 1, digits: int = 2) -> str:
    """The ends of an interval, times `scale`."""
    low, high = ends
    return f"{scale * low:.{digits}f} to {scale * high:.{digits}f}"


def with_interval(text: str, ends: Sequence[float] | None, scale: float = 1, digits: int = 2) -> str:
    """A number in words, with its interval where it has one."""
    return text if ends is None else f"{text} ({interval_text(ends, scale, digits)})"


def error_bounds(measure: str, result: Mapping[str, Any]) -> dict[str, str]:
    """The interval of the error, by the name `measure`, of a result that has that of top-1; none where it has none."""
    if "intervals" not in result:
        return {}
    return {measure: interval_text(error_interval(result["intervals"]["top1"]), 100)}


def spaced(name: str) -> str:
    """A name in words."""
    return name.replace("_", " ")


def tenths(value: float | None) -> str:
    """A number to one digit, – for None."""
    return "–" if value is None else f"{value:.1f}"
