"""What the cuda backend does on a GPU: a line of JSON for every figure, appended to docs/gpu-results.jsonl.

python -m benchmarks.gpu                     # all figures that fit the device, about half an hour
python -m benchmarks.gpu law1 billion        # some of them; each takes less than ten minutes
python -m benchmarks.gpu --commit ABC        # where git is not there to say which commit this is
python -m benchmarks.gpu --show              # the figures so far, as docs/gpu-results.md has them

Nothing is written that was not measured. Figures with a cpu_digest also ran on the processors of the same machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import dtb
from dtb.engine.backends import cuda, cuda_device, cuda_plan
from dtb.engine.backends.cuda_device import CupyDevice
from dtb.engine.constants import compile_constants
from dtb.engine.ensemble import run_together
from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF
from dtb.network.projection import Pairs, Projection
from dtb.network.tiles import DEVICE_TILE, tile

RESULTS = Path(__file__).parents[1] / "docs" / "gpu-results.jsonl"
WARM_UP, TIMED = 100.0, 100.0  # ms
COLUMNS = (
    "name", "date", "commit", "device", "driver", "neurons", "synapses_per_neuron", "dt_ms", "mean_rate_hz",
    "realtime_factor", "device_bytes", "events_per_s", "spike_digest", "cpu_digest",
)  # fmt: skip
BARS = {  # what the project asks of one H200
    "billion-556": "at most 65 s per biological second, at 6 to 8 spikes/s, in at most 60 GB",
    "small-77k": "under 0.27 s per biological second: GeNN on an RTX 4090",
}


def brain(n: int, in_degree: float, microcircuit: str = "ei") -> Network:
    return dtb.build_network(dtb.default_brain(), n_neurons=n, in_degree=in_degree, microcircuit=microcircuit)


def circuit(n: int = 77_000, in_degree: float = 3_900.0) -> Network:
    """One region of the size of the cortical microcircuit of Potjans and Diesmann (2014), Cereb Cortex 24:785: its
    numbers of neurons and of synapses, and its delays of 1.5 and 0.8 ms.
    """
    size = np.array([[n * 4 // 5, n - n * 4 // 5]])
    classes = CellClass("E", LIF()), CellClass("I", LIF())
    excitatory, inhibitory = (Pairs.from_triplets(1, [0], [0], [in_degree], delay) for delay in (1.5, 0.8))
    rules = (
        Projection("E", "excitatory", ("E",), ("E", "I"), (0.8, 0.8), excitatory),
        Projection("I", "inhibitory", ("I",), ("E", "I"), (0.2, 0.2), inhibitory),
    )
    return Network(("column",), classes, size, rules, seed=1)


def arrived(simulation: dtb.Simulation) -> int:
    """Synaptic events so far, those included whose step of emission is not closed yet."""
    begin = simulation.step - len(simulation._open)
    told = simulation._backend.arrived(simulation._state, begin, simulation.step)
    return simulation.synaptic_events + int(told.delivered.sum())


def rested(network: Network, in_degree: float, dt: float = 1.0, backend: str = "cuda") -> dtb.Simulation:
    """Conductances as if each neuron had 100 synapses, and where it has more a background 10 % stronger, which replaces
    their lost fluctuation: 6 to 7 spikes/s at 100, 556 and 1,000 synapses (20,000 neurons, cpu).
    """
    gc.collect()  # a simulation before this one may still hold most of the device
    simulation = dtb.Simulation(network, dt=dt, backend=backend, synapses="auto", seed=1)
    if in_degree > 100:
        simulation.control.gain[:] = np.float32(100 / in_degree)
        simulation.control.mean[:] *= np.float32(1.1)
    return simulation


def timed(name: str, network: Network, dt: float = 1.0, warm: float = WARM_UP, duration: float = TIMED, **more) -> dict:
    """Run on the GPU; wall time is that of `duration` after `warm`."""
    simulation = more.pop("simulation", None) or dtb.Simulation(network, dt=dt, backend="cuda", seed=1)
    simulation.run(warm)
    spikes, events, begin = simulation.spikes, arrived(simulation), time.perf_counter()
    simulation.run(duration)
    wall = time.perf_counter() - begin
    return {
        "name": name,
        "neurons": network.n_neurons,
        "synapses_per_neuron": network.n_synapses / network.n_neurons,
        "dt_ms": dt,
        "mean_rate_hz": (simulation.spikes - spikes) / network.n_neurons / (duration / 1000),
        "realtime_factor": wall / (duration / 1000),
        "device_bytes": simulation.device_bytes,
        "events_per_s": (arrived(simulation) - events) / wall,
        "spike_digest": simulation.spike_digest,
        "state_digest": simulation.state_digest,
        "biological_s": (warm + duration) / 1000,
        **more,
    }


def on_cpu(network: Network, dt: float, duration: float) -> str:
    simulation = dtb.Simulation(network, dt=dt, synapses="procedural", seed=1)
    simulation.run(duration)
    return simulation.spike_digest


# figures -----------------------------------------------------------------------------------------------------------


def law1() -> Iterator[dict]:
    """Digests of one second, GPU and CPU."""
    for n in (200_000, 2_000_000):
        for microcircuit in ("ei", "column"):
            for dt in (1.0, 0.1):
                network = brain(n, 100.0, microcircuit)
                figure = timed(f"law1-{microcircuit}-{n}-{dt:g}", network, dt, 100.0, 900.0)
                yield figure | {"cpu_digest": on_cpu(network, dt, 1000.0)}


def checkpoint() -> Iterator[dict]:
    """From CPU to GPU and back: the digest after three parts, and that of the CPU alone."""
    network = brain(200_000, 100.0)
    with tempfile.TemporaryDirectory() as folder:
        first, third = (dtb.Simulation(network, synapses="procedural", seed=1) for _ in "13")
        second = dtb.Simulation(network, backend="cuda", seed=1)
        first.run(100.0)
        second.restore(first.save(folder))
        second.run(100.0)
        third.restore(second.save(folder))
        third.run(100.0)
    yield {
        "name": "checkpoint-cpu-gpu-cpu", "neurons": network.n_neurons,
        "synapses_per_neuron": network.n_synapses / network.n_neurons, "dt_ms": 1.0,
        "device_bytes": second.device_bytes, "spike_digest": third.spike_digest,
        "cpu_digest": on_cpu(network, 1.0, 300.0),
    }  # fmt: skip


def billion() -> Iterator[dict]:
    """A billion neurons with 556 synapses each, then with 100 and 1,000."""
    for in_degree in (556.0, 100.0, 1_000.0):
        network = brain(1_000_000_000, in_degree)
        name = f"billion-{in_degree:g}"
        yield timed(name, network, bar=BARS.get(name), simulation=rested(network, in_degree))


def largest() -> Iterator[dict]:
    """The largest network with 556 synapses per neuron that fits, to 2 %."""
    free, _ = cuda_device.open_device().memory()
    low, high = 1_000_000, int(free / 26)
    while high > low * 1.02:
        middle = (low + high) // 2
        if needed(brain(middle, 556.0)) + cuda.RESERVE < free:
            low = middle
        else:
            high = middle
    network = brain(low, 556.0)
    yield timed("largest-556", network, warm=50.0, simulation=rested(network, 556.0))


def needed(network: Network) -> int:
    """Bytes that a network takes on a device, counted."""
    tiles, constants = tile(network, DEVICE_TILE), compile_constants(network, 1.0)
    plan = cuda_plan.compile_plan(network, tiles, constants, 1.0, np.ones(len(tiles.n), bool))
    return sum(cuda.bytes_by_name(plan, {}).values())


def flat() -> Iterator[dict]:
    """Time per synaptic event from a million to a billion neurons."""
    for n in (10**6, 10**7, 10**8, 10**9):
        figure = timed(f"flat-{n:.0e}".replace("+0", ""), brain(n, 100.0))
        yield figure | {"ns_per_event": 1e9 / figure["events_per_s"]}


def small() -> Iterator[dict]:
    """The size of one cortical microcircuit, at dt 0.1 ms."""
    network = circuit()
    yield timed("small-77k", network, 0.1, 200.0, 1000.0, bar=BARS["small-77k"])


def ensemble() -> Iterator[dict]:
    """64 networks of 16,000 neurons each, at once; the digest is that of the first."""
    network = brain(16_000, 100.0)
    members = [dtb.Simulation(network, backend="cuda", seed=1 + m) for m in range(64)]
    run_together(members, WARM_UP)
    spikes, events, begin = sum(m.spikes for m in members), sum(map(arrived, members)), time.perf_counter()
    run_together(members, 1000.0)
    wall = time.perf_counter() - begin
    yield {
        "name": "ensemble-64", "members": 64, "neurons": network.n_neurons,
        "synapses_per_neuron": network.n_synapses / network.n_neurons, "dt_ms": 1.0,
        "mean_rate_hz": (sum(m.spikes for m in members) - spikes) / 64 / network.n_neurons,
        "realtime_factor": wall, "device_bytes": sum(m.device_bytes for m in members),
        "events_per_s": (sum(map(arrived, members)) - events) / wall, "spike_digest": members[0].spike_digest,
        "cpu_digest": on_cpu(network, 1.0, WARM_UP + 1000.0), "bar": "below 1 for all 64 together",
    }  # fmt: skip


def roofline() -> Iterator[dict]:
    """Each kernel alone: its time, the bytes and events that it must move, and what a copy and the bars allow."""
    device = CupyDevice(0)
    copy = device.copy_bandwidth(min(1 << 32, device.memory()[0] // 4))
    yield {"name": "copy", "bytes_per_s": copy}
    for n, in_degree in ((10**7, 556.0), (10**8, 556.0), (10**9, 556.0)):
        network = brain(n, in_degree)
        simulation = rested(network, in_degree)
        simulation.run(WARM_UP)
        backend: Any = simulation._backend
        state, before = simulation._state, arrived(simulation)
        backend.prepare(
            state, 8, simulation.control, np.zeros((1, network.n_populations), np.float32), np.zeros(0, int)
        )
        backend._make_room(state, np.zeros(len(backend.here), np.int64), state.step + 8, state.since)
        took = backend.device.elapsed(backend.kernels(state) * 8)
        state.step = backend._wait(state)["STEP"]
        simulation._count(state.step - 8, state.step)
        events = (arrived(simulation) - before) / 8
        moved = n * (2 * 24 + 2) + 4 * events
        yield {
            "name": f"roofline-{n:.0e}".replace("+0", ""), "neurons": n,
            "synapses_per_neuron": network.n_synapses / n, "dt_ms": 1.0,
            "device_bytes": simulation.device_bytes, "events_per_step": events,
            "ms_per_step": {kernel: ms / 8 for kernel, ms in took.items()},
            "scatter_ns_per_event": took["scatter"] / 8 * 1e6 / events,
            "advance_bytes_per_s": moved / (took["advance"] / 8 / 1000),
            "advance_share_of_copy": moved / (took["advance"] / 8 / 1000) / copy,
            "events_per_s": events / (sum(took.values()) / 8 / 1000),
        }  # fmt: skip


FIGURES = {f.__name__: f for f in (law1, checkpoint, roofline, billion, largest, flat, small, ensemble)}


# what is written ---------------------------------------------------------------------------------------------------


def commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return CupyDevice(0).driver()


def show(path: Path) -> str:
    """A table of all figures, newest last."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if not lines:
        return "Nothing has been measured on a GPU yet."
    shown = [name for name in COLUMNS if name != "commit"]
    rows = [f"| {' | '.join(shown)} |", f"|{'---|' * len(shown)}"]
    for line in lines:
        cells = [line.get(name) for name in shown]
        told = (f"{c:.4g}" if isinstance(c, float) else str("" if c is None else c) for c in cells)
        rows.append(f"| {' | '.join(told)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", help=", ".join(FIGURES))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--commit", default=None)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    if options.show:
        print(show(options.out))
        return
    unknown = sorted(set(options.figures) - set(FIGURES))
    if unknown:
        parser.error(f"unknown figure {unknown[0]!r}; known: {', '.join(FIGURES)}")
    there, what = cuda_device.available()
    if not there:
        sys.exit(f"nothing can be measured here: {what}")
    about = {
        "date": datetime.now(UTC).date().isoformat(), "commit": options.commit or commit(), "device": what,
        "driver": driver(),
    }  # fmt: skip
    for name in options.figures or FIGURES:
        gc.collect()
        try:
            for figure in FIGURES[name]():
                told = dict.fromkeys(COLUMNS) | about | figure
                line = json.dumps(told, allow_nan=False)
                print(line, flush=True)
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
        except MemoryError as error:
            print(f"{name}: not measured, {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
