"""Which rank owns which tiles: four ways and a baseline behind one function, `balance`.

A tile costs time and memory. Both are to be even over ranks at once, although where synapses are dense or cells busy a
tile costs more time for the same memory; and a region should stay together, because each spike is looked at once for
every region on a rank, and because what a region sends to itself need not travel.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cluster.devices import CORE, Device
from cluster.expected import Expected, expected, fragments
from dtb.engine.partition import Partition
from dtb.network.network import Network
from dtb.network.tiles import Tiles

METHODS = ("regions", "longest-processing-time", "graph", "published", "even")
TOLERATED = 0.05  # max/mean - 1 of time and memory, for the sake of less traffic
LIKE = 0.02  # tiles whose time per memory is above the mean by less than this are taken as average
SWAPS, MAX_RATE, LIGHTEST = 8000, 1.1, 20  # generate_map.py of the published system


class TileLoad(NamedTuple):
    """Of t tiles: time (t,) in s of wall per biological s on a rank of speed 1; memory (t,) bytes.

    visits (regions,): time that each rank takes which holds a part of a region, to look at the spikes that go there.
    """

    time: np.ndarray
    memory: np.ndarray
    visits: np.ndarray


def tile_load(
    network: Network, tiles: Tiles, known: Expected, device: Device, dt: float, stored: float = 0.0
) -> TileLoad:
    """What each tile costs on a device: neurons · update + expected events · event; neurons and stored synapses.

    stored: bytes of a stored synapse, 0 where synapses are procedural.
    """
    population, tile, n = fragments(network, tiles)
    time = 1e-9 * (1000 / dt * device.neuron_ns + known.events * device.event_ns)
    memory = device.neuron_bytes + known.synapses * stored
    count = len(tiles.n)
    visits = np.zeros(len(network.regions))
    visits[network.population_region] = 1e-9 * device.visit_ns * known.heard
    of_tile = [np.bincount(tile, n * of_neuron[population], count) for of_neuron in (time, memory)]
    return TileLoad(of_tile[0], of_tile[1], visits)


def balance(
    network: Network,
    tiles: Tiles,
    ranks: int,
    load: TileLoad,
    method: str = "regions",
    speeds: np.ndarray | None = None,
    ranks_per_node: int = 1,
    seed: int = 0,
) -> Partition:
    """Place tiles on ranks.

    Parameters
    ----------
    network, tiles : what is placed
    ranks : int
    load : TileLoad
        Of each tile; see `tile_load`.
    method : str
        "regions": whole regions, if that is even, and near ones together: the longer the shortest delay between ranks,
        the less often they meet. If not, in their order, dense and sparse ones mixed, so that time and memory are even.
        "longest-processing-time": the heaviest tile first, each to the rank that has least; regions are scattered.
        "graph": as "regions", in an order in which METIS keeps regions that exchange much close; needs pymetis.
        "published": swaps between the heaviest and the lightest ranks, from equal counts (Notes).
        "even": runs of equal numbers of neurons, whatever they cost.
    speeds : (ranks,) float > 0 or None
        Relative speed of ranks; None takes all as equal. Time is divided by it, and memory goes along with it.
    ranks_per_node : int
        How far "graph" looks: traffic within a node is free.
    seed : int
        Of the random choices of "published".

    Notes
    -----
    The published heuristic (Digital_twin_brain-open, generate_map.py) begins with blocks in sequence and, up to 8000
    times, swaps the largest of the three heaviest populations of the heaviest device with the smallest of one of the
    20 lightest; it stops where max/mean is at most 1.1. What it weighs is size times degree; a population's part on a
    rank moves as a whole. We keep the best of what it meets, which the original does not.

    Examples
    --------
    >>> import dtb
    >>> from cluster.devices import device_named
    >>> from dtb.network.tiles import tile
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=1_000_000)
    >>> tiles = tile(network, 1024)
    >>> load = tile_load(network, tiles, expected(network), device_named("h200"), dt=1.0)
    >>> owner = balance(network, tiles, 4, load).owner
    >>> time = np.bincount(owner, load.time)
    >>> bool(time.max() / time.mean() < 1.01)
    True
    """
    check(tiles, ranks, method, ranks_per_node)
    share = shares(ranks, speeds)
    if method == "even":
        return even(tiles, share)
    if method == "published":
        return Partition(swapped(network, tiles, even(tiles, share).owner, ranks, seed))
    from cluster.placing import refine, spread, walk

    time, memory = load.time / load.time.sum(), load.memory / load.memory.sum()
    if method == "longest-processing-time":
        order = np.argsort(-np.maximum(time, memory), kind="stable")
        owner = spread(time, memory, order, share)
    else:
        region = network.population_region[tiles.population]
        exchanged = region_events(network) if method == "graph" else None
        visits = load.visits / load.time.sum()
        for joined in [np.arange(len(visits))] if method == "graph" else by_delay(network, ranks):
            owner = whole_regions(joined[region], time, memory, np.bincount(joined, visits), share, exchanged)
            if owner is not None:
                return Partition(owner)
        order = np.arange(len(time))
        if method == "graph":
            order = by_graph(region, time, exchanged, -(-ranks // ranks_per_node))
        dense = (time > memory * (1 + LIKE))[order]
        owner = walk(time, memory, order[dense], order[~dense], share)
    refine(time, memory, owner, share, 1.0 if method == "longest-processing-time" else 1 + LIKE)
    return Partition(owner)


def usual(network: Network, tiles: Tiles, ranks: int, dt: float) -> Partition:
    """What ranks take where nothing else is asked for: "regions", at the costs of a usual core and rates at rest."""
    if ranks > len(tiles.n):  # found out, and told, by who checks the partition
        return Partition.even(tiles.n, ranks)
    return balance(network, tiles, ranks, tile_load(network, tiles, expected(network), CORE, dt))


def by_delay(network: Network, ranks: int) -> Iterator[np.ndarray]:
    """(regions,) numbers of the groups of regions that are joined by delays below a limit: lower and lower limits.

    The last one leaves every region alone. None has fewer groups than twice the ranks.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    n, delays = len(network.regions), []
    if 2 * ranks > n:
        return
    for p in network.projections:
        far = p.pairs.pre != p.pairs.post
        delays.append((p.pairs.pre[far], p.pairs.post[far], p.pairs.delay[far] * min(p.delay_classes)))
    pre, post, delay = (np.concatenate(parts) for parts in zip(*delays, strict=True))
    order = np.argsort(-delay, kind="stable")  # of those of one pair, the last one stays
    key = np.minimum(pre, post)[order] * np.int64(n) + np.maximum(pre, post)[order]
    last = len(key) - 1 - np.unique(key[::-1], return_index=True)[1]
    at = key[last] // n, key[last] % n
    tree = minimum_spanning_tree(sparse.csr_array((delay[order][last].astype(float), at), shape=(n, n))).tocoo()
    for limit in np.unique(np.floor(tree.data * 10) / 10)[::-1]:  # ms
        near = tree.data < limit
        ends = tree.row[near], tree.col[near]
        groups, number = connected_components(sparse.coo_array((tree.data[near], ends), shape=(n, n)), directed=False)
        if groups >= 2 * ranks:
            yield number
        if groups == n:
            return
    yield np.arange(n)


