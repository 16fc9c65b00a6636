"""The brain of a run: tracts on a glass brain and as a matrix, delays, and values of regions on the brain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from dtb.report.folder import Run
from dtb.report.page import Note, Plate, blank, plate
from dtb.theme import GRID, INK, MUTED, SEQUENTIAL, class_colours, log_ticks, region_colours, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GLASS = np.array([[-90.0, 90.0], [-125.0, 92.0], [-72.0, 108.0]])  # mm: what nilearn's glass brain encloses, MNI152
SLACK = 12.0  # mm that centroids may lie outside of it
EDGES = 200  # tracts on the glass brain; more hide each other
MARKERS = 1_500  # regions on the glass brain; of more, an even choice
MARKER = 30  # points² of a dot
EXTREMES = (5, 95)  # percentiles where the colours of values on the brain end
SIDE = 400  # pixels of a matrix; more regions are averaged in squares


def in_glass(run: Run) -> bool:
    """Whether the centroids can be in the space of the glass brain, MNI152."""
    low, high = GLASS[:, 0] - SLACK, GLASS[:, 1] + SLACK
    return bool(((run.brain.centroid >= low) & (run.brain.centroid <= high)).all())


NOT_IN_GLASS = (
    "No glass brain: centroids of regions lie outside the MNI152 template, so they are not in its space. Bring the "
    "centroids of the Brain file to MNI152 coordinates [mm] to see regions on it."
)


def structure(run: Run) -> Iterator[Plate | Note]:
    """The connectome, on the brain and as a matrix, and the delays that come of it."""
    if not len(run.brain.tracts):
        yield Note("No connectome: this brain has no tracts.")
        return
    yield connectome(run) if in_glass(run) else Note(NOT_IN_GLASS)
    yield matrix_and_delays(run)


def connectome(run: Run) -> Plate:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from nilearn.plotting import plot_connectome

    tracts, n = run.brain.tracts, run.brain.n_regions
    post, pre, weight = undirected(tracts.post, tracts.pre, tracts.weight, n)
    strongest = np.argsort(-weight, kind="stable")[:EDGES]
    post, pre, weight = post[strongest], pre[strongest], weight[strongest]
    shown = np.union1d(np.union1d(post, pre), spread(n, MARKERS))
    place = np.full(n, -1)
    place[shown] = np.arange(len(shown))
    adjacency = np.zeros((len(shown), len(shown)))
    strength = np.log10(weight / weight.min()) + 0.1 if len(weight) else weight  # above 0, so that all are drawn
    adjacency[place[post], place[pre]] = adjacency[place[pre], place[post]] = strength
    volume = run.brain.volume[shown]
    colours = region_colours(run.brain.centroid[:, 1])[shown]
    with themed():
        figure = blank(2.9)
        display = plot_connectome(
            adjacency,
            run.brain.centroid[shown],
            node_color=list(colours),
            node_size=6 + 55 * volume / volume.max(),
            edge_cmap=edge_map(),
            edge_vmin=0,
            edge_vmax=float(strength.max(initial=1.0)),
            edge_kwargs={"linewidth": 1.1},
            node_kwargs={"edgecolors": "white", "linewidths": 0.4},
            display_mode="lyrz",
            figure=figure,
            axes=(0, 0, 0.9, 1),
            annotate=False,
            colorbar=False,
        )
        display.annotate(size=8, color=MUTED)
        ax = figure.add_axes((0.925, 0.12, 0.012, 0.76))
        top = float(weight.max() / weight.min()) if len(weight) else 1.0
        bar = figure.colorbar(ScalarMappable(LogNorm(1, max(top, 1.01)), edge_map()), cax=ax)
        bar.set_ticks([t for t in (1, 2, 5, 10, 20, 50, 100, 1000) if t <= top], minor=False)
        bar.ax.minorticks_off()
        bar.ax.yaxis.set_major_formatter("{x:g}×")
        bar.outline.set_edgecolor(GRID)
        bar.set_label("weight, relative to the weakest shown", size=8)
        reach = f"{weight.max() / weight.min():,.3g}-fold" if len(weight) else "not at all"
        return plate(
            figure,
            "Regions as dots and the strongest tracts as lines, seen from the left, the front, the right and above.",
            f"Connectome of the person: the {len(weight):,} strongest of {count_pairs(run):,} connected pairs of "
            f"regions, darker where stronger (they differ {reach}, on a log scale; both directions averaged). Each dot "
            "is a region at its centroid (MNI152), its size the grey matter that it holds, its colour the place from "
            "the back (dark) to the front (light) of the head, as in the raster below. Straight lines join centroids: "
            "they are not the paths of fibres. Tractography over-counts short tracts and says nothing of direction.",
        )


def matrix_and_delays(run: Run) -> Plate:
    from matplotlib.colors import LogNorm

    with themed():
        figure = blank(4.3, layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.05, 1))
        matrix = input_shares(run)
        positive = matrix[matrix > 0]
        norm = LogNorm(max(positive.min(), positive.max() * 1e-5), positive.max())
        image = left.imshow(np.ma.masked_equal(matrix, 0), norm=norm, cmap=SEQUENTIAL, interpolation="nearest")
        bar = figure.colorbar(image, ax=left, shrink=0.75, pad=0.02, label="share of a region’s long-range input")
        log_ticks(bar.ax.yaxis)
        mark_sides(left, run, len(matrix))
        left.set_title("Tracts")
        delay, share = delays(run)
        right.hist(delay, bins=60, weights=100 * share, color=class_colours(["E"])["E"], alpha=0.85)
        right.set(xlabel="delay of a long-range synapse [ms]", ylabel="share of them [%]", xlim=(0, None))
        right.set_title("Conduction delays")
        velocity, local = run.config.build_network.velocity, run.config.build_network.local_delay
        middle = weighted_median(delay, share)
        right.axvline(middle, color=INK, lw=1, ls="--")
        right.annotate(f"median {middle:.0f} ms", (middle, right.get_ylim()[1]), (4, -10), textcoords="offset points")
    return plate(
        figure,
        "Matrix of tract weights between regions, and a histogram of conduction delays.",
        "Left: who feeds whom. Each row is a region that receives, each column one that sends; the colour is the share "
        "of the receiver’s long-range synapses (rows add up to 1; white: no tract). Regions are ordered by hemisphere, "
        "in each the cortex before the rest and back before front. Right: delays of long-range synapses, tract length "
        f"over a velocity of {velocity:g} mm/ms, weighted by the number of synapses; synapses within a region take "
        f"{local:g} ms. One velocity for all tracts is a simplification.",
    )


def undirected(
    post: np.ndarray, pre: np.ndarray, weight: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(post, pre, weight) of each connected pair once, the mean of both directions; nothing within a region."""
    apart = post != pre
    a, b = np.maximum(post, pre)[apart].astype(np.int64), np.minimum(post, pre)[apart].astype(np.int64)
    pair, where = np.unique(a * n + b, return_inverse=True)
    return pair // n, pair % n, np.bincount(where, weight[apart]) / 2


