"""The three ways to deliver, each compiled from a network and able to run one worker of a call."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dtb.engine.backends import aligned, cpu_dense, cpu_rows, cpu_sparse, cpu_stored, cpu_tables
from dtb.engine.backends.cpu_kernels import LANES, ROWS, Dynamics, Probes, Sync
from dtb.engine.partition import Partition
from dtb.network.network import Network
from dtb.network.tiles import Tiles

HUGE = 1 << 23  # bytes of an array that NumPy asks the system to back with huge pages: additions are all over it


class Call(NamedTuple):
    """One call of `advance`: which steps, with what.

    end: step up to which long delays may deliver at most: the last of the chunk, and one more.  epoch: steps that
    spikes of other ranks take at least, None on one rank; news, known: steps whose spikes came from there since the
    last call.
    """

    begin: int
    steps: int
    end: int
    epoch: int | None
    news: int
    known: int
    dynamics: Dynamics
    probes: Probes
    sync: Sync


class Plan(NamedTuple):
    """What every way needs of a network. tiles: those whose spikes are needed, layout.own those whose neurons are here.

    block: steps between meetings; burst: spikes of a neuron in one.
    """

    network: Network
    tiles: Tiles
    layout: Any
    draws: Any
    width: np.ndarray
    dt: float
    block: int
    burst: int
    longest: int
    workers: int
    lesions: tuple[np.ndarray, ...] | None


def spare(plan: Plan):
    """Workspace of `update_tile`."""
    largest = int(plan.tiles.n[plan.layout.own].max()) * plan.burst
    return (
        aligned.zeros(ROWS * LANES, np.float32), aligned.zeros((plan.block, largest), np.uint16),
        aligned.zeros(plan.block, np.int64),
    )  # fmt: skip


def regions_here(network: Network, tiles: Tiles, layout: Any) -> np.ndarray:
    """(regions,) bool: those of which some neurons are here."""
    first = tiles.first[layout.own]
    last = first + tiles.n[layout.own] - 1
    low, high = (np.searchsorted(network.first_gid, gid, side="right") - 1 for gid in (first, last))
    region = network.population_region
    here = np.zeros(len(network.regions) + 1, np.int64)
    np.add.at(here, region[low], 1)
    np.add.at(here, region[high] + 1, -1)
    return np.cumsum(here)[:-1] > 0


class Dense:
    """Large populations, synapses computed; see cpu_dense."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        neurons = int(plan.tiles.n[plan.layout.own].sum(dtype=np.int64))
        self.rows = cpu_tables.rows_ahead(plan.network, neurons, plan.dt, plan.block)
        self.timed = max(self.rows, plan.block) > 1
        self.cuts = cpu_tables.groups(plan.network, plan.tiles, plan.layout.own, plan.block, plan.workers)
        self.tables = cpu_tables.dense(
            plan.network, plan.tiles, plan.layout, plan.dt, self.cuts, self.rows, plan.workers, plan.lesions
        )
        self._workspace: dict[int, tuple] = {}  # of each worker, kept from call to call: an epoch may be one step

    def ring(self) -> tuple[np.ndarray, ...]:
        """Sums ahead of time, and the steps for which they stand."""
        blocks = int(self.plan.layout.block[-1]) + len(self.cuts)
        return aligned.zeros(self.rows * LANES * blocks, np.int32), np.zeros(2, np.int64)

    def settled(self, state) -> bool:
        """Whether the sums ahead of time are all used up."""
        return int(state.ring[1][1]) <= state.clock[0]

    def work(self, worker: int, state, call: Call) -> int:
        plan = self.plan
        if worker not in self._workspace:  # the kernel leaves all sums zero
            width = int((np.diff(plan.layout.block[self.cuts]) * LANES).max()) + LANES
            sums = aligned.zeros(max(2 * plan.block * width, HUGE // 4), np.int32)
            runs = self.tables.entries["pool_end"] - self.tables.entries["pool"]
            self._workspace[worker] = sums, spare(plan), cpu_dense.scratch(int(runs.max(initial=0)))
        sums, spare_, scratch = self._workspace[worker]
        reach = call.end if call.epoch is None else min(call.end, call.known + max(call.epoch, self.rows))
        return cpu_dense.work_dense(
            worker, plan.workers, call.begin, call.steps, reach, plan.block, self.rows or plan.block, plan.burst,
            state.fields, state.hold, sums, *state.ring, state.failed, plan.layout, state.history[0], call.dynamics,
            call.probes, self.tables, plan.draws, state.tallies[worker], spare_, scratch, call.sync,
        )  # fmt: skip


class Sparse:
    """Small populations, synapses computed; see cpu_sparse."""

    timed = False

    def __init__(self, plan: Plan) -> None:
        self.plan = plan._replace(block=1, burst=1)
        self.rows = cpu_rows.ending_in(
            cpu_rows.rows(plan.network, plan.dt, plan.lesions), regions_here(plan.network, plan.tiles, plan.layout)
        )
        self.tables = cpu_sparse.sparse(self.rows, plan.longest)

    def ring(self) -> tuple[np.ndarray, ...]:
        return (aligned.zeros(2 * (int(self.plan.layout.block[-1]) + 1) * LANES, np.int32),)

    def settled(self, state) -> bool:
        return True

    def work(self, worker: int, state, call: Call) -> int:
        plan = self.plan
        return cpu_sparse.work_sparse(
            plan.workers, call.begin, call.steps, call.known, plan.longest, state.fields, state.hold, state.ring[0],
            state.failed, plan.layout, state.history[0], call.dynamics, call.probes, self.rows, self.tables, plan.draws,
            state.tallies[worker], spare(plan), call.sync,
        )  # fmt: skip


class Stored:
    """Synapses in memory; see cpu_stored."""

    timed = False

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        rows = cpu_rows.rows(plan.network, plan.dt, plan.lesions)
        n, lanes = plan.network.n_neurons, int(plan.layout.block[-1]) * LANES
        steps = self._rows(rows)
        if int(steps.max()) * lanes >= 2**32:
            raise ValueError(
                f"stored synapses reach {steps.max()} steps ahead in {n:,} neurons, more than 32 bits address. "
                'Use synapses = "procedural", or raise dt.'
            )
        own = plan.layout.own
        partition = Partition.even(plan.tiles.n[own], plan.workers)
        tile, owner = partition.start(plan.workers), np.full(len(plan.tiles.n), -1)
        owner[own] = partition.owner
        start = np.zeros((plan.workers, 2, n + 1), np.int64)
        dropped = np.zeros((2, n), np.uint16)
        empty = np.zeros(0, np.uint32), np.zeros(0, np.int16)
        counted = cpu_stored.Stored(start, *empty, dropped[0], dropped[1], tile, lanes, steps)
        arguments = (rows, plan.layout, plan.draws, plan.width, owner, lanes)
        cpu_stored.enumerate_rows(0, n, *arguments, counted, False)
        flat = start.reshape(-1)
        np.cumsum(flat, out=flat)
        total = int(flat[-1])
        self.tables = counted._replace(offset=np.empty(total, np.uint32), weight=np.empty(total, np.int16))
        begins = start[:, :, :-1].copy()
        fill = self.tables._replace(start=np.ascontiguousarray(begins))
        cpu_stored.enumerate_rows(0, n, *arguments, fill, True)

    def _rows(self, rows) -> np.ndarray:
        """(2,) steps that each kind's ring of sums must hold."""
        longest = np.ones(2, np.int64)
        for i, kind in enumerate(rows.kind):
            delays = rows.delay[rows.delay_at[i] : rows.delay_at[i + 1]]
            longest[kind] = max(longest[kind], int(delays.max(initial=1)))
        return longest + self.plan.block

    def ring(self) -> tuple[np.ndarray, ...]:
        return tuple(aligned.zeros(int(rows) * self.tables.lanes + LANES, np.int32) for rows in self.tables.rows)

    def settled(self, state) -> bool:
        return True

    def ahead(self, step: int, spike_step, spike_gid, steps: int, ring=()) -> np.ndarray:
        """(3, steps): synapses of these spikes, of the last `steps` steps, that arrive here in `step` or later,
        delivered, autapses, lesioned, by emission step; added to the sums of a ring if there is one.
        """
        plan = self.plan
        told = np.zeros((3, steps), np.int64)
        rows = cpu_rows.rows(plan.network, plan.dt, plan.lesions)  # not kept, for a large brain's take memory
        sums = tuple(ring) or (np.zeros(0, np.int32),) * 2
        cpu_stored.redeliver(
            step, spike_step, spike_gid, rows, plan.layout, plan.draws, plan.width, self.tables.lanes,
            self.tables.rows, *sums, told,
        )  # fmt: skip
        return told

    def work(self, worker: int, state, call: Call) -> int:
        plan = self.plan
        return cpu_stored.work_stored(
            worker, plan.workers, call.begin, call.steps, call.news, call.known, plan.block, plan.burst, state.fields,
            state.hold, *(ring[:-LANES] for ring in state.ring), state.failed, plan.layout, state.history[0],
            call.dynamics, call.probes, self.tables, state.tallies[worker],
            np.zeros((cpu_stored.WAITING, 2), np.int64), spare(plan), call.sync,
        )  # fmt: skip
