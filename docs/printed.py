"""Tables of the documentation that are printed from code, and the places where they stand."""

from __future__ import annotations

import re
from pathlib import Path


def with_table(page: Path, name: str, table: str) -> str:
    """The text of `page` with `table` between <!-- name --> and <!-- end of name -->."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    place = re.compile(rf"(?<={re.escape(start)}\n).*(?={re.escape(end)})", re.S)
    found, count = place.subn(lambda _: table, page.read_text())
    if count != 1:
        raise ValueError(f"{page} has no place for the table: expected one {start} … {end}")
    return found
