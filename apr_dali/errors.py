"""The one exception for input that a person can correct, the checks that raise it, how a missing part is installed."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Hashable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """What was given cannot be used: a path, an option, a file. Commands print it and end with status 2."""


def first_line(error: BaseException) -> str:
    """What an error of others says, in one line: its type where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def install_command(extra: str) -> str:
    """The command that installs this package with `extra`: from the clone that it runs from, else by its name."""
    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file():
        return f'pip install -e "{clone}[{extra}]"'
    return f'pip install "apr_dali[{extra}]"'


_STACK = {"torch": "torch", "torchvision": "torchvision", "nvidia": "DALI"}
"""What this package is made of, by the names that Python imports."""


def what_is_missing(error: ModuleNotFoundError) -> str:
    """In words, where a part of the stack is not installed; "" where it is another module that was not found."""
    title = _STACK.get((error.name or "").partition(".")[0])
    return f"{title}, which is not installed: {install_command('cuda12')}, and see `apr-dali doctor`" if title else ""


def check_words(argv: Sequence[str]) -> None:
    """Raise InputError for an empty word of a command line: a path would be the current folder, an option not given."""
    for before, word in zip(("", *argv), argv, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            place = f"after {before}" if before and not word else f"of {word}" if word else "at the beginning"
            raise InputError(
                f"the argument {place} is empty, as a variable of the shell is that is not set: "
                "give it a value, or leave the option out"
            )


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    # An array would be compared number by number.
    if not isinstance(value, Hashable) or value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def check_whole(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise InputError unless `value` is a whole number in low..high, both included."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    # True is a number to Python, and a mistake here.
    if number is None or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    if number < low:
        raise InputError(f"{name} must be at least {low}, got {number}")
    if high is not None and number > high:
        raise InputError(f"{name} must be at most {high}, got {number}")


def check_names(name: str, values: Any) -> None:
    """Raise InputError unless `values` is a list of texts."""
    expected = f"{name} must be a list of names"
    # A text is a list of its letters to Python.
    if isinstance(values, (str, bytes)):
        raise InputError(f"{expected}, got the text {values!r}")
    if not isinstance(values, Collection) or not all(isinstance(value, str) for value in values):
        raise InputError(f"{expected}, got {values!r}")


def check_number(name: str, value: Any, *, positive: bool = False) -> None:
    """Raise InputError unless `value` is a finite number of at least 0, above it if `positive`."""
    real = isinstance(value, Real)
    # "not (0 <= value)": it also refuses nan.
    if not real or not 0 <= value < math.inf or (positive and value == 0):
        expected = "a positive number" if positive else "a number of at least 0"
        raise InputError(f"{name} must be {expected}, got {value!r}")


def check_share(name: str, value: float) -> None:
    """Raise InputError unless `value` is in 0..1."""
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise InputError(f"{name} must be in 0..1, got {value!r}")
