"""The synapse: a spike arrives when it should, and the conductance it opens decays as an exponential, exactly."""

from __future__ import annotations

import numpy as np
import pytest

from dtb.engine.simulation import Simulation
from dtb.network.neuron import LIF, RECEPTORS
from tests.physics.cells import PULSE, driven, quiet

CELL = quiet(LIF(g=(2.0, 1.0, 10.0, 3.0)))
WEIGHT, DELAY, LASTS = 0.75, 3.0, 60.0  # of each synapse; ms


def activations(dt: float, backend: str = "cpu") -> np.ndarray:
    """(step, receptor): S of the target, from the step on at which both spikes, of E and of I, arrive."""
    network = driven(CELL, WEIGHT, DELAY)
    simulation = Simulation(network, dt, backend, threads=1)
    simulation.run(dt, stimulus=np.array([PULSE, PULSE, 0.0]))
    assert simulation.spikes == 2
    simulation.run(DELAY - dt)
    assert not simulation.snapshot().fields[2, 1:5].any()  # one step before it is due nothing has arrived
    found = []
    for _ in range(round(LASTS / dt)):
        simulation.run(dt)
        found.append(simulation.snapshot().fields[2, 1:5])
    return np.array(found)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dt", [1.0, 0.1])
def test_conductances_decay_exactly_whatever_the_step(dt: float, backend: str) -> None:
    """S(t) = w exp(−t/τ), the solution of dS/dt = −S/τ (Destexhe, Mainen & Sejnowski 1998, Methods in Neuronal
    Modeling, ch. 1, first-order kinetics). No step of an integrator is in it: what is left is one rounding to float32
    a step, and that of the decay itself, 2⁻²⁴ each; and w lies on the grid of weights."""
    found = activations(dt, backend)
    n = np.arange(len(found))[:, None]
    expected = WEIGHT * np.exp(-n * dt / np.array(CELL.tau_syn))
    assert np.abs(found / expected - 1).max() < 2 * len(found) * 2.0**-24 + 2.0**-12
    assert np.abs(found / found[0] / np.exp(-n * dt / np.array(CELL.tau_syn)) - 1).max() < 2 * len(found) * 2.0**-24


def test_an_excitatory_spike_opens_ampa_and_nmda_and_an_inhibitory_one_both_gaba() -> None:
    for source, opened in ((0, ("AMPA", "NMDA")), (1, ("GABA_A", "GABA_B"))):
        simulation = Simulation(driven(CELL, WEIGHT, DELAY), dt=0.5, threads=1)
        pulse = np.zeros(3)
        pulse[source] = PULSE
        simulation.run(0.5, stimulus=pulse)
        simulation.run(DELAY)
        s = simulation.snapshot().fields[2, 1:5]
        assert tuple(name for name, value in zip(RECEPTORS, s, strict=True) if value > 0) == opened
