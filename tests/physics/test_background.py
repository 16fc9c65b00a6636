"""The background current: an Ornstein–Uhlenbeck process, and what it matters that its noise is not quite Gaussian."""

from __future__ import annotations

import numpy as np
import pytest

from dtb.engine.backends.reference import deliver, update
from dtb.engine.backends.state import initial
from dtb.engine.constants import compile_constants, default_control
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network import rng as streams
from dtb.network.network import Network
from dtb.network.neuron import CELLS, LIF, Background
from dtb.observe.measures import isi_cv
from tests.networks import regional
from tests.physics.cells import alone

N, TAU = 400, 4.0  # neurons; ms
CELL = LIF(background=Background(450.0, 200.0, TAU))


@pytest.mark.parametrize("dt", [1.0, 0.1])
def test_the_background_has_the_mean_variance_and_autocorrelation_of_its_process(dt: float) -> None:
    """⟨I⟩ = mean, Var I = sd², corr(I(t), I(t + s)) = exp(−s/τ) (Gardiner 2009, Stochastic Methods, section 3.8.4),
    from the first step on and whatever dt, for the step is exact. 400 neurons for 2 s are 100,000 independent
    stretches of 2τ: errors of 0.63 pA of the mean, 0.45 % of the variance, 0.003 of a correlation; five of each."""
    network = alone(CELL, [N])
    recording = Recording(rates=False, membrane=["*.E"], samples=N)
    Simulation(network, dt, threads=1, seed=3).run(2_000.0, recording)
    current = recording["I_background"].astype(float)
    assert current.mean() == pytest.approx(450, abs=3.2)
    assert current.var() == pytest.approx(200**2, rel=0.023)
    x = (current - current.mean()) / current.std()
    for lag in (1.0, 2.0, 4.0, 8.0, 20.0):
        k = round(lag / dt)
        assert (x[:-k] * x[k:]).mean() == pytest.approx(np.exp(-lag / TAU), abs=0.016)
    assert current[0].mean() == pytest.approx(450, abs=50)  # stationary at once: 200 / √400 = 10
    assert current[0].std() == pytest.approx(200, rel=0.18)


def rate_with(noise_of, network: Network, dt: float, steps: int) -> tuple[float, float]:
    """Rate [spikes/s] and ISI CV of a network, by the definition's own update and delivery with noise of our choice.

    noise_of(word) gives each neuron's noise of a step, in the units of the integer noise, from its random word.
    """
    n, population = network.n_neurons, np.repeat(np.arange(network.n_populations), np.diff(network.first_gid))
    k = network.population_class[population]
    constants, control = compile_constants(network, dt), default_control(network)
    fields = initial(network, 7, constants.reset, constants.threshold, control, np.arange(n), population)
    hold, still = np.zeros(n, np.uint16), np.zeros(network.n_populations, np.float32)
    arrivals: dict[int, np.ndarray] = {}
    silence, spikes = np.zeros((2, n), np.int64), []
    for t in range(steps):
        word = streams.hash64(np.arange(n), streams.key(7, streams.Stream.NOISE, t))
        noise, now = noise_of(word).astype(np.float32), arrivals.pop(t, silence)
        fired = update(fields, hold, k, population, now, noise, still, constants, control, True)
        for gid in fired if network.projections else ():
            deliver(network, int(gid), t, dt, arrivals, None)
        spikes.append(np.stack([np.full(len(fired), t), fired]))
    step, gid = np.concatenate(spikes, axis=1)
    return len(gid) / n / (steps * dt) * 1000, isi_cv(step * dt, gid)


def gaussian(word: np.ndarray) -> np.ndarray:
    """Normal noise of the same rank as the sum of four uniforms: each draw differs as little as it can.

    The distribution of the sum of four uniforms on 0..1 (Irwin 1927; Hall 1927, Biometrika 19) at x from the end is
    (x⁴ − 4 (x − 1)⁴₊) / 24 up to x = 2, and the rest by symmetry.
    """
    from scipy.special import ndtri

    x = streams.noise4(word) / 65_536 + 2  # 0..4, and never 0 or 4
    near = np.minimum(x, 4 - x)
    tail = (near**4 - 4 * np.maximum(near - 1, 0) ** 4) / 24
    return np.where(x < 2, 1, -1) * ndtri(tail) * streams.NOISE_SD


def test_the_gaussian_noise_that_we_compare_with_is_gaussian(rng) -> None:
    """A million draws: moments err by 0.001, 0.0014, 0.005."""
    z = gaussian(rng.integers(0, 2**64, 1_000_000, dtype=np.uint64)) / streams.NOISE_SD
    assert [z.mean(), z.var(), (z**4).mean()] == pytest.approx([0, 1, 3], abs=0.03)
    assert np.abs(z).max() > 4  # it has the tail that four uniforms lack


@pytest.mark.parametrize("cell", ["release2024", "nsr2023"])
def test_the_four_uniforms_leave_the_rate_where_gaussian_noise_has_it(cell: str) -> None:
    """The noise lacks the tail beyond 3.46 sd, but a membrane sees it through two low-pass filters, τ_bg and τ_m, so
    hundreds of draws are summed. Measured at length: rates 0.1 to 0.4 % higher (docs/physics.md). Both runs have the
    same ranks of noise, so most chance cancels; 7,000 spikes that differ by a few dozen leave 0.3 %."""
    network = alone(CELLS[cell], [1_500])
    (rate, cv), (rate_gauss, cv_gauss) = (rate_with(noise, network, 1.0, 2_500) for noise in (streams.noise4, gaussian))
    assert rate == pytest.approx(rate_gauss, rel=0.015)
    assert cv == pytest.approx(cv_gauss, abs=0.015)


def test_the_loop_that_we_compare_with_is_the_run_of_a_simulation() -> None:
    """Otherwise the comparison would say nothing of the product."""
    network = regional(n_regions=2, n=60)
    simulation = Simulation(network, threads=1, seed=7)
    simulation.run(300.0)
    rate, _ = rate_with(streams.noise4, network, 1.0, 300)
    assert simulation.spikes == pytest.approx(rate * network.n_neurons * 0.3, abs=1e-6) and rate > 0
