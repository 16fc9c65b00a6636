"""Kernels of one neuron, one tile and one barrier, compiled by numba; what the delivery files are built from.

All floats are float32 and every operation is written out in the order of reference.py: numba neither fuses nor
reorders them. State is kept in blocks of 16 neurons (a block of lanes): fields (blocks, 6 · 16) float32 and hold
(blocks, 16) uint16, so that one block is one cache-resident piece and each loop over lanes becomes vector code.

t step, b block of lanes, l lane, p step within a block of steps, n neuron.   parameters (24 · 16,): rows named below.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import int32, int64, njit, types, uint8, uint16, uint64
from numba.core import cgutils
from numba.extending import intrinsic

from dtb.engine.backends.cpu_update import DRIFT, LANES, ROWS, SPREAD, STIMULUS, G, spread16, update16
from dtb.network import rng

BLOCKS_AT_ONCE = 32  # 13 kB of state: a third of a first-level cache

GOLDEN, MIX_1, MIX_2 = uint64(rng.GOLDEN), uint64(rng.MIX_1), uint64(rng.MIX_2)

_sched_yield = types.ExternalFunction("sched_yield", int32())


class Layout(NamedTuple):
    """Where neurons live.  t tiles, b blocks of lanes.

    first (t,) gid of a tile's first neuron; n (t,) its neurons; block (t + 1,) its first block of lanes;
    population (t,) of its first neuron; lane_population (b, 16) uint8: added to block_population (b,) gives the
    population of a lane; both are empty where tiles are pure.  own (o,): tiles whose neurons live here; of the others,
    which live on other ranks, there are spikes but no blocks of lanes.
    """

    first: np.ndarray
    n: np.ndarray
    block: np.ndarray
    population: np.ndarray
    lane_population: np.ndarray
    block_population: np.ndarray
    own: np.ndarray


class History(NamedTuple):
    """Spikes of the last steps on the source side, tile by tile, in order of time.

    neuron: uint16 numbers of neurons in their tile, tile t from base[t] on, room[t] long; plane: uint8 step of each
    spike modulo 256 (empty where nothing delivers several steps at once); start (t, h) int32: where step s begins, at
    column s mod h.
    """

    neuron: np.ndarray
    plane: np.ndarray
    base: np.ndarray
    room: np.ndarray
    start: np.ndarray


class Dynamics(NamedTuple):
    """Constants of the update: table (rows, 24) float32 by population (pure tiles) or class (mixed).

    For mixed tiles population_class, gain (p, 4), mean, sd (p,), bg_mean and bg_noise (k,) complete a lane's column.
    key (steps, 2) uint64 of the noise, stimulus (steps or 1, p) pA.
    """

    table: np.ndarray
    population_class: np.ndarray
    gain: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    bg_mean: np.ndarray
    bg_noise: np.ndarray
    key: np.ndarray
    stimulus: np.ndarray
    implicit: bool


class Probes(NamedTuple):
    """Sampled neurons, ordered by tile: start (t + 1,), neuron (s,) in its tile, slot (s,) in out (steps, s, 6)."""

    start: np.ndarray
    neuron: np.ndarray
    slot: np.ndarray
    out: np.ndarray


class Sync(NamedTuple):
    """Meeting points of the workers of one call.  arrived (1,), task (blocks · queues,), stop (blocks,) int64."""

    arrived: np.ndarray
    task: np.ndarray
    stop: np.ndarray


def kernel(function):
    """Compile for the hot path: cached, without the interpreter lock, NumPy's rules of division, no reference counts.

    By default numba counts a reference, by a call and an atomic instruction, wherever an array or a tuple of arrays
    changes hands; in loops of a few nanoseconds that is most of the time, and workers fight over the counters. Nothing
    is allocated in these functions and their arguments outlive them, so there is nothing to count.
    """
    return njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function)


@intrinsic
def atomic_add(typingctx, array, index, value):
    """Add to an element of an int64 array, sequentially consistent; the value before."""

    def codegen(context, builder, signature, args):
        struct = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = cgutils.get_item_pointer(context, builder, signature.args[0], struct, [args[1]])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return int64(array, types.int64, types.int64), codegen


@intrinsic
def atomic_add_32(typingctx, array, index, value):
    """Add to an element of an int32 array that others add to; order does not matter."""

    def codegen(context, builder, signature, args):
        struct = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = cgutils.get_item_pointer(context, builder, signature.args[0], struct, [args[1]])
        builder.atomic_rmw("add", pointer, args[2], "monotonic")
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int32), codegen


@intrinsic
def atomic_load(typingctx, array, index):
    """Read an element of an int64 array, sequentially consistent."""

    def codegen(context, builder, signature, args):
        struct = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = cgutils.get_item_pointer(context, builder, signature.args[0], struct, [args[1]])
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 0), "seq_cst")

    return int64(array, types.int64), codegen


@njit(inline="always")
def lives_here(layout, tile):
    """Whether the neurons of a tile do; of those on other ranks there are only spikes."""
    return layout.block[int64(tile) + 1] > layout.block[int64(tile)]


@kernel
def barrier(sync, meeting, n_threads):
    """Wait until all workers have come to meeting number `meeting` (0, 1, …); spin a little, then yield."""
    atomic_add(sync.arrived, int64(0), int64(1))
    spins = 0
    while atomic_load(sync.arrived, int64(0)) < (meeting + 1) * n_threads:
        spins += 1
        if spins > 2000:
            _sched_yield()


@njit(inline="always")
def hash64(z, key_0, key_1):
    """rng.hash64 of an index already multiplied by GOLDEN."""
    z = z ^ key_0
    z = (z ^ (z >> uint64(30))) * MIX_1 ^ key_1
    z = (z ^ (z >> uint64(27))) * MIX_2
    return z ^ (z >> uint64(31))


@kernel
def lane_parameters(block, layout, dynamics, parameters):
    """Fill the parameters of a block of lanes of a mixed tile."""
    for l in range(LANES):
        p = layout.block_population[block] + int64(layout.lane_population[block, l])
        k = dynamics.population_class[p]
        for row in range(STIMULUS):
            parameters[row * LANES + l] = dynamics.table[k, row]
        for u in range(4):
            parameters[(G + u) * LANES + l] = dynamics.table[k, G + u] * dynamics.gain[p, u]
        parameters[DRIFT * LANES + l] = dynamics.bg_mean[k] * dynamics.mean[p]
        parameters[SPREAD * LANES + l] = dynamics.bg_noise[k] * dynamics.sd[p]


@njit(inline="always")
def stimulate(tile, block, t, mixed, layout, dynamics, parameters):
    """Put the stimulus of step t of this call into the parameters of a block of lanes."""
    row = t if dynamics.stimulus.shape[0] > 1 else 0
    if mixed:
        for l in range(LANES):
            p = layout.block_population[block] + int64(layout.lane_population[block, l])
            parameters[STIMULUS * LANES + l] = dynamics.stimulus[row, p]
    else:
        spread16(dynamics.stimulus[row, layout.population[tile]], parameters, STIMULUS)


@njit(inline="always")
def append(tile, begin, steps, spikes, found, history):
    """Add a tile's spikes of some steps to the history, in order of time."""
    wrap = history.start.shape[1] - 1
    out = history.base[tile] + int64(history.start[tile, begin & wrap])
    for p in range(steps):
        for s in range(found[p]):
            history.neuron[out + s] = spikes[p, s]
        if history.plane.shape[0] > 0:
            for s in range(found[p]):
                history.plane[out + s] = uint8((begin + p) & 0xFF)
        out += found[p]
        history.start[tile, (begin + p + 1) & wrap] = int32(out - history.base[tile])


