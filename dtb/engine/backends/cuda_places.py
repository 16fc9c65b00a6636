"""Where neurons and their spikes live on a device, for checkpoints and snapshots, which have gid order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dtb.engine.backends.cuda_plan import Plan
from dtb.network.tiles import LANES


def overlaps(plan: Plan, first: int, stop: int) -> Iterator[tuple[slice, slice]]:
    """Where gids first..stop-1 live, tile by tile: lanes, and gids counted from `first`."""
    tiles, block = plan.tiles, plan.layout.block
    for t in range(max(int(np.searchsorted(tiles.first, first, side="right")) - 1, 0), len(tiles.n)):
        begin, end = max(first, int(tiles.first[t])), min(stop, int(tiles.first[t] + tiles.n[t]))
        if int(tiles.first[t]) >= stop:
            return
        if end > begin and block[t + 1] > block[t]:
            low = int(block[t]) * LANES + begin - int(tiles.first[t])
            yield slice(low, low + end - begin), slice(begin - first, end - first)


def window(plan: Plan, first: int, stop: int) -> tuple[slice, list[tuple[slice, slice]]]:
    """The lanes that hold gids first..stop-1, and these among them: few copies, where tiles are many."""
    parts = list(overlaps(plan, first, stop))
    if not parts:
        return slice(0, 0), []
    low = parts[0][0].start
    inside = [(slice(lanes.start - low, lanes.stop - low), gids) for lanes, gids in parts]
    return slice(low, parts[-1][0].stop), inside


def history(
    plan: Plan, room: np.ndarray, step: int, spike_step: np.ndarray, spike_gid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """World's room, base, neuron and start before a step, of spikes ordered by step and gid.

    room (t,): what each tile's ring holds at least.
    """
    tiles, here = plan.tiles, np.diff(plan.layout.block) > 0
    begin = max(0, step - plan.longest)
    tile = np.maximum(np.searchsorted(tiles.first, spike_gid, side="right") - 1, 0)
    needed = (spike_gid >= tiles.first[tile]) & (spike_gid < tiles.first[tile] + tiles.n[tile])
    spike_step, spike_gid, tile = spike_step[needed], spike_gid[needed], tile[needed]  # the others' are of no use here
    counts = np.zeros((len(tiles.n), step - begin + 1), np.int64)
    np.add.at(counts, (tile, spike_step - begin + 1), 1)
    counts = np.cumsum(counts, axis=1)
    room = np.maximum(room, counts[:, -1] + np.where(here, tiles.n.astype(np.int64) * plan.burst, 0))
    base = np.cumsum(room) - room
    neuron = np.zeros(int(room.sum()), np.uint16)
    order = np.argsort(tile, kind="stable")  # of each tile, in order of time
    of = tile[order]
    place = base[of] + np.arange(len(of)) - np.searchsorted(of, np.arange(len(room)))[of]
    neuron[place] = spike_gid[order] - tiles.first[of]
    start = np.zeros((len(room), plan.columns), np.uint32)
    start[:, np.arange(begin, step + 1) & (plan.columns - 1)] = counts
    return room, base, neuron, start
