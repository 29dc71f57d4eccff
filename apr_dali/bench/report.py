"""The benchmark for people: the headline, tables at 80 columns, one picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from apr_dali.bench.measure import Part
from apr_dali.bench.rows import APR, BESIDE, LEFT_OUT, PUBLISHED, READING, SIZES, WAYS
from apr_dali.runtime.figures import new_figure, png_of

_WIDTH = 80
_BUSY = 0.1
_COLORS = {"none": "0.35", "apr": "C0", "published": "C3", "other": "C7"}

Record = dict[str, Any]
"""One of `apr_dali.bench.measure.records`."""


def headline(records: Sequence[Record]) -> str:
    """What APR costs over no augmentation, in percent of its time and of its CPU time; "" if that was not measured."""
    lines = []
    for (way, size), group in _groups(records).items():
        for prefix, title in (("", f"{way}, {size} px"), (PUBLISHED, f"{way}, {size} px, published")):
            costs = {_aug(record): record for record in group if "overhead" in record}
            cells = [_cost(costs.get(prefix + aug)) for aug in APR]
            if any(cells):
                lines.append(_headline_line(title, cells))
    return "\n".join([_headline_line("Time over none (CPU time)", APR), *lines]) if lines else ""


def _cost(record: Record | None) -> str:
    return "" if record is None else f"{record['overhead']:+.0%} ({record['overhead_cpu']:+.0%})"


def _headline_line(title: str, cells: Sequence[str]) -> str:
    return f"{title:32}{''.join(f'{cell:>16}' for cell in cells)}".rstrip()


def table(result: Mapping[str, Any]) -> str:
    """The whole result as text: headline, a table for each way and size, what the numbers mean."""
    machine, settings = result["machine"], result["settings"]
    parts = [headline(result["rows"])]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    parts.append(
        f"{machine['cpu']}, {machine['cores']} cores{gpu}\n"
        f"medians of {settings['rounds']} interleaved rounds of {settings['seconds']:g} s; ± is half their range"
    )
    if len(result.get("stored", {})) > 1:
        parts.append(_stored_line(result["stored"]))
    parts += [_group_table(way, size, group) for (way, size), group in _groups(result["rows"]).items()]
    parts.append("\n".join(line for note in _notes(result["rows"]) for line in textwrap.wrap(note, _WIDTH)))
    return "\n\n".join(part for part in parts if part)


def _stored_line(stored: Mapping[str, float]) -> str:
    """stored: kB of a photograph, by how it lies on disk."""
    sizes = [f"as it came {stored['']:.0f} kB"]
    sizes += [f"re-encoded to {kind} px {stored[kind]:.0f} kB" for kind in ("500", "256") if kind in stored]
    return f"A photograph has {', '.join(sizes)} on average."


def _group_table(way: str, size: int, group: Sequence[Record]) -> str:
    first = group[0]
    unit = "thread" if way.startswith("dali") else "worker"
    on_gpu = any("gpu_mib" in record for record in group)
    threads = f"{first['threads']} {unit}{'s' if first['threads'] > 1 else ''}"
    lines = [f"{WAYS[way]}, {size} px, batch {first['batch']}, {threads}"]
    titles = ("images/s", "±", "over none", "ms", "CPU ms", "MiB", *(("GPU MiB",) if on_gpu else ()))
    lines.append(_line("", titles))
    for record in group:
        cells = [f"{record['images_per_s']:.0f}", f"{record['spread']:.0%}"]
        cells.append(f"{record['overhead']:+.0%}" if "overhead" in record else "")
        cells += [f"{record[key]:.3g}" for key in ("ms", "cpu_ms")]
        cells += [f"{record[key]:.0f}" for key in ("peak_mib", "gpu_mib") if key in record]
        lines.append(_line(_aug(record), cells))
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str]) -> str:
    widths = (9, 6, 10, 8, 8, 7, 8)
    return (f"  {name:18}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))).rstrip()


def _notes(records: Sequence[Record]) -> list[str]:
    notes = [
        "ms and CPU ms are an image's; CPU ms of all threads and workers. MiB: sum of the peaks of process and "
        "workers; what they share counts for each.",
    ]
    augs = {_aug(record).removeprefix(PUBLISHED) for record in records}
    if augs & {"apr-p", "apr-sp"}:
        notes.append(
            "APR-P mixes every batch here; the published recipes mix 50 % (ImageNet) and 60 % (CIFAR), "
            "so that training pays less. It gives two views of an image, and one where it does not mix."
        )
    if "augmix" in augs:
        notes.append("AugMix gives three views of an image.")
    spread = max(record["spread"] for record in records)
    if spread > _BUSY:
        notes.append(
            f"The rounds differ by up to ±{spread:.0%}: the machine was busy. Times tell little then, CPU times more."
        )
    left = "; ".join(f"{pattern}: {reason}" for pattern, reason in LEFT_OUT)
    return [*notes, f"Not shown, since they make no sense: {left}; {BESIDE}; {READING}."]


def stage_table(found: Sequence[Part], threads: int, title: str) -> str:
    """Where the time goes, as text."""
    whole = found[-1]
    lines = [title, f"  {'':12}{'ms':>9}{'share':>8}{'CPU ms':>10}{'share':>8}"]
    for part in found:
        cpu = "" if part.stage == "wait" else f"{part.cpu_ms:10.3f}{part.cpu_ms / whole.cpu_ms:8.0%}"
        lines.append(f"  {part.stage:12}{part.ms:9.3f}{part.ms / whole.ms:8.0%}{cpu}")
    note = (
        "By difference: the pipeline was ended after each stage in turn, and a stage is what it adds, an image. "
        "Stages overlap, so one that takes CPU time may add no time, and noise may make one negative. "
        f"wait is part of the whole: time in which the {threads} threads had nothing to do or no core, on average."
    )
    return "\n".join([*lines, "", *textwrap.wrap(note, _WIDTH)])


def picture(result: Mapping[str, Any]) -> bytes:
    """Images a second of every row with the range over the rounds, a panel a way and size: a PNG file."""
    groups = _groups(result["rows"])
    ways = [way for way in WAYS if any(way == group[0] for group in groups)]
    sizes = [size for size in SIZES if any(size == group[1] for group in groups)]
    longest = {way: max(len(group) for (w, _), group in groups.items() if w == way) for way in ways}
    figure = new_figure(5.6 * len(sizes), 1.1 + sum(0.26 * longest[way] + 0.55 for way in ways))
    grid = figure.subplots(len(ways), len(sizes), squeeze=False, height_ratios=[longest[way] + 1.5 for way in ways])
    for row, way in enumerate(ways):
        for column, size in enumerate(sizes):
            _panel(grid[row, column], groups.get((way, size), []), f"{WAYS[way]}, {size} px")
    machine = result["machine"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    figure.suptitle(
        f"Images per second, and time over none\n{machine['cpu']}, {machine['cores']} cores{gpu}", fontsize=10
    )
    return png_of(figure)


def _panel(axes: Any, group: Sequence[Record], title: str) -> None:
    if not group:
        axes.axis("off")
        return
    rates = [record["images_per_s"] for record in group]
    every = [[one["images_per_s"] for one in record["rounds"]] for record in group]
    reach = [
        [rate - min(rounds) for rate, rounds in zip(rates, every, strict=True)],
        [max(rounds) - rate for rate, rounds in zip(rates, every, strict=True)],
    ]
    colors = [_COLORS[_kind(_aug(record))] for record in group]
    axes.barh(range(len(group)), rates, xerr=reach, color=colors, height=0.75, error_kw={"linewidth": 1})
    longest = max(max(rounds) for rounds in every)
    for place, (record, rounds) in enumerate(zip(group, every, strict=True)):
        text = f"{record['images_per_s']:,.0f}" + (f"  ({record['overhead']:+.0%})" if "overhead" in record else "")
        axes.text(max(rounds) + 0.015 * longest, place, text, va="center", fontsize=7)
    axes.set_yticks(range(len(group)), [_aug(record) for record in group], fontsize=8)
    axes.set_ylim(len(group) - 0.4, -0.6)
    axes.set_xlim(0, 1.3 * longest)
    axes.set_title(title, fontsize=9)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _kind(aug: str) -> str:
    if aug.startswith(PUBLISHED):
        return "published"
    return "apr" if aug in APR else "none" if aug == "none" else "other"


def _groups(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    """The records by way and size, the sizes one after the other."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        way, _, size = record["name"].split("/")
        found.setdefault((way, int(size)), []).append(record)
    return found


def _aug(record: Record) -> str:
    return str(record["name"].split("/")[1])
