"""Temporary and cache folders of a session's own, with its workers and what they start: DALI's files of a killed
process remain, and what an earlier session has kept must not be found.

pytest's own folders stay where they were, for a look at what a test has left.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from multiprocessing.util import Finalize

if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="apr_dali-tests-")
    os.environ["XDG_CACHE_HOME"] = os.path.join(tempfile.tempdir, "cache")
    # After multiprocessing has removed its folder in there, at -100.
    Finalize(None, shutil.rmtree, (tempfile.tempdir,), {"ignore_errors": True}, exitpriority=-200)
