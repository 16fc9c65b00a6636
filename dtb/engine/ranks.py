"""A simulation's part on one rank of many: its tiles, those whose spikes it needs, and when ranks meet."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import numpy as np

from dtb.engine.comm import Communicator
from dtb.engine.partition import Partition
from dtb.engine.routes import find_routes
from dtb.network.network import Network
from dtb.network.tiles import Tiles

if TYPE_CHECKING:
    from dtb.engine.backends.state import RankBackend
    from dtb.engine.constants import Control


def agree(comm: Communicator, what: str, text: str) -> None:
    """Refuse to go on where ranks do not mean the same."""
    told = comm.all(np.frombuffer(text.encode()[:64].ljust(64, b"\0"), np.uint8))
    other = np.flatnonzero((told != told[0]).any(axis=1))
    if len(other):
        first, second = (bytes(told[r]).rstrip(b"\0").decode() for r in (0, other[0]))
        raise ValueError(
            f"{what} is {first} on rank 0, but {second} on rank {other[0]}. All ranks must read the same files, "
            "with the same version of dtb."
        )


def meet_every(epoch: int, block: int) -> int:
    """Steps between two meetings; see `Ranks`."""
    blocks = epoch // block
    return (2 if blocks == 3 else max(1, blocks // 2)) * block


class Ranks:
    """What this rank holds of a network, and the exchange of spikes.

    Parameters
    ----------
    network : Network
    dt : float [ms]
    tiles : Tiles
        All of the network.
    partition : Partition or None
        None leaves it to `comm`.
    comm : Communicator

    Attributes
    ----------
    tiles : Tiles
        Those whose spikes are needed here.
    here : (t,) bool
        Of these, the ones whose neurons are here.
    epoch : int or None
        Shortest delay between neurons on different ranks, in steps; None where ranks need never meet.
    wait_s : float
        Wall time that was spent on spikes of others.
    spikes_in : int
        How many spikes of others came here.

    Notes
    -----
    A spike of step s is needed on another rank at step s + epoch, no earlier. So ranks meet once per epoch: where it is
    one block long, between two blocks; where it is longer, twice as often, but then what was sent at one meeting is
    not waited for until the next (of three blocks: for one block), and is on its way while both sides compute.
    """

    def __init__(self, network: Network, dt: float, tiles: Tiles, partition: Partition, comm: Communicator) -> None:
        agree(comm, "the partition", hashlib.sha256(partition.owner.tobytes()).hexdigest()[:16])
        partition.check(len(tiles.n), comm.size)
        self.comm = comm
        self.routes = find_routes(network, tiles, partition, comm.rank, comm.size, dt)
        own = np.flatnonzero(partition.owner == comm.rank)
        self._kept = np.sort(np.concatenate([own, self.routes.incoming]))
        self.tiles = Tiles(tiles.first[self._kept], tiles.n[self._kept], tiles.population[self._kept], tiles.pure)
        self.here = partition.owner[self._kept] == comm.rank
        self.epoch = self.routes.epoch
        self.wait_s, self.spikes_in = 0.0, 0
        self._period = 0  # steps between two meetings; 0: none
        self._due = 0  # step of the next one
        self._sent: tuple[int, int] | None = None  # steps whose spikes are on their way
        self._numbers: dict[bytes, np.ndarray] = {}
        self._known = 0  # step up to which the spikes of others are here

    @property
    def owned(self) -> np.ndarray:
        """(k, 2) runs of gids whose neurons are here: the first, and the one after the last."""
        first, n = self.tiles.first[self.here], self.tiles.n[self.here].astype(np.int64)
        begins = np.flatnonzero(np.append(True, first[1:] != (first + n)[:-1]))
        ends = np.append(begins[1:], len(n)) - 1
        return np.stack([first[begins], (first + n)[ends]], axis=1)

    def knows(self, gid: np.ndarray) -> np.ndarray:
        """Whether the spikes of these neurons are needed here."""
        tile = np.maximum(np.searchsorted(self.tiles.first, gid, side="right") - 1, 0)
        return (gid >= self.tiles.first[tile]) & (gid - self.tiles.first[tile] < self.tiles.n[tile])

    def go_on(self, state, step: int) -> None:
        """Take in what is on its way to a state that ends here; the next one has the spikes of all before `step`."""
        self.receive(state)
        self._known, self._due = step, step + self._period

    def connect(self, backend: RankBackend) -> None:
        """Make ready to exchange, from step 0 on."""
        self._backend = backend
        if self.epoch is None:
            return
        block = backend.block
        self._period = meet_every(self.epoch, block)
        self._due = self._period
        most = int(self.tiles.n[self.here].sum(dtype=np.int64)) * backend.burst * -(-self._period // block)
        self._exchange = self.comm.connect(self.routes, self._period, most)

    def advance(
        self, state, steps: int, control: Control, stimulus: np.ndarray, samples: np.ndarray
    ) -> tuple[int, np.ndarray]:
        """As `Backend.advance`, on all ranks alike: they run equally many steps."""
        backend = self._backend
        prepared = backend.prepare(state, steps, control, stimulus, samples)
        end = prepared.begin + prepared.steps
        while (now := backend.step(state)) < end:
            until = end if self.epoch is None else self._until(now, end, self.epoch)
            if self.epoch is not None and until > self._known + self.epoch:
                self.receive(state)
            done = backend.go(state, prepared, until, self.epoch)
            if self.epoch is not None and now + done == self._due:
                self._send(state)
        return prepared.steps, prepared.probes.out

    def _until(self, now: int, end: int, epoch: int) -> int:
        """Step up to which to run at once: the next meeting, or half the way while messages are under way."""
        until = min(end, self._due)
        if self._sent is None or now >= self._known + epoch:
            return until
        until = min(until, self._known + epoch)  # so far it needs nothing of what is on its way
        half = self._due - self._period // 2 // self._backend.block * self._backend.block
        return until if now >= half or self._exchange.poke() else min(until, half)

    def _send(self, state) -> None:
        self.receive(state)
        clock = time.perf_counter()
        start, stop = self._sent = self._due - self._period, self._due
        self._exchange.send(lambda tiles: self._backend.outgoing(state, self._number(tiles), start, stop))
        self._due += self._period
        self.wait_s += time.perf_counter() - clock

    def receive(self, state) -> None:
        """Wait for what is on its way."""
        if self._sent is None:
            return
        clock = time.perf_counter()
        start, stop = self._sent

        def incoming(tiles: np.ndarray, message: np.ndarray) -> None:
            self.spikes_in += self._backend.incoming(state, self._number(tiles), start, stop, message)

        self._exchange.receive(incoming)
        self._backend.learn(state, stop)
        self._known, self._sent = stop, None
        self.wait_s += time.perf_counter() - clock

    def _number(self, tiles: np.ndarray) -> np.ndarray:
        """Numbers among `self.tiles` of tiles of the network; -1 of those not needed here. An exchange asks for few."""
        key = tiles.tobytes()
        if key not in self._numbers:
            self._numbers[key] = self._find(tiles)
        return self._numbers[key]

    def _find(self, tiles: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(self._kept, tiles), len(self._kept) - 1)
        return np.where(self._kept[at] == tiles, at, -1)
