"""Tables that the cpu kernels read, compiled from a network: where neurons live, who delivers to whom."""

from __future__ import annotations

import numpy as np

from dtb.engine.backends.cpu_dense import BY_DRAW, BY_SPIKE, BY_STRATUM, CUT, ENTRY, SEGMENT, Dense, Draws
from dtb.engine.backends.cpu_kernels import Layout
from dtb.engine.backends.cpu_vector import LANES_64
from dtb.engine.constants import delay_steps
from dtb.network import rng, synapses
from dtb.network.network import Network
from dtb.network.projection import KINDS
from dtb.network.tiles import LANES, Tiles

WIDE = 4 * synapses.ONE  # a segment of four strata is an entry of its own; narrower neighbours share their draws
GROUP_NEURONS = 1 << 23  # that receive at once, 64 MB of sums: a region that is cut costs more than it saves in caches
EXPECTED_HZ = 8.0  # spikes/s, to guess how many arrive
RUN = 64  # spikes of a region that are worth an entry's while; where fewer arrive in a block, several blocks are one
VISIT_NS, SUM_NS = 15.0, 0.2  # measured: of an entry whatever its spikes, and of a sum kept for later
AHEAD_BYTES = 1 << 25  # that sums kept for later may take, whatever the size of the network
GROUPS_PER_WORKER = 4  # at least, so that workers end together