def count_pairs(run: Run) -> int:
    tracts = run.brain.tracts
    return len(undirected(tracts.post, tracts.pre, tracts.weight, run.brain.n_regions)[0])


def spread(n: int, most: int) -> np.ndarray:
    """At most `most` of n numbers, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def input_shares(run: Run) -> np.ndarray:
    """(post, pre), ordered: share of what reaches a region; of very many regions, means over squares of them."""
    tracts, n = run.brain.tracts, run.brain.n_regions
    apart = tracts.post != tracts.pre
    post, pre, weight = tracts.post[apart], tracts.pre[apart], tracts.weight[apart]
    share = weight / np.bincount(post, weight, minlength=n)[post]
    side = min(n, SIDE)
    place = np.empty(n, np.int64)
    place[run.order] = np.arange(n) * side // n
    flat = np.bincount(place[post] * side + place[pre], share, minlength=side * side)
    members = np.bincount(place, minlength=side)
    return flat.reshape(side, side) / np.outer(members, members)


def mark_sides(ax: Axes, run: Run, side: int) -> None:
    """Lines between hemispheres, and their names instead of numbers."""
    hemisphere = np.array(run.brain.hemisphere)[run.order]
    names = {"L": "left", "B": "middle", "R": "right"}
    ticks, labels = [], []
    for letter, name in names.items():
        inside = np.flatnonzero(hemisphere == letter) * side / len(hemisphere)
        if len(inside):
            ticks.append(float(inside.mean()))
            labels.append(name)
            if inside[0] > 0:
                for line in (ax.axhline, ax.axvline):
                    line(inside[0] - 0.5, color="white", lw=1)
    ax.set_xticks(ticks, labels)
    ax.set_yticks(ticks, labels, rotation=90, va="center")
    ax.tick_params(length=0)
    ax.set(xlabel="from region (pre)", ylabel="to region (post)")
    ax.spines[:].set_visible(False)


def delays(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """(pair,) ms and (pair,) share of the long-range synapses."""
    delay, share = [np.zeros(0)], [np.zeros(0)]
    for projection in run.network.projections:
        pairs = projection.pairs
        sources = np.repeat(np.arange(len(pairs.start) - 1), np.diff(pairs.start))
        apart = sources != pairs.post
        fed = run.network.size[:, run.network.class_indices(projection.post)] @ np.array(projection.factor)
        delay.append(np.maximum(pairs.delay[apart], run.config.Simulation.dt))
        share.append((pairs.in_degree * fed[pairs.post])[apart])
    weight = np.concatenate(share)
    return np.concatenate(delay), weight / max(weight.sum(), 1e-300)


def weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values)
    running = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(running, running[-1] / 2)]) if len(values) else float("nan")


def edge_map():
    """Of tracts: warm, to be told from the grey lines of the glass brain and from the colours of regions."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("dtb_edges", ["#F6C99B", "#D55E00", "#5C2500"])


