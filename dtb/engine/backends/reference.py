"""The definition of a run in NumPy: slow, obvious, and what every other backend must equal bit for bit.

n neuron, p population, k class, u receptor.   fields (n, 6) float32: V mV, S_u, background pA   hold (n,) steps left
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dtb.engine.backends.state import Counters, Snapshot, initial, spike_digest, state_digest
from dtb.engine.checkpoint_file import Piece
from dtb.engine.constants import RECEPTOR_KIND, RUNAWAY, SMALLEST, Constants, Control, default_control, delay_steps
from dtb.network import rng
from dtb.network.network import Network
from dtb.network.synapses import out_degree, synapses

MAX_NEURONS = 100_000  # every spike walks its row in Python; past this the cpu backend is meant


class State(NamedTuple):
    """Everything of a run that changes.

    fields, hold: see above.  arrivals: step → (2, n) int64.  fired: step → gids.  counters: step → delivered,
    autapses, lesioned.  failed: [(step, gid, V)] of the first membrane out of bounds.  clock: [next step].
    """

    fields: np.ndarray
    hold: np.ndarray
    arrivals: dict[int, np.ndarray]
    fired: dict[int, np.ndarray]
    counters: dict[int, list[int]]
    failed: list[tuple[int, int, float]]
    clock: list[int]
    noise_seed: int


def deliver(network: Network, gid: int, step: int, dt: float, arrivals: dict, lesions, since: int = 0) -> list[int]:
    """Add the synapses of one spike to the sums of the steps they arrive at; return delivered, autapses, lesioned.

    since: arrivals before this step are left out, which a checkpoint holds.
    """
    out = synapses(network, gid, lesions)
    delay = in_steps(out.delay, dt)
    for d in np.unique(delay[step + delay >= since]):
        sums = arrivals.setdefault(step + int(d), np.zeros((2, network.n_neurons), np.int64))
        now = delay == d
        np.add.at(sums, (out.kind[now], out.target[now]), out.weight[now])
    whole = out if lesions is None else synapses(network, gid)
    delivered, own, drawn = (
        int((step + in_steps(d, dt) >= since).sum()) for d in (out.delay, out.autapse_delay, whole.delay)
    )
    return [delivered, own, drawn - delivered]


def in_steps(delay: np.ndarray, dt: float) -> np.ndarray:
    return np.maximum(np.rint(delay / dt), 1).astype(np.int64)


def update(fields, hold, k, p, arrivals, noise, stimulus, constants: Constants, control: Control, implicit: bool):
    """Advance all neurons by one step, in place; return the indices of those that fired."""
    v, s, background = fields[:, 0], fields[:, 1:5], fields[:, 5]
    sums = arrivals.astype(np.int32).astype(np.float32)
    for u, kind in enumerate(RECEPTOR_KIND):
        s[:, u] = s[:, u] * constants.decay[k, u] + constants.unit[kind] * sums[kind]
        s[:, u] = np.where(s[:, u] >= SMALLEST, s[:, u], np.float32(0))
    drift, spread = constants.bg_mean[k] * control.mean[p], constants.bg_noise[k] * control.sd[p]
    background[:] = background * constants.bg_decay[k] + drift + spread * noise

    total, drive = constants.leak[k], constants.leak_drive[k]
    for u in range(4):
        conductance = constants.g[k, u] * control.gain[p, u] * s[:, u]  # nS
        total = total + conductance
        drive = drive + conductance * constants.e_rev[k, u]  # nS·mV = pA
    drive = drive + (background + stimulus[p])
    step = constants.step[k]
    moved = (v + step * drive) / (np.float32(1) + step * total) if implicit else v + step * (drive - total * v)

    resting = hold > 0
    fired = ~resting & (moved >= constants.threshold[k])
    v[:] = np.where(resting | fired, constants.reset[k], moved)
    hold[:] = np.where(fired, constants.hold[k], hold - resting)
    return np.flatnonzero(fired)


class ReferenceBackend:
    """See `state.Backend`."""

    name, threads, synapse_storage = "reference", 1, "procedural"

    def __init__(self, network: Network, constants: Constants, dt: float, implicit: bool, lesions=None) -> None:
        if network.n_neurons > MAX_NEURONS:
            raise ValueError(
                f"backend 'reference' is the definition, made for tests; {network.n_neurons:,} neurons are more than "
                f'its {MAX_NEURONS:,}. Use backend = "cpu".'
            )
        self.network, self.constants, self.dt, self.implicit, self.lesions = network, constants, dt, implicit, lesions
        self.longest = max((int(delay_steps(network, p, dt).max(initial=1)) for p in network.projections), default=1)
        self.population = np.repeat(np.arange(network.n_populations), np.diff(network.first_gid))
        self.cell_class = network.population_class[self.population]

    def start(self, seed: int) -> State:
        n, control = self.network.n_neurons, default_control(self.network)
        reset, threshold = self.constants.reset, self.constants.threshold
        fields = initial(self.network, seed, reset, threshold, control, np.arange(n), self.population)
        return State(fields, np.zeros(n, np.uint16), {}, {}, {}, [], [0], seed)

    def step(self, state: State) -> int:
        return state.clock[0]

    def advance(
        self, state: State, steps: int, control: Control, stimulus: np.ndarray, samples: np.ndarray
    ) -> tuple[int, np.ndarray]:
        gids = np.arange(self.network.n_neurons)
        kept = np.zeros((steps, len(samples), 6), np.float32)
        for ahead in range(steps):
            t = state.clock[0]
            arrivals = state.arrivals.pop(t, np.zeros((2, len(gids)), np.int64))
            noise = rng.noise4(rng.hash64(gids, rng.key(state.noise_seed, rng.Stream.NOISE, t))).astype(np.float32)
            now = stimulus[ahead if len(stimulus) > 1 else 0]
            fired = update(
                state.fields, state.hold, self.cell_class, self.population, arrivals, noise, now,
                self.constants, control, self.implicit,
            )  # fmt: skip
            told = np.zeros(3, np.int64)
            for gid in fired:
                told += deliver(self.network, int(gid), t, self.dt, state.arrivals, self.lesions)
            bad = np.flatnonzero(~(np.abs(state.fields[:, 0]) < RUNAWAY))
            if len(bad) and not state.failed:
                state.failed.append((t, int(bad[0]), float(state.fields[bad[0], 0])))
            state.fired[t], state.counters[t] = fired, told.tolist()
            kept[ahead] = state.fields[samples]
            state.clock[0] = t + 1
        return steps, kept

    def totals(self, state: State, start: int, stop: int) -> tuple[int, int, np.ndarray]:
        step, gid = self._all_spikes(state, start, stop)
        emitted = np.bincount(step - start, out_degree(self.network, gid), minlength=stop - start)
        return len(gid), spike_digest(step, gid), emitted.astype(np.int64)

    def counts(self, state: State, start: int, stop: int) -> np.ndarray:
        step, gid = self._all_spikes(state, start, stop)
        out = np.zeros((stop - start, self.network.n_populations), np.int32)
        np.add.at(out, (step - start, self.population[gid]), 1)
        return out

    def spikes(
        self, state: State, start: int, stop: int, stride: int, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        step, gid = self._all_spikes(state, start, stop)
        keep = wanted[self.population[gid]] | (gid % stride == 0)
        return step[keep], gid[keep]

    def _all_spikes(self, state: State, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        fired = [state.fired[t] for t in range(start, stop)]
        step = np.repeat(np.arange(start, stop), [len(f) for f in fired])
        return step, np.concatenate([*fired, np.zeros(0, np.int64)]).astype(np.int64)

    def counters(self, state: State, start: int, stop: int) -> Counters:
        rows = [state.counters.pop(t) for t in range(start, stop)]
        return Counters(*np.array(rows, np.int64).reshape(-1, 3).T)

    def failure(self, state: State) -> tuple[int, int, float] | None:
        return state.failed[0] if state.failed else None

    def neuron_bytes(self, state: State) -> int:
        return state.fields.nbytes + state.hold.nbytes

    def synapse_bytes(self, state: State) -> int:
        return 0

    def snapshot(self, state: State) -> Snapshot:
        return Snapshot(state.fields.copy(), state.hold.copy())

    def state_digest(self, state: State) -> int:
        return state_digest(state.fields)

    # checkpoints -----------------------------------------------------------------------------------------------

    def settled(self, state: State) -> bool:
        return True

    def piece(self, state: State, first: int, stop: int) -> Piece:
        return Piece(first, state.fields[first:stop].T.copy(), state.hold[first:stop].copy())

    def arrived(self, state: State, start: int, stop: int) -> Counters:
        rows = np.array([state.counters[t] for t in range(start, stop)], np.int64).reshape(-1, 3)
        for t in range(max(start, stop - self.longest), stop):
            rows[t - start] -= self._still(state.fired[t], t, stop, {})
        return Counters(*rows.T.copy())

    def _still(self, gids: np.ndarray, step: int, since: int, arrivals: dict) -> np.ndarray:
        """(3,) synapses of spikes of one step that arrive in step `since` or later, which are added to `arrivals`."""
        told = np.zeros(3, np.int64)
        for gid in gids:
            told += deliver(self.network, int(gid), step, self.dt, arrivals, self.lesions, since)
        return told

    def restore(
        self, seed: int, step: int, pieces: Iterable[Piece], spike_step: np.ndarray, spike_gid: np.ndarray,
        arrived: Counters,
    ) -> State:  # fmt: skip
        state = self.start(seed)
        state.clock[0] = step
        for piece in pieces:
            gids = slice(piece.first, piece.first + len(piece.hold))
            state.fields[gids], state.hold[gids] = piece.fields.T, piece.hold
        rows = np.stack(arrived, axis=1)
        for t in range(step - len(rows), step):
            state.fired[t] = spike_gid[spike_step == t]
            still = self._still(state.fired[t], t, step, state.arrivals)
            state.counters[t] = (rows[t - step + len(rows)] + still).tolist()
        return state