def layout(network: Network, tiles: Tiles, here: np.ndarray) -> Layout:
    """Blocks of lanes of every tile that is here (t,) bool, and the population of every lane where tiles are mixed."""
    blocks = -(-tiles.n.astype(np.int64) // LANES) * here
    block = np.concatenate([[0], np.cumsum(blocks)])
    lanes, base = np.zeros((0, LANES), np.uint8), np.zeros(0, np.int32)
    if not tiles.pure:
        inside = np.arange(block[-1]) - np.repeat(block[:-1], blocks)
        gid = (np.repeat(tiles.first, blocks) + inside * LANES)[:, None] + np.arange(LANES)
        gid = np.minimum(gid, network.n_neurons - 1)  # lanes past the end of the last block repeat its last neuron
        population = np.searchsorted(network.first_gid, gid, side="right") - 1
        base = population[:, 0].astype(np.int32)
        lanes = (population - base[:, None]).astype(np.uint8)
    return Layout(tiles.first, tiles.n, block, tiles.population, lanes, base, np.flatnonzero(here))


def draws(network: Network) -> Draws:
    """Keys of as many strata as the widest row has."""
    width = int(synapses.offsets(network)[:, -1].max(initial=0))
    j = np.arange(-(-width // synapses.ONE))
    streams = (rng.Stream.POSITION, rng.Stream.WEIGHT, rng.Stream.LESION)
    position, weight, lesion = (rng.key(network.seed, stream, j) for stream in streams)
    weights = [synapses.weight_table(network, p) for p in range(len(network.projections))]
    halves = [key[:, half] for key in (position, weight, lesion) for half in (0, 1)]
    padded = [np.concatenate([half, np.zeros(LANES_64, np.uint64)]) for half in halves]
    return Draws._make([*padded, np.array(weights, np.int32).ravel()])


def groups(network: Network, tiles: Tiles, own: np.ndarray, planes: int, workers: int) -> np.ndarray:
    """(g, 2) tiles of groups: of one region and of those that are here, one after the other.

    Cut where sums would outgrow the cache or workers run dry. The first tile of each, and one past its last.
    """
    n, region = tiles.n[own].tolist(), network.population_region[tiles.population[own]].tolist()
    limit = max(LANES, min(GROUP_NEURONS // planes, -(-sum(n) // (GROUPS_PER_WORKER * workers))))
    cuts, size = [], 0
    for k, t in enumerate(own.tolist()):
        if not k or t != own[k - 1] + 1 or region[k] != region[k - 1] or size + n[k] > limit:
            cuts.append([t, t])
            size = 0
        cuts[-1][1] = t + 1
        size += n[k]
    return np.array(cuts, np.int64).reshape(-1, 2)


def rows_ahead(network: Network, neurons: int, dt: float, block: int) -> int:
    """Steps for which entries with long delays deliver at once; 0: none, all deliver block by block.

    In small networks a handful of spikes arrives from a region in a step, and looking them up costs more than their
    synapses. Delays of several blocks allow several blocks at once, at the price of a sum per neuron that is here, of
    which there are `neurons`, and step.
    """
    delays = [delay_steps(network, p, dt).ravel() for p in network.projections if p.kind == "excitatory"]
    delay = np.concatenate([*delays, np.zeros(0, np.int64)])
    spikes = network.n_neurons / len(network.regions) * EXPECTED_HZ / 1000 * dt * block
    allowed = AHEAD_BYTES // (4 * block * neurons), int(delay.max(initial=0)) // block, 255 // block
    most = min(round(RUN / spikes), *allowed)
    blocks = np.arange(1, max(most, 1) + 1)
    visits = np.array([np.where(delay >= k * block, 1 / k, 1.0).sum() for k in blocks])
    best = int(np.argmin(visits * VISIT_NS + (blocks > 1) * (SUM_NS * block * neurons)))
    return int(blocks[best]) * block if best else 0


def dense(
    network: Network, tiles: Tiles, home: Layout, dt: float, cuts: np.ndarray, rows: int, workers: int, lesions=None
) -> Dense:
    """Entries and segments of every group; see `cpu_dense.Dense`. rows: steps that sums may reach ahead."""
    middles = home.block[cuts].mean(axis=1)
    share = np.searchsorted(middles, np.arange(workers + 1) * home.block[-1] / workers).astype(np.int64)
    if not network.projections:
        none, nobody = np.zeros(len(cuts) + 1, np.int64), np.zeros(0, np.int64)
        return Dense(share, cuts, none, none, nobody, np.zeros(0, ENTRY), np.zeros(0, SEGMENT), np.zeros(0, CUT))
    parts = _parts(network, tiles, home, cuts)
    begin = synapses.offsets(network)
    pools = _Pools(network, tiles)
    pieces = [_segments(network, i, dt, begin, pools, parts, lesions) for i in range(len(network.projections))]
    flat = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    later = (flat["kind"] == 1) | (flat["delay"] < rows) if rows else np.ones(len(flat["kind"]), bool)
    order = np.lexsort((flat["low"], flat["delay"], flat["source"], flat["table"], later, flat["group"]))
    flat = {name: array[order] for name, array in flat.items()}
    narrow = flat["end"] - flat["bound"] < WIDE
    same = np.ones(len(order), bool)
    for name in ("group", "source", "delay", "pair", "table"):
        same[1:] &= flat[name][1:] == flat[name][:-1]
    same[1:] &= narrow[1:] & narrow[:-1] & (flat["low"][1:] == flat["high"][:-1])
    same[:1] = False
    first = np.flatnonzero(~same)
    last = np.concatenate([first[1:], [len(order)]]) - 1
    entries = np.zeros(len(first), ENTRY)
    for name in ("delay", "low", "table", "lesion", "kind", "own"):
        entries[name] = flat[name][first]
    pool, pool_tile = pools.arrays()
    entries["pool"], entries["pool_end"] = pool[flat["source"][first]], pool[flat["source"][first] + 1]
    entries["high"] = flat["high"][last]
    entries["segment"], entries["end"] = first, last + 1
    whole = (flat["first"] == 0) & (flat["last"] == flat["n"])
    plain = (entries["lesion"] == 0) & np.logical_and.reduceat(whole, first)
    wide = (first == last) & (entries["high"] - entries["low"] >= WIDE)
    entries["way"] = np.where(plain, np.where(wide, BY_SPIKE, BY_STRATUM), BY_DRAW)
    segments, bounds = (_records(flat, kind) for kind in (SEGMENT, CUT))
    later = later[order][first]
    reached = np.searchsorted(flat["group"][first], np.arange(len(cuts) + 1)).astype(np.int64)
    middle = reached[:-1] + np.add.reduceat(np.append(~later, False), reached)[:-1] * (np.diff(reached) > 0)
    return Dense(share, cuts, reached, middle, pool_tile, entries, segments, bounds)


def _records(columns: dict[str, np.ndarray], kind: np.dtype) -> np.ndarray:
    records = np.zeros(len(columns["bound"]), kind)
    for name in kind.names or ():
        records[name] = columns[name]
    return records


def _parts(network: Network, tiles: Tiles, home: Layout, cuts: np.ndarray) -> dict[str, np.ndarray]:
    """Runs of one population within one group, in the order of populations."""
    own = home.own
    group = np.repeat(np.arange(len(cuts)), cuts[:, 1] - cuts[:, 0])
    new = np.ones(len(own), bool)
    new[1:] = (tiles.population[own[1:]] != tiles.population[own[:-1]]) | (group[1:] != group[:-1])
    begin = np.flatnonzero(new)
    first, last = own[begin], own[np.concatenate([begin[1:], [len(own)]]) - 1]
    group, population = group[begin], tiles.population[first]
    start = network.first_gid[population]
    low = tiles.first[first] - start
    at = (home.block[first] - home.block[cuts[group, 0]]) * LANES
    return {
        "population": population,
        "group": group,
        "first": low,
        "last": tiles.first[last] + tiles.n[last] - start,
        "at": at - low,  # column of target 0 of the population, were it all in the group
    }


class _Pools:
    """Sets of source neurons that share every stratum: the classes of a pool whose part of the row begins alike."""

    def __init__(self, network: Network, tiles: Tiles) -> None:
        self.network = network
        self.tile_of = np.searchsorted(tiles.population, np.arange(network.n_populations + 1))
        self.members: list[np.ndarray] = []

    def add(self, populations: np.ndarray) -> int:
        self.members.append(populations)
        return len(self.members) - 1

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        runs = [np.concatenate([np.arange(*self.tile_of[p : p + 2]) for p in pool]) for pool in self.members]
        start = np.concatenate([[0], np.cumsum([len(run) for run in runs])]).astype(np.int64)
        return start, np.concatenate([*runs, np.zeros(0)]).astype(np.int64)


def _segments(network: Network, number: int, dt: float, begin: np.ndarray, pools: _Pools, parts, lesions) -> dict:
    """Every segment of a projection, once for each group that holds some of its targets."""
    projection, table = network.projections[number], synapses.tables(network, number)
    pairs, n_delays = projection.pairs, len(projection.delay_classes)
    index = network.population_index[:, network.class_indices(projection.pre)]
    sources, pairs_of, offsets = [], [], []
    for region in range(len(network.regions)):
        members = index[region][index[region] >= 0]
        run = np.arange(pairs.start[region], pairs.start[region + 1])
        for value in np.unique(begin[members, number]) if len(run) else []:
            sources.append(np.full(len(run), pools.add(members[begin[members, number] == value])))
            pairs_of.append(run)
            offsets.append(np.full(len(run), value, np.uint64))
    source, pair = (np.concatenate([*a, np.zeros(0, np.int64)]).astype(np.int64) for a in (sources, pairs_of))
    offset = np.concatenate([*offsets, np.zeros(0, np.uint64)])
    post, pre = pairs.post[pair], pairs.pre[pair]
    cut = (offset + table.start[pair])[:, None] + synapses.scale(table.width[pair, None], table.split[post])
    bound, end = cut[:, :-1].ravel(), cut[:, 1:].ravel()
    target = np.repeat(
        network.population_index[post][:, network.class_indices(projection.post)], n_delays, axis=1
    ).ravel()
    delay = np.tile(delay_steps(network, projection, dt)[pair], (1, len(projection.post))).ravel()
    columns = cut.shape[1] - 1
    row = np.flatnonzero((end > bound) & (target >= 0))  # segments that exist
    low, high = (np.searchsorted(parts["population"], target[row], side=side) for side in ("left", "right"))
    row = np.repeat(row, high - low)  # once per part of the target population
    part = (
        np.repeat(low, high - low) + np.arange(len(row)) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
    )
    bound, end, n = bound[row], end[row], np.diff(network.first_gid)[target[row]]
    scale, spare = synapses.reciprocal(end - bound, n), synapses.spare_bits(end - bound)
    pair_of = row // columns
    fraction = np.zeros(len(row)) if lesions is None else lesions[number][pair[pair_of]]
    first, last = parts["first"][part], parts["last"][part]
    reach = [np.floor(k / scale / np.ldexp(1.0, spare.astype(np.int64))) for k in (first, last)]
    return {
        "group": parts["group"][part],
        "source": source[pair_of],
        "pair": pair[pair_of],
        "delay": delay[row].astype(np.int64),
        "kind": np.full(len(row), KINDS.index(projection.kind), np.int64),
        "low": np.where(first > 0, bound + np.maximum(reach[0] - 2, 0).astype(np.uint64), bound),
        "high": np.where(last < n, np.minimum(bound + (reach[1] + 3).astype(np.uint64), end), end),
        "table": np.full(len(row), number, np.int64),
        "own": (post == pre)[pair_of],
        "lesion": synapses.threshold(fraction),
        "bound": bound,
        "end": end,
        "at": parts["at"][part],
        "n": n,
        "most": n - 1,
        "scale": scale,
        "spare": spare,
        "first": first,
        "last": last,
    }
