"""b. Delivery: what a synaptic event costs over the update alone, against a bare scatter-add; one thread."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

import dtb
from benchmarks.alone import UpdateAlone
from benchmarks.measure import interleaved, quotient, report, seconds
from dtb.engine.backends.cpu_stored import WAITING
from dtb.engine.backends.cpu_stored import scatter as scatter_rows
from dtb.network.tiles import LANES

SETTLE = 300.0  # ms; from then on the rate is steady
EVENTS = 30_000_000  # of one repetition, at least
STEPS = 100  # of the update alone at once
STORED_SIZES = (4_000, 16_000)
SIZES = (200_000, 2_000_000, 20_000_000)
LARGE, LARGE_SETTLE = 100_000_000, 50.0
AUTO_SIZES = (16_000, 200_000, 2_000_000)


def run(large: bool = False) -> None:
    bare = {"scatter": scatter_add()}
    stored = {n: Stored(n) for n in STORED_SIZES}
    times = interleaved(bare | {str(n): case.run for n, case in stored.items()})
    for n, kept in stored.items():
        values, ratios = times[str(n)], quotient(times[str(n)], times["scatter"])
        report(
            "b.delivery_stored", values, "ns per event", against="a bare scatter-add", ratios=ratios, bar=2.5, n=n,
            bytes=kept.bytes, events=kept.events,
        )  # fmt: skip
    cases = {n: Case(n, "procedural") for n in SIZES}
    if large:
        cases[LARGE] = Case(LARGE, "procedural", settle=LARGE_SETTLE)
    fine = Case(SIZES[0], "procedural", dt=0.1)
    parts = {str(n): case.run for n, case in cases.items()} | {"fine": fine.run}
    times = interleaved(bare | parts)
    for n, case in cases.items():
        told("b.delivery_procedural", case, times[str(n)], times["scatter"], 6.0)
    told("b.delivery_procedural_dt_0.1", fine, times["fine"], times["scatter"], 6.0)
    for n in list(cases)[1:]:
        growth = quotient(times[str(n)], times[str(SIZES[0])])
        bar = 2.0 if n == LARGE else 1.3
        against = f"{SIZES[0]:,} neurons"
        report("b.growth", times[str(n)], "ns per event", against=against, ratios=growth, bar=bar, n=n)
    del cases, fine, parts
    for n in AUTO_SIZES:
        compare_storages(n)


class Case:
    """The default brain with n neurons and 100 synapses each; `run` gives ns per event over the update alone."""

    def __init__(self, n: int, synapses: str, dt: float = 1.0, settle: float = SETTLE) -> None:
        self.simulation = settled(n, synapses, dt, settle)
        self.n, self.dt = n, dt
        per_step = n * 100 * 7 * dt / 1000
        self.calls = max(1, round(EVENTS / per_step / STEPS))
        self.steps = self.calls * min(STEPS, max(3, round(EVENTS / per_step)))
        self.alone = UpdateAlone(self.simulation, self.steps // self.calls, block=self.simulation._backend.block)
        self.rate = self.update_ns = 0.0

    def run(self) -> float:
        simulation = self.simulation
        wall, events, spikes = simulation.phases["advance"], arrived(simulation), simulation.spikes
        simulation.run(self.steps * self.dt)
        wall, events = simulation.phases["advance"] - wall, arrived(simulation) - events
        alone = sum(self.alone.run() for _ in range(self.calls))
        self.rate = (simulation.spikes - spikes) / self.n / (self.steps * self.dt / 1000)
        self.update_ns = alone / self.n / self.steps * 1e9
        return (wall - alone) / events * 1e9


class Stored:
    """Stored synapses of the default brain with n neurons: the delivery of the last 50 steps' spikes, again and again.

    Networks this small spend most of a step on other things than synapses, so a difference of whole steps says little.
    """

    def __init__(self, n: int, steps: int = 50, passes: int = 20) -> None:
        self.simulation = settled(n, "stored")
        self.backend, self.state = self.simulation._backend, self.simulation._state
        self.steps, self.passes = steps, passes
        self.rings = [ring[:-LANES] for ring in self.state.ring]
        self.tally = np.zeros_like(self.state.tallies[0])
        self.waiting = np.zeros((WAITING, 2), np.int64)
        self.deliver()
        self.events = int(self.tally[0].sum())

    def deliver(self) -> None:
        begin = self.simulation.step - self.steps
        scatter_rows(
            0, begin, self.steps, True, self.backend.layout, self.state.history[0], self.backend.way.tables,
            *self.rings, self.tally, self.waiting,
        )  # fmt: skip

    def run(self) -> float:
        wall = seconds(lambda: [self.deliver() for _ in range(self.passes)])
        return wall / (self.passes * self.events) * 1e9

    @property
    def bytes(self) -> int:
        """Of stored rows and sums ahead of time."""
        return self.backend.synapse_bytes(self.state)


def settled(n: int, synapses: str, dt: float = 1.0, settle: float = SETTLE) -> dtb.Simulation:
    network = dtb.build_network(dtb.default_brain(), n_neurons=n, in_degree=100)
    simulation = dtb.Simulation(network, dt=dt, threads=1, synapses=synapses)
    simulation.run(settle)
    return simulation


def arrived(simulation: dtb.Simulation) -> int:
    """Synaptic events so far; unlike `synaptic_events` with those whose step of emission is not closed yet."""
    return simulation.synaptic_events + int(simulation._state.tallies[:, 0].sum())


def told(bench: str, case: Case, values: list[float], scatter: list[float], bar: float, **more) -> None:
    report(
        bench, values, "ns per event", against="a bare scatter-add", ratios=quotient(values, scatter), bar=bar,
        n=case.n, dt=case.dt, rate_hz=case.rate, scatter_ns=min(scatter), update_ns=case.update_ns, **more,
    )  # fmt: skip


def compare_storages(n: int) -> None:
    """Whole steps with synapses stored, procedural and chosen by "auto"."""
    simulations = {storage: settled(n, storage) for storage in ("stored", "procedural", "auto")}
    steps = int(np.clip(20_000_000 / n, 10, 300))
    times = interleaved({name: timed(simulation, steps) for name, simulation in simulations.items()})
    faster = [min(pair) for pair in zip(times["stored"], times["procedural"], strict=True)]
    ms = {f"{name}_ms": sorted(times[name])[len(times[name]) // 2] * 1000 for name in ("stored", "procedural")}
    report(
        "b.auto", [s * 1000 for s in times["auto"]], "ms per step", against="the faster of stored and procedural",
        ratios=quotient(times["auto"], faster), bar=1.1, n=n, chosen=simulations["auto"].synapse_storage, **ms,
    )  # fmt: skip


def timed(simulation: dtb.Simulation, steps: int) -> Callable[[], float]:
    return lambda: seconds(simulation.run, steps * simulation.dt) / steps


def scatter_add() -> Callable[[], float]:
    """ns to add one random int32 to a random one of 32,768 sums."""
    rng, sums = np.random.default_rng(1), np.zeros(1 << 15, np.int32)
    target, weight = (rng.integers(0, high, 1 << 20, np.int32) for high in (len(sums), 1 << 16))
    passes = 20
    return lambda: seconds(scatter, target, weight, sums, passes) / (passes * len(target)) * 1e9


@njit(nogil=True)
def scatter(target, weight, sums, passes):
    """As few instructions as an event can have."""
    for _ in range(passes):
        for i in range(target.shape[0]):
            sums[target[i]] += weight[i]
