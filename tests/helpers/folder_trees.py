"""Folders of empty files, and what opening them gives or says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apr_dali.data.folders import ImageSet, TarSet, open_set
from apr_dali.errors import InputError


def make_tree(root: Path, *paths: str) -> Path:
    """Empty files at `paths` below `root`; a path that ends with / is a folder."""
    for path in paths:
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    return root


def files_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def relative(found: ImageSet | TarSet, root: Path) -> list[tuple[str, int]]:
    assert isinstance(found, ImageSet)
    return [(os.path.relpath(f, root), int(n)) for f, n in zip(found.files, found.labels, strict=True)]


def assert_fails(match: str, *args: object, **kwargs: object) -> str:
    with pytest.raises(InputError, match=match) as caught:
        open_set(*args, **kwargs)  # type: ignore[arg-type]
    return str(caught.value)
