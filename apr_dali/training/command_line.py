"""The command line of a trainer, made from the fields of its options (`apr_dali.training.options`).

A command that reads a checkpoint takes from it what is not given: how the run was trained, not where its images are
nor how this machine works.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from apr_dali.errors import InputError
from apr_dali.runtime import checkpoint
from apr_dali.training.options import GROUPS, Recipe, flag
from apr_dali.training.options.declare import choices_of
from apr_dali.training.options.recipes import described

Options = TypeVar("Options")
_OF_A_START = ("data", "train", "val", "download", "check", "compile")
"""Beside those of the machine and of the run folder: what each start of a run is given anew."""
_OF_THE_BEGINNING = ("recipe", "weights")
"""What cannot be changed later in a run: it has been followed already."""
_OF_TRAINING = ("train", "train_weights", "progressive", "sampler", "sync_bn", "low_filters", "modulation_noise")
"""Beside those of its groups: what --eval-only would pass over."""
_GROUPS_OF_TRAINING = ("augmentation", "optimization", "adversarial training", "run")
_TELL = "help"
"""The value of --recipe that names none."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. See --help")


def parse(
    kind: type[Options],
    description: str,
    argv: Sequence[str] | None = None,
    recipes: Mapping[str, Recipe] | None = None,
) -> Options:
    """The options that `argv` (default: the command line) gives, as the dataclass `kind`.

    recipes: other defaults by the value of --recipe, if `kind` has that option; --recipe help prints them and exits.

    With --resume or --eval-only, options that are not given are those of the checkpoint; see `kept`.

    Raises InputError for an unknown option, a value of the wrong type or out of range, one of training with
    --eval-only; prints --help and exits.
    """
    parser = build_parser(kind, description)
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        raise InputError(_unknown(unknown[0], [flag(item.name) for item in fields(kind)]))  # type: ignore[arg-type]
    chosen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in vars(given).items()
    }
    named = chosen.get("recipe")
    if named == _TELL:
        print(described(recipes or {}))
        raise SystemExit(0)
    path = _checkpoint(chosen)
    if path is None:
        recipe = (recipes or {}).get(named or "", Recipe(""))
        return _made(kind, recipe.values, chosen, f"--recipe {named}" if recipe.values else "")
    known = _known(kind, path)
    for name in _OF_THE_BEGINNING:
        began = known.get(name, getattr(kind, name, None))
        if chosen.get(name, began) != began:
            raise InputError(
                f"{path} is of a run that began with {flag(name)} {_shown(began)}: "
                f"{flag(name)} {_shown(chosen[name])} needs a new run"
            )
    if chosen.get("eval_only"):
        _refuse_training(kind, chosen, known)
    return _made(kind, known, chosen, f"the checkpoint {path}")


def _refuse_training(kind: type[Any], chosen: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise InputError for options of training in `chosen`, unless they say what the checkpoint's run had."""
    passed = [
        flag(item.name)
        for item in fields(kind)
        if _is_of_training(item) and item.name in chosen and chosen[item.name] != known.get(item.name, _began(item))
    ]
    if passed:
        verb, them = ("changes", "it") if len(passed) == 1 else ("change", "them")
        raise InputError(f"{', '.join(passed)} {verb} nothing with --eval-only, which trains nothing: leave {them} out")


def _began(item: Field[Any]) -> Any:
    """What a run had of an option that its checkpoint lacks: the default if it is an older one, else nothing known."""
    return item.default if kept(item) else None


def _is_of_training(item: Field[Any]) -> bool:
    if item.name in ("batch_size", "eval_only", *_OF_THE_BEGINNING):
        return False
    return item.metadata["group"] in _GROUPS_OF_TRAINING or item.name in _OF_TRAINING


def _made(kind: type[Options], known: Mapping[str, Any], chosen: Mapping[str, Any], source: str) -> Options:
    """The options `chosen`, and of the others those that are `known` from `source`, "" where none are."""
    try:
        return kind(**{**known, **chosen})
    except InputError as error:
        told = f" (what is not given is taken from {source})" if source else ""
        raise InputError(f"{error}{told}") from error


def kept(item: Field[Any]) -> bool:
    """Whether a checkpoint's value of this option is the default of a command that reads the checkpoint."""
    if item.name in _OF_THE_BEGINNING:
        return True
    return item.metadata["group"] not in ("machine", "run") and item.name not in _OF_A_START


def changes(before: Mapping[str, Any], options: Any) -> list[str]:
    """What differs between the options of a checkpoint and those of the run that continues it: "--lr 0.1 → 0.2"."""
    return [
        f"{flag(item.name)} {_shown(before[item.name])} → {_shown(getattr(options, item.name))}"
        for item in fields(options)
        if kept(item) and before.get(item.name, getattr(options, item.name)) != getattr(options, item.name)
    ]


def _checkpoint(chosen: Mapping[str, Any]) -> Path | None:
    """The checkpoint that the command line names; None if there is none, or not a single one."""
    resume, validated = chosen.get("resume"), chosen.get("eval_only")
    if resume and validated:
        return None
    if resume == "auto":
        return checkpoint.find_latest(Path(chosen["output"])) if chosen.get("output") else None
    path = Path(resume or validated or "")
    return path if path.is_file() else None


def _known(kind: type[Any], path: Path) -> dict[str, Any]:
    """The options of the checkpoint `path` that hold for a command that reads it."""
    theirs = checkpoint.load_options(path)
    foreign = sorted(set(theirs) - {item.name for item in fields(kind)})
    if foreign:
        raise InputError(
            f"{path} was not written by this trainer, or by a later version: it has {', '.join(map(flag, foreign))}"
        )
    return {item.name: theirs[item.name] for item in fields(kind) if kept(item) and item.name in theirs}


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "none"


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
        # Both ways: a checkpoint may have switched it on.
        return {"action": argparse.BooleanOptionalAction, "help": text}
    inner = get_args(hint)
    several = inner and get_origin(hint) is tuple
    defaults = item.default if isinstance(item.default, tuple) else (item.default,)
    shown = " ".join(str(value) for value in defaults if value is not None)
    return {
        "type": inner[0] if inner else hint,
        "nargs": "+" if several else "?" if item.metadata["bare"] else None,
        "const": item.metadata["bare"],
        "choices": (*choices_of(item), *[_TELL] * (item.name == "recipe")) or None,
        "metavar": item.metadata["metavar"],
        "help": f"{text} (default {shown})" if shown else text,
    }


def _unknown(argument: str, known: list[str]) -> str:
    near = difflib.get_close_matches(argument.partition("=")[0], known, n=1)
    hint = f"did you mean {near[0]}? See --help" if near else "see --help"
    return f"unknown argument {argument!r}: {hint}"
