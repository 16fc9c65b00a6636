"""What the step costs, on the same graph: a synapse does not depend on dt, so only the integration changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dtb
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.neuron import LIF
from tests.physics.cells import PULSE, driven, quiet

CELL = quiet(LIF())
DELAY, WEIGHT, DURATION = 2.0, 4.0, 200.0  # ms, -, ms
STEPS = np.array([1.0, 0.5, 0.25, 0.125, 0.0625])  # ms; all are binary fractions, so every event is on every grid
DRIVE = 300.0  # pA into the driven neuron: 8 mV below threshold


def trains() -> tuple[np.ndarray, np.ndarray]:
    """Times [ms] at which the excitatory and the inhibitory source fire, whole ms and more than t_ref apart."""
    rng = np.random.default_rng(4)
    return tuple(np.cumsum(rng.integers(4, 4 + gap, 60)).astype(float) for gap in (9, 25))  # type: ignore[return-value]


def simulated(dt: float, integrator: str, backend: str = "cpu") -> tuple[float, np.ndarray]:
    """V of the driven neuron at the start, and after each ms."""
    stimulus = np.zeros((round(DURATION / dt), 3), np.float32)
    for source, times in enumerate(trains()):
        stimulus[np.round(times[times < DURATION] / dt).astype(int), source] = PULSE
    stimulus[:, 2] = DRIVE
    recording = Recording(rates=False, spikes=["*.E", "*.I"], membrane=["T.E"], samples=1)
    simulation = Simulation(driven(CELL, WEIGHT, DELAY), dt, backend, threads=1, integrator=integrator)
    start = float(simulation.snapshot().fields[2, 0])
    simulation.run(DURATION, recording, stimulus=stimulus)
    for gid, times in enumerate(trains()):  # the sources did what they were told, whatever dt
        assert np.array_equal(recording.spike_time[recording.spike_gid == gid], times[times < DURATION])
    return start, recording["V"][round(1 / dt) - 1 :: round(1 / dt), 0].astype(float)


def exact(start: float) -> np.ndarray:
    """The same by an integrator of high order, from event to event: V after each ms."""
    arrivals = [times + DELAY for times in trains()]

    def drift(t: float, v: np.ndarray) -> np.ndarray:
        s = [
            WEIGHT * np.exp(-(t - a[a < t + 1e-9]) / CELL.tau_syn[u]).sum()
            for a, u in zip(arrivals, (0, 2), strict=True)
        ]
        synaptic = sum(CELL.g[u] * x * (CELL.e_rev[u] - v) for x, u in zip(s, (0, 2), strict=True))
        return (CELL.g_leak * (CELL.e_leak - v) + synaptic + DRIVE) / CELL.c_m

    v, trace = start, []
    for ms in range(round(DURATION)):  # every event is at a whole ms, so the right-hand side is smooth in between
        v = float(solve_ivp(drift, (ms + 1e-12, ms + 1), [v], method="DOP853", rtol=1e-10, atol=1e-10).y[0, -1])
        trace.append(v)
    return np.array(trace)


@pytest.mark.parametrize("integrator", ["semi-implicit", "euler"])
def test_a_driven_membrane_converges_in_first_order(integrator: str) -> None:
    """Both methods are of first order (Hairer, Nørsett & Wanner 1993, Solving Ordinary Differential Equations I, II.1).
    Order: slope of log error on log dt; the halving of 1 ms, where higher terms still count, is left out."""
    error = []
    for dt in STEPS:
        start, v = simulated(dt, integrator)
        reference = exact(start)
        error.append(np.sqrt(((v - reference) ** 2).mean()))
    assert reference.max() < CELL.v_threshold and np.ptp(reference) > 5  # moved by its synapses, and never reset
    order = np.polyfit(np.log(STEPS[1:]), np.log(error[1:]), 1)[0]
    assert order == pytest.approx(1.0, abs=0.1)
    assert error[-1] < 0.05  # mV


def test_both_backends_have_the_same_trace() -> None:
    assert np.array_equal(simulated(0.5, "semi-implicit", "reference")[1], simulated(0.5, "semi-implicit")[1])


def test_the_rate_of_a_network_converges_as_dt_falls() -> None:
    """Trajectories part, statistics do not. 20,000 neurons of the default brain for 10 s are 1.3 million spikes, whose
    number errs by 0.15 %, 0.01 spikes/s (variance/mean of 3); halving dt takes half or less of the error each time."""
    network = dtb.build_network(dtb.default_brain(), 20_000)
    rate = []
    for dt in (1.0, 0.5, 0.25):
        recording = Recording(rates=False)
        Simulation(network, dt, integrator="euler").run(10_000.0, recording)
        assert recording.statistics is not None
        rate.append(recording.statistics.mean_rate_hz)
    first, second = rate[0] - rate[1], rate[1] - rate[2]
    assert first > second > 0.05
    assert 0.7 < np.log2(first / second) < 2.0  # 1.3 at length, in docs/physics.md
    assert rate[2] == pytest.approx(6.3, abs=0.3)
