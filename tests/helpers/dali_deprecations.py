"""A run fails that has met a deprecation of DALI's own, each of which it tells with the first test that met it.

DALI sets the filters of warnings anew wherever it warns, so that pytest's `filterwarnings` do not make errors of them.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest

_FOUND: dict[str, str] = {}


def of_dali(message: warnings.WarningMessage) -> bool:
    """Whether it is a deprecation by DALI: its own code warns, in these words or by this kind."""
    kind = issubclass(message.category, (DeprecationWarning, FutureWarning))
    return "nvidia/dali/" in message.filename and (kind or bool(re.search("deprecated", str(message.message))))


def pytest_warning_recorded(warning_message: warnings.WarningMessage, nodeid: str) -> None:
    """Hook of pytest; of all workers on the one that leads them, too."""
    if of_dali(warning_message):
        _FOUND.setdefault(str(warning_message.message), nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: Any) -> None:
    """Hook of pytest."""
    if _FOUND and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def tell(terminalreporter: Any) -> None:
    """Write what was found below the results."""
    if _FOUND:
        terminalreporter.section("deprecations of DALI, which fail the run")
        for message, nodeid in _FOUND.items():
            terminalreporter.write_line(f"{nodeid or 'outside of tests'}: {message}")
