"""What a run leaves behind, chunk by chunk, and the streams of rows that a recording makes of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dtb.engine.statistics import sample_stride
from dtb.engine.store import Column, Store
from dtb.network.network import Network
from dtb.network.neuron import RECEPTORS

MAX_POPULATIONS = 4096  # up to which rates = true keeps them, too; a voxel brain has 227,000


class Activity(NamedTuple):
    """What one chunk of a run leaves behind.

    start: first step; counts (steps, populations) int32 spikes; spike_step, spike_gid (s,) int64, of the recorded
    populations and the neurons that statistics follow, ordered by step, then gid; fields (steps, neurons, 6) float32
    of the sampled neurons: V, S_AMPA, S_NMDA, S_GABA_A, S_GABA_B, I_background.
    """

    start: int
    counts: np.ndarray
    spike_step: np.ndarray
    spike_gid: np.ndarray
    fields: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.counts.nbytes + self.spike_step.nbytes + self.spike_gid.nbytes + self.fields.nbytes


class Rates:
    """Counts of steps become rates of bins, of the regions and populations that `rates` of the Recording names."""

    def __init__(self, store: Store, network: Network, dt: float, first: int, rates: bool | str, bin: float) -> None:
        regions, starts = np.unique(network.population_region, return_index=True)
        self.starts, self.regions = starts, regions
        self.width, self.bin, self.first = round(bin / dt), bin, first * dt
        self.neurons = {}
        columns = {"time": Column("float64", (), ("time",), {"units": "ms", "long_name": "start of the bin"})}
        about = {"units": "spikes/s", "long_name": "mean firing of a neuron", "bin_ms": bin}
        if rates in (True, "region"):
            self.neurons["region_rate"] = network.size.sum(axis=1)[regions]
            columns["region_rate"] = Column("float32", (len(regions),), ("time", "region"), about)
            store.write("region", np.array([network.regions[r] for r in regions]), ("region",))
        if rates == "population" or (rates is True and network.n_populations <= MAX_POPULATIONS):
            n = network.n_populations
            self.neurons["population_rate"] = np.diff(network.first_gid)
            neurons = {"long_name": "neurons of the population"}
            store.write("population_neurons", np.diff(network.first_gid), ("population",), neurons)
            columns["population_rate"] = Column("float32", (n,), ("time", "population"), about)
            store.write("population", np.array([network.population_name(p) for p in range(n)]), ("population",))
        self.stream = store.stream(columns)
        self.bins = 0
        self.rest = {name: np.zeros((0, len(n)), np.int64) for name, n in self.neurons.items()}

    def append(self, activity: Activity) -> bool:
        rows = {}
        for name, neurons in self.neurons.items():
            counts = activity.counts
            if name == "region_rate":
                counts = np.add.reduceat(counts, self.starts, axis=1, dtype=np.int64)
            if self.width > 1:
                counts = np.concatenate([self.rest[name], counts])
                whole = len(counts) - len(counts) % self.width
                self.rest[name] = counts[whole:].astype(np.int64)
                counts = counts[:whole].reshape(-1, self.width, len(neurons)).sum(axis=1)
            rows[name] = (counts / (neurons * (self.bin / 1000))).astype(np.float32)
        n = len(rows[name])
        rows["time"] = self.first + np.arange(self.bins, self.bins + n) * self.bin
        self.bins += n
        return self.stream.append(rows)


class Spikes:
    """Every spike of chosen populations (p,)."""

    def __init__(self, store: Store, network: Network, dt: float, populations: np.ndarray) -> None:
        self.dt = dt
        wanted = np.zeros(network.n_populations, np.int8)
        wanted[populations] = 1
        edges = np.flatnonzero(np.diff(wanted, prepend=0, append=0))  # where runs of chosen populations begin and end
        self.edges = network.first_gid[edges]
        names = [network.population_name(int(p)) for p in populations]
        store.write("spike_population", np.array(names), ("spike_population",))
        for name, values in (("first_gid", network.first_gid[:-1]), ("n_neurons", np.diff(network.first_gid))):
            store.write(f"spike_population_{name}", values[populations], ("spike_population",))
        columns = {"spike_time": Column("float64", (), ("spike",), {"units": "ms"})}
        columns["spike_gid"] = Column("uint64", (), ("spike",), {"long_name": "global number of the neuron"})
        self.stream = store.stream(columns)

    def append(self, activity: Activity) -> bool:
        keep = np.searchsorted(self.edges, activity.spike_gid, side="right") % 2 == 1
        gid = activity.spike_gid[keep].astype(np.uint64)
        return self.stream.append({"spike_time": activity.spike_step[keep] * self.dt, "spike_gid": gid})


class Membrane:
    """V and currents of sampled neurons (n,)."""

    def __init__(self, store: Store, network: Network, dt: float, gid: np.ndarray) -> None:
        population = np.searchsorted(network.first_gid, gid, side="right") - 1
        cells = [network.classes[k].cell for k in network.population_class[population]]
        self.g, self.e_rev = (np.array([getattr(c, name) for c in cells], np.float32) for name in ("g", "e_rev"))
        self.dt = dt
        store.write("gid", gid.astype(np.uint64), ("neuron",), {"long_name": "global number of the neuron"})
        names = np.array([network.population_name(int(p)) for p in population])
        store.write("neuron_population", names, ("neuron",))
        units = {"V": "mV"} | {f"I_{u}": "pA" for u in (*RECEPTORS, "background")}
        columns = {"membrane_time": Column("float64", (), ("membrane_time",), {"units": "ms"})}
        for name, unit in units.items():
            about = {"units": unit, "coordinates": "gid neuron_population"}
            columns[name] = Column("float32", (len(gid),), ("membrane_time", "neuron"), about)
        self.stream = store.stream(columns)

    def append(self, activity: Activity) -> bool:
        v, s, background = activity.fields[:, :, 0], activity.fields[:, :, 1:5], activity.fields[:, :, 5]
        rows = {"V": v, "I_background": background}
        for u, receptor in enumerate(RECEPTORS):
            rows[f"I_{receptor}"] = self.g[:, u] * s[:, :, u] * (self.e_rev[:, u] - v)  # nS·mV = pA
        rows["membrane_time"] = (activity.start + np.arange(len(v))) * self.dt
        return self.stream.append(rows)


class Raster:
    """Every spike of `neurons` neurons of the whole network, drawn without regard to their population."""

    def __init__(self, store: Store, network: Network, dt: float, neurons: int) -> None:
        self.stride, self.dt = sample_stride(network), dt
        followed = -(-network.n_neurons // self.stride)  # whose spikes every chunk holds, for the statistics
        chosen = np.random.default_rng(0).permutation(followed)[:neurons]  # even spacing could miss a class
        self.wanted = np.zeros(followed, bool)
        self.wanted[chosen] = True
        gid = np.flatnonzero(self.wanted) * self.stride
        population = np.searchsorted(network.first_gid, gid, side="right") - 1
        about = {"long_name": "global number of the neuron"}
        store.write("raster_neuron", gid.astype(np.uint64), ("raster_neuron",), about)
        names = np.array([network.population_name(int(p)) for p in population])
        store.write("raster_population", names, ("raster_neuron",))
        columns = {"raster_time": Column("float64", (), ("raster_spike",), {"units": "ms"})}
        columns["raster_gid"] = Column("uint64", (), ("raster_spike",), about)
        self.stream = store.stream(columns)

    def append(self, activity: Activity) -> bool:
        gid = activity.spike_gid
        keep = (gid % self.stride == 0) & self.wanted[gid // self.stride]
        rows = {"raster_time": activity.spike_step[keep] * self.dt, "raster_gid": gid[keep].astype(np.uint64)}
        return self.stream.append(rows)
