"""d. Plans: balance, messages, traffic, slow-down of a billion neurons and of a human brain, and what planning costs.

python -m benchmarks.cluster_plan FOLDER    # draws the figures of docs/scaling.md into it
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import dtb
from benchmarks.measure import report
from benchmarks.processes import child, memory
from cluster.devices import Device, device_named
from cluster.plan import plan
from cluster.plan_report import Plan
from tests.synthetic import HETEROGENEOUS_HZ, heterogeneous_network

BILLION, HUMAN, HUMAN_DEGREE = 1_000_000_000, 86_000_000_000, 556
RANKS = (2, 16, 64, 512, 4096)
PUBLISHED_RANKS, PER_NODE = 14_012, 4
PUBLISHED_S = (65.0, 118.8)  # wall per biological second, at about 7 and 30 spikes/s: arXiv 2308.01241
COMPARED = ("even", "published", "longest-processing-time", "graph")
CASES = {
    "human_on_14012_dcu": (HUMAN, HUMAN_DEGREE, PUBLISHED_RANKS, "dcu-16gb"),
    "human_on_14012_h200": (HUMAN, HUMAN_DEGREE, PUBLISHED_RANKS, "h200"),
    "human_on_100_h200": (HUMAN, HUMAN_DEGREE, 100, "h200"),
}


def run() -> None:
    for microcircuit in ("ei", "column"):
        network = dtb.build_network(dtb.default_brain(), BILLION, microcircuit=microcircuit)
        for ranks in RANKS:
            found = plan(network, ranks, device_named("h200"), PER_NODE, compare=COMPARED)
            told(f"d.billion_{microcircuit}", found)
    for name in CASES:
        found = Plan.model_validate(child("benchmarks.cluster_plan", f"--{name}")["plan"])
        told(f"d.{name}", found)
    messages("d.messages", found_for("human_on_14012_dcu"))
    cost = child("benchmarks.cluster_plan", "--cost")
    report(
        "d.cost_s", [cost["wall_s"]], "s", against="60 s", ratios=[cost["wall_s"] / 60], bar=1.0, n=HUMAN,
        peak_gb=cost["peak_bytes"] / 1e9,
    )  # fmt: skip
    report(
        "d.cost_gb",
        [cost["peak_bytes"] / 1e9],
        "GB",
        against="1 GB",
        ratios=[cost["peak_bytes"] / 1e9],
        bar=1.0,
        n=HUMAN,
    )
    unlike(device_named("cpu"))


def unlike(core: Device) -> None:
    """The heterogeneous brain, on cores like those of this machine."""
    network = heterogeneous_network(4_000_000)
    for ranks in (2, 4, 16):
        found = plan(network, ranks, core, 2, rates=HETEROGENEOUS_HZ, tile_size=2048, compare=COMPARED)
        told("d.heterogeneous", found)


def told(bench: str, found: Plan) -> None:
    """Imbalance against what is allowed, and all methods of balance beside each other."""
    even = found.imbalance
    for what, value in (("compute", even.compute), ("memory", even.memory)):
        report(
            f"{bench}.{what}", [value], "max/mean over ranks", against=f"max(1.05, 1 + largest tile / mean load), "
            f"{even.allowed:.3f}", ratios=[value / even.allowed], bar=1.0, n=found.neurons, ranks=found.ranks,
        )  # fmt: skip
    ours = next(row for row in found.compared if row.method == found.method)
    for row in found.compared:
        report(
            f"{bench}.method", [row.slowdown], "wall s per biological s", against=f"balance '{found.method}'",
            ratios=[row.slowdown / ours.slowdown], bar=None, n=found.neurons, ranks=found.ranks, method=row.method,
            compute=row.compute, memory=row.memory, gb_between_nodes=row.bytes_total / 1e9, bound=row.bound,
            device=found.device.name,
        )  # fmt: skip


def messages(bench: str, found: Plan) -> None:
    flat = found.routes["flat"].messages
    for name, route in found.routes.items():
        report(
            bench, [route.messages], "messages per rank and epoch", against="flat over it",
            ratios=[flat / route.messages], bar=15.0 if name == "two-level" else None, bar_is="at least",
            n=found.neurons, ranks=found.ranks, route=name, messages_of_a_node=round(route.messages * PER_NODE),
            tb_between_nodes=route.bytes_total / 1e12,
            gb_from_busiest_node=route.bytes_per_node / 1e9,
            exchange_s=route.exchange_s, slowdown=route.slowdown, by_spike_share=found.by_spike_share,
        )  # fmt: skip


def found_for(name: str, compare: tuple[str, ...] = ()) -> Plan:
    n, degree, ranks, device = CASES[name]
    network = dtb.build_network(dtb.default_brain(), n, degree)
    return plan(network, ranks, device_named(device), PER_NODE, history="sender", compare=compare)


def cost() -> dict:
    """Of one plan of a human brain on the published machine, in this process."""
    begin = time.perf_counter()
    found_for("human_on_14012_dcu")
    wall = time.perf_counter() - begin
    return {"wall_s": wall, "peak_bytes": memory()}


def figures(folder: Path) -> None:
    """Planned slow-down over ranks, beside what was published."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "dtb", "svg.fonttype": "none"}
    human = dtb.build_network(dtb.default_brain(), HUMAN, HUMAN_DEGREE)
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=False)
    for device, colour in (("h200", "C0"), ("dcu-16gb", "C1")):
        ranks = [64, 128, 256, 512, 1024, 2048, 4096, 8192, PUBLISHED_RANKS]
        plans = [plan(human, r, device_named(device), PER_NODE, history="sender") for r in ranks]
        fit = [(r, p) for r, p in zip(ranks, plans, strict=True) if p.fits]
        for name, style in (("flat", ":"), ("two-level", "-"), ("grid", "--")):
            values = [p.routes[name].slowdown for _, p in fit]
            axes[0].loglog([r for r, _ in fit], values, style, color=colour, label=f"{device}, {name}")
    axes[0].plot([PUBLISHED_RANKS] * 2, PUBLISHED_S, "k_-", lw=1, label="published, 7 to 30 spikes/s")
    axes[0].set(
        title="strong: 86 · 10⁹ neurons × 556 (history at senders: not built)",
        xlabel="ranks",
        ylabel="wall s per biological s",
    )
    per_rank = 6_140_000
    ranks = [4, 16, 64, 256, 1024, 4096, PUBLISHED_RANKS]
    for device, colour in (("h200", "C0"), ("dcu-16gb", "C1")):
        plans = [
            plan(dtb.build_network(dtb.default_brain(), per_rank * r, HUMAN_DEGREE), r, device_named(device), PER_NODE)
            for r in ranks
        ]
        axes[1].loglog(ranks, [p.slowdown for p in plans], "-", color=colour, label=f"{device}, two-level")
        compute = [p.compute_rank.max for p in plans]
        axes[1].loglog(ranks, compute, ":", color=colour, label=f"{device}, compute alone")
    axes[1].plot([PUBLISHED_RANKS] * 2, PUBLISHED_S, "k_-", lw=1, label="published, 7 to 30 spikes/s")
    axes[1].set(title="weak: 6.14 · 10⁶ neurons on each rank", xlabel="ranks")
    for axis in axes:
        axis.title.set_fontsize(9)
    axes[0].set_ylim(bottom=1)
    for axis, place in zip(axes, ("lower left", "upper left"), strict=True):
        axis.legend(fontsize=6, frameon=False, loc=place, ncols=2 if place == "lower left" else 1)
        axis.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    fig.savefig(folder / "scaling.svg", metadata={"Date": None})


if __name__ == "__main__":
    wanted = sys.argv[1].removeprefix("--")
    if wanted == "cost":
        print(json.dumps(cost()))
    elif wanted in CASES:
        print(json.dumps({"plan": found_for(wanted, COMPARED).model_dump(mode="json")}))
    else:
        figures(Path(sys.argv[1]))
