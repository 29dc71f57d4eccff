"""Passes whose features stay on the disk until an evaluation is finished: one that was stopped goes on with them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from torch import nn

from apr_dali.eval.head import Head
from apr_dali.eval.outputs import Function, collect, features_of
from apr_dali.eval.passes import Source, counted, progress
from apr_dali.eval.rows import STEM, Rows, rows_in
from apr_dali.eval.session import Session
from apr_dali.runtime.distributed import on_main
from apr_dali.runtime.files import sync, write_whole

_VALUES = "values.npz"
_COUNTS, _WIDTH = "rows of processes", "numbers of a row"


@dataclass(frozen=True)
class KeptPass:
    """What a pass found of each image: features, where the network's last layer is known, and values (N, …) by name."""

    features: Rows
    values: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class KeptPasses:
    """Passes of one network, each made when it is first asked for, by all processes together.

    model: the session's, or a part of its classes. head: its last layer, whose inputs are the features; None where no
    score is of them. folder: where they are kept; of a name that no other network, set or question has, as
    `State.beside` gives it.
    """

    session: Session
    model: nn.Module
    head: Head | None
    folder: Path

    def of(self, source: Source, functions: Mapping[str, Function]) -> KeptPass:
        """The pass over a set, with the values of `functions`; of an earlier run where that came to its end."""
        place = self.folder / source.name
        if not on_main(self.session.group, lambda: _is_whole(place)):
            self._run(source, functions, place)
        return _read(place)

    def _run(self, source: Source, functions: Mapping[str, Function], place: Path) -> None:
        """Make the pass, in a folder that gets its name when it is whole."""
        group = self.session.group
        on_main(group, lambda: self.folder.mkdir(exist_ok=True))
        with rows_in(self.folder, source.name, group) as rows:
            with progress([source]) as bar, source.open() as batches:
                bar.set_description(f"features of {source.name}")
                values = collect(
                    self.model,
                    counted(batches, bar),
                    functions,
                    group.device,
                    self.session.amp,
                    head=self.head,
                    rows={} if self.head is None else {"the features": (features_of, rows)},
                )
            on_main(group, lambda: _put(rows, place, values))


def _put(rows: Rows, place: Path, values: Mapping[str, NDArray[Any]]) -> None:
    about: dict[str, Any] = {**values, _COUNTS: np.array(rows.counts, np.int64), _WIDTH: rows.width}
    new = rows.folder
    write_whole(new / _VALUES, lambda file: np.savez(file, **about))
    for path in (*new.iterdir(), new):
        sync(path)
    shutil.rmtree(place, ignore_errors=True)
    new.rename(place)
    sync(place.parent)


def _is_whole(place: Path) -> bool:
    try:
        return _read(place).features.are_whole()
    except (OSError, ValueError, KeyError, BadZipFile):  # not there, or damaged
        return False


def _read(place: Path) -> KeptPass:
    with np.load(place / _VALUES) as file:
        values = dict(file)
    counts, width = values.pop(_COUNTS), values.pop(_WIDTH)
    return KeptPass(Rows(place / STEM, counts.tolist(), int(width)), values)
