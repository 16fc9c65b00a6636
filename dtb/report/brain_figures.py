"""The brain of a run: what is drawn of it on the glass brain, tracts as a matrix, and delays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dtb.report.folder import Run
from dtb.report.glass_brain import GlassBrain
from dtb.report.page import Note, Plate, blank, plate
from dtb.theme import INK, SEQUENTIAL, class_colours, log_ticks, region_colours, themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EDGES = 200  # tracts on the glass brain; more hide each other
MARKERS = 1_500  # regions on the glass brain; of more, an even choice
EXTREMES = (5, 95)  # percentiles where the colours of values on the brain end
SIDE = 400  # pixels of a matrix; more regions are averaged in squares
NOT_IN_GLASS = (
    "No glass brain: centroids of regions lie outside the MNI152 template, so they are not in its space. Bring the "
    "centroids of the Brain file to MNI152 coordinates [mm] to see regions on it."
)


def connectome(run: Run, glass: GlassBrain) -> Iterator[Plate | Note]:
    """The strongest tracts on the glass brain."""
    if not len(run.brain.tracts):
        yield Note("No connectome: this brain has no tracts.")
        return
    if "tracts" not in glass:
        yield Note(NOT_IN_GLASS)
        return
    weight = strongest(run)[1]
    reach = f"{weight.max() / weight.min():,.3g}-fold" if len(weight) else "not at all"
    yield plate(
        glass["tracts"],
        "Regions as dots and the strongest tracts as lines, seen from the left, the front, the right and above.",
        f"Connectome of the person: the {len(weight):,} strongest of {count_pairs(run):,} connected pairs of "
        f"regions, darker where stronger (they differ {reach}, on a log scale; both directions averaged). Each dot "
        "is a region at its centroid (MNI152), its size the grey matter that it holds, its colour the place from "
        "the back (dark) to the front (light) of the head, as in the raster below. Straight lines join centroids: "
        "they are not the paths of fibres. Tractography over-counts short tracts and says nothing of direction.",
    )


def strongest(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """(tract, 2) regions and (tract,) weights of the tracts that are drawn."""
    tracts = run.brain.tracts
    post, pre, weight = undirected(tracts.post, tracts.pre, tracts.weight, run.brain.n_regions)
    first = np.argsort(-weight, kind="stable")[:EDGES]
    return np.stack([post[first], pre[first]], axis=1), weight[first]


def tract_drawing(run: Run) -> dict[str, Any]:
    """What `glass_brain.tracts` draws."""
    ends, weight = strongest(run)
    n = run.brain.n_regions
    shown = np.union1d(ends, spread(n))
    return {
        "place": run.brain.centroid[shown],
        "volume": run.brain.volume[shown],
        "colour": region_colours(run.brain.centroid[:, 1])[shown],
        "ends": np.searchsorted(shown, ends),
        "weight": weight,
    }


def value_drawing(run: Run, values: np.ndarray, unit: str) -> dict[str, Any]:
    """What `glass_brain.rates` draws: values of regions, such as rates."""
    low, high = (float(x) for x in np.percentile(values, EXTREMES))  # or one odd region takes all the colours
    high = high if high > low else low + 1
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = beyond[bool(values.min() < low), bool(values.max() > high)]
    shown = spread(run.brain.n_regions)
    place, value = run.brain.centroid[shown], values[shown]
    return {"place": place, "value": value, "low": low, "high": high, "extend": extend, "unit": unit}


def matrix_and_delays(run: Run) -> Iterator[Plate]:
    """Who feeds whom, and how long that takes."""
    if not len(run.brain.tracts):
        return
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
    yield plate(
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


def spread(n: int) -> np.ndarray:
    """The regions of n that are drawn on the glass brain, evenly chosen."""
    return np.unique(np.linspace(0, n - 1, min(n, MARKERS)).round().astype(np.int64))


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
