"""Delivery for small populations: spike by spike, without a table of who delivers to whom.

A voxel brain has a handful of neurons in each of 100,000 populations. No spike means no work here: each spike still
on its way looks up which of its region's pairs have a delay equal to its age, draws the strata that those pairs
touch, and adds what hits to the sums of its target; then each tile moves on. The targets of one spike lie all over
the brain, so workers share the sums and add atomically; integers do not mind the order.

i projection, e pair, x a pair with one of its delays, t step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int64, njit, uint64

from dtb.engine.backends.cpu_kernels import (
    GOLDEN,
    atomic_add,
    atomic_add_32,
    barrier,
    hash64,
    kernel,
    lives_here,
    update_tile,
)
from dtb.engine.backends.cpu_rows import HALF, Rows, column_of, scale, target_of


class Sparse(NamedTuple):
    """Pairs by delay.  uniform (i,): the delay of all pairs of a projection, or 0 where delays differ.

    entry: numbers pair · delays + delay class, uint32, of each projection with unlike delays, source region by source
    region, by rising delay; first (i,): where a projection's begin. Those of region q and delay d are
    at[row[i], q, d] : at[row[i], q, d + 1], counted from the region's first; at is uint32.
    """

    uniform: np.ndarray
    entry: np.ndarray
    first: np.ndarray
    row: np.ndarray
    at: np.ndarray


def sparse(rows: Rows, longest: int) -> Sparse:
    """Sort the pairs of every source region by delay."""
    projections, regions = len(rows.delays), rows.pair.shape[1] - 1
    uniform, row = np.zeros(projections, np.int64), np.zeros(projections, np.int64)
    first, entries = np.zeros(projections, np.int64), [np.zeros(0, np.uint32)]
    tables: list[np.ndarray] = []
    for i in range(projections):
        delay = rows.delay[rows.delay_at[i] : rows.delay_at[i + 1]].astype(np.int64)
        if rows.delays[i] == 1 and len(delay) and delay.min() == delay.max():
            uniform[i] = delay[0]
            continue
        pairs = rows.pair[i] - rows.pair[i, 0]
        region = np.repeat(np.arange(regions), np.diff(pairs) * rows.delays[i])
        first[i], row[i] = sum(len(e) for e in entries), len(tables)
        entries.append(np.lexsort((delay, region)).astype(np.uint32))
        count = np.zeros((regions, longest + 2), np.uint32)
        np.add.at(count, (region, delay), 1)
        tables.append(np.cumsum(count, axis=1, dtype=np.uint32) - count)
    at = np.stack(tables) if tables else np.zeros((1, regions, longest + 2), np.uint32)
    return Sparse(uniform, np.concatenate(entries), first, row, at)


@njit(inline="always")
def holds(first, value):
    """The run that holds a value, where runs begin at `first`, rising."""
    low, high = int64(0), int64(first.shape[0])
    while high - low > 1:
        middle = (low + high) // 2
        if first[middle] <= value:
            low = middle
        else:
            high = middle
    return low


@njit(inline="always")
def send(gid, z, j, r, i, e, k, within, shared, rows, layout, draws, sums, tally, column):
    """Add one synapse to the sums of its target, or count why not; nothing if the target lives on another rank."""
    target = target_of(rows, i, e, k, within, r)
    tile = holds(layout.first, target)
    if not lives_here(layout, tile) or target - layout.first[tile] >= layout.n[tile]:
        return
    if target == gid:
        tally[1, column] += 1
    elif rows.lesion.shape[0] > 0 and (hash64(z, draws.lesion_0[j], draws.lesion_1[j]) >> HALF < rows.lesion[e]):
        tally[2, column] += 1
    else:
        lane = layout.block[tile] * 16 + target - layout.first[tile]
        choice = hash64(z, draws.weight_0[j], draws.weight_1[j]) >> uint64(56)
        weight = draws.weights[(uint64(i) << uint64(8)) + choice]
        if shared:
            atomic_add_32(sums, rows.kind[i] * (sums.shape[0] // 2) + lane, weight)
        else:
            sums[rows.kind[i] * (sums.shape[0] // 2) + lane] += weight
        tally[0, column] += 1


@njit(inline="always")
def draw_spike(gid, population, age, shared, rows, sparse, layout, draws, sums, tally, column):
    """All synapses of one spike whose delay is its age."""
    region, cell_class = rows.population_region[population], rows.population_class[population]
    z, begin = uint64(gid) * GOLDEN, uint64(0)
    for i in range(rows.delays.shape[0]):
        if rows.sends[i, cell_class]:
            delays = rows.delays[i]
            pairs = (rows.pair[i, region] - rows.pair[i, 0]) * delays
            first, last = pairs, (rows.pair[i, region + 1] - rows.pair[i, 0]) * delays
            if sparse.uniform[i] == 0:
                first = pairs + sparse.at[sparse.row[i], region, age]
                last = pairs + sparse.at[sparse.row[i], region, age + 1]
            elif sparse.uniform[i] != age:
                last = first
            for x in range(first, last):
                entry = x if sparse.uniform[i] else int64(sparse.entry[sparse.first[i] + x])
                e = rows.pair[i, 0] + entry // delays
                at = uint64(rows.split_at[i] + int64(rows.post[e]) * (rows.columns[i] + 1))
                start = begin + rows.start[e]
                for c in range(1 if delays == 1 else rows.columns[i] // delays):
                    low, high = start, start + rows.width[e]
                    if delays > 1:  # of each class the part with this delay
                        k = uint64(c * delays + entry % delays)
                        low = start + scale(rows.width[e], rows.split[at + k])
                        high = start + scale(rows.width[e], rows.split[at + k + uint64(1)])
                    strata = ((high - uint64(1)) >> HALF) + uint64(1) if high > low else low >> HALF
                    for j in range(low >> HALF, strata):
                        r = hash64(z, draws.position_0[j], draws.position_1[j])
                        u = (j << HALF) + (r >> HALF)
                        if u >= low and u < high:
                            k = column_of(rows, i, e, u - start)
                            send(
                                gid, z, j, r, i, e, k, u - start, shared, rows, layout, draws, sums, tally, column
                            )  # fmt: skip
            begin += rows.total[i, region]


@kernel
def work_sparse(
    workers, begin, steps, known, longest, fields, hold, sums, failed, layout, history, dynamics, probes, rows, sparse,
    draws, tally, spare, sync,
):  # fmt: skip
    """What one worker does in a call: take tiles and draw their spikes, meet, take tiles and update them, meet.

    known: step up to which the spikes of other ranks are here; none that is not can have arrived.
    """
    wrap, tiles = history.start.shape[1] - 1, layout.first.shape[0]
    excitation, inhibition = sums.reshape(2, 1, sums.shape[0] // 2)
    done, meeting = 0, 0
    while done < steps:
        t = begin + done
        while True:
            tile = atomic_add(sync.task, int64(2 * meeting), int64(1))
            if tile >= tiles:
                break
            base = history.base[tile]
            for age in range(1 if lives_here(layout, tile) else t - known + 1, min(longest, t) + 1):
                column = (t - age) & wrap
                for s in range(history.start[tile, column], history.start[tile, (column + 1) & wrap]):
                    neuron = int64(history.neuron[base + s])
                    gid = layout.first[tile] + neuron
                    draw_spike(
                        gid, holds(rows.first_gid, gid), age, workers > 1, rows, sparse, layout, draws, sums, tally,
                        column,
                    )  # fmt: skip
        barrier(sync, 2 * meeting, workers)
        while True:
            number = atomic_add(sync.task, int64(2 * meeting + 1), int64(1))
            if number >= layout.own.shape[0]:
                break
            tile = layout.own[number]
            at, end = layout.block[tile] * 16, layout.block[tile + 1] * 16
            bad = update_tile(
                tile, t, done, 1, fields, hold, excitation, inhibition, 0, 0, at, layout, history, dynamics, probes,
                spare,
            )  # fmt: skip
            excitation[0, at:end] = 0
            inhibition[0, at:end] = 0
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