def whole_regions(
    region: np.ndarray, time: np.ndarray, memory: np.ndarray, visits: np.ndarray, share: np.ndarray, exchanged
) -> np.ndarray | None:
    """(t,) owners that divide no region, None where that would not be even; exchanged: for METIS, or None for none.

    Then ranks need not meet as often as the short delays within regions would have it.
    """
    from cluster.placing import refine, spread

    kept, item = np.unique(region, return_inverse=True)
    if len(share) * 2 > len(kept):
        return None
    t = np.bincount(item, time) + visits[kept]
    t = t / t.sum()
    m = np.bincount(item, memory) * (1 + LIKE) / (1 + TOLERATED)  # may be less even than time, which all wait for
    if max(t.max(), m.max()) > share.max() * (1 + TOLERATED):
        return None
    if exchanged is None or len(share) == 1:
        home = spread(t, m, np.argsort(-np.maximum(t, m), kind="stable"), share)
        refine(t, m, home, share, 1.0)
    else:
        home = dealt(exchanged[kept][:, kept].tocsr(), t, share)
    if len(np.unique(home)) < len(share):
        return None
    if level(home, t, m, share) > 1 + (LIKE if exchanged is None else TOLERATED):
        return None
    return home[item].astype(np.int32)


def level(home: np.ndarray, time: np.ndarray, memory: np.ndarray, share: np.ndarray) -> float:
    """The largest share of time or memory that a rank has, over what it should have."""
    return float(np.max([np.bincount(home, values, len(share)) / share for values in (time, memory)]))


