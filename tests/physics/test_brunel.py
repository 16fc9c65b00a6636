"""The states of a sparse random network of E and I cells, as inhibition g and the external drive change.

Brunel (2000), J. Comput. Neurosci. 8:183, has current-based cells with delta synapses, each with exactly C inputs, and
Poisson spikes from outside. Ours have conductances that last, binomial in-degrees, weights uniform on [0, 1], and a
coloured Gaussian current from outside. So what can be compared is which state there is, and how it changes with g and
drive; not where the borders are, nor rates. Here

    g = 4 · (C_I Q_I) / (C_E Q_E),  Q_u = g_u ⟨w⟩ τ_u |E_u − V| at V midway from reset to threshold,

the charge of a spike, so that inhibition and excitation balance at g = 4 as in Brunel (C_E = 4 C_I); and the drive is
in units of the current that brings a cell to threshold, his ν_ext / ν_thr.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF, Background
from dtb.network.projection import Pairs, Projection
from dtb.observe.spectra import power_spectrum

N, IN_DEGREE, DELAY = 5_000, 400, 2.0  # neurons, 80 % of them E; synapses of each; ms
SETTLED = 500  # ms


class State(NamedTuple):
    """rate [spikes/s]; cv; synchrony; peak [Hz] of the population rate's spectrum; power there, 1 if cells were
    independent Poisson processes, whose density is 2 rate / N."""

    rate: float
    cv: float
    synchrony: float
    peak: float
    power: float


def state(g: float, drive: float, sd: float, tau: tuple[float, float], e_gain: float = 1.0, dt: float = 0.2) -> State:
    """The state of the network: drive in units of threshold, sd [pA] of the current from outside, τ of E and I [ms]."""
    cell = LIF(tau_syn=(tau[0], 40.0, tau[1], 50.0), background=Background(drive * 500.0, sd, 4.0))
    v = (cell.v_reset + cell.v_threshold) / 2
    excitatory = cell.g[0] * e_gain
    inhibitory = g * excitatory * tau[0] * (cell.e_rev[0] - v) / (tau[1] * (v - cell.e_rev[2]))
    cell = replace(cell, g=(excitatory, 0.0, inhibitory, 0.0))
    rules = tuple(
        Projection(k, kind, (k,), ("E", "I"), (1.0, 1.0), Pairs.from_triplets(1, [0], [0], [c * IN_DEGREE], DELAY))
        for k, kind, c in (("E", "excitatory", 0.8), ("I", "inhibitory", 0.2))
    )
    network = Network(("R",), (CellClass("E", cell), CellClass("I", cell)), [[N * 4 // 5, N // 5]], rules)
    recording = Recording(rates="region", bin=1.0)
    Simulation(network, dt).run(3_000.0, recording)
    statistics = recording.statistics
    assert statistics is not None and statistics.synchrony is not None and statistics.isi_cv is not None
    spectrum = power_spectrum(recording.region_rate[SETTLED:].astype(float), 1.0, 250.0)
    rate = float(recording.region_rate[SETTLED:].mean())
    power = float(spectrum.density[1:].max() / (2 * rate / N))
    return State(rate, statistics.isi_cv, statistics.synchrony, float(spectrum.peak[0]), power)


CORTICAL, BRIEF = (2.0, 5.0), (0.5, 0.5)  # ms: of E and I; the second is nearly Brunel's delta


def test_strong_inhibition_and_a_drive_below_threshold_are_asynchronous_irregular() -> None:
    """AI, Brunel's figure 8C: irregular single cells, a stationary population."""
    found = state(g=12.0, drive=0.9, sd=200.0, tau=CORTICAL)
    assert 1 < found.rate < 10
    assert found.cv > 0.75
    assert found.synchrony < 20 and found.power < 100


def test_a_strong_drive_against_strong_inhibition_is_synchronous_irregular() -> None:
    """SI, Brunel's figure 8B: the population oscillates, faster than any cell fires, and cells fire irregularly."""
    found = state(g=8.0, drive=2.0, sd=200.0, tau=CORTICAL)
    assert found.cv > 0.75
    assert found.synchrony > 100 and found.power > 500
    assert found.peak > 1.8 * found.rate


def test_weak_inhibition_and_a_drive_above_threshold_are_synchronous_regular() -> None:
    """SR, Brunel's figure 8A: g < 4, high rate, cells like clocks, and the population beats as they do. Independent
    clocks of this CV would have a synchrony below 1."""
    found = state(g=3.0, drive=1.2, sd=20.0, tau=BRIEF, dt=0.1)
    assert found.rate > 80
    assert found.cv < 0.3
    assert found.synchrony > 5 and found.power > 20
    assert found.peak == pytest.approx(found.rate, rel=0.15)


def test_inhibition_calms_and_the_drive_excites() -> None:
    """Along both axes of Brunel's phase diagram: the rate falls with g and rises with the drive."""
    low, high, driven = (state(g, drive, 200.0, CORTICAL) for g, drive in ((12.0, 0.9), (8.0, 0.9), (8.0, 2.0)))
    assert low.rate < high.rate < driven.rate
    assert low.synchrony < high.synchrony < driven.synchrony


def test_excitation_that_nothing_balances_runs_away() -> None:
    """g well below 4 has only the state near saturation, 1/t_ref = 500 spikes/s; past 250 a run is stopped."""
    with pytest.raises(FloatingPointError, match="spikes/s"):
        state(g=1.0, drive=1.2, sd=200.0, tau=CORTICAL)
