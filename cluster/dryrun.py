"""One rank of many, really run, alone: what other ranks would send is made up at the rates expected of them.

A dry run has the true network, placed as all ranks would place it; it compiles and runs the tiles of one rank, and
hands over spikes of the tiles that this one hears. So time, memory, events and traffic of a rank of a large machine are
measured on a small one. What is left out: waiting for others, and the wires between them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import numpy as np
from numba import float64, njit, uint16, uint64

from cluster.balance import usual
from cluster.expected import fragments, population_rates
from cluster.routing import ROUTINGS, cut
from dtb.engine.backends.cpu_kernels import GOLDEN, hash64
from dtb.engine.comm import Incoming, Outgoing
from dtb.engine.partition import Partition
from dtb.engine.routes import Routes
from dtb.network import rng
from dtb.network.network import Network
from dtb.network.tiles import Tiles


class DryRunComm:
    """Rank `rank` of `size`, of which there is no other; see `dtb.engine.comm.Communicator`.

    Parameters
    ----------
    rank, size : int
    ranks_per_node : int
        Ranks fill nodes one after the other; by "two-level", what another node sends comes as one message.
    routing : "two-level" or "flat"
    rates : (populations,) float [spikes/s], {name of class: float}, or None
        Of the neurons of other ranks; None takes what their cells do at rest.
    seed : int
        Of the spikes of others.

    Notes
    -----
    Each neuron of another rank fires in each step with the chance that its tile's rate gives it, whatever it did
    before. Which ones do is a function of (seed, step, gid), so any rank of any partition is sent the same spikes.

    Examples
    --------
    >>> import dtb
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=20_000, in_degree=50)
    >>> simulation = dtb.Simulation(network, comm=DryRunComm(3, 8), threads=1)
    >>> simulation.run(50.0)
    >>> simulation.spikes_in > simulation.spikes                             # it hears most of the other 7 ranks
    True
    """

    local_ranks, whole = 1, False

    def __init__(
        self,
        rank: int,
        size: int,
        ranks_per_node: int = 1,
        routing: str = "two-level",
        rates: np.ndarray | Mapping[str, float] | None = None,
        seed: int = 1,
    ) -> None:
        if not 0 <= rank < size:
            raise ValueError(f"there is no rank {rank} of {size:,}. Allowed: 0 to {size - 1:,}.")
        if routing not in ROUTINGS:
            raise ValueError(f"unknown routing '{routing}' of a dry run. Known: {', '.join(ROUTINGS)}.")
        self.rank, self.size, self.ranks_per_node, self.routing = rank, size, ranks_per_node, routing
        self.rates, self.seed = rates, seed
        self.exchange: DryRunExchange | None = None

    @property
    def cores(self) -> int:
        return len(os.sched_getaffinity(0))

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Of this rank alone: what others would add is not known."""
        return values

    def gather(self, values: np.ndarray) -> list[np.ndarray]:
        return [values] if self.rank == 0 else []

    def all(self, values: np.ndarray) -> np.ndarray:
        """As if all ranks said the same."""
        return np.repeat(values[None], self.size, axis=0)

    def place(self, network: Network, tiles: Tiles, dt: float, wanted: Partition | None) -> Partition:
        """As the real communicator; how often each tile will fire is found here, too."""
        population, tile, n = fragments(network, tiles)
        rate = population_rates(network, self.rates)
        self._tiles = tiles
        self._chance = np.bincount(tile, n * rate[population], len(tiles.n)) / tiles.n * dt / 1000
        return wanted or usual(network, tiles, self.size, dt)

    def connect(self, routes: Routes, steps: int, spikes: int) -> DryRunExchange:
        self.exchange = DryRunExchange(self, routes, steps, self._tiles, self._chance)
        return self.exchange

    def remedy(self, text: str) -> None:
        """No other rank can be lost."""