def check(tiles: Tiles, ranks: int, method: str, ranks_per_node: int) -> None:
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"unknown method of balance '{method}'. Known: {', '.join(METHODS)}.{hint}")
    if not 1 <= ranks <= len(tiles.n):
        raise ValueError(
            f"{ranks:,} ranks for {len(tiles.n):,} tiles; allowed: 1 to {len(tiles.n):,}, as each owns one. "
            "Take fewer ranks, or a smaller tile_size in [Simulation]."
        )
    if ranks_per_node < 1:
        raise ValueError(f"ranks per node is {ranks_per_node}; it must be at least 1.")


def shares(ranks: int, speeds: np.ndarray | None) -> np.ndarray:
    """(ranks,) float64 that sum to 1: how much of all work each rank should have."""
    if speeds is None:
        return np.full(ranks, 1 / ranks)
    found = np.array(speeds, float)
    if found.shape != (ranks,) or not (np.isfinite(found).all() and (found > 0).all()):
        raise ValueError(f"speeds has shape {found.shape}; it needs one number above zero for each of {ranks:,} ranks.")
    return found / found.sum()


def even(tiles: Tiles, share: np.ndarray) -> Partition:
    """Runs of tiles whose neurons are as many as each rank's share."""
    middle = (np.cumsum(tiles.n, dtype=np.int64) - tiles.n / 2) / tiles.n.sum(dtype=np.int64)
    owner = np.searchsorted(np.cumsum(share)[:-1], middle, side="right")
    return Partition(owner.astype(np.int32))


def swapped(network: Network, tiles: Tiles, owner: np.ndarray, ranks: int, seed: int) -> np.ndarray:
    """The published swap heuristic; see `balance`."""
    rng = np.random.default_rng(seed)
    degree = expected(network).synapses[tiles.population]
    weight = tiles.n * degree
    key = owner.astype(np.int64) * network.n_populations + tiles.population
    _, item = np.unique(key, return_inverse=True)  # a population's part on a rank
    size = np.bincount(item, weight)
    home = np.zeros(len(size), np.int64)
    home[item] = owner
    held = _held(home, ranks)
    level = np.bincount(home, size, ranks)
    best, least = home.copy(), level.max()
    for _ in range(SWAPS):
        heavy = int(np.argmax(level))
        if level[heavy] <= MAX_RATE * level.mean():
            break
        lightest = np.argpartition(level, min(LIGHTEST, ranks - 1))[: min(LIGHTEST, ranks)]
        light = int(rng.choice(lightest))
        if light == heavy:
            continue
        give = max(held[heavy], key=lambda i: size[i])
        take = min(held[light], key=lambda i: size[i])
        for one, source, target in ((give, heavy, light), (take, light, heavy)):
            held[source].remove(one)
            held[target].append(one)
            home[one] = target
        change = size[give] - size[take]
        level[heavy] -= change
        level[light] += change
        if level.max() < least:
            best, least = home.copy(), level.max()
    return best[item].astype(np.int32)


