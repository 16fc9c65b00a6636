"""The executable form of a Network: the only owner of state that changes."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dtb.engine import checkpoint
from dtb.engine.comm import Communicator, LocalComm
from dtb.engine.constants import Control, compile_constants, default_control
from dtb.engine.partition import Partition
from dtb.engine.ranks import Ranks, agree
from dtb.engine.recording import Recording
from dtb.engine.statistics import sample_stride
from dtb.engine.storage import choose_storage
from dtb.engine.streams import Activity
from dtb.network.network import Network
from dtb.network.tiles import LANES, MAX_TILE, device_tile, tile

if TYPE_CHECKING:
    from dtb.engine.backends.state import Backend, RankBackend, Snapshot

BACKENDS = ("cpu", "cuda", "reference")
INTEGRATORS = ("semi-implicit", "euler")
STORAGES = ("auto", "stored", "procedural")
CHUNK_NUMBERS = 1 << 21  # spike counts handed over at once: 8 MB
CHUNK_STEPS = 512
RUNAWAY_HZ = 250.0  # spikes/s, mean of a population over RUNAWAY_MS: above any cortical population but a seizure's
RUNAWAY_MS = 100.0
TILES_PER_RANK = 8  # at least, so that ranks can have about equal shares


class Simulation:
    """A network in motion.

    Parameters
    ----------
    network : Network
    dt : float [ms]
        Step. Delays and refractoriness are rounded to whole steps.
    backend : "cpu", "cuda" or "reference"
        Processor, GPU, or the definition in NumPy, for small networks; all give the same spikes.
    threads : int
        0 takes all cores of this process; of those that ranks share, its part.
    synapses : "auto", "stored" or "procedural"
        Read from memory or computed where they are needed; the spikes are the same, "auto" takes what is faster.
    seed : int
        Of noise and initial state; the synapses' seed belongs to the network.
    integrator : "semi-implicit" or "euler"
        Of the membrane: one division a step and stable at 1 ms, or explicit as in the published system.
    tile_size : int
        Neurons a tile may hold; changes nothing but speed.
    lesions : tuple of arrays or None
        Fraction of the synapses of each pair of each projection that is dropped; see `lesion_tracts`.
    comm : Communicator or None
        Between ranks; None for one process. On many ranks all make the same simulation and call the same methods.
    partition : Partition or None
        Which rank owns which tiles, of which there are `tile(network, tile_size)`; None leaves that to `comm`. Changes
        nothing but speed.

    Attributes
    ----------
    control : Control
        Gains per population and receptor, mean and sd of the background; change the arrays between runs.
    step : int
        Steps done.
    spikes, synaptic_events, autapses, lesioned : int
    events_here : int
        Of the synaptic events, those of neurons on this rank.
    spike_digest, state_digest : 16 hex digits

    Examples
    --------
    >>> import dtb
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
    >>> simulation = dtb.Simulation(network, dt=1.0, seed=1)
    >>> simulation.run(100.0)
    >>> simulation.step, simulation.spikes > 0
    (100, True)
    """

    def __init__(
        self,
        network: Network,
        dt: float = 1.0,
        backend: str = "cpu",
        threads: int = 0,
        synapses: str = "auto",
        seed: int = 1,
        integrator: str = "semi-implicit",
        tile_size: int = MAX_TILE,
        lesions: tuple[np.ndarray, ...] | None = None,
        comm: Communicator | None = None,
        partition: Partition | None = None,
    ) -> None:
        if not 0 < dt < float("inf"):
            raise ValueError(f"dt is {dt} ms; it must be above zero.")
        if threads < 0:
            raise ValueError(f"threads is {threads}; 0 takes all cores, a positive number that many.")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; allowed: 0 to 2^64 - 1.")
        for what, value, known in (
            ("backend", backend, BACKENDS),
            ("synapses", synapses, STORAGES),
            ("integrator", integrator, INTEGRATORS),
        ):
            _check_known(what, value, known)
        self.network, self.dt, self.seed = network, dt, seed
        self.identity = checkpoint.identity(network, dt, seed, integrator, lesions)
        self.control, self.comm = default_control(network), comm or LocalComm()
        self.phases: dict[str, float] = {"advance": 0.0, "observe": 0.0}
        threads = threads or self.comm.cores
        self.spikes = self.synaptic_events = self.autapses = self.lesioned = 0
        self.events_here = self._digest = 0
        if partition is None:
            tile_size = shared_size(network, tile_size, self.comm.size)
            tile_size = min(tile_size, device_tile(network.n_neurons)) if backend == "cuda" else tile_size
        tiles = tile(network, tile_size)
        here, self._ranks = None, None
        self.tiles = len(tiles.n)
        if self.comm.size > 1:
            if backend == "reference":
                raise ValueError(
                    f'backend \'{backend}\' runs on one rank, not on {self.comm.size}. Use backend = "cpu" or "cuda".'
                )
            agree(self.comm, "the network", network.digest)
            agree(self.comm, "the step", f"{dt} ms")
            self._ranks = Ranks(network, dt, tiles, self.comm.place(network, tiles, dt, partition), self.comm)
            tiles, here = self._ranks.tiles, self._ranks.here
            self.phases["exchange"] = 0.0
        self._backend = _compile(backend, network, dt, integrator, tiles, threads, synapses, lesions, here)
        if self._ranks is not None:
            self._ranks.connect(cast("RankBackend", self._backend))
        self._state = self._backend.start(seed)
        self._stride = sample_stride(network)
        self._open = np.zeros(0, np.int64)  # synapses emitted, by step, that may still be on their way
        self._recent: list[tuple[int, np.ndarray]] = []  # of the last RUNAWAY_MS: steps, spikes per population in them

    @property
    def step(self) -> int:
        return self._backend.step(self._state)

    @property
    def spikes_in(self) -> int:
        """Spikes of other ranks that came here."""
        return 0 if self._ranks is None else self._ranks.spikes_in

    @property
    def threads(self) -> int:
        return self._backend.threads

    @property
    def synapse_storage(self) -> str:
        return self._backend.synapse_storage

    @property
    def device(self) -> str | None:
        """Name of the accelerator of this process; None without one."""
        device = getattr(self._backend, "device", None)
        return device and device.name

    @property
    def device_bytes(self) -> int | None:
        """Memory of all accelerators that was asked for; None without one."""
        mine = getattr(self._backend, "device_bytes", None)
        return None if mine is None else self._sum(mine)

    @property
    def bytes_per_neuron(self) -> float:
        """Memory of state, spike history and buffers, synapses apart."""
        return self._sum(self._backend.neuron_bytes(self._state)) / self.network.n_neurons

    @property
    def bytes_per_synapse(self) -> float:
        """0 where synapses are computed."""
        return self._sum(self._backend.synapse_bytes(self._state)) / max(self.network.n_synapses, 1.0)

    @property
    def spike_digest(self) -> str:
        """Over all spikes so far; equal exactly when they are."""
        return f"{self._digest:016x}"

    @property
    def state_digest(self) -> str:
        """Over the bits of V, S and background of every neuron."""
        return f"{self._sum(self._backend.state_digest(self._state)):016x}"

    def _sum(self, number: int) -> int:
        """Modulo 2⁶⁴, over ranks."""
        return int(self.comm.sum(np.array([number % 2**64], np.uint64))[0])

    def snapshot(self) -> Snapshot:
        """Fields and refractoriness of all neurons in gid order."""
        fields, hold = self._backend.snapshot(self._state)
        bits = self.comm.sum(fields.view(np.uint32))  # all zero but on one rank
        return type(self._backend.snapshot(self._state))(bits.view(np.float32), self.comm.sum(hold))

    # checkpoints -------------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether all synapses that were delivered have arrived, so that the state can be saved; so it is after `run`,
        and after almost every chunk of it. All ranks must ask.
        """
        return not self._sum(not self._backend.settled(self._state))

    def save(
        self, folder: str | os.PathLike, recording: Recording | None = None, notes: dict[str, Any] | None = None
    ) -> Path:
        """Write a checkpoint into `folder`, beside the one before it, which stays; earlier ones go. All ranks call it.

        Parameters
        ----------
        folder : path
            Holds the checkpoints of one run: step-000000012000/ and so on. Made if it is not there.
        recording : Recording or None
            The one that `run` was given, on disk: it is flushed, and its place is kept.
        notes : dict or None
            Anything that JSON can say; comes back as `notes`.

        Examples
        --------
        >>> import dtb, tempfile
        >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
        >>> first, second = (dtb.Simulation(network, synapses=way) for way in ("stored", "procedural"))
        >>> first.run(30.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     second.restore(first.save(folder))
        >>> first.run(20.0), second.run(20.0)
        (None, None)
        >>> second.spike_digest == first.spike_digest
        True
        """
        if not self.settled:
            raise ValueError(f"step {self.step} is amid a delivery ahead of time. Save at the end of a run.")
        return checkpoint.save(self, folder, recording, notes)

    def restore(self, path: str | os.PathLike, recording: Recording | None = None) -> None:
        """Go on from a checkpoint: the same spikes, whatever it was made with: backend, storage, tile size, threads,
        number of ranks, partition.

        Parameters
        ----------
        path : path
            Of one checkpoint, as `save` returns it.
        recording : Recording or None
            A new one with the arguments and the store of the one that was saved; what it holds of later steps is
            dropped.

        Raises
        ------
        ValueError
            If the checkpoint is damaged, or of another network, seed, dt, integrator or lesion.
        """
        checkpoint.restore(self, path, recording)

    def recent(self) -> tuple[int, np.ndarray]:
        """Steps that were watched for runaway activity last, and the spikes of each population in them."""
        none = np.zeros(self.network.n_populations, np.int64)
        return sum(steps for steps, _ in self._recent), sum((spikes for _, spikes in self._recent), none)

    def go_on(self, state: Any, control: Control, emitted: np.ndarray, recent: tuple, counters: dict[str, int]) -> None:
        """Take over what a checkpoint held."""
        if self._ranks is not None:
            self._ranks.go_on(self._state, self._backend.step(state))
        self._state, self.control, self._open = state, control, emitted
        self._recent = [recent] if recent[0] else []
        self.spikes, self._digest = counters["spikes"], counters["digest"]
        self.synaptic_events, self.autapses = counters["synaptic_events"], counters["autapses"]
        self.lesioned = counters["lesioned"]

    # run -----------------------------------------------------------------------------------------------------------

    def run(
        self,
        duration: float,
        recording: Recording | None = None,
        stimulus: np.ndarray | None = None,
        gain: np.ndarray | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Advance by `duration` ms; run(a) then run(b) is run(a + b), at any step.

        Parameters
        ----------
        duration : float [ms]
            Rounded to whole steps.
        recording : Recording or None
            Takes over what it asked for, chunk by chunk.
        stimulus : (steps, populations) or (populations,) float [pA] or None
            Current into every neuron of a population, at each step of this run.
        gain : (steps, populations, 4) float or None
            Factor on each receptor's conductance at each step; None takes `control.gain`.
        progress : function of (steps done, steps of this run)

        Notes
        -----
        What the backends do, whatever their hardware; a block is the shortest delay of the network, in steps::

            while step < end:
                for group of tiles:                                  # on all cores, in any order: sums are integers
                    for every step of the block:
                        for delay d: deliver(history[step - d])      # draw each spike's synapses, add up what hits
                    for every step of the block:
                        fired = update(neurons, sums, noise(seed, gid, step), stimulus[step])
                        history[step] = fired
                step += block
            record, check that no synapse was lost and no activity ran away
        """
        steps = self.steps_of(duration)
        currents = self._stimulus(stimulus, steps)
        gains = self._gains(gain, steps)
        if recording is not None and self.comm.rank == 0:
            recording.bind(self.network, self.dt, self.step)
        elif recording is not None:
            recording.prepare(self.network, self.dt)  # to know what rank 0 wants to be told
        done = 0
        try:
            while done < steps:
                done += self._chunk(done, steps, currents, gains, recording)
                if progress is not None:
                    progress(done, steps)
            if self._ranks is not None:
                self._ranks.receive(self._state)
        finally:
            if recording is not None:
                recording.flush()

    def steps_of(self, duration: float) -> int:
        """Whole steps of a duration in ms."""
        steps = round(duration / self.dt)
        if steps < 1:
            raise ValueError(f"duration is {duration} ms, less than one step of {self.dt} ms.")
        return steps

    def _chunk(self, done: int, steps: int, currents: np.ndarray, gains: np.ndarray | None, recording) -> int:
        """Advance by one chunk, then record and check it; return its steps."""
        begin, clock = self.step, time.perf_counter()
        ahead, *what = self._next(done, steps, currents, gains, recording)
        run = self._backend.advance if self._ranks is None else self._ranks.advance
        ahead, fields = run(self._state, ahead, *what)
        self.phases["advance"] += time.perf_counter() - clock
        if self._ranks is not None:
            self.phases["exchange"] += self._ranks.wait_s
            self.phases["advance"] -= self._ranks.wait_s
            self._ranks.wait_s = 0.0
        self._take(begin, ahead, fields, recording)
        return ahead

    def _next(self, done: int, steps: int, currents: np.ndarray, gains: np.ndarray | None, recording) -> tuple:
        """What `Backend.advance` needs for the next chunk: steps at most, control, stimulus, samples."""
        ahead = min(steps - done, CHUNK_STEPS, max(1, CHUNK_NUMBERS // self.network.n_populations))
        control = self.control
        if gains is not None:  # a chunk has one set of gains
            same = (gains[done : done + ahead] == gains[done]).all(axis=(1, 2))
            ahead = ahead if same.all() else int(np.argmin(same))
            control = control._replace(gain=np.ascontiguousarray(gains[done], np.float32))
        now = currents[done : done + ahead] if len(currents) > 1 else currents
        return ahead, control, now, np.zeros(0, np.int64) if recording is None else recording.sampled

    def _take(self, begin: int, ahead: int, fields: np.ndarray, recording) -> None:
        """Record and check a chunk that was run."""
        clock = time.perf_counter()
        self._check_bounds(begin)
        self._count(begin, begin + ahead)
        counts = self.comm.sum(self._backend.counts(self._state, begin, begin + ahead))
        if recording is not None:
            wanted = np.zeros(self.network.n_populations, bool)
            wanted[recording.populations] = True
            step, gid = self._gather(*self._backend.spikes(self._state, begin, begin + ahead, self._stride, wanted))
            if len(recording.sampled):
                fields = self.comm.sum(fields.view(np.uint32)).view(np.float32)  # zero but on the neuron's rank
            if self.comm.rank == 0:
                recording.append(Activity(begin, counts, step, gid, fields))
        self._check_runaway(counts)
        self.phases["observe"] += time.perf_counter() - clock

    def _gather(self, step: np.ndarray, gid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Spikes of all ranks on rank 0, ordered by step, then gid, as one rank would have them."""
        if self.comm.size == 1:
            return step, gid
        parts = self.comm.gather(np.stack([step, gid], axis=1))
        if self.comm.rank != 0:
            return step, gid
        step, gid = np.concatenate(parts).T
        order = np.lexsort((gid, step))
        return step[order], gid[order]

    # what must never pass silently -----------------------------------------------------------------------------

    def _count(self, begin: int, end: int) -> None:
        """Spikes, digest, and the conservation of synapses: those emitted `longest` steps ago must all have arrived."""
        spikes, digest, emitted = self._backend.totals(self._state, begin, end)
        self._open = np.concatenate([self._open, emitted])
        first = end - len(self._open)
        closed = max(first, end - self._backend.longest - 1)
        counters = self._backend.counters(self._state, first, closed)
        self.events_here += int(counters.delivered.sum())
        told = np.concatenate([[spikes], *counters, self._open[: closed - first]]).astype(np.uint64)
        told = self.comm.sum(np.append(told, np.array([digest], np.uint64)))
        self.spikes += int(told[0])
        self._digest = (self._digest + int(told[-1])) % 2**64
        delivered, autapses, lesioned, expected = told[1:-1].astype(np.int64).reshape(4, -1)
        arrived = delivered + autapses + lesioned
        if self.comm.whole and not np.array_equal(arrived, expected):
            at = int(np.argmax(arrived != expected))
            raise RuntimeError(
                f"{expected[at]:,} synapses were emitted in step {first + at}, but {delivered[at]:,} "
                f"delivered, {autapses[at]:,} autapses and {lesioned[at]:,} lesioned are "
                f"{arrived[at]:,}. The results are wrong; please report this network."
            )
        self.synaptic_events += int(delivered.sum())
        self.autapses += int(autapses.sum())
        self.lesioned += int(lesioned.sum())
        self._open = self._open[closed - first :]

    def _check_bounds(self, begin: int) -> None:
        found = self._backend.failure(self._state)
        everywhere = self.comm.all(np.array(found or (np.inf, 0, 0), np.float64))  # gids are exact below 2⁵³
        step, gid, value = min(everywhere.tolist())
        if step < np.inf:
            step, gid = int(step), int(gid)
            population = int(np.searchsorted(self.network.first_gid, gid, side="right")) - 1
            raise FloatingPointError(
                f"membrane of neuron {gid} of '{self.network.population_name(population)}' is {value} mV at step "
                f"{step} ({step * self.dt:g} ms). Lower dt, or use the semi-implicit integrator; check stimulus and "
                "gains."
            )

    def _check_runaway(self, counts: np.ndarray) -> None:
        self._recent.append((len(counts), counts.sum(axis=0)))
        window = max(1, round(RUNAWAY_MS / self.dt))
        held = sum(steps for steps, _ in self._recent)
        while held - self._recent[0][0] >= window:
            held -= self._recent.pop(0)[0]
        if held < window:
            return
        limit = RUNAWAY_HZ * held * self.dt / 1000 * np.diff(self.network.first_gid) + 10  # 10: one cell is no runaway
        _, total = self.recent()
        if (total > limit).any():
            worst = int(np.argmax(total / limit))
            n = np.diff(self.network.first_gid)[worst]
            rate = total[worst] / n / (held * self.dt / 1000)
            raise FloatingPointError(
                f"'{self.network.population_name(worst)}' fires at {rate:.0f} spikes/s, mean of the "
                f"{held * self.dt:g} ms before step {self.step}; above {RUNAWAY_HZ:g} a run is stopped. Lower "
                "excitation: in_degree, gains, background or stimulus."
            )

    # arguments -------------------------------------------------------------------------------------------------

    def _stimulus(self, stimulus: np.ndarray | None, steps: int) -> np.ndarray:
        n = self.network.n_populations
        if stimulus is None:
            return np.zeros((1, n), np.float32)
        currents = np.ascontiguousarray(np.atleast_2d(stimulus), np.float32)
        if currents.shape not in ((1, n), (steps, n)):
            raise ValueError(f"stimulus has shape {np.shape(stimulus)}; allowed: ({n},) or ({steps}, {n}) pA.")
        if not np.isfinite(currents).all():
            step, population = np.argwhere(~np.isfinite(currents))[0]
            raise ValueError(
                f"stimulus of '{self.network.population_name(population)}' at step {step} is not a number."
            )
        return currents

    def _gains(self, gain: np.ndarray | None, steps: int) -> np.ndarray | None:
        shape = (steps, self.network.n_populations, 4)
        if gain is None:
            return None
        if np.shape(gain) != shape:
            raise ValueError(f"gain has shape {np.shape(gain)}; allowed: {shape}, or change control.gain.")
        if not (np.isfinite(gain).all() and np.min(gain) >= 0):
            raise ValueError("gain holds values that are negative or not a number.")
        return np.asarray(gain)


def _check_known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value in known:
        return
    near = difflib.get_close_matches(str(value), known, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown {what} '{value}'. Known: {', '.join(known)}.{hint}")


def shared_size(network: Network, tile_size: int, ranks: int) -> int:
    """Neurons of a tile, small enough that ranks can have equal shares."""
    if ranks == 1:
        return tile_size
    return min(tile_size, max(LANES, network.n_neurons // (TILES_PER_RANK * ranks) // LANES * LANES))


def _compile(backend, network, dt, integrator, tiles, threads, synapses, lesions, here=None) -> Backend:
    """The backend of that name, with this network in it; imported only here, for numba is heavy."""
    constants, implicit = compile_constants(network, dt), integrator == "semi-implicit"
    if backend == "reference":
        from dtb.engine.backends.reference import ReferenceBackend

        return ReferenceBackend(network, constants, dt, implicit, lesions)
    if backend == "cuda":
        from dtb.engine.backends import cuda, cuda_device

        if synapses == "stored":
            raise ValueError("backend 'cuda' computes synapses and stores none. Set synapses = \"auto\".")
        device = cuda_device.open_device()
        return cuda.CudaBackend(network, constants, dt, implicit, tiles, device, lesions, here)
    from dtb.engine.backends.cpu import CpuBackend

    storage = choose_storage(network, dt, synapses)
    return CpuBackend(network, constants, dt, implicit, tiles, threads, storage, lesions, here)
