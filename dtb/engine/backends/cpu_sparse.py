"""Delivery for small populations: spike by spike, in two phases, without a table of who delivers to whom.

A voxel brain has a handful of neurons in each of 100,000 populations. No spike means no work here: each spike still
on its way looks up which of its region's pairs have a delay equal to its age, draws the strata that those pairs
touch, and leaves what hits in the buffer of the target's tile; then each tile adds up its buffers and moves on.

i projection, e pair, x a pair with one of its delays, t step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int64, njit, uint32, uint64

from dtb.engine.backends.cpu_kernels import GOLDEN, atomic_add, barrier, hash64, kernel, update_tile
from dtb.engine.backends.cpu_rows import HALF, Rows, column_of, scale, target_of
from dtb.engine.backends.cpu_spikes import population_of

TILE_BITS, WEIGHT_AT = uint32(0x7FFF), uint32(16)


class Sparse(NamedTuple):
    """Pairs by delay: entry (pairs · delays,) uint32 numbers, of each projection and source region by rising delay;
    of region q and delay d they are at[i, q, d] : at[i, q, d + 1] counted from the region's first. at is uint32.
    """

    entry: np.ndarray
    at: np.ndarray


class Buffers(NamedTuple):
    """Synapses on their way within a step: event (w, t, room) uint32, target in its tile | kind << 15 | weight << 16;
    used (w, t).  tally (w, 3, h): of this step, added to the totals only once nothing overflowed.
    """

    event: np.ndarray
    used: np.ndarray


def sparse(rows: Rows, longest: int) -> Sparse:
    """Sort the pairs of every source region by delay."""
    projections, regions = len(rows.delays), rows.pair.shape[1] - 1
    at = np.zeros((projections, regions, longest + 2), np.uint32)
    entries = []
    for i in range(projections):
        delays, first = int(rows.delays[i]), rows.pair[i] - rows.pair[i, 0]
        delay = rows.delay[rows.delay_at[i] : rows.delay_at[i + 1]]
        region = np.repeat(np.arange(regions), np.diff(first) * delays)
        order = np.lexsort((delay, region))
        entries.append((order + rows.delay_at[i]).astype(np.uint32))
        count = np.zeros((regions, longest + 2), np.uint32)
        np.add.at(count, (region, delay.astype(np.int64)), 1)
        at[i] = np.cumsum(count, axis=1, dtype=np.uint32) - count
    return Sparse(np.concatenate([*entries, np.zeros(0, np.uint32)]), at)


@njit(inline="always")
def send(gid, z, j, r, i, e, k, within, rows, layout, draws, buffers, worker, tally, column):
    """Put one synapse into the buffer of its target's tile; 1 if there was no room, else 0."""
    target = target_of(rows, i, e, k, within, r)
    if target == gid:
        tally[1, column] += 1
        return 0
    if rows.lesion.shape[0] > 0:
        if hash64(z, draws.lesion_0[j], draws.lesion_1[j]) >> HALF < rows.lesion[e]:
            tally[2, column] += 1
            return 0
    low, high = int64(0), int64(layout.first.shape[0])
    while high - low > 1:
        middle = (low + high) // 2
        if layout.first[middle] <= target:
            low = middle
        else:
            high = middle
    n = buffers.used[worker, low]
    if n >= buffers.event.shape[2]:
        return 1
    choice = hash64(z, draws.weight_0[j], draws.weight_1[j]) >> uint64(56)
    weight = draws.weights[(uint64(i) << uint64(8)) + choice]
    lane = uint32(target - layout.first[low]) | uint32(rows.kind[i]) << uint32(15)
    buffers.event[worker, low, n] = lane | uint32(weight) << WEIGHT_AT
    buffers.used[worker, low] = n + 1
    tally[0, column] += 1
    return 0


