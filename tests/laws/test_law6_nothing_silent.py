"""Law 6: nothing is lost, and nothing goes wrong, without a word."""

from __future__ import annotations

import numpy as np
import pytest

from dtb.engine.simulation import Simulation
from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF
from dtb.network.projection import Pairs, Projection, Weights
from tests.networks import regional, tiny_populations

WAYS = [{"synapses": "procedural"}, {"synapses": "stored"}, {"synapses": "procedural", "dt": 0.25}]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
@pytest.mark.parametrize("make", [regional, tiny_populations])
def test_a_lost_synapse_stops_the_run(make, way: dict) -> None:
    """The counter is real: hide one delivered synapse from it and the run names the step."""
    simulation = Simulation(make(), threads=1, **way)
    simulation.run(20.0)
    column = simulation.step - 1
    simulation._state.tallies[0, 0, column & (simulation._state.tallies.shape[2] - 1)] -= 1
    with pytest.raises(RuntimeError, match=f"emitted in step {column}"):
        simulation.run(60.0)


def test_synapses_emitted_are_delivered_or_accounted_for() -> None:
    network = regional()
    simulation = Simulation(network, threads=2)
    simulation.run(200.0)
    settled = simulation.synaptic_events + simulation.autapses + simulation.lesioned
    mean = network.n_synapses / network.n_neurons
    assert 0.5 * mean * simulation.spikes < settled < 2 * mean * simulation.spikes


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_membrane_that_is_not_a_number_is_named(backend: str) -> None:
    network = regional()
    simulation = Simulation(network, backend=backend)
    simulation.run(5.0)
    stimulus = np.zeros(network.n_populations, np.float32)
    stimulus[2] = np.float32(3e38)
    with pytest.raises(FloatingPointError, match=r"'R1\.E' is .* mV at step 5 "):
        simulation.run(5.0, stimulus=stimulus * np.float32(-1))


def test_runaway_activity_is_stopped_and_named() -> None:
    network = regional()
    simulation = Simulation(network)
    stimulus = np.zeros(network.n_populations)
    stimulus[4] = 20_000.0  # pA into R2.E
    with pytest.raises(FloatingPointError, match=r"'R2\.E' fires at [0-9]+ spikes/s"):
        simulation.run(300.0, stimulus=stimulus)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"dt": 0.0}, "dt is 0.0 ms"),
        ({"dt": 3.0}, "shorter than dt = 3 ms"),
        ({"threads": -1}, "threads is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"backend": "cpuu"}, "Did you mean 'cpu'"),
        ({"synapses": "store"}, "Did you mean 'stored'"),
        ({"integrator": "rk4"}, "unknown integrator 'rk4'"),
        ({"tile_size": 5}, "tile size is 5"),
        ({"tile_size": 40_000}, "allowed: 16 to 32768"),
    ],
)
def test_an_impossible_simulation_says_what_is_allowed(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Simulation(regional(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"duration": 0.2}, "less than one step"),
        ({"duration": 5.0, "stimulus": np.zeros((4, 8))}, r"allowed: \(8,\) or \(5, 8\)"),
        ({"duration": 2.0, "stimulus": np.full((2, 8), np.nan)}, "at step 0 is not a number"),
        ({"duration": 2.0, "gain": np.ones((2, 8))}, "gain has shape"),
        ({"duration": 2.0, "gain": -np.ones((2, 8, 4))}, "negative"),
    ],
)
def test_an_impossible_run_says_what_is_allowed(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Simulation(regional()).run(**arguments)


def test_sums_that_could_overflow_are_refused() -> None:
    pairs = Pairs.from_triplets(1, [0], [0], [200_000.0], 1.0)
    rule = Projection("dense", "excitatory", ("E",), ("E",), (1.0,), pairs, Weights.constant(1.0))
    network = Network(("A",), (CellClass("E", LIF()),), np.array([[100_000]]), (rule,))
    with pytest.raises(ValueError, match=r"may receive .* excitatory synapses"):
        Simulation(network)
