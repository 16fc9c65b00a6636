"""d. A hundred million neurons, ten billion synapses: wall time and memory on two threads, same spikes on one."""

from __future__ import annotations

import json
import sys
import time

import dtb
from benchmarks.delivery import arrived
from benchmarks.measure import report
from benchmarks.processes import child, memory

N = 100_000_000
DURATION = 20.0  # ms
LIMIT = 8e9  # bytes


def run() -> None:
    two, one = child("benchmarks.large", 2), child("benchmarks.large", 1)
    same = all(two[name] == one[name] for name in ("spike_digest", "state_digest", "spikes")) and two["spikes"] > 0
    report(
        "d.memory", [two["peak_bytes"] / 1e9], "GB", against=f"{LIMIT / 1e9:g} GB", ratios=[two["peak_bytes"] / LIMIT],
        bar=1.0, n=N, peak_gb_1_thread=one["peak_bytes"] / 1e9, same_digests_on_1_and_2_threads=same,
        **{name: two[name] for name in ("spikes", "synaptic_events", "spike_digest", "state_digest")},
    )  # fmt: skip
    report(
        "d.wall", [two["wall_s"]], f"s per {DURATION:g} ms, 2 threads", against="1 thread over 2 threads",
        ratios=[one["wall_s"] / two["wall_s"]], bar=None, n=N, build_s=two["build_s"],
    )  # fmt: skip


def measure(threads: int) -> dict:
    begin = time.perf_counter()
    network = dtb.build_network(dtb.default_brain(), n_neurons=N, in_degree=100)
    simulation = dtb.Simulation(network, threads=threads, synapses="procedural")
    built = time.perf_counter()
    simulation.run(DURATION)
    ran = time.perf_counter()
    return {
        "build_s": built - begin,
        "wall_s": ran - built,
        "spikes": simulation.spikes,
        "synaptic_events": arrived(simulation),
        "spike_digest": simulation.spike_digest,
        "state_digest": simulation.state_digest,
        "peak_bytes": memory(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
