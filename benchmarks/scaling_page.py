"""Write the measured tables and figures of docs/scaling.md from lines of JSON, so that no figure is copied by hand.

make bench-cluster > docs/scaling.jsonl
python -m benchmarks.scaling_page docs/scaling.jsonl
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
COLOURS = ("#0b3c5d", "#2a7f9e", "#d17a22")  # from few neurons to many


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]


def table(head: list[str], rows: list[list[str]]) -> str:
    every = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in every)


def plans(found: list[dict]) -> str:
    """e: one row per cell."""
    cells: dict[tuple[int, int], dict[str, dict]] = {}
    for line in found:
        if line["bench"].startswith("e.") and "planned" in line:
            cells.setdefault((line["n"], line["ranks"]), {})[line["bench"][2:]] = line
    rows = []
    for (n, ranks), told in sorted(cells.items()):
        clock = told["time"]
        beside = [f"{told[name]['planned_over_measured']:.3f}" for name in ("memory", "events", "spikes_in")]
        crowded = ", oversubscribed" if clock["oversubscribed"] else ""
        within = "yes" if clock["ratio"] <= 1 else "**no**"
        rows.append(
            [f"{n:,}", f"{ranks}{crowded}", f"{clock['measured']:.3g}", f"{clock['planned']:.3g}",
             f"{clock['planned_over_measured']:.2f}", within, *beside]
        )  # fmt: skip
    head = ["neurons", "ranks", "measured s", "planned s", "planned / measured", "within 30 %", "memory", "events"]
    return table([*head, "spikes in"], rows)


def speeds(found: list[dict]) -> str:
    """c: what two ranks gain."""
    rows = []
    for line in found:
        if line["bench"].startswith("c.") and line["bench"] != "c.disturbance":
            low, bar = line["bar_is"] == "at least", line["bar"]
            reached = bar is None or (line["ratio"] >= bar if low else line["ratio"] <= bar)
            told = "" if bar is None else "yes" if reached else "**no**"
            rows.append(
                [line["bench"][2:].replace("_", " "), f"{line['value']:.3g} {line['unit']}", line["against"],
                 f"{line['ratio']:.3g} ({line['ratio_min']:.3g} to {line['ratio_max']:.3g})",
                 f"{line['bar_is']} {bar:g}" if bar is not None else "–", told]
            )  # fmt: skip
    return table(["what", "value", "against", "ratio, median and extremes", "bar", "reached"], rows)


def balances(found: list[dict], bench: str) -> str:
    """d: all methods of balance beside each other."""
    rows = [
        [f"{line['ranks']:,}", line["method"], f"{line['compute']:.3f}", f"{line['memory']:.3f}",
         f"{line['gb_between_nodes']:,.4g}", f"{line['value']:.3g}", f"{line['ratio']:.2f}", line["bound"]]
        for line in found
        if line["bench"] == f"{bench}.method"
    ]  # fmt: skip
    head = ["ranks", "balance", "compute, max/mean", "memory, max/mean", "GB between nodes", "wall s"]
    return table([*head, "over `regions`", "bound by"], rows)


def messages(found: list[dict]) -> str:
    rows = [
        [line["route"], f"{line['value']:,.5g}", f"{line['ratio']:.3g}", f"{line['messages_of_a_node']:,}",
         f"{line['tb_between_nodes']:,.4g}", f"{line['exchange_s']:.3g}", f"{line['slowdown']:.3g}"]
        for line in found
        if line["bench"] == "d.messages"
    ]  # fmt: skip
    head = ["routing", "messages per rank and exchange", "times fewer", "of a node", "TB between nodes", "exchange s"]
    share = next((line["by_spike_share"] for line in found if line["bench"] == "d.messages"), None)
    told = "" if share is None else f"\n\nSent only to nodes where its own synapses end: {share:.1%} of the bytes."
    return table([*head, "slow-down"], rows) + told


def disturbed(found: list[dict]) -> str:
    told = {line["bench"][0]: line["value"] for line in found if line["bench"].endswith(".disturbance")}
    parts = ", ".join(f"{letter}: {cores:.2g}" for letter, cores in sorted(told.items()))
    return f"Cores that other programs used meanwhile, of 2 ({parts}); above 0.1, times are not to be trusted."


def figure(found: list[dict]) -> None:
    """Strong scaling on this machine, measured (dots) and planned (lines); planned against measured."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "dtb", "svg.fonttype": "none"}
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    times = [line for line in found if line["bench"] == "e.time"]
    for n, colour in zip(sorted({line["n"] for line in times}), COLOURS, strict=False):
        of = sorted((line for line in times if line["n"] == n), key=lambda line: line["ranks"])
        ranks = [line["ranks"] for line in of]
        axes[0].plot(ranks, [line["measured"] for line in of], "o", color=colour, label=f"{n:,}")
        axes[0].plot(ranks, [line["planned"] for line in of], "-", color=colour, lw=1)
        for line in of:
            filled = colour if not line["oversubscribed"] else "white"
            axes[1].plot(line["measured"], line["planned"], "o", mec=colour, mfc=filled)
    axes[0].set(xscale="log", yscale="log", xlabel="ranks (4: oversubscribed)", ylabel="wall s per biological s")
    axes[0].set_xticks([1, 2, 4], ["1", "2", "4"])
    axes[0].minorticks_off()
    axes[0].set_title("strong scaling: dots measured, lines planned", fontsize=10)
    axes[0].legend(title="neurons", fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    low, high = (f([line[k] for line in times for k in ("planned", "measured")]) for f in (min, max))
    ends = [low * 0.8, high * 1.25]
    axes[1].loglog(ends, ends, color="0.4", lw=1)
    axes[1].fill_between(ends, [0.7 * e for e in ends], [1.3 * e for e in ends], color="0.9", label="within 30 %")
    axes[1].set(xlabel="measured, wall s per biological s", ylabel="planned", xlim=ends, ylim=ends)
    axes[1].set_title("plan against measurement (open: oversubscribed)", fontsize=10)
    axes[1].legend(fontsize=8, frameon=False, loc="upper left")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    fig.savefig(DOCS / "scaling-measured.svg", metadata={"Date": None})


def main() -> None:
    found = lines(Path(sys.argv[1]))
    parts = {
        "speeds": speeds(found),
        "plans": plans(found),
        "disturbed": disturbed(found),
        "billion": balances(found, "d.billion_ei"),
        "heterogeneous": balances(found, "d.heterogeneous"),
        "human": "\n\n".join(
            f"**{name.replace('_', ' ')}**\n\n{balances(found, f'd.{name}')}"
            for name in ("human_on_14012_dcu", "human_on_14012_h200", "human_on_100_h200")
        ),
        "messages": messages(found),
    }
    page = (DOCS / "scaling.md").read_text(encoding="utf-8")
    for name, text in parts.items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if len(block.findall(page)) != 1:
            raise ValueError(f"docs/scaling.md has no single block <!-- {name} --> … <!-- end -->.")
        page = block.sub(lambda match, text=text: match[1] + text + "\n" + match[2], page)
    (DOCS / "scaling.md").write_text(page, encoding="utf-8")
    figure(found)


if __name__ == "__main__":
    main()