def markers(figure: Figure, run: Run, values: np.ndarray, box: tuple[float, float, float, float], **keywords) -> None:
    """Values (region,) as dots on a glass brain inside `box` of a figure; high ones lie on top."""
    from nilearn.plotting import plot_markers

    shown = spread(run.brain.n_regions, MARKERS)
    shown = shown[np.argsort(values[shown], kind="stable")]
    display = plot_markers(
        values[shown],
        run.brain.centroid[shown],
        figure=figure,
        axes=box,
        annotate=False,
        colorbar=False,
        node_kwargs={"edgecolors": "white", "linewidths": 0.3},
        **keywords,
    )
    display.annotate(size=8, color=MUTED)


def on_brain(run: Run, values: np.ndarray, unit: str, alt: str, caption: str) -> Plate:
    """Values of regions on the brain."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low, high = (float(x) for x in np.percentile(values, EXTREMES))  # or one odd region takes all the colours
    high = high if high > low else low + 1
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = beyond[bool(values.min() < low), bool(values.max() > high)]
    with themed():
        figure = blank(2.6)
        markers(figure, run, values, (0.0, 0.0, 0.88, 1.0), node_cmap=SEQUENTIAL, node_vmin=low, node_vmax=high,
                display_mode="lyrz", node_size=MARKER)  # fmt: skip
        ax = figure.add_axes((0.905, 0.16, 0.014, 0.68))
        bar = figure.colorbar(ScalarMappable(Normalize(low, high), SEQUENTIAL), cax=ax, extend=extend)
        bar.set_label(unit)
        bar.outline.set_edgecolor(GRID)
        return plate(figure, alt, caption)
