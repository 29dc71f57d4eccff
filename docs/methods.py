"""The augmentations beside APR as a table: printed for docs/augmentations.md from the registry; a test holds it.

python docs/methods.py    write the table anew
"""

from __future__ import annotations

from pathlib import Path

from printed import with_table

from apr_dali.augmentations import NAMES, Augmentation, find

PAGE = Path(__file__).with_name("augmentations.md")


def _images(record: Augmentation) -> str:
    if record.takes == "levels":
        return "uint8"
    return "any, 0..1" if record.unit else "any"


def _views(record: Augmentation) -> str:
    shown: dict[str, list[str]] = {}
    for recipe in record.recipes:
        shown.setdefault(f"{recipe.views}, {recipe.objective}", []).append(recipe.dataset)
    return "; ".join(f"{what} ({', '.join(datasets)})" for what, datasets in shown.items())


def table() -> str:
    """A row for each augmentation, in Markdown."""
    lines = ["| name | paper | images | mixes | views, objective |", "|---|---|---|---|---|"]
    for name in NAMES:
        record = find(name)
        cells = (f"`{name}`", record.paper, _images(record), "yes" if record.partner else "no", _views(record))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/augmentations.md with the table as it is now."""
    return with_table(PAGE, "methods", table())


if __name__ == "__main__":
    PAGE.write_text(page())
