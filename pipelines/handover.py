"""Batches that go from a graph's last operator straight to the loader, on the CPU.

What a Python function of a graph returns, DALI copies into memory of its own: a pass over the batch. Here the function
keeps the batch and returns its number, which takes its place among the graph's outputs.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Handover:
    """The batches of one pipeline that were made and not taken yet: as many as the pipeline is ahead."""

    def __init__(self) -> None:
        # Its methods are atomic: batches are made on DALI's thread.
        self._made: deque[tuple[int, NDArray[Any]]] = deque()
        self._count = 0

    def put(self, batch: NDArray[Any]) -> list[NDArray[np.int64]]:
        """Keep a batch (N, ...); returns its number N times, (1,) each, as the samples that DALI wants to have."""
        number = np.full(1, self._count, np.int64)
        self._count += 1
        self._made.append((int(number[0]), batch))
        return [number] * len(batch)

    def take(self, number: int) -> NDArray[Any]:
        """The batch of this number; those before it, which nobody took, are given up."""
        while True:
            made, batch = self._made.popleft()
            if made == number:
                return batch