def _held(home: np.ndarray, ranks: int) -> list[list[int]]:
    order = np.argsort(home, kind="stable")
    cuts = np.searchsorted(home[order], np.arange(1, ranks))
    return [part.tolist() for part in np.split(order, cuts)]


def by_graph(region: np.ndarray, time: np.ndarray, exchanged, nodes: int) -> np.ndarray:
    """(t,) order of tiles in which regions that exchange many events are close: METIS, halving again and again."""
    weight = np.bincount(region, time, exchanged.shape[0])
    place = np.zeros(len(weight), np.int64)
    place[halved(exchanged, weight, weight.sum() / max(nodes, 1))] = np.arange(len(weight))
    return np.argsort(place[region], kind="stable")


def region_events(network: Network):
    """(regions, regions) symmetric sparse: events per second between regions, both ways."""
    if importlib.util.find_spec("pymetis") is None:
        raise ValueError(
            "method 'graph' needs pymetis, which is not installed. Install it with pip install 'digital-twin-brain"
            "[cluster]', or take the method 'regions'."
        )
    from scipy import sparse

    from cluster.expected import widths

    rate = expected(network).rate
    total = sparse.csr_array((len(network.regions),) * 2)
    by_class = np.zeros(network.size.shape)
    by_class[network.population_region, network.population_class] = rate * np.diff(network.first_gid)
    for projection in network.projections:
        spikes = by_class[:, network.class_indices(projection.pre)].sum(axis=1)
        total = total + sparse.diags_array(spikes) @ widths(network, projection)
    total = sparse.csr_array(total + total.T)
    total.setdiag(0)
    total.eliminate_zeros()
    return total


def halved(exchanged, weight: np.ndarray, enough: float) -> np.ndarray:
    """Order of all vertices: halves with little between them, each halved again until it weighs `enough`."""

    def cut(members: np.ndarray) -> list[np.ndarray]:
        if len(members) < 3 or weight[members].sum() <= enough:
            return [members]
        side = parted(exchanged[members][:, members].tocsr(), weight[members], np.full(2, 0.5)) == 0
        if side.all() or not side.any():
            return [members]
        return cut(members[side]) + cut(members[~side])

    return np.concatenate(cut(np.arange(len(weight))))


def dealt(exchanged, weight: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(vertices,) int64: rank of each, by halving vertices and ranks together."""
    home = np.zeros(len(weight), np.int64)

    def deal(members: np.ndarray, first: int, end: int) -> None:
        if end - first == 1 or len(members) < 2:
            home[members] = first
            return
        middle = (first + end) // 2
        halves = np.array([share[first:middle].sum(), share[middle:end].sum()])
        side = parted(exchanged[members][:, members].tocsr(), weight[members], halves / halves.sum()) == 0
        deal(members[side], first, middle)
        deal(members[~side], middle, end)

    deal(np.arange(len(weight)), 0, len(share))
    return home


def parted(graph, weight: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """(vertices,) int64: 0 or 1, with little exchanged between two parts that weigh as `halves` says."""
    import pymetis

    if not graph.nnz:  # nothing to cut: METIS would complain on standard output
        return (np.cumsum(weight) - weight / 2 > halves[0] * weight.sum()).astype(np.int64)
    edges = np.maximum(1, np.rint(graph.data * (1e6 / graph.data.max()))).astype(np.int32)
    vertices = np.rint(weight * (1e6 / weight.max())).astype(np.int32)
    adjacency = pymetis.CSRAdjacency(graph.indptr.astype(np.int32), graph.indices.astype(np.int32))
    _, part = pymetis.part_graph(
        2, adjacency, vweights=vertices, eweights=edges, tpwgts=halves.tolist(), recursive=True
    )
    return np.array(part, np.int64)
