"""What is kept of a run, with time, labels and units."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self

import numpy as np
import zarr

from dtb.engine.recording_views import Views
from dtb.engine.statistics import MAX_SAMPLE, Position, Statistics
from dtb.engine.store import Store, blocks, verify
from dtb.engine.streams import Activity, Membrane, Raster, Rates, Spikes
from dtb.network.network import Network

RATES = (True, "region", "population", False)
FLUSH_EVERY = 30.0  # s of wall time: what a kill can cost at most
COMMIT_EVERY = 1.0  # s, for chunks that are full: each commit waits for the disk some dozen times
BLOCK_ROWS = 2**14  # rows that `read_blocks` hands out at a time
HELD_BYTES = 2**20  # of chunks that wait to be taken over together: few NumPy calls, and all of it in the cache


class Recording(Views):
    """What a run should keep, and then what it kept; streamed to zarr v3, which xarray reads.

    Parameters
    ----------
    rates : bool or "region" or "population"
        Mean firing [spikes/s] of each region and of each population; True keeps both, but populations only where
        there are at most 4,096.
    spikes : names
        Populations whose every spike is kept: 'Precentral_L.E', 'Precentral_L' or '*.E'.
    membrane : names
        Populations of whose neurons V [mV] and currents [pA] are kept, at every step.
    samples : int
        Neurons of each of these, evenly spaced.
    raster : int
        Neurons, drawn over the whole network, whose every spike is kept: for a raster, and for the distributions of
        rates and intervals. 0 keeps none; at most 20,000, those that the statistics of a run follow.
    bin : float [ms]
        Over which rates are means; a whole number of steps. A bin that the run does not fill is not written.
    sonata : bool
        Also write the spikes as SONATA, when the recording is closed: to spikes.h5 beside the store.
    store : path or None
        A folder that does not exist yet; None keeps everything in memory.

    Notes
    -----
    Arrays, all in one group:  region_rate (time, region)   population_rate (time, population)   spike_time, spike_gid
    (spike)   V, I_AMPA, I_NMDA, I_GABA_A, I_GABA_B, I_background (membrane_time, neuron)   raster_time, raster_gid
    (raster_spike).
    `time` is the start of a bin, `spike_time` and `membrane_time` that of a step. I_u = g_u S_u (E_u − V), with the
    conductances of the cell class, without the gains an experiment may set.

    Examples
    --------
    >>> recording = Recording(rates="region", spikes=["*.E"])
    >>> recording.rates, recording.bin
    ('region', 1.0)
    """

    def __init__(
        self,
        rates: bool | str = True,
        spikes: Sequence[str] = (),
        membrane: Sequence[str] = (),
        samples: int = 5,
        raster: int = 1000,
        bin: float = 1.0,
        sonata: bool = False,
        store: str | os.PathLike | None = None,
    ) -> None:
        if not any(rates is known or (isinstance(known, str) and rates == known) for known in RATES):
            raise ValueError(f'rates is {rates!r}. Known: true, "region", "population", false.')
        if str in (type(spikes), type(membrane)):
            raise ValueError('spikes and membrane are lists of names, such as ["*.E"].')
        if samples < 1:
            raise ValueError(f"samples is {samples}. At least one neuron of each population is needed.")
        if not 0 <= raster <= MAX_SAMPLE:
            raise ValueError(f"raster is {raster}. Give a number of neurons, 0 to {MAX_SAMPLE:,}.")
        if not 0 < bin < float("inf"):
            raise ValueError(f"bin is {bin} ms. It must be above 0 and finite.")
        if sonata and not spikes:
            raise ValueError('sonata is a file of spikes, but spikes is empty. Name populations, such as ["*.E"].')
        self.rates, self.spikes, self.membrane = rates, tuple(spikes), tuple(membrane)
        self.samples, self.raster, self.bin, self.sonata, self.store = samples, raster, bin, sonata, store
        self.populations = self.sampled = np.zeros(0, np.int64)
        self._statistics: Statistics | None = None
        self._held: list[Activity] = []  # chunks handed over, not yet taken over
        self._held_bytes = 0
        self._uncommitted = False  # whether chunks were written that no manifest tells of
        self._streams: list[Rates | Spikes | Membrane | Raster] = []
        self._root: zarr.Group | None = None
        self._rows: dict[str, int] | None = None  # of a recording that was opened
        self._network: Network | None = None  # while a simulation may hand over more
        self._dt, self._width, self._first, self._next = 0.0, 1, 0, 0  # ms, steps of a bin, first step, next step

    # a run hands over its chunks -------------------------------------------------------------------------------

    def bind(self, network: Network, dt: float, start_step: int = 0) -> None:
        """Prepare for the runs of one simulation; later calls for the same one change nothing."""
        if self._rows is not None:
            raise ValueError(f"recording '{self.store}' was opened to be read. Make a new one to record.")
        if self._network is not None:
            if (network.digest, dt) != (self._network.digest, self._dt) or start_step not in (self._first, self._next):
                raise ValueError("this recording holds another simulation, or another time of it. Make a new one.")
            return
        if self.sonata and self.store is None:
            raise ValueError("sonata is written beside the store, but store is None. Give it a path.")
        self.prepare(network, dt)
        self._begin(network, Store(self.store, attributes(network, dt, start_step)), start_step)
        self._commit()

    def _begin(self, network: Network, store: Store, first: int) -> None:
        """Declare all that is kept, to a store that is new or goes on."""
        self._store, self._root = store, store.root
        self._first = self._next = first
        self._statistics = Statistics(network, self._dt)
        self._streams = []
        if self.rates:
            self._streams.append(Rates(store, network, self._dt, first, self.rates, self.bin))
        if self.spikes:
            self._streams.append(Spikes(store, network, self._dt, self.populations))
        if self.membrane:
            self._streams.append(Membrane(store, network, self._dt, self.sampled))
        if self.raster:
            self._streams.append(Raster(store, network, self._dt, self.raster))
        self._network = network
        self._flushed = self._committed = time.monotonic()

    def prepare(self, network: Network, dt: float) -> None:
        """Find what was asked for in a network, or say what is not there; writes nothing."""
        width = round(self.bin / dt)
        if width < 1 or abs(width * dt - self.bin) > 1e-9 * self.bin:
            raise ValueError(f"bin is {self.bin} ms, not a whole number of steps of {dt} ms. Change bin or dt.")
        found = {}
        for key, names in (("spikes", self.spikes), ("membrane", self.membrane)):
            try:
                found[key] = network.find_populations(names)
            except ValueError as error:
                raise ValueError(f"{key} of Recording: {error}") from None
        self.populations = found["spikes"]
        self.sampled = evenly_spaced(network, found["membrane"], self.samples)
        self._dt, self._width = dt, width

    def append(self, activity: Activity) -> None:
        """Take over a chunk; chunks come in order and without a gap."""
        if self._network is None:
            raise ValueError("this recording belongs to no simulation yet. Pass it to Simulation.run.")
        if activity.start != self._next:
            raise ValueError(f"a chunk starts at step {activity.start}, but step {self._next} is due.")
        self._next += len(activity.counts)
        self._held.append(activity)
        self._held_bytes += activity.nbytes
        if time.monotonic() - self._flushed > FLUSH_EVERY:
            self.flush()
        elif self._held_bytes >= HELD_BYTES:
            self._take()

    def flush(self) -> None:
        """Bring to the disk all that was recorded, but for a bin that is not full."""
        if self._network is None:
            return
        self._take()
        with self._or_never_again():
            for part in self._streams:
                self._uncommitted |= part.stream.flush()
            if self._uncommitted:
                self._commit()
            self._flushed = time.monotonic()

    def _take(self) -> None:
        """Take over the chunks that wait, as one."""
        if not self._held or self._statistics is None:
            return
        held, self._held, self._held_bytes = self._held, [], 0
        activity = held[0]
        if len(held) > 1:
            _, *arrays = zip(*held, strict=True)
            activity = Activity(held[0].start, *map(np.concatenate, arrays))
        with self._or_never_again():
            self._statistics.append(activity)
            for part in self._streams:
                self._uncommitted |= part.append(activity)
            if self._uncommitted and time.monotonic() - self._committed > COMMIT_EVERY:
                self._commit()

    @contextmanager
    def _or_never_again(self) -> Iterator[None]:
        """After a failed write, such as on a full disk, tell of the chunks before it if possible, and take no more."""
        try:
            yield
        except BaseException:
            self._network = None
            with suppress(OSError):
                self._store.commit()
            raise

    def close(self) -> None:
        """Flush, and say in the manifest that this is all. Nothing more can be recorded."""
        if self._network is not None:
            self.flush()
            self._store.commit(closed=True)
            self._rows, self._network = dict(self._store.rows), None
            if self.sonata and self._store.path is not None:
                from dtb.engine.sonata import write_sonata

                write_sonata(self, self._store.path.with_name("spikes.h5"))

    # checkpoints -----------------------------------------------------------------------------------------------

    def position(self) -> Position:
        """Where it stands, for a checkpoint; all that was recorded so far is on the disk then."""
        if self._network is None or self._statistics is None:
            raise ValueError("this recording belongs to no simulation yet. Pass it to Simulation.run.")
        if self.store is None:
            raise ValueError("this recording is kept in memory, from where no run goes on. Give it a store.")
        self.flush()
        told = self._statistics.position()
        arrays = {f"statistics.{name}": array for name, array in told.arrays.items()}
        numbers = {"first": self._first, "next": self._next, "rows": dict(self._store.rows), "statistics": told.numbers}
        for part in self._streams:
            if isinstance(part, Rates):
                numbers["bins"] = part.bins
                arrays |= {f"rest.{name}": rest for name, rest in part.rest.items()}
        return Position(arrays, numbers)

    def resume(self, network: Network, dt: float, position: Position) -> None:
        """Go on with the store of a recording that was made with the same arguments, from where it stood.

        Raises a ValueError where the store lacks anything or is another one's. What it has beyond is dropped.
        """
        if self._network is not None or self.store is None:
            raise ValueError("only a new recording with a store goes on from a checkpoint. Make one.")
        self.prepare(network, dt)
        arrays, numbers = position
        store = Store(self.store, attributes(network, dt, numbers["first"]), kept=numbers["rows"])
        self._begin(network, store, numbers["first"])
        self._next = numbers["next"]
        assert self._statistics is not None
        kept = {name.removeprefix("statistics."): a for name, a in arrays.items() if name.startswith("statistics.")}
        self._statistics.resume(Position(kept, numbers["statistics"]))
        for part in self._streams:
            if isinstance(part, Rates):
                part.bins = numbers["bins"]
                part.rest = {name: arrays[f"rest.{name}"] for name in part.rest}
        store.cut()

    def _commit(self) -> None:
        self._store.commit()
        self._uncommitted = False
        self._committed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    @property
    def written(self) -> bool:
        """Whether anything of what was recorded is on the disk for good."""
        return any(self._store.committed.get(name) for part in self._streams for name in part.stream.arrays)

    @property
    def statistics(self) -> Statistics | None:
        """Of all that was recorded so far; None before the first run."""
        self._take()
        return self._statistics

    # what was kept ---------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | os.PathLike) -> Recording:
        """A recording on disk, of a finished or a killed run, after checking that every chunk is there and whole."""
        rows = verify(path)
        root = zarr.open_group(path, mode="r")
        widths = [root[name].attrs["bin_ms"] for name in ("region_rate", "population_rate") if name in rows]
        recording = cls(rates="region_rate" in rows, bin=float(str(widths[0])) if widths else 1.0, store=path)
        recording._root, recording._rows, recording._dt = root, rows, float(str(root.attrs["dt_ms"]))
        return recording

    def __getitem__(self, name: str) -> np.ndarray:
        """A recorded array by its name, such as "region_rate" or "V"; see Notes for names and dimensions."""
        return np.asarray(self._array(name)[: self._length(name)])

    def read_blocks(self, name: str) -> Iterator[np.ndarray]:
        """A recorded array in pieces, for what does not fit the memory."""
        array = self._array(name)
        return (np.asarray(array[rows]) for rows in blocks(self._length(name), BLOCK_ROWS))

    def _group(self) -> zarr.Group:
        self.flush()
        if self._root is None:
            raise ValueError("nothing was recorded yet. Pass the recording to Simulation.run.")
        return self._root

    def _array(self, name: str) -> zarr.Array:
        root = self._group()
        if name not in root:
            raise ValueError(f"'{name}' was not recorded. Recorded: {', '.join(sorted(root.array_keys()))}.")
        array = root[name]
        assert isinstance(array, zarr.Array)
        return array

    def _length(self, name: str) -> int:
        return (self._store.rows if self._rows is None else self._rows)[name]

    def __contains__(self, name: str) -> bool:
        return self._root is not None and name in self._root

    @property
    def span(self) -> tuple[float, float]:
        """Begin and end [ms] of what was kept; of a recording that was opened, as far as its arrays tell."""
        root = self._group()
        begin = float(str(root.attrs["first_step"])) * self._dt
        if self._next > self._first:
            return begin, self._next * self._dt
        widths = {"time": self.bin} | dict.fromkeys(("membrane_time", "raster_time", "spike_time"), self._dt)
        last = {name: self._length(name) - 1 for name in widths if name in root}
        ends = [float(np.asarray(self._array(name)[n])) + widths[name] for name, n in last.items() if n >= 0]
        return begin, max(ends, default=begin)

    @property
    def time(self) -> np.ndarray:
        """(time,) float64 [ms]: start of each bin of the rates."""
        return self["time"]

    @property
    def region_rate(self) -> np.ndarray:
        """(time, region) float32 [spikes/s]."""
        return self["region_rate"]

    @property
    def population_rate(self) -> np.ndarray:
        """(time, population) float32 [spikes/s]."""
        return self["population_rate"]

    @property
    def spike_time(self) -> np.ndarray:
        """(spike,) float64 [ms]."""
        return self["spike_time"]

    @property
    def spike_gid(self) -> np.ndarray:
        """(spike,) uint64."""
        return self["spike_gid"]


def evenly_spaced(network: Network, populations: np.ndarray, samples: int) -> np.ndarray:
    """(neurons,) int64, rising: gids of `samples` neurons of each population, or of all it has."""
    chosen = [np.zeros(0, np.int64)]
    for p in populations:
        first, end = network.first_gid[p : p + 2]
        k = min(samples, int(end - first))
        chosen.append(first + (2 * np.arange(k) + 1) * (end - first) // (2 * k))
    return np.concatenate(chosen)


def attributes(network: Network, dt: float, start_step: int) -> dict:
    return {
        "title": "recording of a simulated brain",
        "network": network.digest,
        "neurons": network.n_neurons,
        "dt_ms": dt,
        "first_step": start_step,
        "use": "Research use only; not a medical device.",
    }
