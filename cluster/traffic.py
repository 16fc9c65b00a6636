"""Spikes, messages and bytes between ranks and between nodes, from where populations are and how often they fire.

A tile's spikes go to every rank, or node, that holds a target population of it, once each. Three routes:

flat       every rank sends to every other that needs it; one collective that addresses all ranks
two-level  the ranks of a node gather in shared memory, and nodes exchange one message per pair
grid       nodes stand on a grid; what is meant for another column goes first to the node of that column in the own row,
           which passes it on within the column: two hops, but only a row and a column of messages
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from cluster.expected import Expected, Pieces, reach
from dtb.network.network import Network

SPIKE_BYTES = 2  # a uint16, its place in the tile
COUNT_BYTES = 2  # a uint16, how many spikes of a tile in a step, none included
CELLS = 20_000_000  # of a dense part of the matrix from ranks to ranks
SPARSE_WORK = 1e9  # products of a sparse count of partners, above which a dense one is quicker


class Traffic(NamedTuple):
    """Per second of biological time, of R ranks on N nodes; spikes count once for every rank or node they go to.

    epoch: ms.  rank arrays (R,): spikes and bytes out and in between ranks, flat; `peers`, ranks that it sends to.
    node arrays (N,): of all its ranks together, between nodes; flat_node_bytes: what flat sends off the node.
    node_peers (N,): nodes that it sends to.  grid_node_bytes (N,): both hops; grid_peers: nodes of its row and column.
    by_spike_node_out: spikes between nodes in all, if each went only to the nodes where its own synapses end.
    """

    epoch: float
    out: np.ndarray
    into: np.ndarray
    bytes_out: np.ndarray
    bytes_in: np.ndarray
    peers: np.ndarray
    node_out: np.ndarray
    node_in: np.ndarray
    node_bytes: np.ndarray
    node_bytes_in: np.ndarray
    node_peers: np.ndarray
    flat_node_bytes: np.ndarray
    grid_node_bytes: np.ndarray
    grid_peers: int
    grid: tuple[int, int]
    by_spike_node_out: float


def traffic(network: Network, known: Expected, parts: Pieces, ranks: int, ranks_per_node: int, dt: float) -> Traffic:
    """Traffic of a placement.

    Parameters
    ----------
    known : Expected activity of the network
    parts : Pieces, where its populations are
    dt : float [ms]
        An epoch is the shortest delay between neurons on different ranks, in whole steps.
    """
    nodes = -(-ranks // ranks_per_node)
    node_of = np.arange(ranks) // ranks_per_node
    gather = sparse.csr_array((np.ones(ranks), (np.arange(ranks), node_of)), shape=(ranks, nodes))
    rows, columns = grid(nodes)
    column_of = np.arange(nodes) % columns
    to_column = sparse.csr_array((np.ones(nodes), (np.arange(nodes), column_of)), shape=(nodes, columns))
    row_of = np.arange(nodes) // columns
    to_row = sparse.csr_array((np.ones(nodes), (np.arange(nodes), row_of)), shape=(nodes, rows))
    epoch = shortest(network, parts, ranks, dt)
    found = {name: np.zeros(ranks) for name in ("out", "into", "bytes_out", "bytes_in")}
    found |= {n: np.zeros(nodes) for n in ("node_out", "node_in", "node_bytes", "node_bytes_in", "flat", "grid")}
    by_spike = 0.0
    fires = parts.neurons * known.rate[parts.population]  # spikes/s of each piece
    size = SPIKE_BYTES * fires + COUNT_BYTES * 1000 / dt * parts.tiles  # bytes/s
    node = node_of[parts.rank]
    cell, region = network.population_class[parts.population], network.population_region[parts.population]
    sends: list[tuple[np.ndarray, np.ndarray, sparse.csr_array, sparse.csr_array]] = []
    for k, mean in reach(network, parts, ranks).items():
        mine = np.flatnonzero(cell == k)
        if not len(mine):
            continue
        q, r, a, s, b = region[mine], parts.rank[mine], node[mine], fires[mine], size[mine]
        to_rank, mean_node = ones(mean), sparse.csr_array(mean @ gather)
        to_node, ranks_there = ones(mean_node), sparse.csr_array(to_rank @ gather)
        copies = counts(to_rank)[q] - at(to_rank, q, r)
        node_copies = counts(to_node)[q] - at(to_node, q, a)
        off_node = counts(to_rank)[q] - at(ranks_there, q, a)
        nodes_there = sparse.csr_array(to_node @ to_column)
        here = at(nodes_there, q, column_of[a])  # nodes of the own column, itself among them
        in_row = at(sparse.csr_array(to_node @ to_row), q, a // columns) - at(to_node, q, a)
        first = counts(ones(nodes_there))[q] - (here > 0)
        second = counts(to_node)[q] - at(to_node, q, a) - in_row
        for name, where, values in (
            ("out", r, s * copies), ("bytes_out", r, b * copies), ("node_out", a, s * node_copies),
            ("node_bytes", a, b * node_copies), ("flat", a, b * off_node), ("grid", a, b * (first + second)),
        ):  # fmt: skip
            found[name] += np.bincount(where, values, len(found[name]))
        for name, reached, place, values in (
            ("into", to_rank, r, s), ("bytes_in", to_rank, r, b), ("node_in", to_node, a, s),
            ("node_bytes_in", to_node, a, b),
        ):  # fmt: skip
            every = np.bincount(q, values, len(network.regions))
            own = np.bincount(place, values * at(reached, q, place), reached.shape[1])
            found[name] += reached.T @ every - own
        hits = mean_node.copy()
        hits.data = -np.expm1(-hits.data)
        by_spike += float((s * (np.asarray(hits.sum(axis=1)).ravel()[q] - at(hits, q, a))).sum())
        sends.append((q, r, to_rank, to_node))
    peers = partners([(q, r, to_rank) for q, r, to_rank, _ in sends], ranks)
    node_peers = partners([(q, node_of[r], to_node) for q, r, _, to_node in sends], nodes)
    return Traffic(
        epoch, found["out"], found["into"], found["bytes_out"], found["bytes_in"], peers, found["node_out"],
        found["node_in"], found["node_bytes"], found["node_bytes_in"], node_peers, found["flat"], found["grid"],
        min(rows - 1, nodes - 1) + min(columns - 1, nodes - 1), (rows, columns), by_spike,
    )  # fmt: skip


def grid(nodes: int) -> tuple[int, int]:
    """Rows and columns of the smallest nearly square grid; its last row may be short."""
    columns = int(np.ceil(np.sqrt(nodes)))
    return -(-nodes // columns), columns


def shortest(network: Network, parts: Pieces, ranks: int, dt: float) -> float:
    """[ms] Epoch: the shortest delay between neurons on different ranks, in whole steps; infinite on one rank."""
    region = network.population_region[parts.population]
    low, high = np.full(len(network.regions), ranks), np.full(len(network.regions), -1)
    np.minimum.at(low, region, parts.rank)
    np.maximum.at(high, region, parts.rank)
    least = np.inf
    for projection in network.projections:
        pairs = projection.pairs
        apart = (low[pairs.post] != high[pairs.pre]) | (low[pairs.pre] != high[pairs.post])
        delay = pairs.delay[apart & (pairs.in_degree > 0)]
        if len(delay):
            least = min(least, float(delay.min()) * min(projection.delay_classes))
    return least if np.isinf(least) else max(1, round(least / dt)) * dt


def ones(matrix: sparse.csr_array) -> sparse.csr_array:
    """1 where there is anything."""
    found = sparse.csr_array((np.ones(len(matrix.data)), matrix.indices, matrix.indptr), shape=matrix.shape)
    found.data[matrix.data <= 0] = 0
    found.eliminate_zeros()
    return found


def counts(matrix: sparse.csr_array) -> np.ndarray:
    """Entries of each row."""
    return np.diff(matrix.indptr)


def at(matrix: sparse.csr_array, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Values at places."""
    return np.asarray(matrix[row, column]).ravel()


