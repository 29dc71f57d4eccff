"""How an option is declared: a dataclass field that knows its heading, help, choices and range, and their checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from apr_dali.errors import InputError, check_choice

GROUPS = ("data", "augmentation", "network", "optimization", "adversarial training", "machine", "run")
"""The headings of --help, in their order."""
MISSING_CLASSES = "validation images of some of the training classes will do; other classes are refused as ever"
"""Help of --allow-missing-classes."""


def option(
    group: str,
    default: Any,
    text: str,
    *,
    choices: tuple[object, ...] | Callable[[], tuple[object, ...]] = (),
    low: float | None = None,
    high: float | None = None,
    metavar: str | None = None,
    bare: str | None = None,
) -> Any:
    """A dataclass field that is also an option of the command line.

    group: the heading it stands under in --help. text: its help. choices: the allowed values, () for any,
    or what gives them when they are asked for.
    low, high: the allowed range, both ends included. metavar: what --help calls the value. bare: the value where the
    option stands without one, None where it must have one.
    """
    details = {"group": group, "text": text, "choices": choices, "low": low, "high": high}
    return field(default=default, metadata={**details, "metavar": metavar, "bare": bare})


def redeclare(kind: type[Any], name: str, default: Any) -> Any:
    """The field `name` of the dataclass `kind` with another default."""
    (item,) = (item for item in fields(kind) if item.name == name)
    return field(default=default, metadata=item.metadata)


def choices_of(item: Field[Any]) -> tuple[object, ...]:
    """The allowed values of a field that `option` declared, () for any."""
    choices = item.metadata["choices"]
    return tuple(choices() if callable(choices) else choices)


def check_options(options: Any) -> None:
    """Raise InputError unless each field of the dataclass `options` is among its choices and in its range."""
    for item in fields(options):
        value, name = getattr(options, item.name), flag(item.name)
        choices, low, high = choices_of(item), item.metadata["low"], item.metadata["high"]
        if choices:
            check_choice(name, value, choices)
        if value is None:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            # "not (number >= low)" instead of "number < low": it also refuses nan.
            if low is not None and not number >= low:
                raise InputError(f"{name} must be at least {low}, got {number}")
            if high is not None and not number <= high:
                raise InputError(f"{name} must be at most {high}, got {number}")


def flag(name: str) -> str:
    """The option of the command line that sets the field `name`."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Options:
    """What every group of options derives from. A group checks itself in `__post_init__`, after its base's checks."""

    def __post_init__(self) -> None:
        check_options(self)

    def changed(self, name: str) -> bool:
        """Whether the option has another value than its default."""
        return bool(getattr(self, name) != getattr(type(self), name))

    def refuse(self, name: str, usable: bool, needed: str) -> None:
        """Raise InputError if the option was changed and is not `usable`, that is, changes nothing without `needed`."""
        if not usable and self.changed(name):
            raise InputError(f"{flag(name)} changes nothing here: it needs {needed}")
