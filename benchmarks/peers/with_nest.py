"""NEST on the regional network, one thread; runs in NEST's environment and knows nothing of dtb.

python with_nest.py IN.npz OUT.json
"""

from __future__ import annotations

import json
import sys
import time

import nest
import numpy as np

WINDOWS = 3
CELL = ("C_m", "g_L", "E_L", "V_th", "V_reset", "t_ref", "E_ex", "E_in", "tau_syn_ex", "tau_syn_in")


def memory() -> int:
    """Peak of this process in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def connect(given, neurons) -> None:
    """As many synapses as the table says, by the rule that draws them inside NEST."""
    weights = [float(given["weight_e"]), -float(given["weight_i"])]
    for row in zip(*(given[name].tolist() for name in ROWS), strict=True):
        pre, n_pre, post, n_post, inhibitory, synapses, delay = row
        if synapses:
            rule = {"rule": "fixed_total_number", "N": synapses, "allow_autapses": False}
            edge = {"synapse_model": "static_synapse", "weight": weights[inhibitory], "delay": delay}
            nest.Connect(neurons[pre : pre + n_pre], neurons[post : post + n_post], rule, edge)


ROWS = ("pre_first", "pre_n", "post_first", "post_n", "inhibitory", "synapses", "delay")


def main() -> None:
    with np.load(sys.argv[1]) as source:
        given = dict(source)
    dt, window = float(given["dt"]), float(given["window"])
    nest.verbosity = nest.VerbosityLevel.ERROR
    begin = time.perf_counter()
    nest.ResetKernel()
    nest.resolution = dt
    nest.local_num_threads = 1
    nest.rng_seed = 1
    cell = {name: float(given[name]) for name in CELL} | {"I_e": float(given["current"])}
    neurons = nest.Create("iaf_cond_exp", int(given["neurons"]), cell)
    neurons.V_m = np.random.default_rng(1).uniform(cell["V_reset"], cell["V_th"], len(neurons))
    connect(given, neurons)
    nest.Prepare()
    nest.Run(dt)
    build = time.perf_counter() - begin
    synapses, built = int(nest.num_connections), memory()
    nest.Run(float(given["settle"]))
    windows = []
    for _ in range(WINDOWS):
        wall, cpu = time.perf_counter(), time.process_time()
        nest.Run(window)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        windows.append({"wall": wall, "cpu": cpu, "ms": window, "spikes": int(nest.local_spike_counter)})
    nest.Cleanup()
    result = {
        "tool": "nest", "version": nest.__version__, "integrator": "RKF45, adaptive (GSL)", "dt": dt, "build_s": build,
        "compile_s": 0.0, "synapses": synapses, "storage": "stored", "built_bytes": built, "peak_bytes": memory(),
        "windows": windows,
    }  # fmt: skip
    with open(sys.argv[2], "w", encoding="utf-8") as target:
        json.dump(result, target)


if __name__ == "__main__":
    main()
