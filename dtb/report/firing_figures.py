"""Firing of a run: raster, rates over time, by population and on the brain, intervals, membranes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from dtb.engine.recording_plots import by_class, class_of, intervals, region_of, share_of, spiking
from dtb.engine.recording_views import SETTLE
from dtb.engine.statistics import MIN_SPIKES
from dtb.network.neuron import RECEPTORS
from dtb.report.brain_figures import NOT_IN_GLASS, in_glass, markers, on_brain
from dtb.report.folder import Run
from dtb.report.page import Note, Plate, blank, plate
from dtb.theme import GRID, INK, REGION_MAP, REGION_SPAN, class_colours, region_colours, themed

RASTER = 1000.0  # ms that the raster shows: single spikes are seen
SIDES = {"L": "left", "B": "middle", "R": "right"}
FINE = 5.0  # ms of the rate under the raster, as in the synchrony of a summary
CURRENT_COLOURS = {
    "AMPA": "#D55E00",
    "NMDA": "#E69F00",
    "GABA_A": "#0072B2",
    "GABA_B": "#56B4E9",
    "background": "#8C8C8C",
}


def firing(run: Run) -> Iterator[Plate | Note]:
    if not run.summary.biological_s:
        yield Note("Nothing was simulated, so nothing fired.")
        return
    spikes = any(name in run.recording for name in ("raster_gid", "spike_gid"))
    rates = any(name in run.recording for name in ("region_rate", "population_rate"))
    if spikes:
        yield raster(run)
    else:
        yield Note("No raster and no distributions: no spikes were kept. Set raster or spikes in [Recording].")
    if rates:
        yield rates_over_time(run)
        yield from rates_on_brain(run)
    else:
        yield Note("No rates were kept. Set rates = true in [Recording] to see them over time and on the brain.")
    if spikes:
        yield distributions(run)
    if "V" in run.recording and run.recording["V"].shape[1]:
        yield membrane(run)
    else:
        yield Note("No membrane was recorded. Name populations in membrane of [Recording] to see V and currents.")


def raster(run: Run) -> Plate:
    recording = run.recording
    begin, end = recording.span
    start = max(begin, end - RASTER)
    from_below = run.order[::-1]
    colours = dict(zip(run.labels, region_colours(run.brain.centroid[:, 1]), strict=True))
    shown = spiking(recording)
    n = len(shown.gid)
    glass = in_glass(run)
    with themed():
        figure = blank(5.6)
        wide = 0.70 if glass else 0.92
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
        if any(name in recording for name in ("region_rate", "population_rate")):
            recording.plot_rates(below, smooth=max(FINE, recording.bin))
            below.set_ylim(0, visible_top(below, start / 1000, end / 1000))
            below.set_xlim(start / 1000, end / 1000)
        below.set_xlabel("time [s]")
        if glass:
            rank = np.empty(len(from_below))
            rank[np.argsort(run.brain.centroid[:, 1], kind="stable")] = np.linspace(*REGION_SPAN, len(rank))
            for mode, box in (("x", (0.785, 0.64, 0.21, 0.31)), ("z", (0.785, 0.30, 0.21, 0.33))):
                markers(figure, run, rank, box, node_vmin=0, node_vmax=1, display_mode=mode, node_size=22,
                        node_cmap=REGION_MAP)  # fmt: skip
            figure.text(0.79, 0.955, "colour of a region", size=9, weight="bold")
        which = "drawn at random from the whole network" if "raster_gid" in recording else "of the recorded populations"
        key = "the glass brain is the key" if glass else "dark at the back of the head, light at the front"
        return plate(
            figure,
            "Raster of spikes, one row per neuron, coloured by region, and the mean rate of each cell class below it.",
            f"Spikes of {n:,} neurons {which}, in the last {(end - start) / 1000:g} s of the run. A row is a neuron; "
            "neurons of a region lie together and share its colour "
            f"({key}); in each hemisphere the cortex comes first, from back to front, then the rest. Bottom: mean rate "
            f"of each cell class over all neurons, in bins of {max(FINE, recording.bin):g} ms. Vertical stripes would "
            "be synchrony, rows without marks silent neurons.",
        )


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


def mean_rates(run: Run) -> tuple[dict[str, np.ndarray], bool]:
    """Mean rate (region,) of each class, NaN where a region has none of it, or of all neurons; and whether by class."""
    recording, n = run.recording, run.brain.n_regions
    begin, end = recording.span
    skip = round(SETTLE / recording.bin) if end - begin > SETTLE else 0
    if "population_rate" in recording:
        mean = mean_after(recording, "population_rate", skip)
        classes = [c.name for c in run.network.classes]
        values = {name: np.full(n, np.nan) for name in classes}
        for k, name in enumerate(classes):
            mine = run.network.population_class == k
            values[name][run.network.population_region[mine]] = mean[mine]
        return values, True
    values = {"all neurons": np.full(n, np.nan)}
    values["all neurons"][np.unique(run.network.population_region)] = mean_after(recording, "region_rate", skip)
    return values, False


def mean_after(recording, name: str, skip: int) -> np.ndarray:
    """(column,) float64: mean over the rows of an array after the first ones."""
    total, rows, seen = np.zeros(1), 0, 0
    for block in recording.read_blocks(name):
        late = block[max(0, skip - seen) :]
        total, rows, seen = total + late.sum(axis=0, dtype=np.float64), rows + len(late), seen + len(block)
    return total / max(rows, 1)


def rates_on_brain(run: Run) -> Iterator[Plate | Note]:
    values, by_kind = mean_rates(run)
    yield rates_by_population(run, values)
    if not in_glass(run):
        yield Note(NOT_IN_GLASS)
        return
    if by_kind:  # classes differ less than regions, and have the figure before
        size = run.network.size
        table = np.array([values[c.name] for c in run.network.classes]).T
        values = {"all neurons": np.nansum(table * size, axis=1) / size.sum(axis=1)}
    yield on_brain(
        run,
        values["all neurons"],
        "mean rate [spikes/s]",
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
    colour = class_colours(known)
    with themed():
        figure = blank(2.75, layout="constrained")
        left, middle, right = figure.subplots(1, 3)
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
        for ax, title in ((left, "Intervals"), (middle, "Rates"), (right, "Irregularity")):
            ax.set_title(title)
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
