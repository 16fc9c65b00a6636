"""Stored synapses: the rows of the rule, enumerated once, read whenever their neuron fires.

For small networks, where a spike or two per population and step leave nothing to vectorise. Each worker keeps the
synapses that end in its own tiles, and its part of a ring of sums that reaches as far ahead as the longest delay: a
spike is delivered once, to the steps at which it will arrive. Six bytes per synapse, and for the ring four bytes per
neuron and step of delay.

w worker, n source neuron, s synapse.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int16, int64, njit, uint32, uint64

from dtb.engine.backends.cpu_kernels import GOLDEN, atomic_add, barrier, hash64, kernel, lives_here, update_tile
from dtb.engine.backends.cpu_rows import HALF, synapse_at, target_of
from dtb.engine.backends.cpu_vector import prefetch

WAITING = 256  # spikes listed before their rows are read, so that the next row is known


class Stored(NamedTuple):
    """start (w, 2, n + 1) int64: synapses of a neuron, by worker and kind.  offset (s,) uint32: delay · lanes + lane of
    the target; weight (s,) int16.  autapses, lesioned (n,) uint16.  tile (w + 1,): the tiles of worker w are
    layout.own[tile[w] : tile[w + 1]].  lanes: of all tiles here.  rows (2,): steps that the ring of a kind holds.
    """

    start: np.ndarray
    offset: np.ndarray
    weight: np.ndarray
    autapses: np.ndarray
    lesioned: np.ndarray
    tile: np.ndarray
    lanes: int
    rows: np.ndarray


@njit(inline="always")
def tile_here(layout, gid):
    """The tile of a neuron, or -1 if it lives on another rank."""
    tile = np.searchsorted(layout.first, gid, side="right") - 1
    if tile < 0 or gid - layout.first[tile] >= layout.n[tile] or not lives_here(layout, tile):
        return -1
    return tile


@njit(nogil=True, cache=True)
def enumerate_rows(begin, end, rows, layout, draws, width, owner, lanes, stored, fill):
    """Walk all synapses of neurons begin..end-1: count them in stored.start, or write them from there on."""
    population = np.searchsorted(rows.first_gid, begin, side="right") - 1
    for gid in range(begin, end):
        while gid >= rows.first_gid[population + 1]:
            population += 1
        region, cell_class = rows.population_region[population], rows.population_class[population]
        degree, z = width[population], uint64(gid) * GOLDEN
        for j in range(int64((degree + uint64(0xFFFFFFFF)) >> HALF)):
            r = hash64(z, draws.position_0[j], draws.position_1[j])
            u = (uint64(j) << HALF) + (r >> HALF)
            if u >= degree:
                continue
            i, e, k, within, delay = synapse_at(rows, region, cell_class, u)
            target = target_of(rows, i, e, k, within, r)
            tile = tile_here(layout, target)
            if tile < 0:
                continue
            if target == gid:
                if not fill:
                    stored.autapses[gid] += 1
                continue
            if rows.lesion.shape[0] > 0:
                if hash64(z, draws.lesion_0[j], draws.lesion_1[j]) >> HALF < rows.lesion[e]:
                    if not fill:
                        stored.lesioned[gid] += 1
                    continue
            at = owner[tile], rows.kind[i], gid
            if not fill:
                stored.start[at[0], at[1], gid + 1] += 1
                continue
            lane = layout.block[tile] * 16 + target - layout.first[tile]
            choice = hash64(z, draws.weight_0[j], draws.weight_1[j]) >> uint64(56)
            s = stored.start[at]
            stored.offset[s] = uint32(delay * lanes + lane)
            stored.weight[s] = int16(draws.weights[(i << 8) + int64(choice)])
            stored.start[at] = s + 1


@njit(nogil=True, cache=True)
def redeliver(step, spike_step, spike_gid, rows, layout, draws, width, lanes, steps, ring_e, ring_i, told):
    """Walk the rows of spikes emitted before `step`, and count what arrives here in `step` or later: told (3, t)
    delivered, autapses, lesioned, by emission step, the last of them step - 1. Add it to the rings where these are not
    empty.
    """
    first = step - told.shape[1]
    for x in range(spike_gid.shape[0]):
        gid, t = spike_gid[x], spike_step[x]
        population = np.searchsorted(rows.first_gid, gid, side="right") - 1
        region, cell_class = rows.population_region[population], rows.population_class[population]
        degree, z = width[population], uint64(gid) * GOLDEN
        for j in range(int64((degree + uint64(0xFFFFFFFF)) >> HALF)):
            r = hash64(z, draws.position_0[j], draws.position_1[j])
            u = (uint64(j) << HALF) + (r >> HALF)
            if u >= degree:
                continue
            i, e, k, within, delay = synapse_at(rows, region, cell_class, u)
            if t + delay < step:
                continue
            target = target_of(rows, i, e, k, within, r)
            tile = tile_here(layout, target)
            if tile < 0:
                continue
            if target == gid:
                told[1, t - first] += 1
                continue
            if rows.lesion.shape[0] > 0:
                if hash64(z, draws.lesion_0[j], draws.lesion_1[j]) >> HALF < rows.lesion[e]:
                    told[2, t - first] += 1
                    continue
            told[0, t - first] += 1
            ring = ring_i if rows.kind[i] else ring_e
            if ring.shape[0] > 0:
                lane = layout.block[tile] * 16 + target - layout.first[tile]
                choice = hash64(z, draws.weight_0[j], draws.weight_1[j]) >> uint64(56)
                at = ((t + delay) % steps[rows.kind[i]]) * lanes + lane
                ring[at] += int16(draws.weights[(i << 8) + int64(choice)])


@kernel
def scatter(worker, begin, steps, here, layout, history, stored, ring_e, ring_i, tally, waiting):
    """Deliver the spikes of steps begin..begin+steps-1 to this worker's sums. tally (h, 3) counts, see `Stored`.

    here: those of neurons that live here, or those of all others.  waiting (w, 2) int64: workspace for spikes, gid and
    step.
    """
    wrap = uint64(history.start.shape[1] - 1)
    n = uint64(0)
    for tile in range(uint64(layout.first.shape[0])):
        if lives_here(layout, tile) != here:
            continue
        base = history.base[tile]
        for t in range(begin, begin + steps):
            a = int64(history.start[tile, uint64(t) & wrap])
            b = int64(history.start[tile, uint64(t + 1) & wrap])
            for s in range(base + a, base + b):
                waiting[n, 0], waiting[n, 1] = layout.first[tile] + int64(history.neuron[uint64(s)]), t
                n += uint64(1)
                if n == uint64(waiting.shape[0]):
                    add_rows(worker, n, waiting, wrap, stored, ring_e, ring_i, tally)
                    n = uint64(0)
    add_rows(worker, n, waiting, wrap, stored, ring_e, ring_i, tally)


@njit(inline="always")
def add_rows(worker, n, waiting, wrap, stored, ring_e, ring_i, tally):
    """Add the rows of the first n waiting spikes; those of the next spike are on their way meanwhile."""
    for s in range(n):
        if s + uint64(1) < n:
            following = uint64(waiting[s + uint64(1), 0])
            for kind in range(2):
                first, last = stored.start[worker, kind, following], stored.start[worker, kind, following + uint64(1)]
                for x in range(first, last, 16):  # cache lines of 16 offsets and of 32 weights
                    prefetch(stored.offset, x)
                for x in range(first, last, 32):
                    prefetch(stored.weight, x)
        gid, t = uint64(waiting[s, 0]), waiting[s, 1]
        for kind in range(2):
            ring = ring_i if kind else ring_e
            first, last = stored.start[worker, kind, gid], stored.start[worker, kind, gid + uint64(1)]
            size = uint64(stored.rows[kind] * stored.lanes)
            now = uint64((t % stored.rows[kind]) * stored.lanes)
            for x in range(uint64(first), uint64(last)):
                at = now + uint64(stored.offset[x])
                at = at - size if at >= size else at
                ring[at] += stored.weight[x]
            tally[0, uint64(t) & wrap] += last - first
        if worker == 0:
            tally[1, uint64(t) & wrap] += int64(stored.autapses[gid])
            tally[2, uint64(t) & wrap] += int64(stored.lesioned[gid])


@kernel
def work_stored(
    worker, workers, begin, steps, news, known, block, burst, fields, hold, ring_e, ring_i, failed, layout, history,
    dynamics, probes, stored, tally, waiting, spare, sync,
):  # fmt: skip
    """What one worker does in a call: its own tiles, block after block, then everyone's spikes onto its own sums.

    Before, it delivers what came from other ranks: their spikes of steps news..known-1.
    """
    excitation = ring_e.reshape(stored.rows[0], stored.lanes)
    inhibition = ring_i.reshape(stored.rows[1], stored.lanes)
    wrap = history.start.shape[1] - 1
    done, meeting = 0, 0
    if known > news:
        scatter(worker, news, known - news, False, layout, history, stored, ring_e, ring_i, tally, waiting)
    while done < steps:
        now, t = min(block, steps - done), begin + done
        for number in range(stored.tile[worker], stored.tile[worker + 1]):
            tile = layout.own[number]
            at, end = layout.block[tile] * 16, layout.block[tile + 1] * 16
            bad = update_tile(
                tile, t, done, now, fields, hold, excitation, inhibition, t % stored.rows[0], t % stored.rows[1], at,
                layout, history, dynamics, probes, spare,
            )  # fmt: skip
            for p in range(now):
                excitation[(t + p) % stored.rows[0], at:end] = 0
                inhibition[(t + p) % stored.rows[1], at:end] = 0
            if bad >= 0 and failed[tile] < 0:
                failed[tile] = bad
                atomic_add(sync.stop, int64(meeting), int64(1))
            if history.start[tile, (t + now) & wrap] + layout.n[tile] * burst > history.room[tile]:
                atomic_add(sync.stop, int64(meeting), int64(1))
        barrier(sync, meeting, workers)
        scatter(worker, t, now, True, layout, history, stored, ring_e, ring_i, tally, waiting)
        done += now
        if sync.stop[meeting] > 0:
            break
        meeting += 1
    return done
