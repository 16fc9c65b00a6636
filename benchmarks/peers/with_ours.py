"""This simulator on the regional network, one thread: python -m benchmarks.peers.with_ours DT WINDOW SETTLE N OUT"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import dtb
from benchmarks.peers.network import regional_network
from benchmarks.processes import memory

WINDOWS = 3


def main() -> None:
    dt, window, settle, neurons = map(float, sys.argv[1:5])
    begin = time.perf_counter()
    network = regional_network(int(neurons))
    simulation = dtb.Simulation(network, dt=dt, threads=1)
    simulation.run(dt)  # loads the kernels
    build, peak = time.perf_counter() - begin, memory()
    simulation.run(settle)
    windows = []
    for _ in range(WINDOWS):
        spikes, wall, cpu = simulation.spikes, time.perf_counter(), time.process_time()
        simulation.run(window)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        windows.append({"wall": wall, "cpu": cpu, "ms": window, "spikes": simulation.spikes - spikes})
    result = {
        "tool": "ours", "version": dtb.__version__, "integrator": "semi-implicit Euler", "dt": dt, "build_s": build,
        "compile_s": 0.0, "synapses": round(network.n_synapses), "storage": simulation.synapse_storage,
        "built_bytes": peak, "peak_bytes": memory(), "windows": windows,
    }  # fmt: skip
    Path(sys.argv[5]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
