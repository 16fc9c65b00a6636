"""e. Plans against measurement: memory, events, spikes exchanged and time, on 1, 2 and 4 ranks of three networks.

The plan is given the mean rate of the run, as `dtb plan --rates RUN` would: how busy cells are, no description says.
A line per cell, of the rank that is furthest off; what it says of memory is that of the whole process.
"""

from __future__ import annotations

import os

from benchmarks.measure import report
from benchmarks.ranks import measured, network_of
from cluster.devices import Device, measure_cpu
from cluster.plan import plan

SIZES = (250_000, 1_000_000, 4_000_000)
RANKS = (1, 2, 4)
BARS = {"memory": 0.10, "events": 0.03, "spikes_in": 0.03, "time": 0.30}
REPETITIONS = 3  # of a run; the median of its time, because other programs use this machine, too


def run() -> None:
    core, cores = measure_cpu(), len(os.sched_getaffinity(0))
    for n in SIZES:
        for ranks in RANKS:
            cell(core, n, ranks, cores)


def cell(core: Device, n: int, ranks: int, cores: int) -> None:
    runs = sorted((measured(ranks, neurons=n) for _ in range(REPETITIONS)), key=lambda told: told["wall"][0])
    told = runs[len(runs) // 2]
    network, tile_size = network_of("default", n)
    rates = {c.name: told["rate"][0] for c in network.classes}
    found = plan(network, ranks, core, ranks, rates=rates, tile_size=tile_size, per_rank=True)
    default = plan(network, ranks, core, ranks, tile_size=tile_size)
    pairs = {
        "memory": (found.memory_rank.each, told["rss"]),
        "events": (found.events_rank.each, told["events"]),
        "spikes_in": (found.spikes_in_rank.each, told["spikes_in"]),
        "time": ([found.slowdown], told["wall"][:1]),
    }
    for what, (planned, real) in pairs.items():
        ratios = [p / r for p, r in zip(planned or [], real, strict=True) if r] or [1.0]
        off = max(ratios, key=lambda ratio: abs(ratio - 1))
        report(
            f"e.{what}", [abs(off - 1)], "|planned / measured - 1|, the rank furthest off",
            against=f"{BARS[what]:.0%}", ratios=[abs(off - 1) / BARS[what]], bar=1.0, n=n, ranks=ranks,
            planned=max(planned or [0.0]), measured=max(real), planned_over_measured=off, cores=cores,
            oversubscribed=ranks > cores, rate_hz=told["rate"][0],
            **({"at_expected_rates": default.slowdown} if what == "time" else {}),
        )  # fmt: skip
