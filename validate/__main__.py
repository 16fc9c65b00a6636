"""Compare with NEST and say whether both agree: python -m validate --nest PYTHON [--seeds 10] [--out FOLDER]

Prints the tables of docs/validation.md, writes them as nest.json, and draws the figures. Exit code 1 where they differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import dtb
from validate import parts
from validate.nest_process import Nest

FIGURES = Path(__file__).with_name("figures.py")
LOWEST, HIGHEST = 0.9, 1.1  # order of a method of first order between neighbouring dt; rounding shows at 0.01 ms
NEST_TO_EXACT = 1e-3  # mV; iaf_cond_exp asks its integrator for 1e-3 in a step
MATCHED = 0.95  # of the spikes of the first 10 ms at the smallest dt, before differences grow
COINCIDE = 0.95  # of the spikes of a driven neuron at the smallest dt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nest", required=True, help="Python of the environment that has nest-simulator")
    parser.add_argument("--seeds", type=int, default=10, help="networks to compare; at least 2")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("runs/validate"))
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}; a comparison needs at least 2.")
    if not Path(options.nest).exists():
        print(
            f"NOT COMPARED WITH NEST: there is no {options.nest}. The wheel nest-simulator could not be installed, "
            "see above: it needs Linux or macOS, a Python it is built for, and a package index that can be reached. "
            "All else was checked."
        )
        return 0
    begin, nest = time.perf_counter(), Nest(options.nest)
    result: dict = {"membrane": parts.membrane(nest), "spike_times": parts.spike_times(nest)}
    result["versions"] = {"dtb": dtb.__version__, "nest": nest.version}
    show_membrane(result)
    result["spike_by_spike"] = parts.spike_by_spike(nest)
    show_network(result["spike_by_spike"])
    result["distributions"] = parts.distributions(nest, options.seeds, options.workers)
    show_distributions(result["distributions"])
    result["wall_s"] = round(time.perf_counter() - begin, 1)
    result["faults"] = faults(result)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "nest.json").write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")
    subprocess.run([options.nest, str(FIGURES), str(options.out)], check=True, capture_output=True)
    for fault in result["faults"]:
        print(f"DIFFERENT: {fault}")
    if not result["faults"]:
        print(f"NEST {nest.version} and this simulator agree. {options.out}/nest.json, {result['wall_s']:.0f} s.")
    return 1 if result["faults"] else 0


def faults(result: dict) -> list[str]:
    """What should not be; see docs/validation.md for why these are the bars."""
    found = []
    steps, spikes, same = result["membrane"]["steps"], result["spike_times"], result["spike_by_spike"]
    for row in steps:
        if row["nest_to_exact"] > NEST_TO_EXACT:
            found.append(f"NEST is {row['nest_to_exact']:.2g} mV from the exact solution at dt {row['dt']} ms.")
        if not LOWEST <= row.get("order", 1.0) <= HIGHEST:
            found.append(f"the membrane's error falls with order {row['order']:.2f} at dt {row['dt']} ms, not 1.")
    last = spikes[-1]
    if last["both"] < COINCIDE * max(last["ours"], last["nest"], 1):
        found.append(f"of {last['ours']} and {last['nest']} spikes of a driven neuron only {last['both']} coincide.")
    first = [row["share"][0] for row in same]
    if first[-1] < MATCHED or first[-1] <= first[0]:
        found.append(f"under the same currents {first[-1]:.0%} of the first spikes are the same, from {first[0]:.0%}.")
    against = result["distributions"]["against"]
    found += [
        f"{row['measure']} differs from NEST's: p = {row['p']:.2g} over {row['seeds']} seeds."
        for row in against["nest"]
        if not row["alike"]
    ]
    if all(row["alike"] for row in against["control"]):
        found.append("a tenth less inhibition went unnoticed, so agreement says nothing.")
    return found


def show_membrane(result: dict) -> None:
    print("Membrane of a driven neuron, against NEST:")
    print("  dt ms   rms mV   max mV   order   NEST to exact mV")
    for row in result["membrane"]["steps"]:
        order = f"{row['order']:.2f}" if "order" in row else "    "
        print(f"  {row['dt']:5g}  {row['rms']:7.4f}  {row['max']:7.4f}    {order}   {row['nest_to_exact']:.1e}")
    print("Its spikes:\n  dt ms   ours   NEST   both   apart ms")
    for row in result["spike_times"]:
        print(f"  {row['dt']:5g}  {row['ours']:5d}  {row['nest']:5d}  {row['both']:5d}   {row['apart']:.3f}")


def show_network(rows: list[dict]) -> None:
    width = int(parts.SAME_WINDOW)
    print(f"Networks under the same currents: share of our spikes that NEST has, in windows of {width} ms:")
    for row in rows:
        shares = "  ".join(f"{share:.2f}" for share in row["share"])
        print(f"  dt {row['dt']:5g} ms:  {shares}   by chance {row['by_chance']:.2f}")


def show_distributions(result: dict) -> None:
    told = {"nest": f"NEST at {parts.DT:g} ms", "again": "ours, other noise", "coarse": f"ours at {parts.COARSE:g} ms",
            "control": "ours, inhibition −10 %"}  # fmt: skip
    print(f"{result['seeds']} networks, ours at {parts.DT:g} ms against:")
    print("                          measure       ours     other    difference (95 %)    KS D       p")
    for name, rows in result["against"].items():
        for row in rows:
            print(
                f"  {told[name]:22s}  {row['measure']:11s} {row['mean_a']:7.4f}  {row['mean_b']:7.4f}   "
                f"{row['difference']:+8.4f} ± {row['interval']:.4f}   {row['distance']:.4f}  {row['p']:.2g}"
            )


def rounded(value):
    """Five digits of every float in a tree of results."""
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
