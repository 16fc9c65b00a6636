"""e. A million neurons on a made-up voxel brain: bytes per neuron, a step in which nobody fires, a second of life."""

from __future__ import annotations

import json
import sys
from functools import partial

import numpy as np

import dtb
from benchmarks.alone import UpdateAlone
from benchmarks.measure import interleaved, quotient, report, seconds
from benchmarks.processes import child, memory
from tests.synthetic import voxel_brain, voxel_network

N = 1_000_000
LIMIT = 44.0  # bytes per neuron
SILENCE = 200.0  # ms until all is quiet: the longest delay, and fifty time constants of the background
STEPS = 50


def run() -> None:
    half, whole = (child("benchmarks.voxel", n) for n in (N, 2 * N))
    slope = (whole["array_bytes"] - half["array_bytes"]) / N
    resident = (whole["resident_bytes"] - half["resident_bytes"]) / N
    report(
        "e.bytes_per_neuron", [slope], "bytes, slope of all arrays from 1 to 2 million neurons",
        against=f"{LIMIT:g} bytes", ratios=[slope / LIMIT], bar=1.0, n=N, resident_slope=resident,
        state_bytes=half["state_bytes"] / N, all_arrays_mb=half["array_bytes"] / 1e6, peak_mb=half["peak_bytes"] / 1e6,
    )  # fmt: skip
    network = voxel_network(voxel_brain(), N)
    for threads in (1, 2):
        silent_step(network, threads)
    one_second(network)


def silent_step(network: dtb.Network, threads: int) -> None:
    """Whole steps with nothing to deliver; the update alone runs on one core, so two threads share its time."""
    simulation = dtb.Simulation(network, threads=threads)
    simulation.control.mean[:] = simulation.control.sd[:] = 0
    simulation.run(SILENCE)
    before = simulation.spikes
    alone = UpdateAlone(simulation, STEPS, background=None)
    times = interleaved({"step": partial(seconds, simulation.run, STEPS * simulation.dt), "update": alone.run})
    share = [update / threads for update in times["update"]]
    report(
        "e.silent_step", [s / STEPS * 1000 for s in times["step"]], "ms per step",
        against="the update alone" + (f", divided by {threads}" if threads > 1 else ""),
        ratios=quotient(times["step"], share), bar=1.5, n=N, threads=threads, storage=simulation.synapse_storage,
        spikes=simulation.spikes - before,
    )  # fmt: skip


def one_second(network: dtb.Network) -> None:
    simulation = dtb.Simulation(network, threads=2)
    alone = UpdateAlone(simulation, STEPS)
    wall = seconds(simulation.run, 1000.0)
    update = alone.run() / STEPS * 1000 / 2
    report(
        "e.one_second", [wall], "s per biological second, 2 threads", against="the update alone, divided by 2",
        ratios=[wall / update], bar=None, n=N, rate_hz=simulation.spikes / N, events=simulation.synaptic_events,
        ns_per_event=(wall - update) * 2 / simulation.synaptic_events * 1e9, **simulation.phases,
    )  # fmt: skip


def measure(n: int) -> dict:
    """What a simulation of n neurons holds after 100 ms."""
    network = voxel_network(voxel_brain(), n)
    simulation = dtb.Simulation(network, threads=2)
    simulation.run(100.0)
    state = array_bytes(simulation._state)
    everything = array_bytes([simulation.__dict__, simulation._backend.__dict__, simulation._backend.way.__dict__])
    return {
        "state_bytes": state,
        "array_bytes": everything,
        "resident_bytes": memory("VmRSS"),
        "peak_bytes": memory(),
    }


def array_bytes(root: object) -> int:
    """Of all arrays that can be reached from an object, each memory counted once."""
    found: dict[int, int] = {}
    todo, seen = [root], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            while isinstance(item.base, np.ndarray):
                item = item.base
            found[id(item)] = item.nbytes
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, list | tuple):
            todo += item
        elif type(item).__module__.startswith("dtb."):
            todo.append(vars(item))
    return sum(found.values())


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
