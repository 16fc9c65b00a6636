"""Draw what nest.json says. Runs in NEST's environment, which has matplotlib: python figures.py FOLDER"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np

OURS, NEST = "#c1440e", "#1f5a7a"
LABELS = {"rate": "rate (spikes/s)", "cv": "CV of intervals", "correlation": "correlation of 5 ms counts"}


def style() -> None:
    mpl.rcParams.update({"svg.hashsalt": "dtb", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
                         "axes.spines.right": False, "legend.frameon": False})  # fmt: skip


def membrane(result: dict, path: Path) -> None:
    """Left: the membrane as each dt has it. Right: the error against dt, and a line of order 1."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), width_ratios=(2, 1), layout="constrained")
    shown = result["membrane"]["shown"]
    time = result["membrane"]["first_ms"] + np.arange(len(shown["nest"]))
    left.plot(time, shown["nest"], color=NEST, lw=2.5, label="NEST")
    left.plot(time, shown["1"], color=OURS, lw=1, ls=":", label="ours, dt 1 ms")
    left.plot(time, shown["0.1"], color=OURS, lw=1, label="ours, dt 0.1 ms")
    left.set(xlabel="time (ms)", ylabel="V (mV)")
    left.legend()
    steps = result["membrane"]["steps"]
    dt, error = np.array([[row["dt"], row["rms"]] for row in steps]).T
    right.loglog(dt, error[0] * dt / dt[0], color="0.7", label="order 1")
    right.loglog(dt, error, "o", color=OURS, label="rms error")
    right.set(xlabel="dt (ms)", ylabel="ours − NEST (mV)")
    right.legend()
    figure.savefig(path, metadata={"Date": None})


def distributions(result: dict, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.7), layout="constrained")
    for ax, (measure, histogram) in zip(axes, result["distributions"]["histograms"].items(), strict=True):
        ax.stairs(histogram["nest"], histogram["edges"], color=NEST, fill=True, alpha=0.35, label="NEST")
        ax.stairs(histogram["ours"], histogram["edges"], color=OURS, lw=1.3, label="ours")
        ax.set(xlabel=LABELS[measure], yticks=[])
    axes[0].set_ylabel("density")
    axes[0].legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    folder = Path(sys.argv[1])
    result = json.loads((folder / "nest.json").read_text(encoding="utf-8"))
    style()
    membrane(result, folder / "membrane.svg")
    distributions(result, folder / "distributions.svg")


if __name__ == "__main__":
    main()
