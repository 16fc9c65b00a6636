"""Law 1: same spikes everywhere, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dtb
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.network import Network
from tests.networks import delay_line, regional, tiny_populations

WAYS = [
    {"backend": "cpu", "synapses": "procedural", "threads": 1},
    {"backend": "cpu", "synapses": "procedural", "threads": 2, "tile_size": 64},
    {"backend": "cpu", "synapses": "stored", "threads": 2},
]


@pytest.fixture(scope="module")
def brain_network() -> Network:
    return dtb.build_network(dtb.default_brain(), n_neurons=8_000, in_degree=60)


def digests(network: Network, duration: float = 120.0, **settings) -> tuple:
    simulation = Simulation(network, seed=5, **settings)
    simulation.run(duration)
    assert simulation.spikes > 0
    return simulation.spike_digest, simulation.state_digest, simulation.spikes, simulation.synaptic_events


@pytest.mark.parametrize("microcircuit", ["ei", "column"])
@pytest.mark.parametrize("dt", [1.0, 0.25])
def test_threads_tiles_and_storage_do_not_change_a_spike(microcircuit: str, dt: float) -> None:
    network = dtb.build_network(dtb.default_brain(), n_neurons=30_000, in_degree=60, microcircuit=microcircuit)
    first, *others = [digests(network, dt=dt, **way) for way in WAYS]
    assert all(other == first for other in others)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=6))
def test_a_run_in_pieces_is_the_run(pieces: list[int]) -> None:
    network = regional()
    for way in WAYS:
        whole, parts = (Simulation(network, seed=5, dt=0.5, **way) for _ in range(2))
        whole.run(sum(pieces) * 0.5)
        for steps in pieces:
            parts.run(steps * 0.5)
        assert (parts.spike_digest, parts.state_digest) == (whole.spike_digest, whole.state_digest)


def test_recording_changes_nothing(brain_network: Network) -> None:
    silent, recorded = (Simulation(brain_network, seed=5, threads=2) for _ in range(2))
    silent.run(100.0)
    recorded.run(100.0, recording=Recording(spikes=["*.E"], membrane=["*.I"]))
    assert recorded.state_digest == silent.state_digest


def test_seeds_of_noise_and_of_synapses_are_different_things(brain_network: Network) -> None:
    other_noise = Simulation(brain_network, seed=6)
    other_noise.run(120.0)
    other_synapses = dtb.build_network(dtb.default_brain(), n_neurons=8_000, in_degree=60, seed=2)
    assert len({digests(brain_network)[0], digests(other_synapses)[0], other_noise.spike_digest}) == 3


@pytest.mark.parametrize("way", [*WAYS, {"backend": "reference"}], ids=lambda way: "-".join(map(str, way.values())))
@pytest.mark.parametrize("n", [1, 40])
def test_every_delay_arrives_at_exactly_its_step(way: dict, n: int) -> None:
    """n = 1 makes populations of one neuron (mixed tiles), 40 makes tiles of one population each."""
    longest, fires_at = 60, 4
    network = delay_line(longest, step=0.5, n=n)
    simulation = Simulation(network, dt=0.5, **way)
    simulation.control.mean[:] = simulation.control.sd[:] = 0.0
    population = np.repeat(np.arange(network.n_populations), np.diff(network.first_gid))
    kick = np.zeros(network.n_populations)
    kick[0] = 1e5  # pA: above threshold within a step, from anywhere
    arrived = np.full(network.n_populations, -1)
    assert network.n_synapses == pytest.approx(longest * n)
    for step in range(fires_at + longest + 2):
        simulation.run(0.5, stimulus=kick if step == fires_at else None)
        s_ampa = simulation.snapshot().fields[:, 1]
        hit = np.bincount(population, s_ampa > 0, minlength=network.n_populations) > 0
        arrived = np.where((arrived < 0) & hit, step, arrived)
    assert simulation.spikes >= 1
    delays = np.arange(1, longest + 1)
    reached = arrived[1:] >= 0
    assert reached.mean() > 0.4, "an autapse-free Poisson-like draw of one synapse misses some targets, not most"
    assert (arrived[1:][reached] == fires_at + delays[reached]).all()


def test_small_populations_do_not_depend_on_threads_or_tiles() -> None:
    network = tiny_populations(n_regions=400)
    first = digests(network, synapses="procedural", threads=1)
    assert digests(network, synapses="procedural", threads=2, tile_size=128) == first
    assert digests(network, synapses="stored", threads=2) == first
