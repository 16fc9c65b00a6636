"""What is read from the spike history between calls: lists, counts, digests, synapses emitted; and room for more."""

from __future__ import annotations

import numpy as np
from numba import float32, int32, int64, njit, uint8, uint16, uint64

from dtb.engine.backends.cpu_kernels import GOLDEN, LANES, MIX_1, MIX_2, hash64, lives_here
from dtb.engine.backends.state import DIGEST_KEY
from dtb.network.rng import NOISE_CENTRE

KEY = uint64(DIGEST_KEY)


@njit(inline="always")
def mix(z):
    z = (z ^ (z >> uint64(30))) * MIX_1
    z = (z ^ (z >> uint64(27))) * MIX_2
    return z ^ (z >> uint64(31))


@njit(inline="always")
def noise4(word):
    """rng.noise4."""
    low = uint64(0xFFFF)
    total = (word & low) + ((word >> uint64(16)) & low) + ((word >> uint64(32)) & low) + (word >> uint64(48))
    return float32(int32(total) - int32(NOISE_CENTRE))


@njit(inline="always")
def population_of(layout, tile, neuron):
    if layout.lane_population.shape[0] == 0:
        return int64(layout.population[tile])
    block = layout.block[tile] + neuron // LANES
    return int64(layout.block_population[block]) + int64(layout.lane_population[block, neuron % LANES])


@njit(nogil=True, cache=True)
def initial(layout, population_class, reset, threshold, mean, per_unit, keys, fields):
    """state.initial for all lanes, also those past a tile's end, which nobody reads."""
    for tile in layout.own:
        for b in range(layout.block[tile], layout.block[tile + 1]):
            for l in range(LANES):
                neuron = (b - layout.block[tile]) * LANES + l
                p = population_of(layout, tile, neuron)
                k = population_class[p]
                z = uint64(layout.first[tile] + neuron) * GOLDEN
                part = float32(hash64(z, keys[0, 0], keys[0, 1]) >> uint64(40)) * float32(2.0**-24)
                fields[b, l] = reset[k] + (threshold[k] - reset[k]) * part
                for field in range(1, 5):
                    fields[b, field * LANES + l] = float32(0)
                fields[b, 5 * LANES + l] = mean[p] + per_unit[p] * noise4(hash64(z, keys[1, 0], keys[1, 1]))


@njit(cache=True)
def compact(history, layout, tiles, t, heard, oldest, live):
    """Move the spikes of some tiles from their step `oldest` (t,) on to the front of their room; live (t,): how many.

    t: next step; heard (t,): the one up to which the spikes of a tile on another rank are here.
    """
    wrap = history.start.shape[1] - 1
    for tile in tiles:
        end = t if lives_here(layout, tile) else heard[tile]
        base, drop = history.base[tile], history.start[tile, oldest[tile] & wrap]
        live[tile] = history.start[tile, end & wrap] - drop
        if drop > 0:
            for s in range(live[tile]):
                history.neuron[base + s] = history.neuron[base + drop + s]
            if history.plane.shape[0] > 0:
                for s in range(live[tile]):
                    history.plane[base + s] = history.plane[base + drop + s]
            for step in range(oldest[tile], end + 1):
                history.start[tile, step & wrap] -= drop
        for step in range(end + 1, oldest[tile] + wrap + 1):  # columns of steps before it: no spikes there any more
            history.start[tile, step & wrap] = 0


@njit(cache=True)
def move(old, new, old_base, new_base, live):
    for tile in range(live.shape[0]):
        for s in range(live[tile]):
            new[new_base[tile] + s] = old[old_base[tile] + s]


@njit(nogil=True, cache=True)
def pack(history, tiles, start, stop):
    """Spikes of some tiles in steps start..stop-1 as uint16: how many in each step of each tile, then their neurons."""
    wrap, steps = history.start.shape[1] - 1, stop - start
    n = 0
    for tile in tiles:
        n += history.start[tile, stop & wrap] - history.start[tile, start & wrap]
    message = np.empty(tiles.shape[0] * steps + n, np.uint16)
    at, out = 0, tiles.shape[0] * steps
    for tile in tiles:
        for t in range(start, stop):
            message[at] = uint16(history.start[tile, (t + 1) & wrap] - history.start[tile, t & wrap])
            at += 1
        base = history.base[tile]
        for s in range(base + history.start[tile, start & wrap], base + history.start[tile, stop & wrap]):
            message[out] = history.neuron[s]
            out += 1
    return message


@njit(nogil=True, cache=True)
def fits(history, layout, t, burst):
    """Whether every tile has room for the spikes of one more block from step t on."""
    wrap = history.start.shape[1] - 1
    for tile in layout.own:
        if int64(history.start[tile, t & wrap]) + int64(layout.n[tile]) * burst > history.room[tile]:
            return False
    return True


@njit(nogil=True, cache=True)
def arriving(message, tiles, steps, need):
    """Add to need (t,) the spikes that a message brings to each tile; -1 among the tiles: not wanted here."""
    for k in range(tiles.shape[0]):
        if tiles[k] >= 0:
            for p in range(steps):
                need[tiles[k]] += int64(message[k * steps + p])