def partners(sends: list[tuple[np.ndarray, np.ndarray, sparse.csr_array]], ends: int) -> np.ndarray:
    """(ends,) int64: to how many others each rank, or node, sends.

    sends: for each class the regions q of its pieces, the ends e where these are, and the ends that a region reaches.
    """
    holds = []
    for q, e, reached in sends:
        matrix = sparse.csr_array((np.ones(len(q), np.float32), (e, q)), shape=(ends, reached.shape[0]))
        holds.append((matrix, reached.astype(np.float32)))
    work = sum(float(counts(reached)[matrix.indices].sum()) for matrix, reached in holds)
    found, step = np.zeros(ends, np.int64), max(1, CELLS // ends)
    for begin in range(0, ends, step):
        rows = slice(begin, min(begin + step, ends))
        mine = np.arange(rows.start, rows.stop)
        if work > SPARSE_WORK:  # nearly everyone sends to nearly everyone: dense products are quicker
            met = np.zeros((len(mine), ends), bool)
            for matrix, reached in holds:
                met |= matrix[rows].toarray() @ reached.toarray() > 0
            met[np.arange(len(mine)), mine] = False
            found[mine] = met.sum(axis=1)
            continue
        total = sparse.csr_array((len(mine), ends), dtype=np.float32)
        for matrix, reached in holds:
            total = sparse.csr_array(total + matrix[rows] @ reached)
        found[mine] = counts(total) - (at(total, np.arange(len(mine)), mine) > 0)
    return found
