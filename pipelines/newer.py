"""What only newer versions of DALI have: imported with a sentence about the version that is needed."""

from __future__ import annotations

import importlib
from typing import Any

from nvidia import dali


def require(module: str, version: str, also: str = "") -> Any:
    """The module of DALI, which it has from `version` on; also: another package that the module needs.

    Raises:
        ImportError: where it cannot be imported, with what is needed and what is there.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        besides = f" and {also} (pip install {also})" if also else ""
        raise ImportError(
            f"{module} needs DALI {version} or newer{besides}, found {dali.__version__}: {error}"
        ) from error
