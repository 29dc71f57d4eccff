"""What goes past DALI from one Python function to another, on the CPU: its number takes its place in the graph.

What a function of a graph returns, DALI copies into memory of its own: a pass over the batch. The last operator keeps
the batch for the loader and returns its number. What a function on a GPU has to know on the host goes this way, too.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Handover:
    """What was made for the batches of one pipeline and not taken yet: as much as the pipeline is ahead."""

    def __init__(self) -> None:
        # Its methods are atomic: batches are made on DALI's thread.
        self._made: deque[tuple[int, Any]] = deque()
        self._count = 0

    def put(self, batch: NDArray[Any]) -> list[NDArray[np.int64]]:
        """Keep a batch (N, ...); returns its number N times, (1,) each, as the samples that DALI wants to have."""
        return [np.full(1, self.keep(batch), np.int64)] * len(batch)

    def keep(self, made: Any) -> int:
        """Keep what was made for a batch; returns its number, from 0 on."""
        number = self._count
        self._count += 1
        self._made.append((number, made))
        return number

    def take(self, number: int) -> Any:
        """What has this number; what comes before it, which nobody took, is given up."""
        while True:
            its, made = self._made.popleft()
            if its == number:
                return made
