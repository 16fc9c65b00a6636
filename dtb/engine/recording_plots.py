"""Drawings of a recording: axes in, axes out. The methods `plot_…` of Recording call them.

A drawing takes any matplotlib Axes, or makes one, and changes nothing outside of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dtb.theme import DIVERGING, INK, class_colours, log_ticks, region_colours, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dtb.engine.recording import Recording

SHOWN = 1000.0  # ms of a raster or a membrane where nothing is said: more is a smear
MAX_POINTS = 1000  # of a line: more than the pixels of a column of text
CLIP_Z = 2.5  # standard deviations at which the colours of a carpet end


class Spiking(NamedTuple):
    """Spikes of chosen neurons: time (spike,) ms, owner (spike,) index into gid; gid, population (neuron,)."""

    time: np.ndarray
    owner: np.ndarray
    gid: np.ndarray
    population: list[str]
    classes: list[str]  # of all neurons of the network, if that is known; in one order, which gives them their colours
    duration: float  # ms over which they were followed


def axes(ax: Axes | None) -> Axes:
    """The axes given, or new ones in a new figure of pyplot."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def region_of(population: str) -> str:
    return population.rpartition(".")[0]


def class_of(population: str) -> str:
    return population.rpartition(".")[2]


def spiking(recording: Recording) -> Spiking:
    """The neurons of the raster; where there is none, all neurons of the populations whose spikes were kept."""
    if "raster_gid" in recording:
        gid, population = recording["raster_neuron"], [str(name) for name in recording["raster_population"]]
        time, who = recording["raster_time"], recording["raster_gid"]
    elif "spike_gid" in recording:
        names = recording["spike_population"]
        first, n = recording["spike_population_first_gid"], recording["spike_population_n_neurons"]
        gid = np.concatenate([np.arange(f, f + k, dtype=np.uint64) for f, k in zip(first, n, strict=True)])
        population = [str(name) for name, k in zip(names, n, strict=True) for _ in range(k)]
        time, who = recording["spike_time"], recording["spike_gid"]
    else:
        raise ValueError("no spikes were recorded. Set raster or spikes of the Recording.")
    begin, end = recording.span
    named = map(str, recording["population"]) if "population" in recording else population
    classes = list(dict.fromkeys(map(class_of, named)))
    return Spiking(time, np.searchsorted(gid, who), gid, population, classes, end - begin)


def window(recording: Recording, start: float | None, stop: float | None) -> tuple[float, float]:
    """The ms to be drawn: those asked for, or the last second."""
    begin, end = recording.span
    stop = end if stop is None else stop
    start = max(begin, stop - SHOWN) if start is None else start
    if not begin <= start < stop <= end:
        raise ValueError(f"{start:g} to {stop:g} ms is not within the recording, {begin:g} to {end:g} ms.")
    return start, stop


def raster(
    recording: Recording,
    ax: Axes | None,
    start: float | None,
    stop: float | None,
    order: Sequence[str] | None,
    colours: Mapping[str, Any] | None,
) -> Axes:
    start, stop = window(recording, start, stop)
    spikes = spiking(recording)
    found = list(dict.fromkeys(map(region_of, spikes.population)))
    order = [name for name in order if name in set(found)] if order is not None else found
    if set(order) != set(found):
        raise ValueError(
            f"order leaves out region '{next(r for r in found if r not in set(order))}'. Name all of them."
        )
    rank = {name: k for k, name in enumerate(order)}
    if colours is None:
        colours = dict(zip(order, region_colours(np.arange(len(order))), strict=True))
    place = np.array([rank[region_of(p)] for p in spikes.population], dtype=np.int64)
    row = np.empty(len(place), np.int64)  # neurons of a region lie together, in the order of gids: E before I
    row[np.lexsort((np.arange(len(place)), place))] = np.arange(len(place))
    keep = (spikes.time >= start) & (spikes.time < stop)
    shade = np.array([colours[name] for name in order])[place[spikes.owner[keep]]] if keep.any() else None
    with themed():
        ax = axes(ax)
        # A mark a row high where rows are few, and two points where they are many: less is not seen.
        height = ax.get_window_extent().height * 72 / ax.figure.dpi / max(1, len(place))  # points
        size = max(2.0, height) ** 2
        at = spikes.time[keep] / 1000
        ax.scatter(at, row[spikes.owner[keep]], s=size, c=shade, marker="|", linewidths=0.8, rasterized=True)
        ax.set(xlim=(start / 1000, stop / 1000), ylim=(-0.5, max(1, len(place)) - 0.5))
        ax.set(xlabel="time [s]", ylabel=f"neuron (1 to {len(place):,})", yticks=[])
    return ax


