"""Tiles: runs of at most 32,768 consecutive neurons, the unit of placement and of cache blocking.

Where populations are large, a tile is part of one population and everything in it is constant. Where they are small
(a voxel brain has 4 neurons in each), padding each to whole lane blocks would multiply the memory, so a tile holds
many. Tiles follow from the Network and a size; no spike depends on them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dtb.network.network import Network

MAX_TILE = 32_768  # an index in a tile fits 15 bits, and its accumulators fit half of an L2 cache
DEVICE_TILE = 8_192  # of a GPU: sums of 64 KiB, so that three blocks of threads share the memory of an SM
DEVICE_TILES = 128  # at least, if they can have 512 neurons: about as many as a GPU has SMs
LANES = 16  # float32 lanes of the widest vector unit in use; state is kept in blocks of this many neurons
PURE_FROM = 32  # mean neurons per population from which a tile holds one population only

FIELDS = ("V", "S_AMPA", "S_NMDA", "S_GABA_A", "S_GABA_B", "I_background")
BYTES_PER_NEURON = 4 * len(FIELDS) + 2  # float32 each, and a uint16 of steps left in refractoriness


class Tiles(NamedTuple):
    """t tiles.

    first (t,) int64: gid of a tile's first neuron; n (t,) int32; population (t,) int32: population of that neuron;
    pure: every tile lies within one population.
    """

    first: np.ndarray
    n: np.ndarray
    population: np.ndarray
    pure: bool


def device_tile(n_neurons: int) -> int:
    """Neurons that a tile of a GPU may hold, so that all of its SMs have one."""
    return min(DEVICE_TILE, max(512, n_neurons // DEVICE_TILES // LANES * LANES))


def tile(network: Network, size: int = MAX_TILE) -> Tiles:
    """Cut the neurons of a network into tiles of at most `size`, nearly equal within a population."""
    if not LANES <= size <= MAX_TILE:
        raise ValueError(f"tile size is {size}; allowed: {LANES} to {MAX_TILE}.")
    pure = network.n_neurons >= PURE_FROM * network.n_populations
    edges = network.first_gid if pure else np.array([0, network.n_neurons])
    length = np.diff(edges)
    blocks = -(-length // LANES)  # cut between blocks of lanes, so that a neuron's lane rises with its number
    parts = -(-blocks // (size // LANES))
    part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    length, blocks, parts, start = (np.repeat(a, parts) for a in (length, blocks, parts, edges[:-1]))
    offset = LANES * (blocks * part // parts)
    n = np.minimum(LANES * (blocks * (part + 1) // parts), length) - offset
    first = start + offset
    population = np.searchsorted(network.first_gid, first, side="right") - 1
    return Tiles(first, n.astype(np.int32), population.astype(np.int32), bool(pure))
