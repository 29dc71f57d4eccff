"""The instruction sets of the native extension that this machine can run; none where it was not built."""

from collections.abc import Callable, Iterator

from apr_dali.kernels.cpu import backend as native_backend

EachLevel = Callable[[], Iterator[str]]
"""Of the fixture `each_level`."""

try:
    LEVELS: list[str] = list(native_backend.load("").supported())
    MISSING = ""
except ImportError as error:
    LEVELS, MISSING = [], f"the extension is not there: {error}"
