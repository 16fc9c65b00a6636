"""The cpu backend: numba kernels on all cores, no synapse stored unless that is faster.

Three ways to deliver, which give the same sums: `cpu_dense` draws synapses for large populations, `cpu_sparse` for
small ones, `cpu_stored` reads them from memory. One call of `advance` starts one worker per thread; the workers run
block after block inside compiled code and meet at a spin barrier, because waking threads for every step would cost
more than the step. A block is the shortest delay of the network: within it no spike can reach another neuron.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dtb.engine.backends import aligned, cpu_spikes, cpu_tables, cpu_update
from dtb.engine.backends.cpu_cache import forget_stale_code
from dtb.engine.backends.cpu_drive import Call, Dense, Plan, Sparse, Stored
from dtb.engine.backends.cpu_kernels import LANES, ROWS, Dynamics, History, Probes, Sync
from dtb.engine.backends.cpu_vector import LANES_64
from dtb.engine.backends.state import Counters, Snapshot
from dtb.engine.checkpoint_file import Piece
from dtb.engine.constants import RUNAWAY, Constants, Control, default_control, delay_steps
from dtb.network import rng, synapses
from dtb.network.network import Network
from dtb.network.tiles import Tiles

STEPS_AT_ONCE = 128  # of one call, at least; the history is kept that much longer than the longest delay
STEPS_WANTED = 96  # of one call, at the rates of late: what calls cost, all threads wait for
ROOM = 1.75  # spikes kept of a neuron, on average, beside those that one block may bring
OTHERS_SPARE = 4  # room for spikes of other ranks beyond those that are needed: a fourth more
MAX_BLOCK = 16  # steps that a tile runs before the others see its spikes


forget_stale_code(Path(cpu_spikes.count.stats.cache_path))


class State(NamedTuple):
    """Everything of a run that changes.

    fields (b, 96), hold (b, 16): see `cpu_kernels`.  history: boxed in a list, because it is replaced when it grows.
    ring: sums of the way to deliver.  tallies (workers, 3, h): synapses delivered, autapses, lesioned, by emission step
    modulo h.  failed (t,): first step in which a tile left all bounds, or -1.  known: [step up to which the spikes of
    other ranks are delivered, where synapses are stored; step up to which they are here; first step whose spikes are
    kept for `totals` and the like].  heard (t,): of tiles on other ranks, the step up to which their spikes are here.
    clock: [next step].  seed: of noise.
    """

    fields: np.ndarray
    hold: np.ndarray
    history: list[History]
    ring: list[np.ndarray]
    tallies: np.ndarray
    failed: np.ndarray
    known: list[int]
    heard: np.ndarray
    clock: list[int]
    seed: int


class Prepared(NamedTuple):
    """Some steps to come: the first one, how many, and what they need of control, stimulus and samples."""

    begin: int
    steps: int
    dynamics: Dynamics
    probes: Probes


class CpuBackend:
    """See `state.Backend`."""

    name = "cpu"

    def __init__(
        self, network: Network, constants: Constants, dt: float, implicit: bool, tiles: Tiles, threads: int,
        storage: str = "procedural", lesions: tuple[np.ndarray, ...] | None = None, here: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """tiles: those whose spikes are needed, of which only those that are `here` (t,) bool have neurons here."""
        self.network, self.constants, self.implicit, self.tiles = network, constants, implicit, tiles
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None
        delays = [delay_steps(network, p, dt) for p in network.projections]
        self.longest = max((int(d.max(initial=1)) for d in delays), default=1)
        block = min(MAX_BLOCK, min((int(d.min(initial=MAX_BLOCK)) for d in delays), default=MAX_BLOCK))
        burst = -(-block // (int(constants.hold.min()) + 1))
        self.here = np.ones(len(tiles.n), bool) if here is None else here
        self.layout = cpu_tables.layout(network, tiles, self.here)
        self.draws = cpu_tables.draws(network)
        self.width = synapses.offsets(network)[:, -1].copy()
        plan = Plan(
            network, tiles, self.layout, self.draws, self.width, dt, block, burst, self.longest, threads, lesions
        )
        self.synapse_storage = storage
        way = Stored if self.synapse_storage == "stored" else Dense if tiles.pure else Sparse
        self.way = way(plan)
        self.block, self.burst = self.way.plan.block, self.way.plan.burst

    # state -----------------------------------------------------------------------------------------------------

    def start(self, seed: int) -> State:
        tiles, blocks = self.tiles, int(self.layout.block[-1])
        columns = 1 << int(np.ceil(np.log2(self.longest + self.block + STEPS_AT_ONCE + 1)))
        fields = aligned.zeros((blocks, 6 * LANES), np.float32)
        control = default_control(self.network)
        per_unit = (control.sd.astype(np.float64) / rng.NOISE_SD).astype(np.float32)
        keys = rng.key(seed, rng.Stream.INITIAL, np.arange(2))
        of_class = self.network.population_class
        cpu_spikes.initial(
            self.layout, of_class, self.constants.reset, self.constants.threshold, control.mean, per_unit, keys, fields
        )
        room = np.where(self.here, tiles.n.astype(np.int64) * (self.burst + 1), LANES_64)  # others' grow as needed
        planes = room.sum() + 2 * LANES_64 if self.way.timed else 0
        history = History(
            np.zeros(room.sum() + 2 * LANES_64, np.uint16), np.zeros(planes, np.uint8), np.cumsum(room) - room, room,
            np.zeros((len(tiles.n), columns), np.int32),
        )  # fmt: skip
        return State(
            fields, aligned.zeros((blocks, LANES), np.uint16), [history], list(self.way.ring()),
            np.zeros((self.threads, 3, columns), np.int64),
            np.full(len(tiles.n), -1), [0, 0, 0], np.zeros(len(tiles.n), np.int64), [0], seed,
        )  # fmt: skip

    def make_room(self, state: State, more: np.ndarray) -> None:
        """See that `more` (t,) spikes of each tile fit: forget those older than the longest delay, and grow.

        What grows has room for STEPS_WANTED steps more; beyond ROOM spikes per neuron only where `more` needs it. The
        spikes of other ranks may be many times as many as of this one: they are forgotten sooner and more often.
        """
        history, t = state.history[0], state.clock[0]
        since, keep = state.known[2], self.longest + self.block
        wrap = history.start.shape[1] - 1
        live = history.start[np.arange(len(self.here)), np.where(self.here, t, state.heard) & wrap]
        short = live + more > history.room
        if not short.any():
            return
        kinds = [kind for kind in (self.here, ~self.here) if short[kind].any()]
        oldest = np.where(self.here, max(min(t - keep, since), 0), max(t - keep, 0))
        cpu_spikes.compact(history, self.layout, np.flatnonzero(np.any(kinds, axis=0)), t, state.heard, oldest, live)
        most = (self.tiles.n * (self.burst + ROOM)).astype(np.int64)
        spare = np.where(self.here, live * STEPS_WANTED // keep, (live + more) // OTHERS_SPARE)
        room = np.maximum(np.minimum(live + more + spare, most), live + more)
        if (room > history.room).any():
            room = np.maximum(room, history.room)
            base = np.cumsum(room) - room
            index = np.zeros(room.sum() + 2 * LANES_64, np.uint16)
            plane = np.zeros(len(index) if len(history.plane) else 0, np.uint8)
            for old, new in ((history.neuron, index), (history.plane, plane)):
                if len(old):
                    cpu_spikes.move(old, new, history.base, base, live)
            state.history[0] = History(index, plane, base, room, history.start)

    # run -------------------------------------------------------------------------------------------------------

    def advance(
        self, state: State, steps: int, control: Control, stimulus: np.ndarray, samples: np.ndarray
    ) -> tuple[int, np.ndarray]:
        """Run at most `steps` steps; return how many, and the fields of sampled neurons (steps, s, 6)."""
        prepared = self.prepare(state, steps, control, stimulus, samples)
        done = self.go(state, prepared, prepared.begin + prepared.steps)
        return done, prepared.probes.out[:done]

    def prepare(
        self, state: State, steps: int, control: Control, stimulus: np.ndarray, samples: np.ndarray
    ) -> Prepared:
        """What `go` needs for at most `steps` steps from now on; the spikes of all of them are kept."""
        begin = state.known[2] = state.clock[0]
        steps = min(steps, state.history[0].start.shape[1] - self.longest - self.block - 1)  # the history is a ring
        keys = rng.key(state.seed, rng.Stream.NOISE, np.arange(begin, begin + steps))
        return Prepared(begin, steps, self._dynamics(control, stimulus, keys), self._probes(samples, steps))

    def go(self, state: State, prepared: Prepared, stop: int, epoch: int | None = None) -> int:
        """Run up to step `stop`, or fewer steps where spikes need more room; return how many.

        epoch: steps that spikes of other ranks take at least.
        """
        begin = state.clock[0]
        if not cpu_spikes.fits(state.history[0], self.layout, begin, self.burst):
            self.make_room(state, np.where(self.here, self.tiles.n * self.burst, 0))
        past, steps = begin - prepared.begin, stop - begin
        dynamics, probes = prepared.dynamics, prepared.probes
        if past:
            now = dynamics.stimulus[past:] if len(dynamics.stimulus) > 1 else dynamics.stimulus
            dynamics = dynamics._replace(key=dynamics.key[past:], stimulus=now)
            probes = probes._replace(out=probes.out[past:])
        tasks = (steps + 1) * max(2, self.threads)
        meetings = np.zeros(1, np.int64), np.zeros(tasks, np.int64), np.zeros(steps + 1, np.int64)
        news, known, _ = state.known
        end = prepared.begin + prepared.steps
        done = self._work(state, Call(begin, steps, end, epoch, news, known, dynamics, probes, Sync(*meetings)))
        state.clock[0], state.known[0] = begin + done, known
        return done

    # spikes from and to other ranks ------------------------------------------------------------------------------

    def outgoing(self, state: State, tiles: np.ndarray, start: int, stop: int) -> np.ndarray:
        """The spikes of some tiles in steps start..stop-1, as a message."""
        return cpu_spikes.pack(state.history[0], tiles, start, stop)

    def incoming(self, state: State, tiles: np.ndarray, start: int, stop: int, message: np.ndarray) -> int:
        """Take in such a message, of tiles that are -1 nothing; return how many spikes that were."""
        taken = cpu_spikes.unpack(message, tiles, start, stop, state.history[0], state.heard)
        if taken < 0:
            more = np.zeros(len(self.here), np.int64)
            cpu_spikes.arriving(message, tiles, stop - start, more)
            self.make_room(state, more)
            taken = cpu_spikes.unpack(message, tiles, start, stop, state.history[0], state.heard)
        return int(taken)

    def learn(self, state: State, stop: int) -> None:
        """All spikes of other ranks before step `stop` were taken in."""
        state.known[1] = stop

    def _work(self, state: State, call: Call) -> int:
        if self.threads == 1:
            return self.way.work(0, state, call)
        if self._pool is None:  # kept, for on many ranks an epoch may be a step
            self._pool = ThreadPoolExecutor(self.threads)
        done = list(self._pool.map(lambda worker: self.way.work(worker, state, call), range(self.threads)))
        return done[0]  # they meet after every block, so all have done as many

    def _dynamics(self, control: Control, stimulus: np.ndarray, keys: np.ndarray) -> Dynamics:
        c, pure = self.constants, self.tiles.pure
        k = self.network.population_class if pure else np.arange(len(c.step))
        gain = control.gain if pure else np.ones((len(k), 4), np.float32)
        mean, sd = (control.mean, control.sd) if pure else (np.zeros(len(k), np.float32),) * 2
        table = aligned.zeros((len(k), ROWS), np.float32)
        columns = [c.step, c.leak, c.leak_drive, c.threshold, c.reset]
        for row, values in enumerate(columns):
            table[:, row] = values[k]
        table[:, cpu_update.DRIFT] = c.bg_mean[k] * mean
        table[:, cpu_update.SPREAD] = c.bg_noise[k] * sd
        table[:, cpu_update.BG_DECAY] = c.bg_decay[k]
        for u in range(4):
            table[:, cpu_update.G + u] = c.g[k, u] * gain[:, u]
            table[:, cpu_update.E_REV + u] = c.e_rev[k, u]
            table[:, cpu_update.DECAY + u] = c.decay[k, u]
        table[:, cpu_update.UNIT : cpu_update.UNIT + 2] = c.unit
        table[:, cpu_update.HOLD] = c.hold[k]
        table[:, cpu_update.STIMULUS] = 0
        return Dynamics(
            table, self.network.population_class, control.gain, control.mean, control.sd, c.bg_mean, c.bg_noise, keys,
            np.ascontiguousarray(stimulus, np.float32), self.implicit,
        )  # fmt: skip

    def _probes(self, samples: np.ndarray, steps: int) -> Probes:
        tile = np.searchsorted(self.tiles.first, samples, side="right") - 1
        neuron = samples - self.tiles.first[tile]
        own = (tile >= 0) & self.here[tile] & (neuron < self.tiles.n[tile])
        order = np.argsort(samples, kind="stable")
        order = order[own[order]]
        start = np.searchsorted(tile[order], np.arange(len(self.tiles.n) + 1))
        neuron = neuron[order]
        return Probes(start, neuron, order, np.zeros((steps, len(samples), 6), np.float32))

    # what is left behind -----------------------------------------------------------------------------------------

    def step(self, state: State) -> int:
        return state.clock[0]

    def spikes(
        self, state: State, start: int, stop: int, stride: int, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return cpu_spikes.listed(state.history[0], self.layout, self.layout.own, start, stop, stride, wanted)

    def failure(self, state: State) -> tuple[int, int, float] | None:
        bad = np.flatnonzero(state.failed >= 0)
        if not len(bad):
            return None
        tile = int(bad[np.argmin(state.failed[bad])])
        neuron, value = cpu_spikes.first_failure(state.fields, self.layout, tile, RUNAWAY)
        return int(state.failed[tile]), int(self.tiles.first[tile]) + max(neuron, 0), float(value)

    def state_digest(self, state: State) -> int:
        return int(cpu_spikes.state_digest(state.fields, self.layout))

    def totals(self, state: State, start: int, stop: int) -> tuple[int, int, np.ndarray]:
        """Number of spikes, their digest, and the synapses they emitted by step."""
        return cpu_spikes.totals(
            state.history[0], self.layout, self.network.first_gid, self.width, self.draws.position_0,
            self.draws.position_1, start, stop,
        )  # fmt: skip

    def counts(self, state: State, start: int, stop: int) -> np.ndarray:
        """(steps, populations) int32: spikes of each population."""
        out = np.zeros((stop - start, self.network.n_populations), np.int32)
        cpu_spikes.count(state.history[0], self.layout, start, stop, out)
        return out

    def counters(self, state: State, start: int, stop: int) -> Counters:
        """What has become of the synapses of spikes of steps start..stop-1, and begin those columns anew."""
        columns = np.arange(start, stop) & (state.tallies.shape[2] - 1)
        sums = state.tallies[:, :, columns].sum(axis=0)
        state.tallies[:, :, columns] = 0
        return Counters(*sums)

    def neuron_bytes(self, state: State) -> int:
        """Bytes of everything that grows with the neurons, synapses apart."""
        history = state.history[0]
        arrays = [state.fields, state.hold, history.neuron, history.plane]
        arrays += [self.layout.lane_population, self.layout.block_population]
        arrays += state.ring if isinstance(self.way, Sparse) else []
        return sum(array.nbytes for array in arrays)

    def synapse_bytes(self, state: State) -> int:
        """Bytes of stored synapses: their rows, and sums ahead of time."""
        if not isinstance(self.way, Stored):
            return 0
        tables = self.way.tables
        arrays = [tables.start, tables.offset, tables.weight, tables.autapses, tables.lesioned, *state.ring]
        return sum(array.nbytes for array in arrays)

    def snapshot(self, state: State) -> Snapshot:
        """The state in gid order: a copy, for tests and checkpoints; zeros where neurons live elsewhere."""
        n, block, first = self.tiles.n, self.layout.block, self.tiles.first
        fields = np.zeros((self.network.n_neurons, 6), np.float32)
        hold = np.zeros(self.network.n_neurons, np.uint16)
        for t in self.layout.own:
            gids, blocks = slice(first[t], first[t] + n[t]), slice(block[t], block[t + 1])
            fields[gids] = state.fields[blocks].reshape(-1, 6, LANES).transpose(0, 2, 1).reshape(-1, 6)[: n[t]]
            hold[gids] = state.hold[blocks].ravel()[: n[t]]
        return Snapshot(fields, hold)

    # checkpoints -----------------------------------------------------------------------------------------------

    def settled(self, state: State) -> bool:
        return self.way.settled(state)

    def piece(self, state: State, first: int, stop: int) -> Piece:
        fields, hold = np.empty((6, stop - first), np.float32), np.empty(stop - first, np.uint16)
        for blocks, lanes, gids in self._overlaps(first, stop):
            of_block = state.fields[blocks].reshape(-1, 6, LANES).transpose(1, 0, 2)
            fields[:, gids] = of_block.reshape(6, -1)[:, lanes]
            hold[gids] = state.hold[blocks].ravel()[lanes]
        return Piece(first, fields, hold)

    def _overlaps(self, first: int, stop: int) -> Iterable[tuple[slice, slice, slice]]:
        """Those of gids first..stop-1 that live here, tile by tile: blocks, lanes counted from their first, gids from
        `first`.
        """
        tiles, own = self.tiles, self.layout.own
        begins = tiles.first[own]
        touched = slice(np.searchsorted(begins + tiles.n[own], first, side="right"), np.searchsorted(begins, stop))
        for t in own[touched]:
            begin, end = max(first, int(tiles.first[t])), min(stop, int(tiles.first[t] + tiles.n[t]))
            low, high = begin - int(tiles.first[t]), end - int(tiles.first[t])
            block, home = low // LANES, int(self.layout.block[t])
            blocks = slice(home + block, home + -(-high // LANES))
            yield blocks, slice(low - block * LANES, high - block * LANES), slice(begin - first, end - first)

    def arrived(self, state: State, start: int, stop: int) -> Counters:
        columns = np.arange(start, stop) & (state.tallies.shape[2] - 1)
        told = state.tallies[:, :, columns].sum(axis=0)
        if not isinstance(self.way, Stored):  # they count as synapses arrive
            return Counters(*told)
        begin = max(start, stop - self.longest)
        everyone, elsewhere = np.ones(self.network.n_populations, bool), np.flatnonzero(~self.here)
        heard = max(begin, state.known[0])  # what came from other ranks since then is delivered in the next call
        for tiles, end in ((self.layout.own, stop), (elsewhere, heard)):
            step, gid = cpu_spikes.listed(state.history[0], self.layout, tiles, begin, end, 1, everyone)
            told[:, begin - start :] -= self.way.ahead(stop, step, gid, stop - begin)
        return Counters(*told)

    def restore(
        self, seed: int, step: int, pieces: Iterable[Piece], spike_step: np.ndarray, spike_gid: np.ndarray,
        arrived: Counters,
    ) -> State:  # fmt: skip
        state = self.start(seed)
        state.clock[0] = step
        state.known[:], state.heard[:] = [step] * 3, step
        for piece in pieces:
            for blocks, lanes, gids in self._overlaps(piece.first, piece.first + len(piece.hold)):
                of_block = np.ascontiguousarray(state.fields[blocks].reshape(-1, 6, LANES).transpose(1, 0, 2))
                of_block.reshape(6, -1)[:, lanes] = piece.fields[:, gids]
                state.fields[blocks] = of_block.transpose(1, 0, 2).reshape(-1, 6 * LANES)
                state.hold[blocks].reshape(-1)[lanes] = piece.hold[gids]
        state.history[0] = self._history(state.history[0], step, spike_step, spike_gid)
        rows = np.stack(arrived)
        columns = np.arange(step - rows.shape[1], step) & (state.tallies.shape[2] - 1)
        state.tallies[0][:, columns] = rows
        if isinstance(self.way, Stored):
            begin = max(0, step - self.longest)
            still = self.way.ahead(step, spike_step, spike_gid, step - begin, state.ring)
            state.tallies[0][:, np.arange(begin, step) & (state.tallies.shape[2] - 1)] += still
        return state

    def _history(self, empty: History, step: int, spike_step: np.ndarray, spike_gid: np.ndarray) -> History:
        """The lists of a state before `step`, of spikes ordered by step and gid."""
        n, columns = self.tiles.n.astype(np.int64), empty.start.shape[1]
        begin = max(0, step - self.longest)
        tile = np.searchsorted(self.tiles.first, spike_gid, side="right") - 1
        counts = np.zeros((len(n), step - begin + 1), np.int32)
        np.add.at(counts, (tile, spike_step - begin + 1), np.int32(1))
        counts = np.cumsum(counts, axis=1, dtype=np.int32)
        room = np.maximum(empty.room, counts[:, -1] + np.where(self.here, n * self.burst, 0))
        base = np.cumsum(room) - room
        neuron = np.zeros(room.sum() + 2 * LANES_64, np.uint16)
        plane = np.zeros(len(neuron) if len(empty.plane) else 0, np.uint8)
        start = np.zeros_like(empty.start)
        start[:, np.arange(begin, step + 1) & (columns - 1)] = counts
        order = np.argsort(tile, kind="stable")  # of each tile, in order of time
        of = tile[order]
        place = base[of] + np.arange(len(of)) - np.searchsorted(of, np.arange(len(n)))[of]
        neuron[place] = spike_gid[order] - self.tiles.first[of]
        if len(plane):
            plane[place] = spike_step[order] & 0xFF
        return History(neuron, plane, base, room, start)
