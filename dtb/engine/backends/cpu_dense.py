"""Delivery for large populations: target by target, stratum by stratum, all spikes of a source population at once.

For one source population and one j, all neurons put synapse j into the same one or few segments. So the numbers of a
segment are constants of the inner loop, the draw becomes vector code over spikes (or over strata, where spikes are
few), and the additions stay inside one group of tiles, whose sums fit a cache. The graph is not stored anywhere.

g group of tiles, e entry, m segment, j stratum, s spike, p step within the block.   u and c are 32.32 fixed point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import float64, int64, njit, uint16, uint64

from dtb.engine.backends.cpu_kernels import GOLDEN, atomic_add, barrier, hash64, kernel, update_tile
from dtb.engine.backends.cpu_vector import (
    LANES_64,
    choose8,
    choose_strata8,
    draw8,
    gather8,
    place8,
    sieve8,
    strata8,
)  # fmt: skip

CHUNK = 1024  # spikes worked on at once: their draws stay in the first-level cache
FEW = 48  # below this many spikes a wide segment is drawn spike by spike
HALF = uint64(32)


ENTRY = np.dtype(
    [
        ("pool", np.int64),  # source neurons: tiles pool_tile[pool : pool_end]
        ("pool_end", np.int64),
        ("delay", np.int64),  # steps
        ("low", np.uint64),  # range of u
        ("high", np.uint64),
        ("segment", np.int64),  # first segment, and one past the last
        ("end", np.int64),
        ("table", np.int64),  # row of weights
        ("lesion", np.uint64),  # fraction dropped, of 2^32
        ("kind", np.int16),  # 0 excitatory, 1 inhibitory
        ("own", np.int16),  # whether a neuron can hit itself
        ("plain", np.int16),  # whole populations and no lesion: the fast way
        ("wide", np.int16),  # plain, one segment, several strata wide
    ],
    align=True,
)
SEGMENT = np.dtype(
    [
        ("bound", np.uint64),  # c_m
        ("end", np.uint64),  # c_{m+1}
        ("at", np.int64),  # column of the population's first neuron among the group's sums
        ("n", np.int64),
        ("scale", np.float64),  # targets per unit of the exact integer
        ("spare", np.uint64),  # bits of the low half of the draw that it takes in
        ("first", np.int64),  # targets that belong to the group
        ("last", np.int64),
    ],
    align=True,
)


class Dense(NamedTuple):
    """Who delivers to whom, for every group of tiles; made by `cpu_tables.dense`.

    tile (g + 1,), entry (g + 1,): first tile and first entry of a group.  pool_tile: tiles of source neurons, run by
    run.  entries (e,) and segments (m,): records, so that one costs a cache line or two.
    """

    tile: np.ndarray
    entry: np.ndarray
    pool_tile: np.ndarray
    entries: np.ndarray
    segments: np.ndarray


class Draws(NamedTuple):
    """Keys of every stratum, (j,) uint64 each and padded to whole vectors, and weights (projections · 256,) int32."""

    position_0: np.ndarray
    position_1: np.ndarray
    weight_0: np.ndarray
    weight_1: np.ndarray
    lesion_0: np.ndarray
    lesion_1: np.ndarray
    weights: np.ndarray


class Scratch(NamedTuple):
    """One worker's workspace for a chunk of spikes.

    z uint64: GOLDEN · gid; mine: column among the group's sums; row: where the sums of a spike's step begin; plane:
    that step; kept_z, kept_draw uint64; kept, all (0, 1, …), target, choice int32.  tally (steps, 3).
    """

    z: np.ndarray
    mine: np.ndarray
    row: np.ndarray
    plane: np.ndarray
    kept_z: np.ndarray
    kept_draw: np.ndarray
    kept: np.ndarray
    all: np.ndarray
    target: np.ndarray
    choice: np.ndarray
    tally: np.ndarray


def scratch(steps: int) -> Scratch:
    kinds = [np.uint64, np.int64, np.int64, np.int64, *[np.uint64] * 2, *[np.int32] * 4]
    arrays = [np.zeros(CHUNK + LANES_64, kind) for kind in kinds]
    work = Scratch._make([*arrays, np.zeros((steps, 3), np.int64)])
    work.all[:] = np.arange(len(work.all))
    return work


@njit(inline="always")
def place(stratum, bound, spare, scale, r, n):
    """synapses.place: the target within its population of a draw r in a stratum j · 2³²."""
    exact = ((stratum - bound) << spare) + (r >> (HALF - spare))
    return min(int64(float64(int64(exact)) * scale), n - 1)


@njit(inline="always")
def add_one(entry, segments, j, s, r, sums, start, draws, work):
    """Any synapse: find its segment, its target, whether it is an autapse or lesioned, and add its weight."""
    stratum, z = j << HALF, work.z[s]
    u = stratum + (r >> HALF)
    m = uint64(entry.segment)
    while u >= segments[m].end:
        m += uint64(1)
    k = place(stratum, segments[m].bound, segments[m].spare, segments[m].scale, r, segments[m].n)
    if k >= segments[m].first and k < segments[m].last:
        target, p = k + segments[m].at, uint64(work.plane[s])
        if entry.own and target == work.mine[s]:
            work.tally[p, 1] += 1
        elif entry.lesion > 0 and hash64(z, draws.lesion_0[j], draws.lesion_1[j]) >> HALF < entry.lesion:
            work.tally[p, 2] += 1
        else:
            choice = hash64(z, draws.weight_0[j], draws.weight_1[j]) >> uint64(56)
            weight = draws.weights[(uint64(entry.table) << uint64(8)) + choice]
            sums[uint64(start + work.row[s] + target)] += weight
            work.tally[p, 0] += 1


@njit(inline="always")
def by_spike(entry, segments, n, sums, start, draws, work):
    """A wide segment and few spikes: each spike draws all its whole strata at once."""
    m = uint64(entry.segment)
    bound, spare, scale = segments[m].bound, segments[m].spare, segments[m].scale
    last, at = segments[m].n - 1, segments[m].at
    table = uint64(entry.table) << uint64(8)
    first, end = (entry.low + uint64(0xFFFFFFFF)) >> HALF, entry.high >> HALF
    for s in range(uint64(n)):
        z, row = work.z[s], uint64(start + work.row[s])
        autapses = 0
        for begin in range(first, end, uint64(CHUNK)):
            count = min(uint64(CHUNK), end - begin)
            for x in range(uint64(0), count, uint64(LANES_64)):
                base = (((begin + x) << HALF) - bound) << spare
                strata8(z, draws.position_0, draws.position_1, begin + x, base, spare, scale, last, at, x, work.target)
                choose_strata8(z, draws.weight_0, draws.weight_1, begin + x, x, work.choice)
            for x in range(count):
                sums[row + uint64(work.target[x])] += draws.weights[table + uint64(work.choice[x])]
            if entry.own:
                for x in range(count):
                    if work.target[x] == work.mine[s]:
                        sums[row + uint64(work.target[x])] -= draws.weights[table + uint64(work.choice[x])]
                        autapses += 1
        work.tally[uint64(work.plane[s]), 0] += int64(end - first) - autapses
        work.tally[uint64(work.plane[s]), 1] += autapses


@njit(inline="always")
def edges(entry):
    """The strata at both ends of a wide entry that are only partly in it, as a range: begin, end, step."""
    part = uint64(0xFFFFFFFF)
    first, end = (entry.low + part) >> HALF, entry.high >> HALF
    begin = first - uint64(1) if entry.low & part else end
    stop = end + uint64(1) if entry.high & part else first
    return begin, stop, end - first + uint64(1)


@njit(inline="always")
def by_draw(entry, segments, n, sums, start, draws, work):
    """Entries with lesions, or with targets beyond the group: draw for draw."""
    for j in range(entry.low >> HALF, ((entry.high - uint64(1)) >> HALF) + uint64(1)):
        for s in range(uint64(n)):
            r = hash64(work.z[s], draws.position_0[j], draws.position_1[j])
            u = (j << HALF) + (r >> HALF)
            if u >= entry.low and u < entry.high:
                add_one(entry, segments, j, s, r, sums, start, draws, work)


@njit(inline="always")
def by_stratum(entry, segments, n, strata, sums, start, draws, work):
    """For each of these strata, all spikes draw; those that fall inside the entry are placed, weighed, added."""
    one = uint64(1) << HALF
    table = uint64(entry.table) << uint64(8)
    m, planes = uint64(entry.segment), work.tally.shape[0]
    for j in range(strata[0], strata[1], strata[2]):
        stratum = j << HALF
        begin = entry.low - stratum if entry.low > stratum else uint64(0)
        width = min(entry.high - stratum, one) - begin
        key_0, key_1 = draws.position_0[j], draws.position_1[j]
        count = uint64(0)
        whole = width == one
        kept_z = work.z if whole else work.kept_z
        kept = work.all if whole else work.kept
        if whole:
            count = uint64(n)
            for s in range(uint64(0), count, uint64(LANES_64)):
                draw8(work.z, s, key_0, key_1, work.kept_draw)
        else:
            for s in range(uint64(0), uint64(n), uint64(LANES_64)):
                count += sieve8(
                    work.z, s, uint64(n), key_0, key_1, begin, width, count, work.kept, work.kept_z, work.kept_draw
                )
            if count == uint64(0):
                continue
        while segments[m].end <= stratum + begin:
            m += uint64(1)
        k = m
        while k < uint64(entry.end) and segments[k].bound < stratum + begin + width:
            from_here = segments[k].bound - stratum if segments[k].bound > stratum else uint64(0)
            base = (stratum - segments[k].bound) << segments[k].spare
            for c in range(uint64(0), count, uint64(LANES_64)):
                place8(
                    work.kept_draw, c, from_here, base, segments[k].spare, segments[k].scale, segments[k].n - 1,
                    segments[k].at, work.target,
                )  # fmt: skip
            k += uint64(1)
        for c in range(uint64(0), count, uint64(LANES_64)):
            choose8(kept_z, c, draws.weight_0[j], draws.weight_1[j], work.choice)
        if planes == 1:
            for c in range(count):
                sums[uint64(start) + uint64(work.target[c])] += draws.weights[table + uint64(work.choice[c])]
            work.tally[0, 0] += int64(count)
        else:
            for c in range(count):
                s = uint64(kept[c])
                row = uint64(start + work.row[s])
                sums[row + uint64(work.target[c])] += draws.weights[table + uint64(work.choice[c])]
                work.tally[uint64(work.plane[s]), 0] += 1
        if entry.own:
            for c in range(count):
                s = uint64(kept[c])
                if int64(work.target[c]) == work.mine[s]:
                    row = uint64(start + work.row[s])
                    sums[row + uint64(work.target[c])] -= draws.weights[table + uint64(work.choice[c])]
                    work.tally[uint64(work.plane[s]), 0] -= 1
                    work.tally[uint64(work.plane[s]), 1] += 1


@kernel
def deliver(g, begin, steps, sums, width, layout, history, dense, draws, tallies, work):
    """Add to `sums` (2 · planes · width,) all that arrives at group g in the `steps` steps from `begin` on.

    tallies (3, h) int64: delivered, autapses, lesioned, by emission step modulo h.
    """
    wrap = uint64(history.start.shape[1] - 1)
    home = layout.block[dense.tile[g]]
    timed = history.plane.shape[0] > 0
    planes = work.tally.shape[0]
    for e in range(uint64(dense.entry[g]), uint64(dense.entry[g + 1])):
        entry = dense.entries[e]
        emitted = begin - entry.delay
        start = int64(entry.kind) * planes * width
        any_spike = False
        for q in range(uint64(entry.pool), uint64(entry.pool_end)):
            tile = uint64(dense.pool_tile[q])
            a = int64(history.start[tile, uint64(emitted) & wrap])
            b = int64(history.start[tile, uint64(emitted + steps) & wrap])
            if a == b:
                continue
            any_spike = True
            z, base = uint64(layout.first[tile]) * GOLDEN, history.base[tile]
            for chunk in range(base + a, base + b, CHUNK):
                n = min(int64(CHUNK), base + b - chunk)
                for s in range(uint64(0), uint64(n), uint64(LANES_64)):
                    gather8(history.neuron, uint64(chunk) + s, z, work.z, s)
                if timed:
                    for s in range(uint64(n)):
                        p = int64(uint16(history.plane[uint64(chunk) + s] - uint16(emitted & 0xFFFF)))
                        work.plane[s] = p
                        work.row[s] = p * width
                if entry.own:
                    at = (layout.block[tile] - home) * 16
                    for s in range(uint64(n)):
                        work.mine[s] = at + int64(history.neuron[uint64(chunk) + s])
                if not entry.plain:
                    by_draw(entry, dense.segments, n, sums, start, draws, work)
                    continue
                strata = entry.low >> HALF, ((entry.high - uint64(1)) >> HALF) + uint64(1), uint64(1)
                if entry.wide and n < FEW:
                    by_spike(entry, dense.segments, n, sums, start, draws, work)
                    strata = edges(entry)
                by_stratum(entry, dense.segments, n, strata, sums, start, draws, work)
        if any_spike:
            for p in range(uint64(steps)):
                column = uint64(emitted + int64(p)) & wrap
                tallies[0, column] += work.tally[p, 0]
                work.tally[p, 0] = 0
                if entry.own or not entry.plain:
                    tallies[1, column] += work.tally[p, 1]
                    tallies[2, column] += work.tally[p, 2]
                    work.tally[p, 1] = work.tally[p, 2] = 0


@kernel
def work_dense(
    workers, begin, steps, block, burst, fields, hold, sums, failed, layout, history, dynamics, probes, dense, draws,
    tallies, spare, work, sync,
):  # fmt: skip
    """What one worker does in a call: block after block, take groups until none is left, meet the others.

    burst: spikes that a neuron can emit in one block.  Returns the steps done: all of them, or fewer where a tile's
    history lacks room for one more block.
    """
    planes = work.tally.shape[0]
    stride = sums.shape[0] // (2 * planes)
    excitation, inhibition = sums.reshape(2, planes, stride)
    done, meeting = 0, 0
    while done < steps:
        now = min(block, steps - done)
        while True:
            g = atomic_add(sync.task, int64(meeting), int64(1))
            if g >= dense.tile.shape[0] - 1:
                break
            home = layout.block[dense.tile[g]]
            width = (layout.block[dense.tile[g + 1]] - home) * 16
            for row in range(2 * planes):
                sums[row * stride : row * stride + width] = 0
            deliver(g, begin + done, now, sums, stride, layout, history, dense, draws, tallies, work)
            for tile in range(dense.tile[g], dense.tile[g + 1]):
                at = (layout.block[tile] - home) * 16
                bad = update_tile(
                    tile, begin + done, done, now, fields, hold, excitation, inhibition, 0, 0, at, layout, history,
                    dynamics, probes, spare,
                )  # fmt: skip
                if bad >= 0 and failed[tile] < 0:
                    failed[tile] = bad
                    atomic_add(sync.stop, int64(meeting), int64(1))
                head = history.start[tile, (begin + done + now) & (history.start.shape[1] - 1)]
                if head + layout.n[tile] * burst > history.room[tile]:
                    atomic_add(sync.stop, int64(meeting), int64(1))
        barrier(sync, meeting, workers)
        done += now
        if sync.stop[meeting] > 0:
            break
        meeting += 1
    return done
