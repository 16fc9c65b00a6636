"""Law 3: a procedural synapse costs nothing, a neuron at most 36 bytes, or 44 in small populations."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

import dtb
from dtb.engine.backends.cpu_update import LANES, ROWS, update16
from dtb.engine.simulation import Simulation
from dtb.network.tiles import tile
from tests.networks import tiny_populations


@pytest.mark.parametrize("dt", [1.0, 0.1])
def test_a_neuron_of_a_large_population_costs_at_most_36_bytes(dt: float) -> None:
    network = dtb.build_network(dtb.default_brain(), n_neurons=300_000)
    simulation = Simulation(network, dt=dt, synapses="procedural")
    simulation.run(20.0)
    assert tile(network).pure
    assert simulation.bytes_per_neuron <= 36
    assert simulation.bytes_per_synapse == 0


def test_a_neuron_of_a_small_population_costs_at_most_44_bytes() -> None:
    network = tiny_populations(n_regions=4_000)
    simulation = Simulation(network, synapses="procedural")
    simulation.run(20.0)
    assert not tile(network).pure
    assert simulation.bytes_per_neuron <= 44
    assert simulation.bytes_per_synapse == 0


def test_stored_synapses_are_counted() -> None:
    """Six bytes each; where rows begin and the sums ahead of time come on top."""
    simulation = Simulation(tiny_populations(), synapses="stored")
    assert simulation.bytes_per_synapse > 6


def test_the_update_computes_in_float32_only() -> None:
    @njit
    def step(fields, hold, sums, parameters):
        return update16(fields, hold, 0, sums, 0, sums, 0, 0, 1, 2, 3, parameters, True)

    zeros = np.zeros((1, 6 * LANES), np.float32), np.zeros((1, LANES), np.uint16), np.zeros((1, LANES), np.int32)
    step(*zeros, np.ones(ROWS * LANES, np.float32))
    (code,) = step.inspect_llvm().values()
    assert "fdiv <16 x float>" in code
    assert "double" not in code
    assert "fma" not in code
