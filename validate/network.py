"""One network in both simulators: the same neurons, initial membranes and synapses, edge by edge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

import dtb
from dtb.brain import Brain, Tracts
from dtb.network.network import Network
from dtb.network.projection import KINDS
from dtb.network.synapses import synapses, weight_unit
from validate.nest_process import Nest, cell_parameters

REGIONS = 6
NEURONS, IN_DEGREE = 1_000, 100.0
SETTLE = 500.0  # ms that are left out


class Spikes(NamedTuple):
    """step, gid (s,) int64 of a run of `duration` ms with steps of dt; a spike belongs to the end of its step."""

    step: np.ndarray
    gid: np.ndarray
    dt: float
    duration: float

    @property
    def time(self) -> np.ndarray:
        return (self.step + 1) * self.dt


class Edges(NamedTuple):
    """pre, post (s,) int64 gids; weight (s,) nS, below zero inhibitory; delay (s,) ms."""

    pre: np.ndarray
    post: np.ndarray
    weight: np.ndarray
    delay: np.ndarray


@dataclass(frozen=True)
class Case:
    """The first regions of the default brain as a small network of the default regime; `seed` makes its synapses."""

    seed: int
    neurons: int = NEURONS
    regions: int = REGIONS

    @cached_property
    def network(self) -> Network:
        brain = first_regions(dtb.default_brain(), self.regions)
        return dtb.build_network(brain, n_neurons=self.neurons, in_degree=IN_DEGREE, seed=self.seed)

    @property
    def cell(self) -> dtb.LIF:
        return self.network.classes[0].cell

    @cached_property
    def edges(self) -> Edges:
        """All synapses, as `synapses()` defines them."""
        network, g = self.network, np.array([self.cell.g[0], -self.cell.g[2]])
        per_unit = g * [weight_unit(network, kind) for kind in KINDS]
        rows = [synapses(network, gid) for gid in range(network.n_neurons)]
        pre = np.repeat(np.arange(len(rows)), [len(row.target) for row in rows])
        weight = np.concatenate([row.weight * per_unit[row.kind] for row in rows])
        post, delay = (np.concatenate([getattr(row, name) for row in rows]) for name in ("target", "delay"))
        return Edges(pre, post, weight, delay)

    def ours(self, dt: float, duration: float, seed: int, inhibition: float = 1.0) -> Spikes:
        """By Simulation; `inhibition` is a gain on GABA_A, for a network that should differ."""
        simulation = dtb.Simulation(self.network, dt=dt, threads=1, seed=seed)
        simulation.control.gain[:, 2] = inhibition
        recording = dtb.Recording(rates=False, spikes=["*.E", "*.I"])
        simulation.run(duration, recording)
        step = np.rint(recording.spike_time / dt).astype(np.int64)
        return Spikes(step, recording.spike_gid.astype(np.int64), dt, duration)

    def ours_with_currents(self, dt: float, duration: float, seed: int) -> tuple[Spikes, np.ndarray]:
        """Spikes, and the background current of every neuron at every step, (steps, neurons) float32 pA."""
        simulation = dtb.Simulation(self.network, dt=dt, threads=1, seed=seed)
        recording = dtb.Recording(rates=False, spikes=["*.E", "*.I"], membrane=["*.E", "*.I"], samples=self.neurons)
        simulation.run(duration, recording)
        step = np.rint(recording.spike_time / dt).astype(np.int64)
        return Spikes(step, recording.spike_gid.astype(np.int64), dt, duration), recording["I_background"]

    def nest(self, nest: Nest, dt: float, duration: float, seed: int, current: np.ndarray | None = None) -> Spikes:
        """By NEST, from our initial membranes; its background is NumPy's Gaussian noise, or a given current."""
        simulation = dtb.Simulation(self.network, dt=dt, threads=1, seed=seed)
        background = self.cell.background
        given = {
            "dt": dt, "duration": duration, "seed": seed, "v": simulation.snapshot().fields[:, 0],
            "bg_mean": background.mean, "bg_sd": background.sd, "bg_tau": background.tau,
            **self.edges._asdict(), **cell_parameters(self.cell),
        }  # fmt: skip
        given |= {} if current is None else {"current": current}
        answer = nest.ask("network", **given)
        order = np.lexsort((answer["gid"], answer["step"]))
        return Spikes(answer["step"][order], answer["gid"][order], dt, duration)


def first_regions(brain: Brain, n: int) -> Brain:
    """The first n regions of a brain and the tracts between them."""
    inside = np.ix_(range(n), range(n))
    tracts = Tracts.from_matrices(
        brain.tracts.weights(brain.n_regions)[inside], brain.tracts.lengths(brain.n_regions)[inside]
    )
    return Brain(
        f"{n} regions of {brain.name}", brain.labels[:n], brain.hemisphere[:n], brain.centroid[:n], brain.kind[:n],
        brain.volume[:n], tracts, brain.density[:n],
    )  # fmt: skip