@njit(inline="always")
def update_tile(
    tile, begin, call, steps, fields, hold, excitation, inhibition, row_e, row_i, at, layout, history, dynamics, probes,
    scratch,
):  # fmt: skip
    """Advance one tile by `steps` steps from step `begin` on, and append its spikes to the history.

    excitation, inhibition (rows, width) int32: arriving sums; those of step `begin` are in rows row_e and row_i, later
    ones in the rows that follow, round and round, the tile's from column `at` on.  call: number of `begin` within
    this call, where noise keys and stimuli are counted from.  Returns -1, or the first step with a membrane out of
    bounds.  A few dozen blocks at a time run all the steps, so that their state stays in the first-level cache.
    """
    parameters, spikes, found = scratch
    n, first_block, last_block = int64(layout.n[tile]), layout.block[tile], layout.block[tile + 1]
    mixed = layout.lane_population.shape[0] > 0
    varying = dynamics.stimulus.shape[0] > 1
    at_once = 1 if mixed else BLOCKS_AT_ONCE
    failed = int64(-1)
    if not mixed:
        for row in range(ROWS):
            spread16(dynamics.table[layout.population[tile], row], parameters, row)
    for p in range(steps):
        found[p] = 0
    probe, last_probe = probes.start[tile], probes.start[tile + 1]
    for b in range(first_block, last_block, at_once):
        end = min(b + at_once, last_block)
        lane_0 = (b - first_block) * LANES
        if mixed:
            lane_parameters(b, layout, dynamics, parameters)
        until = probe
        while until < last_probe and probes.neuron[until] < (end - first_block) * LANES:
            until += 1
        for p in range(steps):
            if varying or mixed or (p == 0 and b == first_block):
                stimulate(tile, b, call + p, mixed, layout, dynamics, parameters)
            row, column = row_e + p, row_i + p
            row -= excitation.shape[0] if row >= excitation.shape[0] else 0
            column -= inhibition.shape[0] if column >= inhibition.shape[0] else 0
            key_0, key_1 = dynamics.key[call + p, 0], dynamics.key[call + p, 1]
            for x in range(b, end):
                lane = lane_0 + (x - b) * LANES
                z = uint64(layout.first[tile] + lane) * GOLDEN
                mask = update16(
                    fields, hold, x, excitation, row, inhibition, column, at + lane, z, key_0, key_1, parameters,
                    dynamics.implicit,
                )  # fmt: skip
                if mask < 0 and failed < 0:
                    failed = begin + p
                while mask > 0 and lane < n:
                    if mask & 1:
                        spikes[p, found[p]] = uint16(lane)
                        found[p] += 1
                    mask >>= 1
                    lane += 1
            for q in range(probe, until):
                at_block, lane = divmod(probes.neuron[q], LANES)
                for field in range(6):
                    probes.out[call + p, probes.slot[q], field] = fields[first_block + at_block, field * LANES + lane]
        probe = until
    append(tile, begin, steps, spikes, found, history)
    return failed
