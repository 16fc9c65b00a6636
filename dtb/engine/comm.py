"""How spikes travel between ranks. One process needs no travel; many ranks are the subject of `cluster`."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Communicator(Protocol):
    """rank and size as in MPI. `exchange` is called once per epoch and is the only place where ranks meet.

    epoch: steps between two exchanges, at most the shortest delay between neurons on different ranks; None where
    ranks need never meet.
    """

    rank: int
    size: int
    epoch: int | None

    def exchange(self, step: np.ndarray, gid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hand over this rank's spikes of the last epoch; get those of the others, ordered by step, then gid."""

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Element by element over ranks: counters, digests."""


class LocalComm:
    """All neurons in one process."""

    rank, size, epoch = 0, 1, None

    def exchange(self, step: np.ndarray, gid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return step[:0], gid[:0]

    def sum(self, values: np.ndarray) -> np.ndarray:
        return values
