"""The cuda backend: the whole step on one GPU; synapses are computed where they arrive, and none is stored.

`Simulation` asks for some steps at once. The host writes what changes from call to call (noise keys, gains, stimulus)
to the device, starts a CUDA graph once per block of steps, and reads counts back when all are done; within a call
nothing waits for it. A block that cannot go on, because a history lacks room or a membrane left all bounds, stops all
that follow, and the call returns fewer steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dtb.engine.backends import cuda_places, cuda_plan
from dtb.engine.backends.cuda_device import Device, Launch
from dtb.engine.backends.cuda_plan import THREADS, Plan
from dtb.engine.backends.cuda_sequence import Sequence, kernels
from dtb.engine.backends.cuda_world import TYPES, World, clock, members, record
from dtb.engine.backends.state import Counters, Snapshot
from dtb.engine.checkpoint_file import Piece
from dtb.engine.constants import RUNAWAY, Constants, Control, default_control
from dtb.network import rng, synapses
from dtb.network.network import Network
from dtb.network.tiles import DEVICE_TILE, LANES, Tiles

LISTED = 1 << 16  # spikes that a list has room for at first
RESERVE = 1 << 28  # bytes of a device that are left alone: code, the graph, what a call needs


class Probes(NamedTuple):
    """out (steps, s, 6): fields of sampled neurons."""

    out: np.ndarray


class Prepared(NamedTuple):
    """Some steps to come: the first one, and how many."""

    begin: int
    steps: int
    probes: Probes


@dataclass
class State:
    """Everything of a run that changes.

    world: arrays on the device.  room, base (t,): of the rings of the history, as the device has them.  heard (t,): of
    tiles on other ranks, the step up to which their spikes are here.  since: first step whose spikes are kept for
    `totals` and the like.  known: step up to which the spikes of other ranks are here.  seed: of noise.
    """

    world: World
    room: np.ndarray
    base: np.ndarray
    heard: np.ndarray
    seed: int
    step: int = 0
    since: int = 0
    known: int = 0


class CudaBackend:
    """See `state.Backend` and `state.RankBackend`."""

    name, threads, synapse_storage = "cuda", 1, "procedural"

    def __init__(
        self, network: Network, constants: Constants, dt: float, implicit: bool, tiles: Tiles, device: Device,
        lesions: tuple[np.ndarray, ...] | None = None, here: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """tiles: those whose spikes are needed, of which only those that are `here` (t,) bool have neurons here."""
        if tiles.n.max() > cuda_plan.LARGEST_TILE:
            raise ValueError(
                f"a tile has {tiles.n.max():,} neurons; the shared memory of a GPU holds {cuda_plan.LARGEST_TILE:,}. "
                f"Lower tile_size to {DEVICE_TILE:,}."
            )
        self.network, self.constants, self.implicit, self.tiles = network, constants, implicit, tiles
        self.device, self.block_threads = device, THREADS
        self.here = np.ones(len(tiles.n), bool) if here is None else here
        self.plan = cuda_plan.compile_plan(network, tiles, constants, dt, self.here, lesions)
        self.block, self.burst, self.longest = self.plan.block, self.plan.burst, self.plan.longest
        self._tables = self._fixed_tables()
        self._check_device()
        self._sequences: dict[int, Sequence] = {}  # of the record of a state: a graph holds its address

    # memory ----------------------------------------------------------------------------------------------------

    @property
    def device_bytes(self) -> int:
        """Of all arrays of a simulation on the device, when it starts."""
        return sum(bytes_by_name(self.plan, self._tables).values())

    def _check_device(self) -> None:
        device, plan = self.device, self.plan
        free, all_of_it = device.memory()
        needed = self.device_bytes + RESERVE
        if needed > free:
            share = self.device_bytes / max(all_of_it - RESERVE, 1)
            raise MemoryError(
                f"{self.network.n_neurons:,} neurons need {needed / 2**30:.1f} GiB here; '{device.name}' has "
                f"{free / 2**30:.1f} GiB free of {all_of_it / 2**30:.1f}. {max(2, int(np.ceil(share * 1.02)))} such "
                "devices would do, if they are empty; see dtb plan CONFIG --ranks."
            )
        shared = max(
            cuda_plan.scatter_bytes(plan.buckets, self.block_threads) if len(plan.groups) else 0,
            cuda_plan.advance_bytes(plan.width, plan.scattered),
        )
        if shared > device.shared:
            raise ValueError(
                f"a block of threads needs {shared:,} bytes of shared memory; '{device.name}' has {device.shared:,}. "
                f"Lower tile_size from {plan.width:,}."
            )

    def _fixed_tables(self) -> dict[str, Any]:
        """World's members that never change."""
        network, plan, tiles = self.network, self.plan, self.tiles
        layout, spread = plan.layout, plan.spread
        fixed = {
            "lanes": plan.lanes, "tiles": len(tiles.n), "owned": len(layout.own), "mixed": not tiles.pure,
            "width": plan.width, "tile_first": tiles.first, "tile_n": tiles.n, "tile_lane": layout.block * LANES,
            "tile_population": tiles.population, "own": layout.own, "lane_population": layout.lane_population,
            "lanes_population": layout.block_population, "columns": plan.columns, "block": plan.block,
            "burst": plan.burst, "longest": plan.longest, "implicit": self.implicit,
            "bg_mean": self.constants.bg_mean, "bg_noise": self.constants.bg_noise, "first_gid": network.first_gid,
            "population_region": network.population_region, "population_class": network.population_class,
            "degree": synapses.row_width(network), "populations": network.n_populations, "entries": plan.entries,
            "segments": plan.segments, "items": plan.items, "groups": plan.groups, "pool_tile": plan.pool_tile,
            "spill_lanes": plan.spill_lanes, "projections": len(network.projections),
            "regions": len(network.regions), "n_classes": len(network.classes), **cuda_plan.keys(network), **spread,
        }  # fmt: skip
        if spread:
            fixed |= {"targets": spread["classes"].shape[1], "lesioned": len(spread["row_lesion"]) > 0}
        return fixed

    # state -----------------------------------------------------------------------------------------------------

    def start(self, seed: int) -> State:
        world, plan, c = World(self.device), self.plan, self.constants
        world.put(**self._tables)
        for name, shape in cuda_plan.arrays(plan).items():
            world.make(name, shape)
        room = cuda_plan.rooms(plan)
        base = np.cumsum(room) - room
        world.put(room=room, base=base)
        self.device.write(world.arrays["failed"], np.full(len(room), -1))
        world.make("noise_key", (plan.steps, 2))
        control = default_control(self.network)
        per_unit = (control.sd.astype(np.float64) / rng.NOISE_SD).astype(np.float32)
        state = State(world, room, base, np.zeros(len(room), np.int64), seed)
        world.commit()
        tables = (c.reset, c.threshold, control.mean, per_unit, rng.key(seed, rng.Stream.INITIAL, np.arange(2)))
        self._launch(state, "initial", len(plan.layout.own), *(self.device.put(table) for table in tables))
        self._wait(state)
        return state

    def _launch(self, state: State, kernel: str, blocks: int, *arguments: Any, shared: int = 0) -> None:
        if blocks:
            self.device.launch(Launch(kernel, blocks, self.block_threads, shared, (state.world.record, *arguments)))

    def _wait(self, state: State) -> dict[str, int]:
        """The numbers of World.clock, when all is done."""
        values = self.device.get(state.world.arrays["clock"])
        return {name: int(values[i]) for name, i in clock().items()}

    def _set_clock(self, state: State, stop: int, begin: int) -> None:
        values = np.zeros(len(clock()), np.int64)
        now = {
            "STEP": state.step, "STOP": stop, "OLDEST": self._oldest(state), "KNOWN": state.known, "BEGIN": begin,
        }  # fmt: skip
        for name, value in now.items():
            values[clock()[name]] = value
        self.device.write(state.world.arrays["clock"], values)

    def _oldest(self, state: State) -> int:
        return max(0, min(state.since, state.step - self.longest - self.block))

    # run -------------------------------------------------------------------------------------------------------

    def step(self, state: State) -> int:
        return state.step

    def advance(
        self, state: State, steps: int, control: Control, stimulus: np.ndarray, samples: np.ndarray
    ) -> tuple[int, np.ndarray]:
        prepared = self.prepare(state, steps, control, stimulus, samples)
        done = self.go(state, prepared, prepared.begin + prepared.steps)
        return done, prepared.probes.out[:done]

    def prepare(
        self, state: State, steps: int, control: Control, stimulus: np.ndarray, samples: np.ndarray
    ) -> Prepared:
        """Bring what `go` needs for at most `steps` steps to the device; the spikes of all of them are kept."""
        begin = state.since = state.step
        steps = min(steps, self.plan.steps)
        world, scattered = state.world, self.plan.scattered
        noise = np.zeros((self.plan.steps, 2), np.uint64)
        noise[:steps] = rng.key(state.seed, rng.Stream.NOISE, np.arange(begin, begin + steps))
        self.device.write(world.arrays["noise_key"], noise)
        now = np.ascontiguousarray(stimulus[:steps], np.float32)
        world.put(
            table=cuda_plan.dynamics(self.network, self.constants, control, scattered), stimulus=now, stimuli=len(now)
        )
        if not scattered:
            c = self.constants  # a checkpoint may have brought others
            world.put(gain=control.gain, mean=control.mean, sd=control.sd, bg_mean=c.bg_mean, bg_noise=c.bg_noise)
        out = np.zeros((steps, len(samples), 6), np.float32)
        start, neuron, slot = self._probes(samples)
        world.put(probe_start=start, probe_neuron=neuron, probe_slot=slot, probes=len(samples))
        world.make("probe_out", out.shape)
        world.commit()
        return Prepared(begin, steps, Probes(out))

    def go(self, state: State, prepared: Prepared, stop: int, epoch: int | None = None) -> int:
        """Run up to step `stop`, or fewer steps where spikes need more room; return how many."""
        begin, device = state.step, self.device
        self._make_room(state, np.zeros(len(self.here), np.int64), stop, prepared.begin)
        if device.address(state.world.record) not in self._sequences:
            self._sequences = {device.address(state.world.record): Sequence(device, [self.kernels(state)])}
        (sequence,) = self._sequences.values()
        sequence.start(-(-(stop - begin) // self.block))
        return self._finish(state, prepared)

    def _finish(self, state: State, prepared: Prepared) -> int:
        """Wait, and take over how far the device came; return how many steps."""
        begin, device, now = state.step, self.device, self._wait(state)
        if now["PRODUCED"] != now["CONSUMED"]:
            raise RuntimeError(
                f"{now['PRODUCED']:,} synapses were sorted into buckets before step {now['STEP']}, {now['CONSUMED']:,} "
                "taken out. The results are wrong; please report this network."
            )
        state.step = now["STEP"]
        if prepared.probes.out.size:
            rows = slice(begin - prepared.begin, state.step - prepared.begin)
            prepared.probes.out[rows] = device.get(state.world.arrays["probe_out"])[rows]
        return state.step - begin

    def kernels(self, state: State) -> list[Launch]:
        """Those of one block of steps."""
        return kernels(self.plan, self.block_threads, state.world.record)

    def _probes(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sampled neurons that live here, ordered by tile: where a tile's begin, neuron in its tile, number."""
        tile = np.searchsorted(self.tiles.first, samples, side="right") - 1
        neuron = samples - self.tiles.first[tile]
        own = (tile >= 0) & self.here[tile] & (neuron < self.tiles.n[tile])
        order = np.argsort(samples, kind="stable")
        order = order[own[order]]
        return np.searchsorted(tile[order], np.arange(len(self.tiles.n) + 1)), neuron[order], order

    # history ---------------------------------------------------------------------------------------------------

    def _make_room(self, state: State, more: np.ndarray, stop: int, begin: int) -> None:
        """Set the clock, and see that every history has room for one more block, and for `more` (t,) spikes."""
        self._set_clock(state, stop, begin)
        tiles = len(self.tiles.n)
        blocks = -(-tiles // self.block_threads)
        self._launch(state, "renew", blocks)
        if not more.any() and not self._wait(state)["MISSING"]:
            return
        live = self.device.put(np.zeros(tiles, np.int64))
        self._launch(state, "measure", blocks, live)
        held = self.device.get(live)
        needed = held + more + np.where(self.here, self.tiles.n.astype(np.int64) * self.burst, 0)
        if (needed <= state.room).all():
            return
        room = np.where(needed > state.room, needed + needed // 2, state.room)
        base = np.cumsum(room) - room
        self._check_growth(state, int(room.sum()))
        neuron = self.device.zeros(int(room.sum()), np.uint16)
        self._launch(state, "move", tiles, neuron, self.device.put(base))
        self._wait(state)
        state.room, state.base = room, base
        state.world.own(neuron=neuron)
        state.world.put(room=room, base=base)
        state.world.commit()
        self._set_clock(state, stop, begin)

    def _check_growth(self, state: State, spikes: int) -> None:
        free, all_of_it = self.device.memory()
        if 2 * spikes > free:
            raise MemoryError(
                f"the spikes of the last {state.step - self._oldest(state)} steps need {2 * spikes / 2**30:.1f} GiB; "
                f"'{self.device.name}' has {free / 2**30:.1f} GiB free of {all_of_it / 2**30:.1f}. Use more devices, "
                "or lower excitation."
            )

    # spikes from and to other ranks ----------------------------------------------------------------------------

    def outgoing(self, state: State, tiles: np.ndarray, start: int, stop: int) -> np.ndarray:
        """The spikes of some tiles in steps start..stop-1, as `cpu_spikes.pack` makes them."""
        device, n, steps = self.device, len(tiles), stop - start
        numbers, offset = device.put(tiles.astype(np.int32)), device.zeros(n + 1, np.int64)
        most = int(self.tiles.n[tiles].sum(dtype=np.int64)) * -(-steps // self.block) * self.burst
        message = device.zeros(n * steps + most, np.uint16)
        shared = 4 * (self.block_threads + cuda_plan.WARP)
        self._launch(state, "measure_message", 1, numbers, n, start, stop, message, offset, shared=shared)
        self._launch(state, "pack", n, numbers, start, stop, message, offset)
        end = int(device.get(offset)[-1])
        return device.stage(message[:end]).copy()

    def incoming(self, state: State, tiles: np.ndarray, start: int, stop: int, message: np.ndarray) -> int:
        """Take in such a message; of tiles that are -1 nothing. Returns how many spikes."""
        device, n, steps = self.device, len(tiles), stop - start
        if not n:
            return 0
        counts = message[: n * steps].astype(np.int64).reshape(n, steps).sum(axis=1)
        offset = n * steps + np.concatenate([[0], np.cumsum(counts)])
        more = np.zeros(len(self.here), np.int64)
        np.add.at(more, tiles[tiles >= 0], counts[tiles >= 0])
        self._make_room(state, more, state.step, state.since)
        self._launch(
            state, "unpack", n, device.put(tiles.astype(np.int32)), start, stop,
            device.put(np.ascontiguousarray(message[: offset[-1]])), device.put(offset),
        )  # fmt: skip
        state.heard[tiles[tiles >= 0]] = stop
        self._wait(state)
        return int(more.sum())

    def learn(self, state: State, stop: int) -> None:
        """All spikes of other ranks before step `stop` were taken in."""
        state.known = stop

    # what is left behind -----------------------------------------------------------------------------------------

    def totals(self, state: State, start: int, stop: int) -> tuple[int, int, np.ndarray]:
        told = self.device.zeros(2 + stop - start, np.uint64)
        self._launch(state, "total", len(self.plan.layout.own), start, stop, told, 0)
        spikes, digest, *emitted = self.device.get(told).tolist()
        return spikes, digest, np.array(emitted, np.int64)

    def counts(self, state: State, start: int, stop: int) -> np.ndarray:
        told = self.device.zeros(2 + stop - start, np.uint64)
        counts = self.device.zeros((stop - start, self.network.n_populations), np.int32)
        self._launch(state, "total", len(self.plan.layout.own), start, stop, told, counts)
        return self.device.get(counts)

    def spikes(
        self, state: State, start: int, stop: int, stride: int, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        room, of_population = LISTED, self.device.put(wanted.astype(np.uint8))
        while True:
            self._set_clock(state, state.step, state.since)
            found = self.device.zeros(room, np.uint64)
            own = len(self.plan.layout.own)
            self._launch(state, "list", own, start, stop, stride, of_population, found, room)
            n = self._wait(state)["FOUND"]
            if n <= room:
                break
            room = n
        keys = np.sort(self.device.get(found[:n]))
        return start + (keys >> np.uint64(48)).astype(np.int64), (keys & np.uint64(2**48 - 1)).astype(np.int64)

    def counters(self, state: State, start: int, stop: int) -> Counters:
        tallies = self.device.get(state.world.arrays["tallies"])
        columns = np.arange(start, stop) & (self.plan.columns - 1)
        told = tallies[:, columns].astype(np.int64)
        tallies[:, columns] = 0
        self.device.write(state.world.arrays["tallies"], tallies)
        return Counters(*told)

    def failure(self, state: State) -> tuple[int, int, float] | None:
        failed = self.device.get(state.world.arrays["failed"])
        bad = np.flatnonzero(failed >= 0)
        if not len(bad):
            return None
        tile = int(bad[np.argmin(failed[bad])])
        lane, n = int(self.plan.layout.block[tile]) * LANES, int(self.tiles.n[tile])
        v = self.device.get(state.world.arrays["fields"][0, lane : lane + n])
        neuron = int(np.argmax(~(np.abs(v) < RUNAWAY)))
        return int(failed[tile]), int(self.tiles.first[tile]) + neuron, float(v[neuron])

    def neuron_bytes(self, state: State) -> int:
        """Memory of the device for everything that grows with the neurons."""
        names = ["fields", "hold", "neuron", "start", "lane_population", "lanes_population"]
        names += [] if self.tiles.pure else ["sums"]  # where it is, they are few: see cuda_plan.SPREAD_BYTES
        return sum(state.world.arrays[name].nbytes for name in names if name in state.world.arrays)

    def synapse_bytes(self, state: State) -> int:
        return 0

    def snapshot(self, state: State) -> Snapshot:
        n = self.network.n_neurons
        fields, hold = np.zeros((n, 6), np.float32), np.zeros(n, np.uint16)
        arrays = state.world.arrays
        all_fields, all_hold = self.device.get(arrays["fields"]), self.device.get(arrays["hold"])
        for lanes, gids in cuda_places.overlaps(self.plan, 0, n):
            fields[gids], hold[gids] = all_fields[:, lanes].T, all_hold[lanes]
        return Snapshot(fields, hold)

    def state_digest(self, state: State) -> int:
        told = self.device.zeros(1, np.uint64)
        self._launch(state, "digest_state", len(self.plan.layout.own), told)
        return int(self.device.get(told)[0])

    # checkpoints -----------------------------------------------------------------------------------------------

    def settled(self, state: State) -> bool:
        return True

    def piece(self, state: State, first: int, stop: int) -> Piece:
        fields, hold = np.zeros((6, stop - first), np.float32), np.zeros(stop - first, np.uint16)
        window, parts = cuda_places.window(self.plan, first, stop)
        held = [self.device.get(state.world.arrays["fields"][f, window]) for f in range(6)]
        left = self.device.get(state.world.arrays["hold"][window])
        for lanes, gids in parts:
            for f in range(6):
                fields[f, gids] = held[f][lanes]
            hold[gids] = left[lanes]
        return Piece(first, fields, hold)

    def arrived(self, state: State, start: int, stop: int) -> Counters:
        columns = np.arange(start, stop) & (self.plan.columns - 1)
        return Counters(*self.device.get(state.world.arrays["tallies"])[:, columns].astype(np.int64))

    def restore(
        self, seed: int, step: int, pieces: Iterable[Piece], spike_step: np.ndarray, spike_gid: np.ndarray,
        arrived: Counters,
    ) -> State:  # fmt: skip
        state = self.start(seed)
        state.step = state.since = state.known = step
        state.heard[:] = step
        arrays = state.world.arrays
        for piece in pieces:
            window, parts = cuda_places.window(self.plan, piece.first, piece.first + len(piece.hold))
            if not parts:
                continue
            for f in range(6):
                self._fill(arrays["fields"][f, window], piece.fields[f], parts)
            self._fill(arrays["hold"][window], piece.hold, parts)
        room, base, neuron, start = cuda_places.history(self.plan, state.room, step, spike_step, spike_gid)
        state.room, state.base = room, base
        state.world.put(room=room, base=base, neuron=neuron, start=start)
        state.world.commit()
        tallies = np.zeros((3, self.plan.columns), np.uint64)
        rows = np.stack(arrived)
        tallies[:, np.arange(step - rows.shape[1], step) & (self.plan.columns - 1)] = rows
        self.device.write(arrays["tallies"], tallies)
        self.device.write(arrays["heard"], state.heard)
        return state

    def _fill(self, to: Any, values: np.ndarray, parts: list[tuple[slice, slice]]) -> None:
        """Write the values of a piece where its neurons live."""
        held = self.device.get(to)
        for lanes, gids in parts:
            held[lanes] = values[gids]
        self.device.write(to, held)


class Together:
    """States of one network on one device that run side by side; see `dtb.engine.ensemble`."""

    def __init__(self, backends: list[CudaBackend], states: list[State]) -> None:
        self._backends, self._states = backends, states
        self._sequence = Sequence(backends[0].device, [b.kernels(s) for b, s in zip(backends, states, strict=True)])

    def advance(self, asked: list[tuple]) -> list[tuple[int, np.ndarray]]:
        """What `CudaBackend.advance` returns for each state, asked the same but for the state; no steps: it rests."""
        prepared: list[Prepared] = []
        blocks = 0
        for backend, state, (steps, *what) in zip(self._backends, self._states, asked, strict=True):
            prepared.append(backend.prepare(state, steps, *what))
            begin, stop = prepared[-1].begin, prepared[-1].begin + prepared[-1].steps
            backend._make_room(state, np.zeros(len(backend.here), np.int64), stop, begin)
            blocks = max(blocks, -(-(stop - begin) // backend.block))
        self._sequence.start(blocks)
        told = zip(self._backends, self._states, prepared, strict=True)
        done = [backend._finish(state, each) for backend, state, each in told]
        return [(n, each.probes.out[:n]) for n, each in zip(done, prepared, strict=True)]


def bytes_by_name(plan: Plan, tables: dict[str, Any]) -> dict[str, int]:
    """Bytes of the device that `CudaBackend.start` asks for, counted before it does: see docs/cuda.md."""
    kinds = {name: kind[:-1] for kind, name in members("World") if kind.endswith("*")}
    size = {name: np.dtype(TYPES.get(kind) or record(kind)).itemsize for name, kind in kinds.items()}
    found = {name: int(np.prod(shape, dtype=np.int64)) * size[name] for name, shape in cuda_plan.arrays(plan).items()}
    found |= {name: np.size(table) * size[name] for name, table in tables.items() if name in size}
    tiles = len(plan.tiles.n)
    return found | {"room": tiles * size["room"], "base": tiles * size["base"], "noise_key": plan.steps * 16}
