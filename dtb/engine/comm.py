"""How ranks meet: spikes once per epoch, sums and lists once per chunk. The ranks themselves are in `cluster`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import numpy as np

from dtb.engine.partition import Partition
from dtb.engine.routes import Routes
from dtb.network.network import Network
from dtb.network.tiles import Tiles

Outgoing = Callable[[np.ndarray], np.ndarray]  # tiles → their spikes as uint16, see `cpu_spikes.pack`
Incoming = Callable[[np.ndarray, np.ndarray], None]  # tiles (-1: not wanted) and such a message


class Exchange(Protocol):
    """Of spikes between ranks, for one simulation."""

    @property
    def waited_s(self) -> float:
        """Wall time that was spent waiting for others, copies apart."""

    def send(self, outgoing: Outgoing) -> None:
        """Begin to send spikes of this rank; they are read before this returns."""

    def poke(self) -> bool:
        """Let messages go on, which many MPI libraries do only when they are called; whether all are through."""

    def receive(self, incoming: Incoming) -> None:
        """Wait for what all others sent, and hand it over."""


class Communicator(Protocol):
    """rank and size as in MPI; local_ranks: those on this machine, with which this one shares its memory; cores: that
    this rank may use, its part of those it shares with others; whole: False where one rank rehearses, alone.

    All ranks call the same methods in the same order.
    """

    rank: int
    size: int
    local_ranks: int
    whole: bool

    @property
    def cores(self) -> int: ...

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Element by element over ranks; integers, so that the order of ranks cannot matter."""

    def gather(self, values: np.ndarray) -> list[np.ndarray]:
        """Arrays of all ranks, as long as they may be: on rank 0, in the order of ranks; elsewhere nothing."""

    def all(self, values: np.ndarray) -> np.ndarray:
        """(size, ...): equally long arrays of all ranks, everywhere."""

    def place(self, network: Network, tiles: Tiles, dt: float, wanted: Partition | None) -> Partition:
        """Which rank owns which tiles: as wanted, or so that all have about equally much to do."""

    def connect(self, routes: Routes, steps: int, spikes: int) -> Exchange:
        """An exchange along these routes, of so many steps at once, in which this rank emits `spikes` at most."""

    def remedy(self, text: str) -> None:
        """What to tell the user to do, should a rank be lost."""


class LocalComm:
    """All neurons in one process."""

    rank, size, local_ranks, whole = 0, 1, 1, True

    @property
    def cores(self) -> int:
        return len(os.sched_getaffinity(0))

    def sum(self, values: np.ndarray) -> np.ndarray:
        return values

    def gather(self, values: np.ndarray) -> list[np.ndarray]:
        return [values]

    def all(self, values: np.ndarray) -> np.ndarray:
        return values[None]

    def place(self, network: Network, tiles: Tiles, dt: float, wanted: Partition | None) -> Partition:
        return wanted or Partition.even(tiles.n, 1)

    def connect(self, routes: Routes, steps: int, spikes: int) -> Exchange:
        raise ValueError("one rank has no other to exchange spikes with.")

    def remedy(self, text: str) -> None:
        """One process that is lost says nothing."""
