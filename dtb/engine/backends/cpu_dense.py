"""Delivery for large populations: target by target, stratum by stratum, all spikes of a source population at once.

For one source population and one j, all neurons put synapse j into the same one or few segments. So the numbers of a
segment are constants of the inner loop, the draw becomes vector code over spikes (or over strata, where spikes are
few), and the additions stay inside one group of tiles, whose sums fit a cache. The graph is not stored anywhere.

What limits it is not arithmetic but guessing: how many spikes there are, and which of them hit, is random. So a run of
spikes is sieved without branches, the hits of many runs are placed in one go, and then they are all added. Where a
region is so small that runs are short, entries with long delays deliver for several steps at once.

g group of tiles, e entry, m segment, j stratum, s spike, p step within the block.   u and c are 32.32 fixed point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import float64, int64, njit, uint8, uint64

from dtb.engine.backends import aligned
from dtb.engine.backends.cpu_kernels import GOLDEN, atomic_add, barrier, hash64, kernel, lives_here, update_tile
from dtb.engine.backends.cpu_vector import (
    LANES_64,
    keep8,
    pack8,
    place8,
    prefetch,
    redraw8,
    settle8,
    settle_two8,
    sieve8,
    strata8,
    timed_keep8,
    timed_sieve8,
)  # fmt: skip

CHUNK = 512  # spikes sieved at once
KEPT = 1024  # synapses found before they are added: they stay in the first-level cache
RUNS = 64  # of spikes, looked up at once
PIECES = 256  # runs of spikes that were sieved before their synapses are placed
FEW = 48  # below this many spikes a wide segment is drawn spike by spike
HALF, LOW = uint64(32), uint64(0xFFFFFFFF)
BY_DRAW, BY_STRATUM, BY_SPIKE = range(3)


ENTRY = np.dtype(
    [
        ("low", np.uint64),  # range of u
        ("high", np.uint64),
        ("lesion", np.uint64),  # fraction dropped, of 2^32
        ("pool", np.int32),  # source neurons: tiles pool_tile[pool : pool_end]
        ("pool_end", np.int32),
        ("segment", np.int32),  # first segment, and one past the last
        ("end", np.int32),
        ("delay", np.int32),  # steps
        ("table", np.int16),  # row of weights: the projection
        ("kind", np.int8),  # 0 excitatory, 1 inhibitory
        ("way", np.int8),  # BY_DRAW, BY_STRATUM or BY_SPIKE; the last where spikes are few
        ("own", np.int8),  # whether a neuron can hit itself
    ],
    align=True,
)
SEGMENT = np.dtype(
    [
        ("bound", np.uint64),  # c_m
        ("scale", np.float64),  # targets per unit of the exact integer
        ("most", np.int64),  # largest target within its population
        ("at", np.int32),  # column of the population's first neuron among the group's sums
        ("spare", np.int32),  # bits of the low half of the draw that it takes in
    ],
    align=True,
)
CUT = np.dtype(
    [
        ("end", np.uint64),  # c_{m+1}
        ("first", np.int64),  # targets that belong to the group
        ("last", np.int64),
    ],
    align=True,
)


class Dense(NamedTuple):
    """Who delivers to whom, for every group of tiles; made by `cpu_tables.dense`.

    share (w + 1,): first group of each worker; tile (g, 2): first tile of a group, and one past its last; entry
    (g + 1,): its first entry; middle (g,): the first entry that delivers block by block, those before it deliver for
    several blocks at once.
    pool_tile: tiles of source neurons, run by run.  entries (e,), segments (m,): records of one cache line or less;
    cuts (m,): what few segments need besides.
    """

    share: np.ndarray
    tile: np.ndarray
    entry: np.ndarray
    middle: np.ndarray
    pool_tile: np.ndarray
    entries: np.ndarray
    segments: np.ndarray
    cuts: np.ndarray


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
    """One worker's workspace: runs of spikes that arrive, the synapses they set off, and the pieces in which these are.

    run (r, 4) int64: entry, tile, and where in the history the spikes of that tile begin and end.  kept uint32: step
    since the first of the run · 2¹⁶ + neuron in its tile, of spikes that hit.  found uint32: index into sums · 256 +
    weight class.  A piece is what one run hits in one stratum: its entry, stratum, tile, and where its spikes end.
    draw uint64, target int32: of synapses that more than two segments share; see `place8`.
    """

    run: np.ndarray
    kept: np.ndarray
    found: np.ndarray
    entry: np.ndarray
    stratum: np.ndarray
    tile: np.ndarray
    end: np.ndarray
    draw: np.ndarray
    target: np.ndarray


def scratch(runs: int) -> Scratch:
    """runs: tiles of the largest pool."""
    run = aligned.zeros((max(runs, RUNS), 4), np.int64)
    kept, found = (aligned.zeros(KEPT + 2 * LANES_64, np.uint32) for _ in range(2))
    entry, stratum, tile, end = (aligned.zeros(PIECES, np.uint64) for _ in range(4))
    draw, target = (aligned.zeros(KEPT + 2 * LANES_64, kind) for kind in (np.uint64, np.int32))
    return Scratch(run, kept, found, entry, stratum, tile, end, draw, target)


@njit(inline="always")
def plane_of(history, s, emitted):
    """Step of a spike since step `emitted`."""
    if history.plane.shape[0] == 0:
        return int64(0)
    return int64(uint8(history.plane[uint64(s)] - uint8(emitted & 0xFF)))


@njit(inline="always")
def add(found, count, table, sums, draws):
    """Add the weights of synapses to their sums."""
    for x in range(count):
        sums[uint64(found[x] >> 8)] += draws.weights[table + uint64(found[x] & 0xFF)]


@njit(inline="always")
def by_draw(entry, spikes, tile, start, stride, shift, sums, layout, history, dense, draws, tallies):
    """Entries with lesions, or with targets beyond the group: draw for draw."""
    wrap = history.start.shape[1] - 1
    for s in range(spikes[0], spikes[1]):
        gid = layout.first[tile] + int64(history.neuron[uint64(s)])
        z = uint64(gid) * GOLDEN
        p = plane_of(history, s, spikes[2])
        column = (spikes[2] + p) & wrap
        for j in range(entry.low >> HALF, ((entry.high - uint64(1)) >> HALF) + uint64(1)):
            r = hash64(z, draws.position_0[j], draws.position_1[j])
            stratum = j << HALF
            u = stratum + (r >> HALF)
            if u < entry.low or u >= entry.high:
                continue
            m = uint64(entry.segment)
            while u >= dense.cuts[m].end:
                m += uint64(1)
            segment = dense.segments[m]
            spare = uint64(segment.spare)
            exact = ((stratum - segment.bound) << spare) + (r >> (HALF - spare))
            k = min(int64(float64(int64(exact)) * segment.scale), segment.most)
            if k < dense.cuts[m].first or k >= dense.cuts[m].last:
                continue
            target = k + int64(segment.at)
            if entry.own and lives_here(layout, tile) and target == gid + shift:
                tallies[1, column] += 1
            elif entry.lesion > 0 and hash64(z, draws.lesion_0[j], draws.lesion_1[j]) >> HALF < entry.lesion:
                tallies[2, column] += 1
            else:
                choice = hash64(z, draws.weight_0[j], draws.weight_1[j]) >> uint64(56)
                sums[uint64(start + p * stride + target)] += draws.weights[(uint64(entry.table) << uint64(8)) + choice]
                tallies[0, column] += 1


@njit(inline="always")
def by_spike(entry, spikes, tile, start, stride, shift, sums, layout, history, dense, draws, tallies, work):
    """A wide segment and few spikes: each spike draws eight strata at a time."""
    wrap = history.start.shape[1] - 1
    segment = dense.segments[uint64(entry.segment)]
    spare, at, table = uint64(segment.spare), int64(segment.at), uint64(entry.table) << uint64(8)
    begin, end = entry.low >> HALF, ((entry.high - uint64(1)) >> HALF) + uint64(1)
    count = uint64(0)
    for s in range(spikes[0], spikes[1]):
        gid = layout.first[tile] + int64(history.neuron[uint64(s)])
        p = plane_of(history, s, spikes[2])
        row = start + p * stride
        mine = row + gid + shift if entry.own and lives_here(layout, tile) else int64(-1)
        hit = uint64(0)  # autapses in its upper half
        for j in range(begin, end, uint64(LANES_64)):
            if count > uint64(KEPT):
                add(work.found, count, table, sums, draws)
                count = uint64(0)
            now = strata8(
                uint64(gid) * GOLDEN, draws.position_0, draws.position_1, draws.weight_0, draws.weight_1, j, entry.low,
                entry.high, ((j << HALF) - segment.bound) << spare, spare, segment.scale, segment.most, row + at, mine,
                count, work.found,
            )  # fmt: skip
            hit += now
            count += now & LOW
        column = (spikes[2] + p) & wrap
        tallies[0, column] += int64(hit & LOW)
        tallies[1, column] += int64(hit >> HALF)
    add(work.found, count, table, sums, draws)


@njit(inline="always")
def sieve(spikes, z, low, high, j, count, history, draws, work):
    """Draw stratum j of a run of spikes; keep those between low and high, from number `count` on. Returns the next."""
    stratum = j << HALF
    begin = low - stratum if low > stratum else uint64(0)
    width = min(high - stratum, uint64(1) << HALF) - begin
    n, here, since = uint64(spikes[1] - spikes[0]), uint64(spikes[0]), uint8(spikes[2] & 0xFF)
    key_0, key_1 = draws.position_0[j], draws.position_1[j]
    timed = history.plane.shape[0] > 0
    if width >> HALF:  # the whole stratum: all are kept
        for s in range(uint64(0), n, uint64(LANES_64)):
            if timed:
                timed_keep8(history.neuron, here + s, count + s, work.kept, history.plane, since)
            else:
                keep8(history.neuron, here + s, count + s, work.kept)
        return count + n
    for s in range(uint64(0), n, uint64(LANES_64)):
        if timed:
            count += timed_sieve8(
                history.neuron, here + s, s, n, z, key_0, key_1, begin, width, count, work.kept, history.plane, since
            )
        else:
            count += sieve8(history.neuron, here + s, s, n, z, key_0, key_1, begin, width, count, work.kept)
    return count


@njit(inline="always")
def settle(pieces, begin, start, stride, home, sums, layout, history, dense, draws, tallies, work):
    """Place the synapses of all pieces, weigh them, add them up. All belong to one projection."""
    wrap = history.start.shape[1] - 1
    first, table = uint64(0), uint64(0)
    for i in range(pieces):
        entry, j, tile, last = dense.entries[work.entry[i]], work.stratum[i], work.tile[i], work.end[i]
        table = uint64(entry.table) << uint64(8)
        emitted = begin - int64(entry.delay)
        z, stratum = uint64(layout.first[tile]) * GOLDEN, j << HALF
        mine = (layout.block[tile] - home) * 16 if entry.own and lives_here(layout, tile) else -(int64(1) << 30)
        key_0, key_1 = draws.position_0[j], draws.position_1[j]
        word_0, word_1 = draws.weight_0[j], draws.weight_1[j]
        low, high = uint64(entry.segment), uint64(entry.end) - uint64(1)
        one, two = dense.segments[low], dense.segments[high]
        own = uint64(0)
        if high == low:
            for x in range(first, last, uint64(LANES_64)):
                own |= settle8(
                    work.kept, x, z, key_0, key_1, word_0, word_1, stride, start, mine, work.found,
                    stratum - one.bound, uint64(one.spare), one.scale, one.most, int64(one.at),
                )  # fmt: skip
        elif high == low + uint64(1):
            reach = two.bound - stratum if two.bound > stratum else uint64(0)
            for x in range(first, last, uint64(LANES_64)):
                own |= settle_two8(
                    work.kept, x, z, key_0, key_1, word_0, word_1, stride, start, mine, work.found,
                    stratum - one.bound, uint64(one.spare), one.scale, one.most, int64(one.at), reach,
                    stratum - two.bound, uint64(two.spare), two.scale, two.most, int64(two.at),
                )  # fmt: skip
        else:
            for x in range(first, last, uint64(LANES_64)):
                redraw8(work.kept, x, z, key_0, key_1, work.draw)
            for m in range(low, high + uint64(1)):
                segment = dense.segments[m]
                reach = segment.bound - stratum if segment.bound > stratum else uint64(0)
                for x in range(first, last, uint64(LANES_64)):
                    place8(
                        work.draw, x, reach, stratum - segment.bound, uint64(segment.spare), segment.scale,
                        segment.most, int64(segment.at), work.target,
                    )  # fmt: skip
            for x in range(first, last, uint64(LANES_64)):
                own |= pack8(work.kept, x, z, word_0, word_1, stride, start, mine, work.found, work.target)
        if history.plane.shape[0] > 0:
            for x in range(first, last):
                tallies[0, (emitted + int64(work.kept[x] >> 16)) & wrap] += 1
        else:
            tallies[0, emitted & wrap] += int64(last - first)
        if own > uint64(0):
            for x in range(first, last):
                plane = int64(work.kept[x] >> 16)
                if int64(work.found[x] >> 8) == start + (plane + 1) * stride - 1:
                    tallies[0, (emitted + plane) & wrap] -= 1
                    tallies[1, (emitted + plane) & wrap] += 1
        first = last
    add(work.found, first, table, sums, draws)


@njit(inline="always")
def list_runs(e, end, begin, steps, history, dense, work):
    """Spikes that arrive by the entries from e on, tile by tile, until `work` is full: (next entry, runs).

    Apart from what is done with them, so that a dozen of these scattered reads are under way at once.
    """
    wrap = uint64(history.start.shape[1] - 1)
    runs = uint64(0)
    while e < end:
        entry = dense.entries[e]
        if runs + uint64(entry.pool_end - entry.pool) > uint64(work.run.shape[0]):
            break
        first, last = uint64(begin - int64(entry.delay)) & wrap, uint64(begin + steps - int64(entry.delay)) & wrap
        for q in range(uint64(entry.pool), uint64(entry.pool_end)):
            tile = uint64(dense.pool_tile[q])
            base = history.base[tile]
            work.run[runs, 0], work.run[runs, 1] = e, tile
            work.run[runs, 2] = base + int64(history.start[tile, first])
            work.run[runs, 3] = base + int64(history.start[tile, last])
            prefetch(history.neuron, work.run[runs, 2])
            runs += uint64(work.run[runs, 2] < work.run[runs, 3])
        e += uint64(1)
    return e, runs


@njit(inline="always")
def deliver(
    e, end, begin, steps, row, stride, home, excitation, inhibition, layout, history, dense, draws, tallies, work
):
    """Add all that arrives by entries e..end-1 in the `steps` steps from `begin` on to the sums of a group.

    excitation, inhibition (rows · stride,): sums; those of step `begin` are in row `row` of the first and in row 0 of
    the other.  home: the group's first block of lanes.  tallies (3, h) int64: synapses delivered, autapses, lesioned,
    by emission step modulo h.
    """
    pieces, count, table = 0, uint64(0), int64(-1)
    sums, start = excitation, row * stride
    while e < end:
        e, runs = list_runs(e, end, begin, steps, history, dense, work)
        for run in range(runs):
            entry, tile = dense.entries[uint64(work.run[run, 0])], uint64(work.run[run, 1])
            first, last, emitted = work.run[run, 2], work.run[run, 3], begin - int64(entry.delay)
            if int64(entry.table) != table:
                settle(pieces, begin, start, stride, home, sums, layout, history, dense, draws, tallies, work)
                pieces, count, table = 0, uint64(0), int64(entry.table)
                sums = inhibition if entry.kind else excitation
                start = 0 if entry.kind else row * stride
            shift = (layout.block[tile] - home) * 16 - layout.first[tile]
            spikes = first, last, emitted
            if entry.way == BY_DRAW:
                by_draw(entry, spikes, tile, start, stride, shift, sums, layout, history, dense, draws, tallies)
                continue
            if entry.way == BY_SPIKE and last - first < FEW:
                by_spike(entry, spikes, tile, start, stride, shift, sums, layout, history, dense, draws, tallies, work)
                continue
            z = uint64(layout.first[tile]) * GOLDEN
            for j in range(entry.low >> HALF, ((entry.high - uint64(1)) >> HALF) + uint64(1)):
                for chunk in range(first, last, CHUNK):
                    if count > uint64(KEPT - CHUNK) or pieces == PIECES:
                        settle(pieces, begin, start, stride, home, sums, layout, history, dense, draws, tallies, work)
                        pieces, count = 0, uint64(0)
                    spikes = chunk, min(chunk + CHUNK, last), emitted
                    after = sieve(spikes, z, entry.low, entry.high, j, count, history, draws, work)
                    work.entry[pieces], work.stratum[pieces] = uint64(work.run[run, 0]), j
                    work.tile[pieces], work.end[pieces] = tile, after
                    pieces += after > count  # no branch: whether there was any is hard to guess
                    count = after
    settle(pieces, begin, start, stride, home, sums, layout, history, dense, draws, tallies, work)


@kernel
def work_dense(
    worker, workers, begin, steps, reach, block, rows, burst, fields, hold, sums, ahead, window, failed, layout,
    history, dynamics, probes, dense, draws, tallies, spare, work, sync,
):  # fmt: skip
    """What one worker does in a call: block after block, take groups until nobody has any left, meet the others.

    reach: step up to which long delays may deliver, for all spikes that arrive before are here.  burst: spikes that a
    neuron can emit in one block.  sums, ahead int32: this worker's sums of a block, and the
    excitatory ones of all groups for `rows` steps, empty if that is one block.  window [begin, end): steps for which
    the latter hold what their entries deliver.  Returns the steps done: all of them, or fewer where a tile's history
    lacks room for one more block.
    """
    done, meeting = 0, 0
    opened, horizon = window[0], window[1]
    while done < steps:
        t = begin + done
        opening = t >= horizon
        if opening:
            opened, horizon = t, min(t + rows, reach)
        now, row = min(block, horizon - t, steps - done), t - opened
        queue = 0
        while queue < workers:  # its own groups first, for their tables and sums may still be in its cache
            of = (worker + queue) % workers
            g = dense.share[of] + atomic_add(sync.task, int64(meeting * workers + of), int64(1))
            if g >= dense.share[of + 1]:
                queue += 1
                continue
            home = layout.block[dense.tile[g, 0]]
            stride = (layout.block[dense.tile[g, 1]] - home) * 16 + 16
            inhibition = sums[: block * stride]
            excitation = sums[block * stride : 2 * block * stride]
            if ahead.shape[0] > 0:
                at = (home + g) * 16 * rows
                excitation = ahead[at : at + rows * stride]
            first, middle, last = uint64(dense.entry[g]), uint64(dense.middle[g]), uint64(dense.entry[g + 1])
            for part in range(0 if opening else 1, 2):
                deliver(
                    middle if part else first, last if part else middle, t, now if part else horizon - opened, row,
                    stride, home, excitation, inhibition, layout, history, dense, draws, tallies, work,
                )  # fmt: skip
            for tile in range(dense.tile[g, 0], dense.tile[g, 1]):
                at = (layout.block[tile] - home) * 16
                bad = update_tile(
                    tile, t, done, now, fields, hold, excitation.reshape(-1, stride), inhibition.reshape(-1, stride),
                    row, 0, at, layout, history, dynamics, probes, spare,
                )  # fmt: skip
                width = (layout.block[tile + 1] - layout.block[tile]) * 16
                for p in range(now):  # while they are in a cache
                    excitation[(row + p) * stride + at : (row + p) * stride + at + width] = 0
                    inhibition[p * stride + at : p * stride + at + width] = 0
                if bad >= 0 and failed[tile] < 0:
                    failed[tile] = bad
                    atomic_add(sync.stop, int64(meeting), int64(1))
                head = history.start[tile, (t + now) & (history.start.shape[1] - 1)]
                if head + layout.n[tile] * burst > history.room[tile]:
                    atomic_add(sync.stop, int64(meeting), int64(1))
            for p in range(now):  # where autapses went: of another group a sum that counts
                excitation[(row + p + 1) * stride - 1] = 0
                inhibition[(p + 1) * stride - 1] = 0
        barrier(sync, meeting, workers)
        done += now
        if sync.stop[meeting] > 0:
            break
        meeting += 1
    window[0], window[1] = opened, horizon  # every worker writes the same
    return done