def rates(recording: Recording, ax: Axes | None, smooth: float | None) -> Axes:
    time, lines = class_rates(recording)
    if not len(time):
        raise ValueError("no bin of the rates is full yet. Simulate longer, or make bin shorter.")
    width = 1
    if smooth is not None:
        width = max(1, round(smooth / recording.bin))
    elif len(time) > MAX_POINTS:
        width = -(-len(time) // MAX_POINTS)
    width = min(width, len(time))
    n = len(time) // width
    colour = class_colours([name for name in lines if name != "all neurons"]) | {"all neurons": INK}
    with themed():
        ax = axes(ax)
        middle = (time[: n * width].reshape(n, width).mean(axis=1) + recording.bin / 2) / 1000
        for name, rate in lines.items():
            ax.plot(middle, rate[: n * width].reshape(n, width).mean(axis=1), color=colour[name], label=name)
        ax.set(xlabel="time [s]", ylabel="rate [spikes/s]")
        ax.set_xlim(time[0] / 1000, (time[-1] + recording.bin) / 1000)
        ax.set_ylim(bottom=0)
        ax.legend(ncols=4, loc="upper right")
    return ax


def class_rates(recording: Recording) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(time,) ms, and the mean rate of each cell class, or of all neurons where only rates of regions were kept."""
    if "population_rate" not in recording:
        mean = [block.mean(axis=1) for block in recording.read_blocks("region_rate")]
        return recording.time, {"all neurons": np.concatenate([np.zeros(0), *mean])}
    names = [class_of(str(name)) for name in recording["population"]]
    neurons = recording["population_neurons"].astype(float)
    known = list(dict.fromkeys(names))
    share = np.array([[n if name == k else 0.0 for k in known] for name, n in zip(names, neurons, strict=True)])
    share /= share.sum(axis=0)
    blocks = [block @ share for block in recording.read_blocks("population_rate")]
    table = np.concatenate([np.zeros((0, len(known))), *blocks])
    return recording.time, {name: table[:, k] for k, name in enumerate(known)}


def intervals(spikes: Spiking, settle: float) -> tuple[np.ndarray, np.ndarray]:
    """Inter-spike intervals [ms] after `settle` ms, (interval,), and the neuron, (interval,), of each."""
    late = spikes.time >= settle
    time, owner = spikes.time[late], spikes.owner[late]
    order = np.lexsort((time, owner))
    time, owner = time[order], owner[order]
    same = owner[1:] == owner[:-1]
    return np.diff(time)[same], owner[1:][same]


def by_class(spikes: Spiking) -> tuple[list[str], np.ndarray]:
    """Names of the cell classes that any of the neurons is of, and the class (neuron,) of each neuron."""
    names = [class_of(p) for p in spikes.population]
    known = [name for name in spikes.classes if name in set(names)]
    return known, np.array([known.index(name) for name in names], dtype=np.int64)


def isi(recording: Recording, ax: Axes | None, settle: float) -> Axes:
    spikes = spiking(recording)
    known, kind = by_class(spikes)
    gap, owner = intervals(spikes, settle)
    colour = class_colours(spikes.classes)
    with themed():
        ax = axes(ax)
        if len(gap):
            edges = np.geomspace(gap.min() * 0.9, gap.max() * 1.1, 50).tolist()
            for k, name in enumerate(known):
                mine = gap[kind[owner] == k]
                label = f"{name}: {len(mine):,} intervals"
                ax.hist(mine, edges, weights=share_of(mine), histtype="step", lw=1.4, color=colour[name], label=label)
            ax.set_xscale("log")
            log_ticks(ax.xaxis, "{:,.0f}")
            ax.legend(loc="upper left")
        ax.set(xlabel="interval between spikes [ms]", ylabel="share of intervals")
        ax.set_ylim(0, ax.get_ylim()[1] * 1.25)
    return ax


def rate_distribution(recording: Recording, ax: Axes | None, settle: float) -> Axes:
    spikes = spiking(recording)
    known, kind = by_class(spikes)
    begin, end = recording.span
    settle = settle if begin < settle < end else begin
    count = np.bincount(spikes.owner[spikes.time >= settle], minlength=len(spikes.gid))
    rate = count / ((end - settle) / 1000)
    colour = class_colours(spikes.classes)
    with themed():
        ax = axes(ax)
        edges = np.linspace(0, max(1.0, rate.max(initial=0) * 1.02), 41).tolist()
        for k, name in enumerate(known):
            mine = rate[kind == k]
            label = f"{name}: mean {mine.mean():.1f}, {100 * np.mean(mine == 0):.0f} % silent"
            ax.hist(mine, edges, weights=share_of(mine), histtype="step", lw=1.4, color=colour[name], label=label)
        ax.set(xlabel="rate of a neuron [spikes/s]", ylabel="share of neurons", xlim=(0, edges[-1]))
        ax.set_ylim(0, ax.get_ylim()[1] * 1.25)
        ax.legend(loc="upper right")
    return ax


def share_of(values: np.ndarray) -> np.ndarray:
    """Weights that make a histogram's bars add up to 1."""
    return np.full(len(values), 1 / max(1, len(values)))


def membrane(recording: Recording, neuron: int, ax: Axes | None, start: float | None, stop: float | None) -> Axes:
    v = recording["V"]
    if not 0 <= neuron < v.shape[1]:
        raise ValueError(
            f"neuron is {neuron}; the membranes of {v.shape[1]} neurons were recorded, 0 to {v.shape[1] - 1}."
        )
    start, stop = window(recording, start, stop)
    time = recording["membrane_time"]
    keep = (time >= start) & (time < stop)
    name = str(recording["neuron_population"][neuron])
    with themed():
        ax = axes(ax)
        ax.plot(time[keep] / 1000, v[keep, neuron], color=class_colours([class_of(name)])[class_of(name)], lw=0.9)
        ax.set(xlabel="time [s]", ylabel="V [mV]", xlim=(start / 1000, stop / 1000))
        ax.set_title(f"neuron {int(recording['gid'][neuron])} of {name}")
    return ax


def carpet(bold: np.ndarray, time_s: np.ndarray, ax: Axes | None, label: str = "region") -> Axes:
    """BOLD (scan, region) as an image, each region less its mean and over its standard deviation."""
    spread = bold.std(axis=0)
    z = (bold - bold.mean(axis=0)) / np.where(spread > 0, spread, 1)
    step = time_s[1] - time_s[0] if len(time_s) > 1 else 1.0
    extent = (time_s[0] - step / 2, time_s[-1] + step / 2, bold.shape[1] - 0.5, -0.5)
    with themed():
        ax = axes(ax)
        image = ax.imshow(
            z.T, aspect="auto", extent=extent, cmap=DIVERGING, vmin=-CLIP_Z, vmax=CLIP_Z, interpolation="nearest"
        )
        bar = ax.figure.colorbar(image, ax=ax, pad=0.015, aspect=25)
        bar.set_label("BOLD [standard deviations]")
        ax.set(xlabel="time [s]", ylabel=f"{label} (1 to {bold.shape[1]:,})", yticks=[])
    return ax
