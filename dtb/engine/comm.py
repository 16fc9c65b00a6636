"""How spikes travel between ranks. One process needs no travel; many ranks are the subject of `cluster`."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Communicator(Protocol):
    """rank and size as in MPI; epoch: steps between two exchanges, at most the shortest delay between neurons on
    different ranks, or None where ranks need never meet.
    """

    rank: int
    size: int
    epoch: int | None

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Element by element over ranks: what was emitted here arrives elsewhere."""


class LocalComm:
    """All neurons in one process."""

    rank, size, epoch = 0, 1, None

    def sum(self, values: np.ndarray) -> np.ndarray:
        return values
