"""Rows of synapses in factorised form: one synapse of one neuron, found without expanding anything.

A voxel brain has 4.5 million region pairs and 122 million population pairs; only the former are kept. Finding a
synapse means: which projection holds u, which pair within it (by bisection), which class and delay of the target
region (by its split), which neuron.

i projection, q source region, e pair (all projections one after the other), k column of the split.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import float64, int64, njit, uint64

from dtb.engine.backends.cpu_vector import bit_length
from dtb.engine.constants import delay_steps
from dtb.network import synapses
from dtb.network.network import Network
from dtb.network.projection import KINDS

HALF = uint64(32)


class Rows(NamedTuple):
    """The integers of `synapses.tables`, all projections in one.

    pair (i, q + 1): first pair of a source region.  post (e,) int32; width, start (e,) uint64; total (i, q) uint64.
    delay (e · delays,) uint16 from delay_at[i] on.  split (uint64) from split_at[i] on, columns[i] + 1 for each region.
    delays, columns, kind (i,).  classes (i, c): target classes.  sends (i, classes) bool.  lesion (e,) uint64 or empty.
    population_index (q, classes); first_gid (p + 1,); population_region, population_class (p,).
    """

    pair: np.ndarray
    post: np.ndarray
    width: np.ndarray
    start: np.ndarray
    total: np.ndarray
    delay: np.ndarray
    delay_at: np.ndarray
    split: np.ndarray
    split_at: np.ndarray
    delays: np.ndarray
    columns: np.ndarray
    kind: np.ndarray
    classes: np.ndarray
    sends: np.ndarray
    lesion: np.ndarray
    population_index: np.ndarray
    first_gid: np.ndarray
    population_region: np.ndarray
    population_class: np.ndarray


def rows(network: Network, dt: float, lesions: tuple[np.ndarray, ...] | None) -> Rows:
    """Compile the projections of a network."""
    projections = network.projections
    tables = [synapses.tables(network, i) for i in range(len(projections))]
    steps = [delay_steps(network, p, dt) for p in projections]
    first_pair = np.cumsum([0, *(len(p.pairs) for p in projections)])
    classes = np.zeros((len(projections), max((len(p.post) for p in projections), default=1)), np.int64)
    sends = np.zeros((len(projections), len(network.classes)), bool)
    for i, p in enumerate(projections):
        classes[i, : len(p.post)] = network.class_indices(p.post)
        sends[i, network.class_indices(p.pre)] = True
    lesion = [synapses.threshold(f) for f in lesions or ()]
    return Rows(
        pair=_stack([p.pairs.start + first for p, first in zip(projections, first_pair, strict=False)], np.int64),
        post=_join([p.pairs.post for p in projections], np.int32),
        width=_join([t.width for t in tables], np.uint64),
        start=_join([t.start for t in tables], np.uint64),
        total=_stack([t.total for t in tables], np.uint64),
        delay=_join([s.ravel() for s in steps], np.uint16),
        delay_at=np.cumsum([0, *(s.size for s in steps)]).astype(np.int64),
        split=_join([t.split.ravel() for t in tables], np.uint64),
        split_at=np.cumsum([0, *(t.split.size for t in tables)]).astype(np.int64),
        delays=np.array([len(p.delay_classes) for p in projections], np.int64),
        columns=np.array([len(p.delay_classes) * len(p.post) for p in projections], np.int64),
        kind=np.array([KINDS.index(p.kind) for p in projections], np.int64),
        classes=classes,
        sends=sends,
        lesion=_join(lesion, np.uint64),
        population_index=network.population_index,
        first_gid=network.first_gid,
        population_region=network.population_region,
        population_class=network.population_class,
    )


def ending_in(rows: Rows, here: np.ndarray) -> Rows:
    """Only the pairs of target regions `here` (regions,) bool; where in a row each lies does not change."""
    keep = here[rows.post]
    if keep.all():
        return rows
    before = np.concatenate([[0], np.cumsum(keep)])
    pair = before[rows.pair]
    delays = np.repeat(rows.delays, rows.pair[:, -1] - rows.pair[:, 0])  # of each pair
    return rows._replace(
        pair=pair,
        post=rows.post[keep],
        width=rows.width[keep],
        start=rows.start[keep],
        delay=rows.delay[np.repeat(keep, delays)],
        delay_at=np.concatenate([[0], np.cumsum((pair[:, -1] - pair[:, 0]) * rows.delays)]).astype(np.int64),
        lesion=rows.lesion[keep] if len(rows.lesion) else rows.lesion,
    )


def _join(arrays: list[np.ndarray], kind) -> np.ndarray:
    return np.concatenate([*arrays, np.zeros(0, kind)]).astype(kind)


def _stack(arrays: list[np.ndarray], kind) -> np.ndarray:
    return np.stack(arrays).astype(kind) if arrays else np.zeros((0, 1), kind)


@njit(inline="always")
def scale(width, share):
    """synapses.scale."""
    return (width >> HALF) * share + (((width & uint64(0xFFFFFFFF)) * share) >> HALF)


@njit(inline="always")
def column_of(rows, i, e, within):
    """Column of the split of pair e that holds `within`, u counted from the beginning of the pair."""
    at = uint64(rows.split_at[i] + int64(rows.post[e]) * (rows.columns[i] + 1))
    k = uint64(0)
    while within >= scale(rows.width[e], rows.split[at + k + uint64(1)]):
        k += uint64(1)
    return int64(k)


@njit(inline="always")
def target_of(rows, i, e, k, within, r):
    """gid that a draw r hits, `within` lying in column k of pair e; `place` with a segment made on the spot."""
    at = uint64(rows.split_at[i] + int64(rows.post[e]) * (rows.columns[i] + 1) + k)
    low, high = scale(rows.width[e], rows.split[at]), scale(rows.width[e], rows.split[at + uint64(1)])
    population = rows.population_index[rows.post[e], rows.classes[i, k // rows.delays[i]]]
    n = rows.first_gid[population + 1] - rows.first_gid[population]
    spare = uint64(min(53 - bit_length(high - low), 32))
    exact = ((within - low) << spare) + ((r & uint64(0xFFFFFFFF)) >> (HALF - spare))
    hit = int64(float64(int64(exact)) * (float64(n) / float64(int64((high - low) << spare))))
    return rows.first_gid[population] + min(hit, n - 1)


@njit(inline="always")
def pair_of(rows, i, region, offset):
    """Pair of projection i and a source region that holds `offset`, u counted from where the projection begins."""
    low, high = rows.pair[i, region], rows.pair[i, region + 1]
    while high - low > 1:
        middle = (low + high) // 2
        if rows.start[middle] <= offset:
            low = middle
        else:
            high = middle
    return low


@njit(inline="always")
def synapse_at(rows, region, cell_class, u):
    """(projection, pair, column, u counted from the beginning of the pair, delay in steps) at u in a neuron's row."""
    i, offset = 0, u
    while not rows.sends[i, cell_class] or offset >= rows.total[i, region]:
        if rows.sends[i, cell_class]:
            offset -= rows.total[i, region]
        i += 1
    e = pair_of(rows, i, region, offset)
    within = offset - rows.start[e]
    k = column_of(rows, i, e, within)
    n = rows.delays[i]
    return i, e, k, within, int64(rows.delay[rows.delay_at[i] + (e - rows.pair[i, 0]) * n + k % n])
