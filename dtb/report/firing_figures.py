"""Firing of a run: raster, rates over time, by population and on the brain, intervals, membranes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dtb.engine.recording_plots import by_class, class_of, intervals, region_of, share_of, spiking
from dtb.engine.recording_views import SETTLE
from dtb.engine.statistics import MIN_SPIKES
from dtb.network.neuron import RECEPTORS
from dtb.report.brain_figures import NOT_IN_GLASS
from dtb.report.folder import Run
from dtb.report.glass_brain import GlassBrain
from dtb.report.page import Note, Plate, blank, plate
from dtb.theme import GRID, INK, MUTED, class_colours, region_colours, themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RASTER = 1000.0  # ms that the raster shows: single spikes are seen
SIDES = {"L": "left", "B": "middle", "R": "right"}
FEW = 4  # cell classes, up to which a legend finds room inside of its axes
FINE = 5.0  # ms of the rate under the raster, as in the synchrony of a summary
CURRENT_COLOURS = {
    "AMPA": "#D55E00",
    "NMDA": "#E69F00",
    "GABA_A": "#0072B2",
    "GABA_B": "#56B4E9",
    "background": "#8C8C8C",
}
NO_SPIKES = "No raster and no distributions: no spikes were kept. Set raster or spikes in [Recording]."
NO_RATES = "No rates were kept. Set rates = true in [Recording] to see them over time and on the brain."
NO_MEMBRANE = "No membrane was recorded. Name populations in membrane of [Recording] to see V and currents."


def firing(run: Run, glass: GlassBrain) -> list[Plate | Note]:
    if not run.summary.biological_s:
        return [Note("Nothing was simulated, so nothing fired.")]
    spikes, rates = has_spikes(run), has_rates(run)
    parts: list[Plate | Note] = []
    if rates:
        values = run.class_rates or {"all neurons": run.region_rates}
        parts += [rates_over_time(run), rates_by_population(run, values)]
    else:
        parts.append(
            Note("No rates were kept. Set rates = true in [Recording] to see them over time and on the brain.")
        )
    if spikes:
        parts.append(distributions(run))
    if "V" in run.recording and run.recording["V"].shape[1]:
        parts.append(membrane(run))
    else:
        parts.append(
            Note("No membrane was recorded. Name populations in membrane of [Recording] to see V and currents.")
        )
    parts.insert(0, raster(run) if spikes else Note(NO_SPIKES))
    if rates:  # now only, because the glass brain is being drawn meanwhile
        parts.insert(3, rates_on_brain(glass["rates"]) if "rates" in glass else Note(NOT_IN_GLASS))
    return parts


def has_spikes(run: Run) -> bool:
    return any(name in run.recording for name in ("raster_gid", "spike_gid"))


def has_rates(run: Run) -> bool:
    return any(name in run.recording for name in ("region_rate", "population_rate"))


def raster(run: Run) -> Plate:
    recording = run.recording
    begin, end = recording.span
    start = max(begin, end - RASTER)
    from_below = run.order[::-1]
    colours = dict(zip(run.labels, region_colours(run.brain.centroid[:, 1]), strict=True))
    shown = spiking(recording)
    n = len(shown.gid)
    with themed():
        figure = blank(5.6)
        wide = 0.72
        top = figure.add_axes((0.065, 0.30, wide, 0.675))
        recording.plot_raster(top, start, end, [run.labels[r] for r in from_below], colours)
        top.set(xlabel="", ylabel=f"{n:,} neurons, by region")
        side = dict(zip(run.labels, run.brain.hemisphere, strict=True))
        sides = Counter(side[region_of(p)] for p in shown.population)
        edges = np.cumsum([0, *(sides[s] for s in "RBL")])
        there = [(a + b - 1) / 2 for a, b in pairwise(edges) if b > a]
        top.set_yticks(there, [SIDES[s] for s in "RBL" if sides[s]], rotation=90, va="center")
        top.tick_params(axis="y", length=0)
        for edge in edges[1:-1]:
            top.axhline(edge - 0.5, color=GRID, lw=0.8, zorder=0)
        top.tick_params(labelbottom=False)
        below = figure.add_axes((0.065, 0.09, wide, 0.175), sharex=top)
        if has_rates(run):
            recording.plot_rates(below, smooth=max(FINE, recording.bin))
            below.set_ylim(0, visible_top(below, start / 1000, end / 1000))
            below.set_xlim(start / 1000, end / 1000)
            classes = len(run.network.classes)
            below.legend(loc="upper left", bbox_to_anchor=(1.02, 1.1), ncols=1 if classes <= FEW else 2)
        below.set_xlabel("time [s]")
        key_to_colours(figure, run)
        which = "drawn at random from the whole network" if "raster_gid" in recording else "of the recorded populations"
        return plate(
            figure,
            "Raster of spikes, one row per neuron, coloured by region, and the mean rate of each cell class below it.",
            f"Spikes of {n:,} neurons {which}, in the last {(end - start) / 1000:g} s of the run. A row is a neuron; "
            "neurons of a region lie together and share its colour (right: regions at their centroids, from the side "
            "and from above); in each hemisphere the cortex comes first, from back to front, then the rest. Bottom: "
            f"mean rate of each cell class over all neurons, in bins of {max(FINE, recording.bin):g} ms. Vertical "
            "stripes would be synchrony, rows without marks silent neurons.",
        )


def key_to_colours(figure: Figure, run: Run) -> None:
    """Regions at their centroids, in the colours that they have in the raster: from the side and from above."""
    place, colours = run.brain.centroid, region_colours(run.brain.centroid[:, 1])
    figure.text(0.80, 0.955, "colour of a region", size=9, weight="bold")
    for (across, up), (bottom, height), ends in (((1, 2), (0.69, 0.24), "back front"), ((0, 1), (0.30, 0.34), "L R")):
        ax = figure.add_axes((0.80, bottom, 0.19, height))
        nearest = np.argsort(place[:, 3 - across - up], kind="stable")  # they lie on top
        x, y = place[nearest, across], place[nearest, up]
        ax.scatter(x, y, s=22, c=colours[nearest], edgecolors="white", linewidths=0.4)
        ax.set_aspect("equal")
        ax.set_axis_off()
        for at, text, side in zip((0, 1), ends.split(), ("left", "right"), strict=True):
            ax.text(at, -0.02, text, size=8, color=MUTED, ha=side, va="top", transform=ax.transAxes)


def visible_top(ax, start: float, stop: float) -> float:
    """A little above the highest point of the lines between two times."""
    highest = [
        float(np.max(line.get_ydata()[(line.get_xdata() >= start) & (line.get_xdata() <= stop)], initial=0.0))
        for line in ax.get_lines()
    ]
    return 1.3 * max([*highest, 1e-9])


def rates_over_time(run: Run) -> Plate:
    with themed():
        figure = blank(2.3, layout="constrained")
        ax = figure.subplots()
        run.recording.plot_rates(ax)
        if len(run.network.classes) > FEW:
            ax.legend(loc="upper left", bbox_to_anchor=(1, 1.05), ncols=1)
        highest = ax.get_ylim()[1]
        ax.set_ylim(0, highest * 1.15)
        begin, end = run.recording.span
        left_out = end - begin > SETTLE
        if left_out:
            ax.axvspan(begin / 1000, (begin + SETTLE) / 1000, color=GRID, alpha=0.6, lw=0, zorder=0)
    return plate(
        figure,
        "Mean rate of each cell class over the whole run.",
        "Mean rate of each cell class over the whole run. It starts with silent synapses"
        + (", so the first 2 s (grey) are left out of irregularity and synchrony" if left_out else "")
        + ". A rate that still drifts at the end has not settled.",
        vector=True,
    )


def rates_on_brain(picture: bytes) -> Plate:
    return plate(
        picture,
        "Mean rate of each region on the glass brain.",
        "Mean rate of each region on the glass brain, the first 2 s left out of longer runs; seen from the left, the "
        "front, the right and above. Colours end at the 5th and 95th percentile of all values. Regions differ by what "
        "reaches them through tracts; their cells are alike.",
    )


def rates_by_population(run: Run, values: dict[str, np.ndarray]) -> Plate:
    colour = class_colours([name for name in values if name != "all neurons"]) | {"all neurons": INK}
    shift = np.random.default_rng(0).uniform(-0.32, 0.32, run.brain.n_regions)  # so that dots do not hide each other
    with themed():
        figure = blank(0.9 + 0.42 * len(values), layout="constrained")
        ax = figure.subplots()
        for k, (name, rate) in enumerate(values.items()):
            there = ~np.isnan(rate)
            ax.scatter(rate[there], k + shift[there], s=9, color=colour[name], alpha=0.7, lw=0, rasterized=True)
            ax.plot([np.median(rate[there])] * 2, [k - 0.4, k + 0.4], color=INK, lw=1.6)
        ax.set_yticks(range(len(values)), list(values))
        ax.set(xlabel="mean rate of a population [spikes/s]", ylim=(len(values) - 0.5, -0.5), xlim=(0, None))
        ax.grid(axis="x", color=GRID, lw=0.7)
        ax.set_axisbelow(True)
    return plate(
        figure,
        "Mean rate of every population, by cell class.",
        "Mean rate of every population, a dot each; the line is the median over regions. Dots are spread vertically "
        "only to be seen. None should lie at zero or far beyond the others.",
        vector=True,
    )


def distributions(run: Run) -> Plate:
    spikes = spiking(run.recording)
    begin, end = run.recording.span
    settle = begin + SETTLE if end - begin > SETTLE else begin
    known, kind = by_class(spikes)
    gap, owner = intervals(spikes, settle)
    n = np.bincount(owner, minlength=len(kind))
    mean = np.bincount(owner, gap, len(kind)) / np.maximum(n, 1)
    square = np.bincount(owner, gap**2, len(kind)) / np.maximum(n, 1)
    enough = n >= MIN_SPIKES - 1
    cv = np.sqrt(np.maximum(square - mean**2, 0))[enough] / mean[enough]
    colour = class_colours(spikes.classes)
    with themed():
        figure = blank(2.75, layout="constrained")
        left, middle, right = axes = figure.subplots(1, 3)
        run.recording.plot_isi(left, settle)
        run.recording.plot_rate_distribution(middle, settle)
        edges = np.linspace(0, max(2.0, float(cv.max(initial=0)) * 1.02), 41)
        for k, name in enumerate(known):
            mine = cv[kind[enough] == k]
            label = f"{name}: mean {mine.mean():.2f}" if len(mine) else f"{name}: too few spikes"
            right.hist(mine, edges, weights=share_of(mine), histtype="step", lw=1.4, color=colour[name], label=label)
        right.axvline(1, color=INK, lw=0.8, ls="--")
        right.set(xlabel="CV of a neuron’s intervals", ylabel="share of neurons", xlim=(0, edges[-1]))
        right.set_ylim(0, right.get_ylim()[1] * 1.25)
        right.legend(loc="upper right")
        for ax, title in zip(axes, ("Intervals", "Rates", "Irregularity"), strict=True):
            ax.set_title(title)
        if len(known) > FEW:  # three legends would hide what they explain
            handles, labels = right.get_legend_handles_labels()
            for ax in axes:
                ax.get_legend().remove()
            names = [label.partition(":")[0] for label in labels]
            figure.legend(handles, names, loc="outside lower center", ncols=len(names), handlelength=1.2)
    return plate(
        figure,
        "Histograms of inter-spike intervals, of rates of neurons, and of the coefficient of variation of intervals.",
        f"{len(kind):,} neurons after {settle / 1000:g} s. Left: intervals between spikes (log scale). Middle: rates "
        f"of single neurons. Right: coefficient of variation of the intervals of each of {int(enough.sum()):,} neurons "
        f"with at least {MIN_SPIKES} spikes; 0 is a clock, 1 (dashed) a Poisson process. A short run has few long "
        "intervals, which lowers it.",
        vector=True,
    )


def membrane(run: Run) -> Plate:
    recording = run.recording
    begin, end = recording.span
    start = max(begin, end - RASTER / 2)
    time = recording["membrane_time"]
    keep = (time >= start) & (time < end)
    names = [str(name) for name in recording["neuron_population"]]
    chosen = [names.index(name) for name in dict.fromkeys(names)][:2]  # one of each of two populations
    spikes_of = [class_of(names[k]) for k in chosen]
    with themed():
        figure = blank(1.0 + 1.9 * len(chosen), layout="constrained")
        panels = figure.subplots(len(chosen), 2, squeeze=False, sharex=True)
        for row, k in enumerate(chosen):
            recording.plot_membrane(k, panels[row, 0], start, end)
            cell = next(c.cell for c in run.network.classes if c.name == spikes_of[row])
            panels[row, 0].axhline(cell.v_threshold, color=INK, lw=0.8, ls=":")
            for name in (*RECEPTORS, "background"):
                current = recording[f"I_{name}"][keep, k]
                if np.any(current):
                    panels[row, 1].plot(time[keep] / 1000, current, lw=0.8, color=CURRENT_COLOURS[name], label=name)
            panels[row, 1].set(ylabel="current [pA]", xlim=(start / 1000, end / 1000))
        low, high = panels[0, 1].get_ylim()
        panels[0, 1].set_ylim(low, high + 0.3 * (high - low))
        panels[0, 1].legend(ncols=5, loc="upper right", handlelength=1.2, columnspacing=1.0)
        for ax in panels[:-1].flat:
            ax.set_xlabel("")
        panels[-1, 1].set_xlabel("time [s]")
    return plate(
        figure,
        "Membrane potential and currents of recorded neurons over half a second.",
        f"Membrane potential and the currents into it, for {len(chosen)} of {len(names)} recorded neurons, in the last "
        f"{(end - start) / 1000:g} s. Dotted: threshold. A spike is one step long and not drawn: V falls from below "
        "threshold to its reset. Currents that are zero throughout are left out; inward is positive.",
        vector=True,
    )
