"""What a step costs on one kind of hardware: measured here, or from a named profile that says where it comes from."""

from __future__ import annotations

import difflib
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
    neuron_bytes, base_bytes : float
        Memory of a neuron, and of a process without neurons.
    link : float [bytes/s]
        Between nodes, each way, per rank: what one rank's share of its node's network card carries.
    latency : float [s]
        Of one message between nodes.
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
    link: float = 50e9
    latency: float = 2e-6
    measured: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        for field in ("memory", "neuron_ns", "event_ns", "neuron_bytes", "link"):
            if not 0 < getattr(self, field) < float("inf"):
                raise ValueError(f"{field} of device '{self.name}' is {getattr(self, field)}; it must be above zero.")
        for field in ("visit_ns", "base_bytes", "latency"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ValueError(f"{field} of device '{self.name}' is {getattr(self, field)}; it must not be negative.")


# H200: a copy reaches 4.3 TB/s (measured), and the update of a neuron moves 72 bytes in a step; a local event costs
# 4 ms per 2.8e9, and long-range ones, drawn 60 times too often, 24 ms per 1.1e9 · 60 draws (architecture, section 5).
H200 = Device(
    "h200",
    memory=141 * GB,
    neuron_ns=72 / 4.3e12 * 1e9,
    event_ns=4e-3 / 2.78e9 * 1e9,
    visit_ns=24e-3 / (1.11e9 * 60) * 1e9,
    measured=("neuron_ns: bandwidth of a copy, 4.3 TB/s",),
    source="docs/scaling.md: update from the measured bandwidth of a copy, events and visits from counts of sectors "
    "and draws; link 400 Gbit/s and 2 µs assumed",
)

# A100 80 GB: 2.04 TB/s by its data sheet, of which a copy is taken to reach the same share, 4.3 of 4.8, as on an H200;
# 19.5 against 67 TFLOP/s of float32 slow the draws.
A100 = replace(
    H200,
    name="a100",
    memory=80 * GB,
    neuron_ns=72 / (2.04e12 * 4.3 / 4.8) * 1e9,
    event_ns=H200.event_ns * 4.8 / 2.04,
    visit_ns=H200.visit_ns * 67 / 19.5,
    link=25e9,
    measured=(),
    source="scaled from h200 by the data sheets' bandwidth (4.8 to 2.04 TB/s) and float32 rate (67 to 19.5 TFLOP/s); "
    "link 200 Gbit/s and 2 µs assumed",
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

# The same accelerator with this engine: 1.0 TB/s and 13.3 TFLOP/s by the data sheet of a Vega 20 with 16 GB, which its
# 4,096 cores make likely; scaled from the H200 as above.
DCU = replace(
    A100,
    name="dcu-16gb",
    memory=16 * GB,
    neuron_ns=72 / (1.02e12 * 4.3 / 4.8) * 1e9,
    event_ns=H200.event_ns * 4.8 / 1.02,
    visit_ns=H200.visit_ns * 67 / 13.3,
    link=6.25e9,
    source="the published accelerator as if it ran this engine: scaled from h200 by bandwidth (4.8 to 1.02 TB/s) and "
    "float32 rate (67 to 13.3 TFLOP/s) of a Vega 20; link 50 Gbit/s per device, 2 µs assumed",
)

# One core of an AMD EPYC, measured by `measure_cpu`: what ranks are balanced for where nobody measured anything. Only
# the quotients matter, and they are about the same on other processors.
CORE = Device("core", memory=8 * GB, neuron_ns=1.3, event_ns=1.5, visit_ns=1.8, source="measured on an AMD EPYC core")

DEVICES = {device.name: device for device in (H200, A100, PUBLISHED, DCU)}
HERE = "cpu"  # measured when it is asked for

N_MEASURED, SETTLE_MS, TIMED_MS = 200_000, 300.0, 60.0  # at 300 ms rates are steady, and so are events
IN_DEGREES = (50.0, 200.0)
LOCAL_LINK, LOCAL_LATENCY = 5e9, 10e-6  # between processes of one machine, by shared memory


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
    from cluster.expected import expected
    from dtb.brain import default_brain
    from dtb.engine.simulation import Simulation
    from dtb.network.build import build_network
    from dtb.summary import peak_rss_bytes, processor

    brain = default_brain()
    networks = [build_network(brain, n_neurons, in_degree) for in_degree in IN_DEGREES]
    silent = Simulation(build_network(brain, 2 * n_neurons, IN_DEGREES[0]), threads=1, synapses="procedural")
    silent.run(1.0)  # loads the kernels
    base = max(5e7, peak_rss_bytes() - silent.bytes_per_neuron * 2 * n_neurons)  # of this process, without neurons
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
        neuron_bytes=silent.bytes_per_neuron,  # of the larger network, where what does not grow with it is small
        base_bytes=base,
        link=LOCAL_LINK,
        latency=LOCAL_LATENCY,
        measured=("memory", "neuron_ns", "event_ns", "visit_ns", "neuron_bytes", "base_bytes"),
        source=f"measured on one core of {processor()} with {n_neurons:,} neurons of the default brain and "
        f"{IN_DEGREES[0]:g} and {IN_DEGREES[1]:g} synapses each; link and latency of shared memory assumed",
    )


def _timed(simulation) -> tuple[float, int]:
    """CPU seconds and spikes of the next TIMED_MS: unlike wall time, other programs on the core hardly change them."""
    spikes, begin = simulation.spikes, time.process_time()
    simulation.run(TIMED_MS)
    return time.process_time() - begin, simulation.spikes - spikes


def _solve(counts: np.ndarray, above: np.ndarray) -> tuple[float, float]:
    """ns per event and per visit; least squares that keep both from falling below zero."""
    from scipy.optimize import nnls

    (event, visit), _ = nnls(counts, above)
    return max(float(event), 1e-3), float(visit)


def _memory() -> float:
    """Bytes that one rank of this machine may take, if it were alone."""
    import os

    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
