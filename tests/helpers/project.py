"""Where the project lies, and what its API reference describes."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def in_the_reference() -> list[str]:
    """The modules that `make docs` describes."""
    listed = re.search(r"^API = \$\(addprefix apr_dali\.,(.*?)\)$", (ROOT / "Makefile").read_text(), re.M | re.S)[1]
    return [f"apr_dali.{name}" for name in listed.replace("\\", "").split()]


def imported(name: str) -> ModuleType:
    """The module; skips where it says that it needs a newer DALI."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if "needs DALI" in str(error):
            pytest.skip(str(error))
        raise
