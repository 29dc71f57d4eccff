"""The command line of a trainer, made from the fields of its options (`apr_dali.config`)."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from apr_dali.config import GROUPS, flag
from apr_dali.errors import InputError

Options = TypeVar("Options")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. See --help")


def parse(
    kind: type[Options],
    description: str,
    argv: Sequence[str] | None = None,
    recipes: Mapping[str, dict[str, Any]] | None = None,
) -> Options:
    """The options that `argv` (default: the command line) gives, as the dataclass `kind`.

    recipes: other defaults by the value of --recipe, if `kind` has that option.

    Raises InputError for an unknown option, a value of the wrong type or out of range; prints --help and exits.
    """
    parser = build_parser(kind, description)
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        raise InputError(_unknown(unknown[0], [flag(item.name) for item in fields(kind)]))  # type: ignore[arg-type]
    chosen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in vars(given).items()
    }
    return kind(**{**(recipes or {}).get(chosen.get("recipe", ""), {}), **chosen})


def build_parser(kind: type[Any], description: str) -> argparse.ArgumentParser:
    """A parser with one option a field, under the headings that the fields name."""
    parser = _Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        # What is not given stays out of the result: the dataclass alone knows the defaults.
        argument_default=argparse.SUPPRESS,
    )
    hints = get_type_hints(kind)
    used = {item.metadata["group"] for item in fields(kind)}
    groups = {heading: parser.add_argument_group(heading) for heading in GROUPS if heading in used}
    for item in fields(kind):
        groups[item.metadata["group"]].add_argument(flag(item.name), **_argument(item, hints[item.name]))
    return parser


def _argument(item: Field[Any], hint: Any) -> dict[str, Any]:
    """What argparse's add_argument takes for a field of the type `hint`.

    That is bool, a plain type, a plain type | None whose default is None, or tuple[type, ...].
    """
    text = item.metadata["text"].replace("%", "%%")
    if hint is bool:
        return {"action": "store_true", "help": text}
    inner = get_args(hint)
    several = inner and get_origin(hint) is tuple
    defaults = item.default if isinstance(item.default, tuple) else (item.default,)
    shown = " ".join(str(value) for value in defaults if value is not None)
    return {
        "type": inner[0] if inner else hint,
        "nargs": "+" if several else None,
        "choices": item.metadata["choices"] or None,
        "metavar": item.metadata["metavar"],
        "help": f"{text} (default {shown})" if shown else text,
    }


def _unknown(argument: str, known: list[str]) -> str:
    near = difflib.get_close_matches(argument.partition("=")[0], known, n=1)
    hint = f"did you mean {near[0]}? See --help" if near else "see --help"
    return f"unknown argument {argument!r}: {hint}"
