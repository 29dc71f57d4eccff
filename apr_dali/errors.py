"""The one exception for input that a person can mend, and how a missing part is installed."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """What was given cannot be used: a path, an option, a file. Commands print it and end with status 2."""


def install_command(extra: str) -> str:
    """The command that installs this package with `extra`: from the clone that it runs from, else by its name."""
    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file():
        return f'pip install -e "{clone}[{extra}]"'
    return f'pip install "apr_dali[{extra}]"'
