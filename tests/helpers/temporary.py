"""A temporary folder of a session's own, with its workers and what they start: DALI's files of a killed process remain.

pytest's own folders stay where they were, for a look at what a test has left.
"""

from __future__ import annotations

import os
import shutil
import tempfile

_LEADS = "PYTEST_XDIST_WORKER" not in os.environ

if _LEADS:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="apr_dali-tests-")


def pytest_unconfigure() -> None:
    """Hook of pytest."""
    if _LEADS:
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
