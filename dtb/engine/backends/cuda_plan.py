"""What the cuda kernels read of a network: groups of tiles, who delivers to them, and how the work is cut; and the
memory that all of it takes, counted before any is asked for.

g group, e entry, m segment, x item.   Tables of entries and segments are those of the cpu backend (`cpu_tables`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dtb.engine.backends import cpu_drive, cpu_rows, cpu_sparse, cpu_tables
from dtb.engine.backends.cpu_kernels import Layout
from dtb.engine.backends.cuda_world import clock, record
from dtb.engine.constants import Constants, Control, delay_steps
from dtb.network import rng, synapses
from dtb.network.network import Network
from dtb.network.projection import QUANTILES
from dtb.network.tiles import LANES, Tiles

LARGEST_TILE = 16_384  # neurons: sums of 128 KiB, which a block of an A100 (163 KiB) and an H100 (227 KiB) can have
THREADS = 512
WARP = 32
MAX_BLOCK = 16  # steps between meetings; scatter.cuh
STAGED, HITS = 2, 8  # of a thread, spikes and synapses in shared memory; scatter.cuh
MAX_BUCKETS = 2_048  # of a group: two numbers each in the shared memory of `scatter`
TURNS = 2  # groups at work at once: one is drawn while the other is added up
SPILL_BYTES = 1 << 28  # sums for buckets that overflow: of one group, whatever the size of the network
BUCKET_BYTES = 1 << 30  # likewise
MARGIN = 2.5  # times the synapses expected in a bucket
EXPECTED_HZ = 8.0  # spikes/s, to guess how many arrive; nothing but speed depends on it
DRAWS, FEWEST_DRAWS = 32_768, 2_048  # of one item, about
ITEMS = 1_056  # of a group, at least, where they have FEWEST_DRAWS: four for each block that 132 SMs hold at once
FEWEST_SPIKES = 2_048  # of one item, before its strata are cut
HISTORY_MS, LEAST_STEPS, MOST_STEPS = 128.0, 128, 512  # of one call
SPREAD_BYTES = 1 << 23  # sums of `spread` where populations are large: a million neurons
ITEM_NS, HIT_NS = 15.0, 0.012  # predicted: of an item whatever its spikes, and of a synapse
VISIT_NS, SENT_NS = 0.32, 0.05  # predicted: of a spike on its way looked at in one step, and of a synapse
LAUNCH_NS = 7_500.0  # predicted: of the three kernels of a block of steps
ROOM = 1.75  # spikes kept of a neuron, on average, beside those that one block may bring

PARAMETERS = (
    "step", "leak", "drive", "threshold", "reset", "drift", "spread", "bg_decay", "g0", "g1", "g2", "g3", "e0", "e1",
    "e2", "e3", "d0", "d1", "d2", "d3", "unit0", "unit1", "hold", "stimulus",
)  # fmt: skip  # columns of World.table: struct Parameters of neuron.cuh


class Plan(NamedTuple):
    """A network cut for one device.

    block: steps between meetings; burst: spikes of a neuron in one; steps: of one call; columns: of the history.
    groups, entries, segments, items, pool_tile: see world.cuh; of group g the items are item[g] : item[g + 1].
    spread: arrays of World where `spread` delivers, spike by spike, and then there are no groups; see `few_spikes`.
    """

    network: Network
    tiles: Tiles
    layout: Layout
    block: int
    burst: int
    longest: int
    steps: int
    columns: int
    groups: np.ndarray
    entries: np.ndarray
    segments: np.ndarray
    items: np.ndarray
    item: np.ndarray
    pool_tile: np.ndarray
    spread: dict[str, np.ndarray]

    @property
    def scattered(self) -> bool:
        """Whether `scatter` delivers."""
        return not self.spread

    @property
    def width(self) -> int:
        """Neurons of the largest tile that is here, in whole words."""
        return -(-int(self.tiles.n[self.layout.own].max()) // WARP) * WARP

    @property
    def lanes(self) -> int:
        return int(self.layout.block[-1]) * LANES

    @property
    def buckets(self) -> int:
        """Of the group with most tiles."""
        return int(self.groups["tiles"].max(initial=0)) * self.block

    @property
    def records(self) -> int:
        """That all buckets of a group hold, of the one for which they are most."""
        return int((self.groups["capacity"] * self.groups["tiles"] * self.block).max(initial=0))

    @property
    def turns(self) -> int:
        """Groups that have buckets at the same time."""
        return min(TURNS, len(self.groups))

    @property
    def spill_lanes(self) -> int:
        ends = self.layout.block[self.groups["tile"] + self.groups["tiles"]] * LANES
        return int((ends - self.groups["lane"]).max(initial=0))


def compile_plan(
    network: Network, tiles: Tiles, constants: Constants, dt: float, here: np.ndarray, lesions=None
) -> Plan:
    """Cut a network for one device.

    here (t,) bool: the tiles whose neurons live there; of the others it has the spikes.
    """
    layout = cpu_tables.layout(network, tiles, here)
    delays = [delay_steps(network, p, dt) for p in network.projections]
    longest = max((int(d.max(initial=1)) for d in delays), default=1)
    block = min(MAX_BLOCK, min((int(d.min(initial=MAX_BLOCK)) for d in delays), default=MAX_BLOCK))
    steps = int(np.clip(round(HISTORY_MS / dt), LEAST_STEPS, MOST_STEPS))
    columns = 1 << int(np.ceil(np.log2(longest + block + steps + 1)))
    groups, entries, segments, items = (np.zeros(0, record(n)) for n in ("Group", "Entry", "Segment", "Item"))
    plan = Plan(
        network, tiles, layout, block, -(-block // (int(constants.hold.min()) + 1)), longest, steps, columns, groups,
        entries, segments, items, np.zeros(1, np.int64), np.zeros(0, np.int32), {},
    )  # fmt: skip
    if tiles.pure:
        scattered = _scattered(plan, dt, lesions)
        if not here.all() or not few_spikes(scattered, dt):  # ranks must have blocks of the same length
            return scattered
    return plan._replace(block=1, burst=1, spread=_spread(plan, dt, lesions))


def few_spikes(plan: Plan, dt: float) -> bool:
    """Whether so few spikes arrive that looking for each of them is faster than items for all that may send some.

    What is compared are predictions, from counts of instructions: docs/cuda.md.
    """
    lanes, items = plan.lanes, len(plan.items)
    spikes = plan.network.n_neurons * EXPECTED_HZ / 1000 * dt  # of a step
    events = plan.network.n_synapses * EXPECTED_HZ / 1000 * dt
    scatter = (items * ITEM_NS + LAUNCH_NS) / plan.block + events * HIT_NS
    spread = spikes * plan.longest * VISIT_NS + events * SENT_NS + LAUNCH_NS
    return 8 * lanes <= SPREAD_BYTES and spread < scatter


# groups, entries, items --------------------------------------------------------------------------------------------


def cut_groups(n: np.ndarray, region: np.ndarray, own: np.ndarray, tiles: int, neurons: int) -> np.ndarray:
    """(g, 2) first tile of each group and one past its last: as many whole regions as have at most so many tiles and
    neurons; a region that has more is a few groups of its own.
    """
    new = np.ones(len(own), bool)
    new[1:] = (np.diff(own) != 1) | (region[own[1:]] != region[own[:-1]])
    begin = np.flatnonzero(new)
    cuts: list[list[int]] = []
    size = 0
    for first, last in zip(begin, [*begin[1:], len(own)], strict=True):
        held = int(n[own[first:last]].sum(dtype=np.int64))
        parts = max(-(-(last - first) // tiles), -(-held // neurons))
        open_tiles = cuts[-1][1] - cuts[-1][0] if cuts else 0
        if cuts and cuts[-1][1] == own[first] and open_tiles + last - first <= tiles and size + held <= neurons:
            cuts[-1][1] = int(own[last - 1]) + 1
            size += held
            continue
        cuts += [[int(part[0]), int(part[-1]) + 1] for part in np.array_split(own[first:last], parts)]
        size = held if parts == 1 else neurons
    return np.array(cuts, np.int64).reshape(-1, 2)


def _scattered(plan: Plan, dt: float, lesions) -> Plan:
    network, tiles, home = plan.network, plan.tiles, plan.layout
    region = network.population_region[tiles.population]
    neurons = max(int(tiles.n.max()), SPILL_BYTES // (8 * plan.block))
    cuts = cut_groups(tiles.n, region, home.own, max(1, MAX_BUCKETS // plan.block), neurons)
    dense = cpu_tables.dense(network, tiles, home, dt, cuts, 0, 1, lesions)
    group_of = np.repeat(np.arange(len(cuts)), np.diff(dense.entry))
    groups = np.zeros(len(cuts), record("Group"))
    groups["tile"], groups["tiles"] = cuts[:, 0], cuts[:, 1] - cuts[:, 0]
    groups["lane"] = home.block[cuts[:, 0]] * LANES
    entries = np.zeros(len(dense.entries), record("Entry"))
    for name in entries.dtype.names or ():
        entries[name] = dense.entries[name]
    segments = _segments(plan, dense, groups, group_of)
    per_tile = tiles.n[dense.pool_tile].astype(np.int64)
    before = np.concatenate([[0], np.cumsum(per_tile)])
    pool, pool_end = (dense.entries[name].astype(np.int64) for name in ("pool", "pool_end"))
    spikes = (before[pool_end] - before[pool]) * (EXPECTED_HZ / 1000 * dt * plan.block)
    items, item = _items(entries, pool, pool_end, spikes, group_of, len(groups))
    groups["capacity"] = _capacity(groups, entries, spikes, group_of, plan.block)
    plan = plan._replace(groups=groups)
    turn = np.arange(len(groups)) % TURNS
    groups["bucket"] = turn * plan.records
    groups["first_bucket"] = turn * plan.buckets
    groups["spill"] = turn * (2 * plan.block * plan.spill_lanes)
    return plan._replace(
        groups=groups, entries=entries, segments=segments, items=items, item=item,
        pool_tile=dense.pool_tile.astype(np.int32),
    )  # fmt: skip


def _segments(plan: Plan, dense, groups: np.ndarray, group_of: np.ndarray) -> np.ndarray:
    """Segments, with the tiles that hold their targets."""
    lane_of = plan.layout.block * LANES
    segments = np.zeros(len(dense.segments), record("Segment"))
    for name in ("bound", "scale", "most", "spare"):
        segments[name] = dense.segments[name]
    segments["end"], segments["first"] = dense.cuts["end"], dense.cuts["first"]
    segments["held"] = dense.cuts["last"] - dense.cuts["first"]
    segments["lane"] = dense.segments["at"] + dense.cuts["first"]
    of = np.repeat(group_of, dense.entries["end"] - dense.entries["segment"])
    home = groups["lane"][of] + segments["lane"]
    first, last = (np.searchsorted(lane_of, home + more, side="right") - 1 for more in (0, segments["held"] - 1))
    segments["tile"] = first - groups["tile"][of]
    segments["ratio"] = (last - first + 1) / segments["held"]
    return segments


def _items(entries, pool, pool_end, spikes, group_of, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Items of about DRAWS draws, fewer where a group would have too few; the longest of a group first; and where each
    group's begin.
    """
    low, high = entries["low"] >> np.uint64(32), (entries["high"] - np.uint64(1)) >> np.uint64(32)
    strata = (high - low).astype(np.int64) + 1
    share = np.bincount(group_of, spikes * strata, n_groups)[group_of] / ITEMS
    draws = np.clip(share, FEWEST_DRAWS, DRAWS)
    wanted = np.clip(draws / strata, FEWEST_SPIKES, np.maximum(spikes, FEWEST_SPIKES))
    tiles = pool_end - pool
    pools = np.clip(np.rint(spikes / wanted).astype(np.int64), 1, np.maximum(tiles, 1))
    parts = np.clip(np.rint(spikes / pools * strata / draws).astype(np.int64), 1, strata)
    n = pools * parts
    e = np.repeat(np.arange(len(entries)), n)
    number = np.arange(len(e)) - np.repeat(np.cumsum(n) - n, n)
    a, b = number // parts[e], number % parts[e]
    items = np.zeros(len(e), record("Item"))
    items["entry"], items["group"] = e, group_of[e]
    items["pool"], items["pool_end"] = (pool[e] + tiles[e] * (a + k) // pools[e] for k in (0, 1))
    items["stratum"], items["stratum_end"] = (low[e].astype(np.int64) + strata[e] * (b + k) // parts[e] for k in (0, 1))
    order = np.lexsort((-(spikes * strata / n)[e], items["group"]))
    items = items[order]
    return items, np.searchsorted(items["group"], np.arange(n_groups + 1)).astype(np.int64)


def _capacity(groups, entries, spikes, group_of, block: int) -> np.ndarray:
    """Synapses that each bucket of a group holds."""
    synapses_of = spikes * ((entries["high"] - entries["low"]).astype(float) / synapses.ONE)
    buckets = groups["tiles"].astype(np.int64) * block
    expected = np.bincount(group_of, synapses_of, len(groups)) / buckets
    most = BUCKET_BYTES // 4 // buckets // WARP * WARP
    return np.minimum(-(-(expected * MARGIN).astype(np.int64) // WARP) * WARP + 2 * WARP, most)


# small populations -------------------------------------------------------------------------------------------------


def _spread(plan: Plan, dt: float, lesions) -> dict[str, np.ndarray]:
    """World's arrays of rows in factorised form."""
    rows = cpu_rows.ending_in(
        cpu_rows.rows(plan.network, dt, lesions), cpu_drive.regions_here(plan.network, plan.tiles, plan.layout)
    )
    order = cpu_sparse.sparse(rows, plan.longest)
    return {
        "pair": rows.pair, "post": rows.post, "row_width": rows.width, "row_start": rows.start,
        "row_total": rows.total, "split": rows.split, "split_at": rows.split_at, "delays": rows.delays,
        "split_columns": rows.columns, "kind": rows.kind, "classes": rows.classes, "sends": rows.sends,
        "row_lesion": rows.lesion, "population_index": rows.population_index, "uniform": order.uniform,
        "sparse_entry": order.entry, "sparse_first": order.first, "sparse_row": order.row, "sparse_at": order.at,
    }  # fmt: skip


# tables ------------------------------------------------------------------------------------------------------------


def dynamics(network: Network, constants: Constants, control: Control, each: bool) -> np.ndarray:
    """World.table: a row of PARAMETERS for each population, or for each class."""
    c = constants
    k = network.population_class if each else np.arange(len(c.step))
    gain = control.gain if each else np.ones((len(k), 4), np.float32)
    mean, sd = (control.mean, control.sd) if each else (np.zeros(len(k), np.float32),) * 2
    columns = [c.step[k], c.leak[k], c.leak_drive[k], c.threshold[k], c.reset[k]]
    columns += [c.bg_mean[k] * mean, c.bg_noise[k] * sd, c.bg_decay[k]]
    columns += [c.g[k, u] * gain[:, u] for u in range(4)] + [c.e_rev[k, u] for u in range(4)]
    columns += [c.decay[k, u] for u in range(4)] + [np.full(len(k), unit) for unit in c.unit]
    columns += [c.hold[k].astype(np.float32), np.zeros(len(k), np.float32)]
    return np.stack(columns, axis=1).astype(np.float32)


def keys(network: Network) -> dict[str, np.ndarray]:
    """World's keys of every stratum, and weights."""
    width = int(synapses.offsets(network)[:, -1].max(initial=0))
    j = np.arange(-(-width // synapses.ONE) + 1)
    position, weight, lesion = (
        rng.key(network.seed, stream, j) for stream in (rng.Stream.POSITION, rng.Stream.WEIGHT, rng.Stream.LESION)
    )
    found = {"draw_key": np.concatenate([position, weight], axis=1), "lesion_key": lesion}
    weights = [synapses.weight_table(network, p) for p in range(len(network.projections))]
    return found | {"weights": np.array(weights, np.int32).reshape(-1, QUANTILES)}


# memory ------------------------------------------------------------------------------------------------------------


def rooms(plan: Plan) -> np.ndarray:
    """(t,) spikes that each tile's history holds at the start; those of other ranks' tiles grow as needed."""
    here = np.diff(plan.layout.block) > 0
    return np.where(here, (plan.tiles.n * (plan.burst + ROOM)).astype(np.int64), LANES)


def arrays(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Shapes of what `CudaBackend.start` allocates; their types are World's."""
    t = len(plan.tiles.n)
    shapes: dict[str, tuple[int, ...]] = {
        "fields": (6, plan.lanes),
        "hold": (plan.lanes,),
        "failed": (t,),
        "tallies": (3, plan.columns),
        "clock": (len(clock()),),
        "heard": (t,),
        "start": (t, plan.columns),
        "neuron": (int(rooms(plan).sum()),),
    }
    if not plan.scattered:
        return shapes | {"sums": (2, plan.lanes)}
    return shapes | {
        "bucket": (plan.turns * plan.records,),
        "bucket_count": (plan.turns * plan.buckets,),
        "spilled": (plan.turns * plan.buckets,),
        "spill": (plan.turns, plan.block, 2, plan.spill_lanes),
    }


def scatter_bytes(buckets: int, threads: int = THREADS) -> int:
    """Shared memory of `scatter`: struct Bench of scatter.cuh."""
    words = 256 + STAGED * threads + 3 * buckets + 1 + threads + 1 + WARP + 3 * MAX_BLOCK + 1
    return 8 * (STAGED + HITS) * threads + 4 * words + STAGED * threads


def advance_bytes(width: int, scattered: bool) -> int:
    """Shared memory of `advance`: parameters, sums, who fired, and workspace."""
    return (4 * len(PARAMETERS) + 8 * width if scattered else 0) + 8 * (width // WARP) + 4 * WARP
