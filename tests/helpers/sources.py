"""What `apr-dali prepare` makes of a source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from apr_dali.data.prepare.sources import open_source
from apr_dali.errors import InputError


def refused(source: Path, told: str, **options: object) -> None:
    """Assert that it is refused in words that hold `told`."""
    with pytest.raises(InputError, match=re.escape(told)):
        open_source(source, **options)


def labels(source: Path, split: str = "val", **options: object) -> dict[str, str]:
    """The class of each image by its name."""
    found = open_source(source, **options)
    return {item.name: found.classes[item.label] for item in found.splits[split]}
