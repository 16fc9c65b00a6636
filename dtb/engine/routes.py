"""Where the spikes of a tile are needed, and how long they may take to get there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dtb.engine.constants import delay_steps
from dtb.engine.partition import Partition
from dtb.network.network import Network
from dtb.network.tiles import Tiles


class Routes(NamedTuple):
    """What one rank sends and receives; both ends find the same from the same description, and need not ask.

    epoch: shortest delay between neurons on different ranks, in steps; None where no synapse joins two ranks.
    sends, receives: tiles, by the rank that their spikes go to or come from, rising.
    """

    epoch: int | None
    sends: dict[int, np.ndarray]
    receives: dict[int, np.ndarray]

    @property
    def incoming(self) -> np.ndarray:
        """Tiles of other ranks whose spikes are needed here, rising."""
        return np.sort(np.concatenate([*self.receives.values(), np.zeros(0, np.int64)]))


def find_routes(network: Network, tiles: Tiles, partition: Partition, rank: int, ranks: int, dt: float) -> Routes:
    """The routes of one rank.

    A tile sends to every rank that holds neurons of a class and region that a projection of its own class and region
    ends in. That is as fine as it can be: a synapse may end in any neuron of its target population.
    """
    tile, population = populations_of(network, tiles)
    owner = partition.owner[tile]
    own = np.flatnonzero(partition.owner == rank)
    reached = targets(network, population, owner, ranks)
    incidence = _matrix(tile, population, (len(tiles.n), network.n_populations))
    outgoing = (incidence[own] @ reached).tocsc()
    sends = {r: own[np.sort(outgoing[:, [r]].indices)].astype(np.int64) for r in range(ranks) if r != rank}
    needed = np.sort((incidence @ reached[:, [rank]]).tocoo().coords[0]).astype(np.int64)
    receives = {r: needed[partition.owner[needed] == r] for r in range(ranks) if r != rank}
    return Routes(
        shortest_delay(network, population, owner, dt),
        {r: t for r, t in sends.items() if len(t)},
        {r: t for r, t in receives.items() if len(t)},
    )


def populations_of(network: Network, tiles: Tiles) -> tuple[np.ndarray, np.ndarray]:
    """Tile and population, wherever a tile holds neurons of a population."""
    ends = tiles.first + tiles.n - 1
    low, high = (np.searchsorted(network.first_gid, gid, side="right") - 1 for gid in (tiles.first, ends))
    width = high - low + 1
    tile = np.repeat(np.arange(len(tiles.n)), width)
    return tile, low[tile] + np.arange(len(tile)) - np.repeat(np.cumsum(width) - width, width)


def targets(network: Network, population: np.ndarray, owner: np.ndarray, ranks: int):
    """(p, ranks) sparse: whether a population has targets on a rank."""
    regions, classes = len(network.regions), len(network.classes)
    of_class = network.population_class
    reached = [_matrix([], [], (regions, ranks)) for _ in range(classes)]  # by class of the source
    for p in network.projections:
        there = np.isin(of_class[population], network.class_indices(p.post))
        held = _matrix(network.population_region[population[there]], owner[there], (regions, ranks))
        joined = _matrix(p.pairs.pre, p.pairs.post, (regions, regions)) @ held
        for k in network.class_indices(p.pre):
            reached[k] = reached[k] + joined
    from scipy.sparse import vstack

    row = of_class.astype(np.int64) * regions + network.population_region
    return (vstack(reached, format="csr") > 0).astype(np.int64)[row]


def shortest_delay(network: Network, population: np.ndarray, owner: np.ndarray, dt: float) -> int | None:
    """Shortest delay between neurons on different ranks, in steps."""
    shortest = []
    for p in network.projections:
        low, high = [], []
        for classes in (p.pre, p.post):
            there = np.isin(network.population_class[population], network.class_indices(classes))
            region = network.population_region[population[there]]
            first, last = np.full(len(network.regions), 2**30), np.full(len(network.regions), -1)
            np.minimum.at(first, region, owner[there])
            np.maximum.at(last, region, owner[there])
            low.append(first)
            high.append(last)
        pre, post = p.pairs.pre, p.pairs.post
        exist = (high[0][pre] >= 0) & (high[1][post] >= 0)
        crosses = exist & (np.minimum(low[0][pre], low[1][post]) < np.maximum(high[0][pre], high[1][post]))
        shortest += delay_steps(network, p, dt)[crosses].min(axis=1).tolist()
    return min(shortest, default=None)


def _matrix(rows, columns, shape: tuple[int, int]):
    from scipy.sparse import csr_array  # here, because scipy takes long to import

    entries = np.ones(len(rows), np.int64)
    return csr_array((entries, (np.asarray(rows, np.int64), np.asarray(columns, np.int64))), shape=shape)
