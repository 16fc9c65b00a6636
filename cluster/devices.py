"""What a step costs on one kind of hardware: measured here, or from a named profile that says where it comes from."""

from __future__ import annotations

import difflib
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

GB = 1e9
LAW_3_BYTES = 36.0  # of a neuron on a device, all that grows with neurons counted; architecture, law 3
GPU_BASE = 1e9  # bytes: context, code and tables of one process on an accelerator; assumed


@dataclass(frozen=True)
class Device:
    """One rank's hardware.

    Parameters
    ----------
    memory : float [bytes]
    neuron_ns : float
        Of the update of one neuron by one step.
    event_ns : float
        Of one synaptic event, drawn, found to hit and added up.
    visit_ns : float
        Of one spike looked at for one target region of this rank, whether or not any of its synapses end there.
    spike_ns : float
        Of one spike of another rank: read from its message and kept until it is due.
    neuron_bytes, base_bytes : float
        Memory of a neuron, and of a process without neurons.
    link : float [bytes/s]
        Between nodes, each way, per rank: what one rank's share of its node's network card carries.
    latency : float [s]
        Of one message between nodes.
    local_latency : float [s]
        Of one message within a node.
    cores : int or None
        Of a machine that the ranks of a node share, and its memory with them; None: each rank has a device of its own.
    turn, polling : float [s], float
        Where ranks are more than cores: how long an exchange waits for a rank that has no core now, and how much longer
        all work takes because ranks that wait keep cores busy.
    measured : tuple of str
        Which of these figures were measured, on this hardware, by a named source; all others are estimates.
    source : str
        Where each figure comes from.

    Examples
    --------
    >>> device_named("h200").memory / 1e9
    141.0
    """

    name: str
    memory: float
    neuron_ns: float
    event_ns: float
    visit_ns: float
    neuron_bytes: float = LAW_3_BYTES
    base_bytes: float = GPU_BASE
    spike_ns: float = 0.0
    link: float = 50e9
    latency: float = 2e-6
    local_latency: float = 1e-6
    cores: int | None = None
    turn: float = 0.07e-3  # measured with 4 ranks on 2 cores, which meet in shared memory and nap, as `polling`
    polling: float = 1.22
    measured: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        for field in ("memory", "neuron_ns", "event_ns", "neuron_bytes", "link"):
            if not 0 < getattr(self, field) < float("inf"):
                raise ValueError(f"{field} of device '{self.name}' is {getattr(self, field)}; it must be above zero.")
        for field in ("visit_ns", "spike_ns", "base_bytes", "latency", "local_latency", "turn"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ValueError(f"{field} of device '{self.name}' is {getattr(self, field)}; it must not be negative.")

    def of_rank(self, ranks_per_node: int) -> Device:
        """What one rank has of it where so many share a node: part of its memory, and of a core if these are few."""
        if self.cores is None:
            return replace(self, turn=0.0)
        if ranks_per_node <= self.cores:
            return replace(self, memory=self.memory / ranks_per_node, turn=0.0)
        slow = {
            name: getattr(self, name) * ranks_per_node / self.cores * self.polling
            for name in ("neuron_ns", "event_ns", "visit_ns", "spike_ns", "local_latency")
        }
        return replace(self, memory=self.memory / ranks_per_node, **slow)


# H200: a copy reaches 4.3 TB/s (measured), of which 85 % are taken; the update of a neuron moves 50 bytes in a step.
# Synapses are limited by instructions, as counted in the machine code of the cuda backend (docs/cuda.md), at 65 % of
# what the device can issue, 132 · 128 · 1.755e9 per second: predicted, for no kernel has run on a device yet. A spike
# of another rank is 2 bytes that come over the bus (PCIe 5: 64 GB/s), are read and written.
H200 = Device(
    "h200",
    memory=141 * GB,
    neuron_ns=50 / (0.85 * 4.3e12) * 1e9,
    event_ns=0.0122,
    visit_ns=0.003,
    spike_ns=2 / 64e9 * 1e9,
    measured=("neuron_ns: bandwidth of a copy, 4.3 TB/s",),
    source="docs/scaling.md: update from the measured bandwidth of a copy, events and visits from counted "
    "instructions (docs/cuda.md), predicted; link 400 Gbit/s and 2 µs assumed",
)

# A100 80 GB: 2.04 TB/s by its data sheet, of which a copy is taken to reach the same share, 4.3 of 4.8, as on an H200;
# 108 multiprocessors at 1.41 GHz issue two thirds of the instructions.
A100 = replace(
    H200,
    name="a100",
    memory=80 * GB,
    neuron_ns=H200.neuron_ns * 4.8 / 2.04,
    event_ns=H200.event_ns * (132 * 1.755) / (108 * 1.41),
    visit_ns=H200.visit_ns * (132 * 1.755) / (108 * 1.41),
    spike_ns=2 / 32e9 * 1e9,  # PCIe 4
    link=25e9,
    measured=(),
    source="scaled from h200 by the data sheets' bandwidth (4.8 to 2.04 TB/s) and instructions (132 · 1.755 to "
    "108 · 1.41 GHz); link 200 Gbit/s and 2 µs assumed",
)

# The published system needs 65 s for one at about 7 spikes/s and 118.8 s at about 30 (arXiv 2308.01241), with 6.14e6
# neurons and 3.41e9 synapses on each of its 14,012 devices: two equations for what its own software takes,
#     6.14e9 neuron_ns + 3.41e9 · 7 event_ns = 65e9,  6.14e9 neuron_ns + 3.41e9 · 30 event_ns = 118.8e9.
# So they hold its communication and barriers, too. The rates are from memory, unverified.
PUBLISHED = Device(
    "published-16gb",
    memory=16 * GB,
    neuron_ns=7.92,
    event_ns=0.686,
    visit_ns=0.0,
    link=6.25e9,
    latency=2e-6,
    measured=("65 and 118.8 s per biological second of the whole published system",),
    source="arXiv 2308.01241: effective costs of the published software on its accelerator, communication included, "
    "solved from 65 s at 7 and 118.8 s at 30 spikes/s (rates unverified); link 50 Gbit/s per device from its scripts",
)

# The same accelerator with this engine: 1.0 TB/s and 64 units of 64 lanes at 1.7 GHz by the data sheet of a Vega 20
# with 16 GB, which its 4,096 cores make likely; scaled from the H200 as above.
DCU = replace(
    A100,
    name="dcu-16gb",
    memory=16 * GB,
    neuron_ns=H200.neuron_ns * 4.8 / 1.02,
    event_ns=H200.event_ns * (132 * 128 * 1.755) / (64 * 64 * 1.7),
    visit_ns=H200.visit_ns * (132 * 128 * 1.755) / (64 * 64 * 1.7),
    spike_ns=2 / 16e9 * 1e9,  # PCIe 3
    link=6.25e9,
    source="the published accelerator as if it ran this engine: scaled from h200 by bandwidth (4.8 to 1.02 TB/s) and "
    "instructions (132 · 128 · 1.755 to 64 · 64 · 1.7 GHz) of a Vega 20; link 50 Gbit/s per device, 2 µs assumed",
)

# One core of an AMD EPYC, measured by `measure_cpu`: what ranks are balanced for where nobody measured anything. Only
# the quotients matter, and they are about the same on other processors.
CORE = Device(
    "core", 8 * GB, neuron_ns=1.3, event_ns=1.5, visit_ns=1.8, spike_ns=10.0, source="measured on an AMD EPYC core"
)

DEVICES = {device.name: device for device in (H200, A100, PUBLISHED, DCU)}
HERE = "cpu"  # measured when it is asked for

N_MEASURED, SETTLE_MS, TIMED_MS = 200_000, 300.0, 60.0  # at 300 ms rates are steady, and so are events
IN_DEGREES = (50.0, 200.0)
LINK, LATENCY = 1.25e9, 30e-6  # between machines: Ethernet of 10 Gbit/s, assumed
LOCAL_LATENCY = 10e-6  # of a message by shared memory, its handling included; measured with 15 others


def device_named(name: str) -> Device:
    """A profile by name; "cpu" is measured now, on one thread, in some ten seconds."""
    if name == HERE:
        return measure_cpu()
    if name in DEVICES:
        return DEVICES[name]
    known = (HERE, *DEVICES)
    near = difflib.get_close_matches(name.lower(), known, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown device '{name}'. Known: {', '.join(known)}.{hint}")


def measure_cpu(n_neurons: int = N_MEASURED, repetitions: int = 5) -> Device:
    """Measure one core of this machine: a silent network, then one with few and one with many synapses.

    Notes
    -----
    Wall time of a step is  neurons · neuron_ns + events · event_ns + visits · visit_ns,  where a visit is a spike
    looked at for one target region. The silent network gives the first; two in-degrees solve for the others.
    """
    import os

    from cluster.expected import expected
    from dtb.brain import default_brain
    from dtb.engine.backends.cpu import ROOM
    from dtb.engine.simulation import Simulation
    from dtb.network.build import build_network
    from dtb.summary import processor

    brain, cores = default_brain(), len(os.sched_getaffinity(0))
    networks = [build_network(brain, n_neurons, in_degree) for in_degree in IN_DEGREES]
    silent = Simulation(build_network(brain, 2 * n_neurons, IN_DEGREES[0]), threads=1, synapses="procedural")
    silent.run(1.0)  # loads the kernels
    runs = [Simulation(network, threads=1, synapses="procedural") for network in networks]
    silent.control.mean[:] = 0.0  # below threshold, without noise
    silent.control.sd[:] = 0.0
    for simulation in (silent, *runs):
        simulation.run(SETTLE_MS)
    times = [[_timed(simulation) for simulation in (silent, *runs)] for _ in range(repetitions)]
    update = min(row[0][0] for row in times) / (TIMED_MS * 2 * n_neurons) * 1e9
    above, counts = np.zeros(2), np.zeros((2, 2))
    for row, network in enumerate(networks):
        wall, spikes = min(each[row + 1] for each in times)
        rate = spikes / n_neurons / TIMED_MS * 1000
        known = expected(network, np.full(network.n_populations, rate))
        heard = known.heard[np.unique(network.population_region, return_index=True)[1]]
        above[row] = wall * 1e9 - update * TIMED_MS * n_neurons
        counts[row] = np.array([(known.n * known.events).sum(), heard.sum()]) * TIMED_MS / 1000
    event, visit = _solve(counts, above)
    return Device(
        HERE,
        memory=_memory(),
        neuron_ns=update,
        event_ns=event,
        visit_ns=visit,
        spike_ns=_spike(networks[0], repetitions),
        neuron_bytes=silent.bytes_per_neuron + 2 * (ROOM - 1),  # of the larger network; lists of spikes that have grown
        base_bytes=bare_process_bytes(),
        link=LINK,
        latency=LATENCY,
        local_latency=LOCAL_LATENCY,
        cores=cores,
        measured=("memory", "neuron_ns", "event_ns", "visit_ns", "spike_ns", "neuron_bytes", "base_bytes"),
        source=f"measured on one of {cores} cores of {processor()} with {n_neurons:,} neurons of the default brain and "
        f"{IN_DEGREES[0]:g} and {IN_DEGREES[1]:g} synapses each; link and latency between machines assumed",
    )


def _timed(simulation) -> tuple[float, int]:
    """CPU seconds and spikes of the next TIMED_MS: unlike wall time, other programs on the core hardly change them."""
    spikes, begin = simulation.spikes, time.process_time()
    simulation.run(TIMED_MS)
    return time.process_time() - begin, simulation.spikes - spikes


def bare_process_bytes() -> float:
    """Bytes of a process that simulates, without neurons: measured in one that has done nothing else."""
    code = "from cluster.devices import bytes_without_neurons; print(bytes_without_neurons())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def bytes_without_neurons() -> float:
    from dtb.brain import default_brain
    from dtb.network.build import build_network
    from dtb.run import Simulation  # by way of what `dtb run` imports
    from dtb.summary import resident_bytes

    simulation = Simulation(build_network(default_brain(), 20_000), threads=1, synapses="procedural")
    simulation.run(1.0)
    return resident_bytes() - simulation.bytes_per_neuron * simulation.network.n_neurons


def _spike(network, repetitions: int) -> float:
    """ns per spike of another rank, in a dry run of one of two."""
    from cluster.dryrun import DryRunComm
    from dtb.engine.simulation import Simulation

    comm = DryRunComm(0, 2, ranks_per_node=2)
    simulation, found = Simulation(network, comm=comm, threads=1, synapses="procedural"), []
    simulation.run(SETTLE_MS)
    exchange = comm.exchange
    assert exchange is not None  # the network has synapses between ranks
    for _ in range(repetitions):
        spikes, made = simulation.spikes_in, exchange.made_s
        simulation.phases["exchange"] = 0.0
        simulation.run(TIMED_MS)
        wall = simulation.phases["exchange"] - exchange.made_s + made - LOCAL_LATENCY * TIMED_MS / exchange.epoch
        found.append(wall / (simulation.spikes_in - spikes) * 1e9)
    return max(min(found), 0.0)


def _solve(counts: np.ndarray, above: np.ndarray) -> tuple[float, float]:
    """ns per event and per visit; least squares that keep both from falling below zero."""
    from scipy.optimize import nnls

    (event, visit), _ = nnls(counts, above)
    return max(float(event), 1e-3), float(visit)


def _memory() -> float:
    """Bytes that ranks may take on this machine, all together."""
    import os

    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
