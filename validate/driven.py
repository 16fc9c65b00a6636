"""One neuron under given spikes and a given current: membranes of different simulators, sample by sample.

Spikes and current lie on a grid of 1 ms that every dt divides, so each dt solves the same problem, and what differs is
the integrator alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

import dtb
from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF
from dtb.network.projection import Pairs, Projection, Weights
from dtb.network.synapses import synapses, weight_unit

GRID = 1.0  # ms
KICK = 50.0  # mV by which one step of stimulus lifts a source: from rest over its threshold, at any dt
N_EXCITATORY, N_INHIBITORY = 86, 14  # six in seven, as what reaches a neuron of `build_network`
CHUNK = 250.0  # ms of stimulus that is held at once

# Fires in the step in which it is told to and never else: it rests 20 mV below threshold and has no background.
SOURCE = LIF(t_ref=1e-3, g=(0, 0, 0, 0), background=dtb.Background(0.0, 0.0, 1.0))


class Trace(NamedTuple):
    """v (steps,) mV at the end of every step; spike_step (s,) int64."""

    v: np.ndarray
    spike_step: np.ndarray


@dataclass(frozen=True)
class Driven:
    """A neuron, the spike trains of 100 sources, and a current.

    Parameters
    ----------
    cell : LIF
        Its background is replaced by one realisation of it, constant within each ms.
    rate : float [spikes/s]
        Of each source; Poisson, at most one spike per ms.
    duration : float [ms]
    weights : Weights
    seed : int
        Of trains, current, synapses and delays (1 to 20 ms).
    """

    cell: LIF
    rate: float = 8.0
    duration: float = 1000.0
    weights: Weights = field(default_factory=Weights.uniform)
    seed: int = 1

    @cached_property
    def network(self) -> Network:
        """Every source is a population of its own, so that a stimulus can fire it; one synapse from each."""
        n = N_EXCITATORY + N_INHIBITORY
        rng = np.random.default_rng([self.seed, 1])
        delay = rng.integers(1, 21, n).astype(float)
        still = replace(self.cell, background=dtb.Background(0.0, 0.0, 1.0))
        size = np.zeros((n + 1, 3), np.int64)
        size[:N_EXCITATORY, 0] = size[N_EXCITATORY:n, 1] = size[n, 2] = 1
        rules = []
        for name, kind, q in (
            ("E", "excitatory", np.arange(N_EXCITATORY)),
            ("I", "inhibitory", np.arange(N_EXCITATORY, n)),
        ):
            pairs = Pairs.from_triplets(n + 1, np.full(len(q), n), q, np.ones(len(q)), delay[q])
            rules.append(Projection(name, kind, (name,), ("cell",), (1.0,), pairs, self.weights))
        classes = (CellClass("E", SOURCE), CellClass("I", SOURCE), CellClass("cell", still))
        regions = (*(f"source{i}" for i in range(n)), "neuron")
        return Network(regions, classes, size, tuple(rules), self.seed)

    @cached_property
    def trains(self) -> np.ndarray:
        """(ms, sources) bool: whether a source spikes at the end of that ms; never twice in a row."""
        rng = np.random.default_rng([self.seed, 2])
        n = N_EXCITATORY + N_INHIBITORY
        spikes = rng.random((round(self.duration / GRID), n)) < self.rate * GRID / 1000
        for ms in range(1, len(spikes)):  # a source rests for one step, which may be a whole ms
            spikes[ms] &= ~spikes[ms - 1]
        return spikes

    @cached_property
    def current(self) -> np.ndarray:
        """(ms,) pA: the background of the cell, one value per ms."""
        rng, background = np.random.default_rng([self.seed, 3]), self.cell.background
        a = np.exp(-GRID / background.tau)
        now, out = background.sd * rng.standard_normal(), []
        for kick in background.sd * np.sqrt(1 - a * a) * rng.standard_normal(round(self.duration / GRID)):
            now = a * now + kick
            out.append(background.mean + now)
        return np.array(out)

    @property
    def gid(self) -> int:
        return self.network.n_neurons - 1

    @cached_property
    def v(self) -> float:
        """mV at time zero."""
        return float(dtb.Simulation(self.network, dt=GRID, threads=1).snapshot().fields[self.gid, 0])

    def arrivals(self) -> tuple[np.ndarray, np.ndarray]:
        """When conductances jump [ms], and by how much [nS]; below zero inhibitory, as NEST and others write it."""
        times, weights = [], []
        for source in range(self.network.n_neurons - 1):
            out = synapses(self.network, source)
            kind = "excitatory" if out.kind[0] == 0 else "inhibitory"
            g = self.cell.g[0] if kind == "excitatory" else -self.cell.g[2]
            spikes = (np.flatnonzero(self.trains[:, source]) + 1) * GRID
            times.append(spikes + out.delay[0])
            weights.append(np.full(len(spikes), out.weight[0] * weight_unit(self.network, kind) * g))
        time, weight = np.concatenate(times), np.concatenate(weights)
        within = time < self.duration
        return time[within], weight[within]

    def ours(self, dt: float, integrator: str = "semi-implicit") -> Trace:
        """By Simulation: sources fire because a stimulus makes them, and their synapses deliver."""
        network, per_ms = self.network, round(GRID / dt)
        simulation = dtb.Simulation(network, dt=dt, threads=1, integrator=integrator)
        recording = dtb.Recording(rates=False, spikes=["neuron.cell"], membrane=["neuron.cell"])
        kick = KICK * SOURCE.c_m / dt
        for begin in np.arange(0, self.duration, CHUNK):
            ms = slice(round(begin / GRID), round(min(begin + CHUNK, self.duration) / GRID))
            stimulus = np.zeros(((ms.stop - ms.start) * per_ms, network.n_populations), np.float32)
            stimulus[per_ms - 1 :: per_ms, :-1] = kick * self.trains[ms]
            stimulus[:, -1] = np.repeat(self.current[ms], per_ms)
            simulation.run(len(stimulus) * dt, recording, stimulus)
        if simulation.spikes - len(recording.spike_gid) != self.trains.sum():
            raise RuntimeError("a source fired when it was not told to, or did not fire when it was.")
        return Trace(recording["V"][:, 0].astype(float), np.rint(recording.spike_time / dt).astype(np.int64))

    def asked(self, dt: float) -> dict[str, np.ndarray]:
        """What another simulator must be told."""
        time, weight = self.arrivals()
        told = {"dt": dt, "v": self.v, "current": np.repeat(self.current, round(GRID / dt))}
        return {name: np.asarray(value) for name, value in told.items()} | {"spike_time": time, "spike_weight": weight}

    def exact(self) -> np.ndarray:
        """(ms,) mV at the end of each ms, without threshold: conductances in closed form, V by an adaptive method of
        order 8 with relative tolerance 1e-11 between the jumps.
        """
        from scipy.integrate import solve_ivp

        cell, (time, weight) = self.cell, self.arrivals()
        ms = np.rint(time / GRID).astype(np.int64)
        jump = np.zeros((2, len(self.current) + 1))
        np.add.at(jump, (np.where(weight > 0, 0, 1), ms), np.abs(weight))
        g, v, out = np.zeros(2), self.v, []
        decay = 1 / np.array([cell.tau_syn[0], cell.tau_syn[2]])
        reversal = np.array([cell.e_rev[0], cell.e_rev[2]])
        for i, current in enumerate(self.current):
            g = g + jump[:, i]

            def slope(t, v, g=g, current=current):
                now = g * np.exp(-t * decay)
                return (cell.g_leak * (cell.e_leak - v) + (now * (reversal - v)).sum() + current) / cell.c_m

            v = float(solve_ivp(slope, (0, GRID), [v], "DOP853", rtol=1e-11, atol=1e-11).y[0, -1])
            g = g * np.exp(-GRID * decay)
            out.append(v)
        return np.array(out)


def at_grid(v: np.ndarray, dt: float) -> np.ndarray:
    """Of a trace at the end of every step, what is at the end of every ms."""
    per_ms = round(GRID / dt)
    return v[per_ms - 1 :: per_ms]