@kernel
def draw_spike(gid, population, age, worker, rows, sparse, layout, draws, buffers, tally, column):
    """All synapses of one spike whose delay is its age; returns how many found no room."""
    region, cell_class = rows.population_region[population], rows.population_class[population]
    z, begin, lost = uint64(gid) * GOLDEN, uint64(0), 0
    for i in range(rows.delays.shape[0]):
        if not rows.sends[i, cell_class]:
            continue
        delays = rows.delays[i]
        first = rows.delay_at[i] + (rows.pair[i, region] - rows.pair[i, 0]) * delays
        for x in range(first + sparse.at[i, region, age], first + sparse.at[i, region, age + 1]):
            entry = int64(sparse.entry[x]) - rows.delay_at[i]
            e = rows.pair[i, 0] + entry // delays
            at = uint64(rows.split_at[i] + int64(rows.post[e]) * (rows.columns[i] + 1))
            start = begin + rows.start[e]
            for c in range(1 if delays == 1 else rows.columns[i] // delays):
                low, high = start, start + rows.width[e]
                if delays > 1:  # of each class the part with this delay
                    k = uint64(c * delays + entry % delays)
                    low = start + scale(rows.width[e], rows.split[at + k])
                    high = start + scale(rows.width[e], rows.split[at + k + uint64(1)])
                if high == low:
                    continue
                for j in range(low >> HALF, ((high - uint64(1)) >> HALF) + uint64(1)):
                    r = hash64(z, draws.position_0[j], draws.position_1[j])
                    u = (j << HALF) + (r >> HALF)
                    if u >= low and u < high:
                        k = column_of(rows, i, e, u - start)
                        lost += send(
                            gid, z, j, r, i, e, k, u - start, rows, layout, draws, buffers, worker, tally, column
                        )
        begin += rows.total[i, region]
    return lost


@kernel
def work_sparse(
    worker, workers, begin, steps, longest, fields, hold, sums, failed, layout, history, dynamics, probes, rows,
    sparse, draws, buffers, tally, totals, spare, sync,
):  # fmt: skip
    """What one worker does in a call. Returns the steps done; sync.stop tells why fewer (2³² or more: no room)."""
    wrap, tiles = history.start.shape[1] - 1, layout.first.shape[0]
    width = sums.shape[0] // 2
    excitation, inhibition = sums.reshape(2, 1, width)
    done, meeting = 0, 0
    while done < steps:
        t = begin + done
        buffers.used[worker, :] = 0
        while True:
            tile = atomic_add(sync.task, int64(2 * meeting), int64(1))
            if tile >= tiles:
                break
            for age in range(1, min(longest, t) + 1):
                column = (t - age) & wrap
                base = history.base[tile]
                for s in range(history.start[tile, column], history.start[tile, (column + 1) & wrap]):
                    neuron = int64(history.neuron[base + s])
                    lost = draw_spike(
                        layout.first[tile] + neuron, population_of(layout, tile, neuron), age, worker, rows, sparse,
                        layout, draws, buffers, tally, column,
                    )  # fmt: skip
                    if lost > 0:
                        atomic_add(sync.stop, int64(meeting), int64(1) << int64(32))
        barrier(sync, 2 * meeting, workers)
        full = sync.stop[meeting] >= int64(1) << int64(32)
        for what in range(3):
            for column in range(wrap + 1):
                if not full:
                    totals[what, column] += tally[what, column]
                tally[what, column] = 0
        if full:
            return done
        while True:
            tile = atomic_add(sync.task, int64(2 * meeting + 1), int64(1))
            if tile >= tiles:
                break
            sums[:] = 0
            for w in range(workers):
                for x in range(buffers.used[w, tile]):
                    event = buffers.event[w, tile, x]
                    lane = uint64(event & TILE_BITS) + uint64((event >> uint32(15)) & uint32(1)) * uint64(width)
                    sums[lane] += int64(event >> WEIGHT_AT)
            bad = update_tile(
                tile,
                t,
                done,
                1,
                fields,
                hold,
                excitation,
                inhibition,
                0,
                0,
                0,
                layout,
                history,
                dynamics,
                probes,
                spare,
            )
            if bad >= 0 and failed[tile] < 0:
                failed[tile] = bad
                atomic_add(sync.stop, int64(meeting), int64(1))
            if history.start[tile, (t + 1) & wrap] + layout.n[tile] > history.room[tile]:
                atomic_add(sync.stop, int64(meeting), int64(1))
        barrier(sync, 2 * meeting + 1, workers)
        done += 1
        if sync.stop[meeting] > 0:
            break
        meeting += 1
    return done
