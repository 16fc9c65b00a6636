"""c. Two threads against one: 200,000 neurons of the default brain, everything that `Simulation.run` does."""

from __future__ import annotations

from functools import partial

from benchmarks.measure import interleaved, quotient, report
from dtb import Simulation, build_network, default_brain

N = 200_000
SETTLE = 300.0  # ms
DURATION = {1.0: 300.0, 0.1: 100.0}  # ms of one repetition, by dt


def run() -> None:
    network = build_network(default_brain(), n_neurons=N, in_degree=100)
    for dt, duration in DURATION.items():
        pair = {threads: Simulation(network, dt=dt, threads=threads) for threads in (1, 2)}
        for simulation in pair.values():
            simulation.run(SETTLE)
        times = interleaved({str(threads): partial(timed, s, duration) for threads, s in pair.items()})
        walls, advances = ({k: [t[i] for t in v] for k, v in times.items()} for i in (0, 1))
        advance = sorted(quotient(advances["1"], advances["2"]))
        report(
            "c.threads", [wall * 1000 for wall in walls["2"]], f"ms per {duration:g} ms, 2 threads",
            against="1 thread over 2 threads", ratios=quotient(walls["1"], walls["2"]), bar=1.6, bar_is="at least",
            n=N, dt=dt, storage=pair[2].synapse_storage, ratio_without_observing=advance[len(advance) // 2],
            same_spikes=pair[1].spike_digest == pair[2].spike_digest,
        )  # fmt: skip


def timed(simulation: Simulation, duration: float) -> tuple[float, float]:
    """Wall time of a run, and of what its workers did in it."""
    before = dict(simulation.phases)
    simulation.run(duration)
    advance, observe = (simulation.phases[name] - before[name] for name in ("advance", "observe"))
    return advance + observe, advance
