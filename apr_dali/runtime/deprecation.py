"""Keywords that have a new name: the old one is taken for one version, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")


def renamed(
    old: str, new: str, convert: Callable[[Any], Any] | None = None
) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Decorator: keyword `old` of the function is its keyword `new`, and says so with a DeprecationWarning.

    convert: makes the new value of the old one.
    """

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        name = function.__qualname__.removesuffix(".__init__")

        @wraps(function)
        def call(*args: P.args, **given: P.kwargs) -> Result:
            if old in given:
                if new in given:
                    raise TypeError(f"{name}: {old} is the old name of {new}, got both: give {new} alone")
                value = given.pop(old)
                given[new] = value if convert is None else convert(value)
                said = f"{name}: {old}={value!r} is now {new}={given[new]!r}; the next version refuses {old}"
                warnings.warn(said, DeprecationWarning, stacklevel=2)
            return function(*args, **given)

        return call

    return decorate
