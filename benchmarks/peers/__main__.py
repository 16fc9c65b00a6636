"""The regional network in this simulator, NEST and Brian2; one thread each. Prints a line of JSON for every figure.

python -m benchmarks.peers                        # all; make bench-peers does this
python -m benchmarks.peers nest --dt 0.1          # one of them

A peer is measured between two runs of ours, and all are pinned to one core. How: docs/peers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.measure import Neighbours, report
from benchmarks.peers.network import CELL, NEURONS, WEIGHT_E, regional_network, table
from dtb.network.projection import Weights
from validate.driven import Driven, at_grid
from validate.nest_process import Nest, cell_parameters

HERE = Path(__file__).parent
PEERS = ("nest", "brian2")
BARS = {("nest", 0.1): 75.0, ("brian2", 0.1): 5.0, ("nest", 1.0): 100.0, ("brian2", 1.0): 7.0}  # of issue 3
MS = {  # settle and one of three windows, of biology: short where the tool is slow
    ("ours", 0.1): (300.0, 300.0), ("ours", 1.0): (300.0, 1000.0), ("nest", 0.1): (100.0, 100.0),
    ("nest", 1.0): (200.0, 200.0), ("brian2", 0.1): (200.0, 500.0), ("brian2", 1.0): (300.0, 1000.0),
}  # fmt: skip
BUILD_S, BUILD_BYTES = 2.0, 200e6  # of ours: bars of issue 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="*", default=("ours", *PEERS), help=", ".join(("ours", *PEERS)))
    parser.add_argument("--dt", nargs="+", type=float, default=(0.1, 1.0), choices=(0.1, 1.0), help="ms")
    parser.add_argument("--environments", type=Path, default=Path(".venv/peers"), help="with nest/ and brian2/ in it")
    parser.add_argument("--neurons", type=int, default=NEURONS, help="fewer, to try it out")
    options = parser.parse_args()
    for tool in options.tools:
        if tool not in ("ours", *PEERS):
            parser.error(f"unknown simulator {tool!r}; known: {', '.join(('ours', *PEERS))}")
        if tool in PEERS and not python_of(options.environments, tool).exists():
            parser.error(f"there is no {python_of(options.environments, tool)}; make bench-peers installs it.")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, here and in all that is started
    for tool in options.tools:
        for dt in options.dt:
            measure(tool, dt, options)


def python_of(environments: Path, tool: str) -> Path:
    return environments / tool / "bin" / "python"


def measure(tool: str, dt: float, options) -> None:
    """Run one simulator at one dt, and ours before and after, and print what came out."""
    neighbours = Neighbours()
    before = run("ours", dt, options)
    ours = [before]
    if tool == "ours":
        result = run("ours", dt, options)  # the run before has compiled what was not compiled yet
        told(result, dt, options.neurons, None, options)
        build(result, options.neurons)
    else:
        peer = run(tool, dt, options)
        ours.append(run("ours", dt, options))
        told(peer, dt, options.neurons, ours, options)
    others = [neighbours.cores()]
    report(f"peers.disturbance_{tool}_{dt:g}", others, "cores used by others", against="one core", ratios=others,
           bar=0.1, n=0)  # fmt: skip


def run(tool: str, dt: float, options) -> dict:
    """What a simulator says of itself, from a process of its own."""
    settle, window = MS[tool, dt]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.json")
        if tool == "ours":
            command = [sys.executable, "-m", "benchmarks.peers.with_ours", str(dt), str(window), str(settle),
                       str(options.neurons), str(target)]  # fmt: skip
        else:
            given = table(regional_network(options.neurons)) | cell_parameters(CELL)
            np.savez(source, dt=dt, settle=settle, window=window, current=CELL.background.mean,
                     weight_e=WEIGHT_E.get((tool, dt), CELL.g[0]), weight_i=CELL.g[2], **given)  # fmt: skip
            task = ["network"] if tool == "brian2" else []
            command = [str(python_of(options.environments, tool)), str(HERE / f"with_{tool}.py"), *task, str(source),
                       str(target)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{tool} failed:\n{done.stderr[-3000:]}")
        return json.loads(target.read_text(encoding="utf-8"))


def slowness(result: dict, clock: str = "cpu") -> list[float]:
    """Seconds per biological second of each window."""
    return [window[clock] / (window["ms"] / 1000) for window in result["windows"]]


def told(result: dict, dt: float, neurons: int, ours: list[dict] | None, options) -> None:
    """One line: speed and, beside it, everything that speed can be bought with."""
    values = slowness(result)
    base = median([x for each in ours for x in slowness(each)]) if ours else 1.0
    seconds = sum(window["ms"] for window in result["windows"]) / 1000
    rates = [window["spikes"] / neurons / (window["ms"] / 1000) for window in result["windows"]]
    rate = sum(window["spikes"] for window in result["windows"]) / neurons / seconds
    each_ns = median(values) / (result["synapses"] * rate) * 1e9
    more = {}
    if ours:
        fired = [window["spikes"] / neurons / (window["ms"] / 1000) for one in ours for window in one["windows"]]
        more = {"ours_s": base, "ours_rate_hz": median(fired)}
        more["ratio_per_event"] = each_ns / (base / (ours[0]["synapses"] * median(fired)) * 1e9)
    report(
        f"peers.{result['tool']}_{dt:g}", values, "CPU s per biological s",
        against="ours, before and after" if ours else "real time", ratios=[value / base for value in values],
        bar=BARS.get((result["tool"], dt)), n=neurons, bar_is="at least", dt=dt, version=result["version"],
        wall_s=median(slowness(result, "wall")), **more, integrator=result["integrator"],
        driven_rms_mv=accuracy(result["tool"], dt, options), synapses=result["synapses"], storage=result["storage"],
        rate_hz=rate, rate_min=min(rates), rate_max=max(rates),
        ns_per_event=each_ns, window_ms=result["windows"][0]["ms"],
        build_s=result["build_s"], compile_s=result["compile_s"], built_mb=result["built_bytes"] / 1e6,
        peak_mb=result["peak_bytes"] / 1e6,
    )  # fmt: skip


def build(result: dict, neurons: int) -> None:
    """Our build, kernels compiled before: description, tables, state and the first step."""
    spent, peak = [result["build_s"]], [result["built_bytes"]]
    dt = result["dt"]
    report(f"peers.build_{dt:g}", spent, "s", against="2 s", ratios=[spent[0] / BUILD_S], bar=1.0, n=neurons, dt=dt)
    report(f"peers.memory_{dt:g}", [peak[0] / 1e6], "MB of the whole process", against="200 MB",
           ratios=[peak[0] / BUILD_BYTES], bar=1.0, n=neurons, dt=dt)  # fmt: skip


def accuracy(tool: str, dt: float, options) -> float:
    """RMS error [mV] of the membrane of a neuron that cannot spike, under given spikes, against the exact solution."""
    case = Driven(replace(CELL, v_threshold=0.0), weights=Weights.constant(1.0))
    asked = case.asked(dt) | cell_parameters(case.cell)
    if tool == "ours":
        v = case.ours(dt).v
    elif tool == "nest":
        v = Nest(python_of(options.environments, tool)).ask("driven", **asked)["v"]
    else:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
            np.savez(source, **asked)
            command = [str(python_of(options.environments, tool)), str(HERE / "with_brian2.py"), "driven"]
            subprocess.run([*command, str(source), str(target)], check=True, capture_output=True)
            with np.load(target) as answer:
                v = answer["v"]
    return float(np.sqrt(np.mean((at_grid(v, dt) - case.exact()) ** 2)))


if __name__ == "__main__":
    main()
