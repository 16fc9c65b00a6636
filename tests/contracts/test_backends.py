"""The contract of a backend: the bits of the reference, whatever the way to deliver, the tiles and the threads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtb.engine.simulation import Simulation
from dtb.network.lesion import lesion_tracts
from dtb.network.network import Network
from tests.networks import regional, tiny_populations

STEPS = 70


def run(network: Network, steps: int = STEPS, **settings) -> Simulation:
    """A simulation after some steps in pieces of unequal length, under changing gains and a stimulus."""
    dt = settings.get("dt", 1.0)
    simulation = Simulation(network, seed=7, **settings)
    simulation.control.mean[:] *= np.linspace(0.9, 1.3, network.n_populations, dtype=np.float32)
    stimulus = np.zeros((steps // 2, network.n_populations))
    stimulus[3:9] = 120.0  # pA
    simulation.run((steps // 2) * dt, stimulus=stimulus)
    gain = np.ones((steps - steps // 2, network.n_populations, 4))
    gain[5:, :, 0] = 1.4
    simulation.run((steps - steps // 2) * dt, gain=gain)
    return simulation


class BackendContract:
    """Subclass it with `settings`; one test each for what a backend may meet."""

    settings: dict = {}

    def agrees(self, network: Network, **settings) -> None:
        reference = run(network, backend="reference", **settings)
        tried = run(network, **{"threads": 1, **self.settings, **settings})
        assert reference.spikes > 50, "nothing happened, so nothing was compared"
        assert tried.spike_digest == reference.spike_digest
        assert tried.state_digest == reference.state_digest
        mine, theirs = tried.snapshot(), reference.snapshot()
        assert np.array_equal(mine.fields.view(np.uint32), theirs.fields.view(np.uint32))
        assert np.array_equal(mine.hold, theirs.hold)
        assert (tried.spikes, tried.synaptic_events, tried.autapses) == (
            reference.spikes, reference.synaptic_events, reference.autapses,
        )  # fmt: skip

    def test_large_populations(self) -> None:
        self.agrees(regional())

    def test_populations_of_a_few_neurons(self) -> None:
        self.agrees(tiny_populations())

    def test_neurons_without_synapses(self) -> None:
        self.agrees(dataclasses.replace(regional(), projections=()))

    def test_blocks_of_several_steps(self) -> None:
        self.agrees(regional(), dt=0.3)

    def test_blocks_of_one_step(self) -> None:
        self.agrees(regional(local_delay=1.0))

    def test_distributed_delays(self) -> None:
        self.agrees(regional(delay_classes=(1.0, 1.5, 2.1)))

    def test_distributed_delays_of_small_populations(self) -> None:
        self.agrees(tiny_populations(delay_classes=(1.0, 1.5, 2.1)))

    def test_many_spikes_of_a_region_in_one_step(self) -> None:
        """Above a few dozen, cpu draws stratum by stratum instead of spike by spike."""
        network = regional(n_regions=2, n=6_000, delay_classes=(1.0, 1.5))
        self.agrees(network, steps=12)

    def test_explicit_euler(self) -> None:
        self.agrees(regional(), dt=0.5, integrator="euler")

    def test_lesions(self) -> None:
        network = regional()
        cut = {("R1", "R0"): 0.5, ("R2", "R3"): 1.0, ("R1", "R1"): 0.25}
        self.agrees(network, lesions=lesion_tracts(network, cut))

    def test_lesions_of_small_populations(self) -> None:
        network = tiny_populations()
        self.agrees(network, lesions=lesion_tracts(network, {(f"R{r}", "R0"): 0.5 for r in range(1, 100)}))


class TestDense(BackendContract):
    settings = {"synapses": "procedural"}


class TestDenseInSmallTilesOnTwoThreads(BackendContract):
    settings = {"synapses": "procedural", "tile_size": 48, "threads": 2}


class TestDenseAheadOfTime(BackendContract):
    """Long delays deliver several blocks at once, as they do where regions are many and small."""

    settings = {"synapses": "procedural", "threads": 2}

    @pytest.fixture(autouse=True)
    def sums_cost_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dtb.engine.backends.cpu_tables.SUM_NS", 0.0)

    def test_this_network_delivers_ahead(self) -> None:
        assert Simulation(regional(), synapses="procedural")._backend.way.rows > 1


class TestStored(BackendContract):
    settings = {"synapses": "stored"}


class TestStoredInSmallTilesOnThreeThreads(BackendContract):
    settings = {"synapses": "stored", "tile_size": 48, "threads": 3}


def test_populations_cut_between_groups_get_the_same_synapses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A population larger than a group is delivered to in parts; no synapse may fall between them, or twice."""
    network = regional(n_regions=2, n=900)
    whole = run(network, synapses="procedural", threads=1)
    monkeypatch.setattr("dtb.engine.backends.cpu_tables.GROUP_NEURONS", 64)
    parts = run(network, synapses="procedural", threads=1, tile_size=32)
    assert parts.spike_digest == whole.spike_digest
    assert parts.state_digest == whole.state_digest
