"""The names of a set's classes: in a classes.txt, as they must be, and as they are shown."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from apr_dali.errors import InputError, check_names

_NAMED = 5
"""How many of a long list of names an error message gives."""


def check_each_once(classes: Sequence[str]) -> None:
    """Raise InputError unless `classes` are several names, each of them once."""
    check_names("classes", classes)
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(f"classes must name each class once, got several times {some(twice)}")


def read_classes(path: str | Path) -> tuple[str, ...]:
    """The names that a classes.txt holds, UTF-8, one per line. Raises InputError unless each is there once."""
    return parse_classes(Path(path).read_bytes(), path)


def parse_classes(content: bytes, path: str | Path) -> tuple[str, ...]:
    """The same of the content of a classes.txt."""
    try:
        # With or without the mark that some editors put at the beginning.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from error
    # As files of text are read: a line ends with a line feed, a carriage return or both, and with nothing else.
    classes = tuple(line.strip() for line in io.StringIO(text, newline=None) if line.strip())
    if not classes or len(set(classes)) != len(classes):
        raise InputError(f"{path} must name each class once, one per line, got {len(classes)} lines")
    return classes


def format_classes(classes: Sequence[str]) -> bytes:
    """The content of a classes.txt. Raises InputError for a name that would be read as another."""
    unlike = [repr(name) for name in classes if not name or on_a_line(name) != name]
    if unlike:
        raise InputError(
            f"a line of classes.txt cannot hold {some(unlike)}: expected names in UTF-8, without line breaks and outer "
            "blanks; rename the folders"
        )
    return ("\n".join(classes) + "\n").encode()


def on_a_line(name: str) -> str:
    """The name as a line of a classes.txt holds it: without line breaks and outer blanks, in UTF-8.

    The name of a folder need not be that.
    """
    return re.sub("[\r\n]+", " ", name).strip().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_classes(
    where: str, own: Iterable[str], expected: Sequence[str] | None, allow_missing: bool = False, allow: str = ""
) -> None:
    """Raise InputError unless the classes are those expected. allow: what to do if only some are missing."""
    if expected is None:
        return
    have, want = set(own), set(expected)
    if have == want or (allow_missing and have < want):
        return
    differences = {"missing": sorted(want - have), "extra": sorted(have - want)}
    listed = "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in differences.items() if names)
    remedy = allow if have < want else ""
    raise InputError(f"{where} must have the training set's {len(want)} classes, got {len(have)} ({listed}){remedy}")


def some(names: Sequence[str]) -> str:
    """The first of a long list of names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
