"""The instruction sets of the native extension that this machine can run; none where it was not built."""

from apr_dali.kernels.cpu import backend as native_backend

try:
    LEVELS: list[str] = list(native_backend.load("").supported())
    MISSING = ""
except ImportError as error:
    LEVELS, MISSING = [], f"the extension is not there: {error}"