class DryRunExchange:
    """Sends into the void, and receives what others might have sent.

    Attributes
    ----------
    made_s : float
        Wall time that making spikes up took, and that ranks which have them would not need.
    spikes_out : int
        Spikes sent, once for each rank that they go to.
    epoch : int
        Steps of one exchange.
    """

    def __init__(self, comm: DryRunComm, routes: Routes, steps: int, tiles: Tiles, chance: np.ndarray) -> None:
        self._routes, self._steps, self._seed, self._step = routes, steps, comm.seed, 0
        self._flat, per_node = comm.routing == "flat", comm.ranks_per_node
        self.made_s, self.waited_s, self.spikes_out, self.epoch = 0.0, 0.0, 0, steps
        none = np.zeros(0, np.int64)
        self._own, self._ends = np.unique(np.concatenate([*routes.sends.values(), none]), return_counts=True)
        here = comm.rank // per_node
        nodes = sorted({rank // per_node for rank in routes.sends} - {here})
        self._keep = [self._reached(range(node * per_node, (node + 1) * per_node)) for node in nodes]
        sources: dict[tuple[int, int], list[np.ndarray]] = {}  # of messages: a rank, or a whole node
        for rank, heard in routes.receives.items():
            near = self._flat or rank // per_node == here
            sources.setdefault((rank, 0) if near else (rank // per_node, 1), []).append(heard)
        self._heard = [np.sort(np.concatenate(lists)) for lists in sources.values()]
        with np.errstate(divide="ignore"):
            spread = 1 / np.log1p(-np.minimum(chance, 1.0))
        self._drawn = [(tiles.first[k], tiles.n[k], spread[k]) for k in self._heard]
        self._room = [int(1.2 * steps * (tiles.n[k] * chance[k]).sum()) + 64 for k in self._heard]

    def _reached(self, ranks: range) -> np.ndarray:
        """(own tiles,) bool: those that some of these ranks want."""
        wanted = [self._routes.sends[r] for r in ranks if r in self._routes.sends]
        return np.isin(self._own, np.concatenate(wanted))

    def send(self, outgoing: Outgoing) -> None:
        """Make the messages that a real rank would make."""
        if self._flat:
            for tiles in self._routes.sends.values():
                message = outgoing(tiles)
                self.spikes_out += len(message) - len(tiles) * self._steps
            return
        message = outgoing(self._own)
        counts = message[: len(self._own) * self._steps].reshape(-1, self._steps).sum(axis=1, dtype=np.int64)
        self.spikes_out += int(counts @ self._ends)
        for keep in self._keep:
            np.concatenate(cut(message, keep, self._steps))

    def poke(self) -> bool:
        return True

    def receive(self, incoming: Incoming) -> None:
        begin = time.perf_counter()
        keys = rng.key(self._seed, rng.Stream.ARRIVAL, np.arange(self._step, self._step + self._steps))
        self._step += self._steps
        for number, (heard, drawn) in enumerate(zip(self._heard, self._drawn, strict=True)):
            message = self._message(number, drawn, keys)
            self.made_s += time.perf_counter() - begin
            incoming(heard, message)
            begin = time.perf_counter()

    def _message(self, number: int, drawn: tuple[np.ndarray, np.ndarray, np.ndarray], keys: np.ndarray) -> np.ndarray:
        while True:
            message = np.empty(len(drawn[0]) * self._steps + self._room[number], np.uint16)
            used = arrivals(*drawn, keys, message)
            if used >= 0:
                return message[:used]
            self._room[number] *= 2  # and draw the same again


@njit(nogil=True, cache=True)
def arrivals(first, n, spread, keys, message):
    """Fill a message, as `cpu_spikes.pack` has it, with spikes made up; return its length, or -1 if it is too short.

    k tile, p step.  first, n (k,): gid of the first neuron, neurons.  spread (k,): 1 / log(1 - chance of a spike).
    keys (p, 2).  From one spike to the next lie as many neurons as a geometric distribution says.
    """
    steps, at = keys.shape[0], n.shape[0] * keys.shape[0]
    for k in range(n.shape[0]):
        for p in range(steps):
            before, place, drawn = at, -1.0, 0
            while True:
                word = hash64(uint64(first[k] + drawn) * GOLDEN, keys[p, 0], keys[p, 1])
                part = (float64(word >> uint64(11)) + 0.5) * 2.0**-53  # between 0 and 1, neither of them
                place += 1 + np.floor(np.log(part) * spread[k])
                if not place < n[k]:
                    break
                if at == message.shape[0]:
                    return -1
                message[at] = uint16(place)
                at += 1
                drawn += 1
            message[k * steps + p] = uint16(at - before)
    return at