@njit(nogil=True, cache=True)
def unpack(message, tiles, start, stop, history, heard):
    """Add the spikes of a message of `pack` to the history; how many, or -1, and nothing done, if one lacks room.

    heard (t,): of tiles on other ranks, the step up to which their spikes are here; -1 among the tiles: not wanted.
    """
    wrap, steps = history.start.shape[1] - 1, stop - start
    for k in range(tiles.shape[0]):
        tile = tiles[k]
        if tile >= 0:
            filled = int64(history.start[tile, start & wrap])
            for p in range(steps):
                filled += int64(message[k * steps + p])
            if filled > history.room[tile]:
                return -1
    s, taken = tiles.shape[0] * steps, 0
    for k in range(tiles.shape[0]):
        tile = tiles[k]
        if tile < 0:
            for p in range(steps):
                s += int64(message[k * steps + p])
            continue
        out = history.base[tile] + int64(history.start[tile, start & wrap])
        for p in range(steps):
            n = int64(message[k * steps + p])
            for _ in range(n):
                history.neuron[out] = message[s]
                if history.plane.shape[0] > 0:
                    history.plane[out] = uint8((start + p) & 0xFF)
                s += 1
                out += 1
            taken += n
            history.start[tile, (start + p + 1) & wrap] = int32(out - history.base[tile])
        heard[tile] = stop
    return taken


@njit(nogil=True, cache=True)
def listed(history, layout, tiles, start, stop, stride, wanted):
    """Steps and gids of spikes of wanted populations, and of gids that stride divides; ordered by step, then gid.

    Where a tile's neurons live elsewhere, nothing tells their populations: stride must be 1.
    """
    wrap, most = history.start.shape[1] - 1, 0
    pure = layout.lane_population.shape[0] == 0
    for tile in tiles:
        for t in range(start, stop):
            most += history.start[tile, (t + 1) & wrap] - history.start[tile, t & wrap]
    step, gid = np.empty(most, np.int64), np.empty(most, np.int64)
    divided = np.zeros(stride + 2**16, np.bool_)  # looked up, for a remainder costs more than all the rest
    divided[::stride] = True
    n = 0
    for t in range(start, stop):
        for tile in tiles:
            first, base, whole = layout.first[tile], history.base[tile], pure and wanted[layout.population[tile]]
            rest = first % stride
            for s in range(history.start[tile, t & wrap], history.start[tile, (t + 1) & wrap]):
                neuron = int64(history.neuron[base + s])
                keep = whole or divided[rest + neuron] or (not pure and wanted[population_of(layout, tile, neuron)])
                step[n], gid[n] = t, first + neuron  # written over unless it is kept
                n += int64(keep)
    return step[:n].copy(), gid[:n].copy()


@njit(nogil=True, cache=True)
def totals(history, layout, first_gid, width, key_0, key_1, start, stop):
    """(spikes, digest, (steps,) synapses emitted): an out-degree is ⌊D⌋, and one more if the last draw is below D."""
    wrap = history.start.shape[1] - 1
    n, digest = int64(0), uint64(0)
    emitted = np.zeros(stop - start, np.int64)
    for tile in layout.own:
        for t in range(start, stop):
            for s in range(history.start[tile, t & wrap], history.start[tile, (t + 1) & wrap]):
                neuron = int64(history.neuron[history.base[tile] + s])
                gid = layout.first[tile] + neuron
                digest += mix(mix(uint64(gid) ^ KEY) + uint64(t))
                n += 1
                d = width[population_of(layout, tile, neuron)]
                whole = int64(d >> uint64(32))
                emitted[t - start] += whole
                rest = d & uint64(0xFFFFFFFF)
                if rest > 0:
                    draw = hash64(uint64(gid) * GOLDEN, key_0[whole], key_1[whole]) >> uint64(32)
                    emitted[t - start] += int64(draw < rest)
    return n, digest, emitted


@njit(nogil=True, cache=True)
def count(history, layout, start, stop, out):
    wrap = history.start.shape[1] - 1
    mixed = layout.lane_population.shape[0] > 0
    for tile in layout.own:
        for t in range(start, stop):
            a, b = history.start[tile, t & wrap], history.start[tile, (t + 1) & wrap]
            if not mixed:
                out[t - start, layout.population[tile]] += int32(b - a)
                continue
            for s in range(a, b):
                neuron = int64(history.neuron[history.base[tile] + s])
                out[t - start, population_of(layout, tile, neuron)] += int32(1)


@njit(nogil=True, cache=True)
def state_digest(fields, layout):
    """state.state_digest over the blocks of lanes, without a copy of the state."""
    bits = fields.view(np.uint32)
    digest = uint64(0)
    for tile in layout.own:
        for neuron in range(layout.n[tile]):
            b, l = layout.block[tile] + neuron // LANES, neuron % LANES
            for field in range(6):
                which = uint64(layout.first[tile] + neuron) * uint64(8) + uint64(field)
                digest += mix(mix(which ^ KEY) + uint64(bits[b, field * LANES + l]))
    return digest


@njit(nogil=True, cache=True)
def first_failure(fields, layout, tile, limit):
    """(neuron in its tile, V) of a tile's first membrane out of bounds; -1 where all are within."""
    for neuron in range(layout.n[tile]):
        v = fields[layout.block[tile] + neuron // LANES, neuron % LANES]
        if not abs(v) < limit:
            return neuron, v
    return -1, float32(0)
