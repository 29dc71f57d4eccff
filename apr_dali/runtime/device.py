"""The ways to name a device, read in one place."""

from __future__ import annotations

import re
from typing import Any

from apr_dali.errors import InputError

_NAME = re.compile(r"(cpu|cuda|gpu)(?::(0|[1-9][0-9]*))?", re.ASCII)


def parse_device(device: Any) -> tuple[str, int | None]:
    """("cpu", None) or ("cuda", its number) of a device; the number is None where the name leaves it open.

    device: a `torch.device`, or a string: "cpu", "cuda", "cuda:1", and DALI's "gpu" and "gpu:1" for the same. Whether
        the device is there is not looked at.

    Raises:
        InputError: for anything else.
    """
    # A torch.device reads as the string that makes it; torch itself is not needed to take a string.
    known = isinstance(device, str) or type(device).__module__ == "torch"
    found = _NAME.fullmatch(str(device)) if known else None
    if found is None or (found[1] == "cpu" and found[2] not in (None, "0")):
        raise InputError(f'device must be a torch.device, "cpu", "cuda", "cuda:1" or DALI\'s "gpu", got {device!r}')
    if found[1] == "cpu":
        return "cpu", None
    return "cuda", None if found[2] is None else int(found[2])
