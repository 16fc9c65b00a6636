"""Brian2 on the regional network, C++ standalone, one thread; runs in Brian2's environment and knows nothing of dtb.

python with_brian2.py network IN.npz OUT.json
python with_brian2.py driven IN.npz OUT.npz
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import brian2 as b2
import numpy as np

WINDOWS = 3
METHOD = "exponential_euler"
EQUATIONS = """
dv/dt = (g_leak*(e_leak - v) + ge*(e_ex - v) + gi*(e_in - v) + current)/c_m : volt (unless refractory)
dge/dt = -ge/tau_ex : siemens
dgi/dt = -gi/tau_in : siemens
"""
STAMP = """{ std::ofstream stamps("stamps.txt", std::ios::app); struct timespec cpu, wall;
clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu); clock_gettime(CLOCK_MONOTONIC, &wall); stamps.precision(15);
stamps << cpu.tv_sec + 1e-9*cpu.tv_nsec << " " << wall.tv_sec + 1e-9*wall.tv_nsec << std::endl; }
"""


def cell(given) -> dict:
    """The parameters of the equations; named in the table as NEST names them."""
    units = {"c_m": ("C_m", b2.pF), "g_leak": ("g_L", b2.nS), "e_leak": ("E_L", b2.mV), "e_ex": ("E_ex", b2.mV),
             "e_in": ("E_in", b2.mV), "tau_ex": ("tau_syn_ex", b2.ms), "tau_in": ("tau_syn_in", b2.ms),
             "v_threshold": ("V_th", b2.mV), "v_reset": ("V_reset", b2.mV)}  # fmt: skip
    return {name: float(given[key]) * unit for name, (key, unit) in units.items()}


def group(n: int, given, **more) -> b2.NeuronGroup:
    return b2.NeuronGroup(
        n, EQUATIONS + more.pop("equations", ""), threshold="v >= v_threshold", reset="v = v_reset",
        refractory=float(given["t_ref"]) * b2.ms, method=METHOD, namespace=cell(given) | more,
    )  # fmt: skip


def draw(given, rows: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """pre, post and delay [ms] of as many synapses as these rows of the table say."""
    pre, post, delay = [], [], []
    for row in rows:
        n = int(given["synapses"][row])
        post.append(rng.integers(given["post_n"][row], size=n, dtype=np.int32) + np.int32(given["post_first"][row]))
        chosen = rng.integers(given["pre_n"][row], size=n, dtype=np.int32) + np.int32(given["pre_first"][row])
        while (same := np.flatnonzero(chosen == post[-1])).size:  # no neuron onto itself, as in ours
            again = rng.integers(given["pre_n"][row], size=same.size, dtype=np.int32)
            chosen[same] = again + np.int32(given["pre_first"][row])
        pre.append(chosen)
        delay.append(np.full(n, given["delay"][row], np.float32))
    return np.concatenate(pre), np.concatenate(post), np.concatenate(delay)


def build_network(given) -> tuple[list, b2.PopulationRateMonitor, int]:
    """The neurons, the synapses of each projection, and a monitor that counts spikes by step."""
    n, rng = int(given["neurons"]), np.random.default_rng(1)
    neurons = group(n, given, current=float(given["current"]) * b2.pA)
    neurons.v = rng.uniform(float(given["V_reset"]), float(given["V_th"]), n) * b2.mV
    parts, total = [neurons], 0
    for projection in np.unique(given["projection"]):
        rows = np.flatnonzero(given["projection"] == projection)
        inhibitory = bool(given["inhibitory"][rows[0]])
        pre, post, delay = draw(given, rows, rng)
        weight = float(given["weight_i" if inhibitory else "weight_e"]) * b2.nS
        one = bool((delay == delay[0]).all())
        synapses = b2.Synapses(
            neurons, neurons, on_pre="gi += weight" if inhibitory else "ge += weight", namespace={"weight": weight},
            **({"delay": float(delay[0]) * b2.ms} if one else {}),
        )  # fmt: skip
        synapses.connect(i=pre, j=post)
        if not one:
            synapses.delay = delay * b2.ms
        parts.append(synapses)
        total += len(pre)
    monitor = b2.PopulationRateMonitor(neurons)
    return [*parts, monitor], monitor, total


def network(given, target: str) -> None:
    dt, window, settle = (float(given[name]) for name in ("dt", "window", "settle"))
    with tempfile.TemporaryDirectory() as folder:
        b2.set_device("cpp_standalone", directory=folder, build_on_run=False)
        b2.prefs.devices.cpp_standalone.openmp_threads = 0
        b2.defaultclock.dt = dt * b2.ms
        begin = time.perf_counter()
        parts, monitor, synapses = build_network(given)
        b2.device.insert_code("before_network_run", STAMP)
        b2.device.insert_code("after_network_run", STAMP)
        net = b2.Network(parts)
        for duration in (settle, *[window] * WINDOWS):
            net.run(duration * b2.ms)
        before_compiling = time.perf_counter()
        b2.device.build(directory=folder, compile=True, run=False)
        compiled = time.perf_counter()
        peak = execute(folder)
        stamps = np.loadtxt(Path(folder, "stamps.txt")).reshape(-1, 2, 2)  # run, before and after, CPU and wall
        b2.get_device().has_been_run = True
        counts = np.rint(np.asarray(monitor.rate / b2.Hz) * int(given["neurons"]) * dt / 1000)
    spent = stamps[:, 1] - stamps[:, 0]
    edges = np.rint((settle + window * np.arange(WINDOWS + 1)) / dt).astype(int)
    spikes = [int(counts[begin:end].sum()) for begin, end in itertools.pairwise(edges)]
    windows = [
        {"wall": wall, "cpu": cpu, "ms": window, "spikes": n}
        for (cpu, wall), n in zip(spent[1:].tolist(), spikes, strict=True)
    ]
    result = {
        "tool": "brian2", "version": b2.__version__, "integrator": "exponential Euler", "dt": dt,
        "build_s": compiled - begin + stamps[0, 0, 1] - compiled, "compile_s": compiled - before_compiling,
        "synapses": synapses, "storage": "stored", "built_bytes": memory(os.getpid()), "peak_bytes": peak,
        "windows": windows,
    }  # fmt: skip
    Path(target).write_text(json.dumps(result), encoding="utf-8")


def execute(folder: str) -> int:
    """Run the compiled program; its peak memory in bytes."""
    program, peak = subprocess.Popen(["./main"], cwd=folder, stdout=subprocess.DEVNULL), 0
    while program.poll() is None:
        peak = memory(program.pid) or peak
        time.sleep(0.05)
    if program.returncode:
        raise RuntimeError(f"the program that Brian2 made ended with {program.returncode}.")
    return peak


def memory(process: int) -> int:
    """Peak of a process in bytes, 0 when it has gone."""
    try:
        with open(f"/proc/{process}/status", encoding="ascii") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")), 0)
    except (OSError, StopIteration):
        return 0


def driven(given, target: str) -> None:
    """The membrane of one neuron at the end of every step; spikes and current as in validate/driven.py."""
    dt = float(given["dt"])
    b2.prefs.codegen.target = "numpy"
    b2.defaultclock.dt = dt * b2.ms
    current = b2.TimedArray(given["current"] * b2.pA, dt=dt * b2.ms)
    neuron = group(1, given, equations="current = drive(t) : amp", drive=current)
    neuron.v = float(given["v"]) * b2.mV
    at, inverse = np.unique(np.rint(given["spike_time"] / dt).astype(int) - 1, return_inverse=True)
    size = np.zeros((2, len(at)))
    np.add.at(size, (np.where(given["spike_weight"] > 0, 0, 1), inverse), np.abs(given["spike_weight"]))
    source = b2.SpikeGeneratorGroup(len(at), np.arange(len(at)), at * dt * b2.ms)
    synapses = b2.Synapses(source, neuron, "excite : siemens\ninhibit : siemens", on_pre="ge += excite\ngi += inhibit")
    synapses.connect()
    synapses.excite, synapses.inhibit = size[0] * b2.nS, size[1] * b2.nS
    monitor = b2.StateMonitor(neuron, "v", record=True, when="end")
    b2.Network(neuron, source, synapses, monitor).run(len(given["current"]) * dt * b2.ms)
    np.savez(target, v=np.asarray(monitor.v[0] / b2.mV), version=np.array(b2.__version__))


def main() -> None:
    task, source, target = sys.argv[1:]
    with np.load(source) as arrays:
        given = dict(arrays)
    {"network": network, "driven": driven}[task](given, target)


if __name__ == "__main__":
    main()
