"""A run with a stimulus from 300 to 600 ms, another background, and its BOLD: what tests cut into pieces."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.network import Network
from dtb.observe.balloon import Balloon

STEPS, TR = 900, 50  # ms, of 1 ms each
CUTS = 10


def random_cuts() -> list[int]:
    """Ten steps to stop at: some of them inside the stimulus, all inside a scan, some inside a bin of rates."""
    cuts = np.random.default_rng(4).choice(np.arange(20, STEPS - 20), CUTS, replace=False)
    assert ((cuts > 300) & (cuts < 600)).any() and (cuts % TR > 0).all() and (cuts % 3 > 0).any()
    return [int(cut) for cut in cuts]


class Protocol:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.stimulus = np.zeros((STEPS, network.n_populations))
        self.stimulus[300:600, 2:4] = np.linspace(0, 150, 300)[:, None]  # pA, another one at every step

    def begin(self, store: Path, **way) -> tuple[Simulation, Recording]:
        simulation = Simulation(self.network, seed=5, **way)
        simulation.control.mean[:] *= np.float32(1.1)
        return simulation, Recording(spikes=["*.E"], bin=3.0, store=store)

    def run(self, simulation: Simulation, recording: Recording, stop: int) -> None:
        simulation.run(stop - simulation.step, recording, self.stimulus[simulation.step : stop])

    def result(self, recording: Recording) -> str:
        """Of BOLD, rates, spikes and statistics; equal when these are, bit for bit."""
        bold = Balloon(tr_s=TR / 1000).observe(recording.region_rate, dt=3.0)
        statistics = recording.statistics
        arrays = bold, recording.region_rate, recording.spike_time, recording.spike_gid, statistics.population_spikes
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def told(simulation: Simulation) -> list:
    """What two simulations agree in if they are the same; on many ranks all ask."""
    counts = simulation.spikes, simulation.synaptic_events, simulation.autapses, simulation.lesioned
    return [simulation.spike_digest, simulation.state_digest, *counts]
