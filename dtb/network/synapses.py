"""The synapse rule: a synapse is a function of (Network.seed, gid, j), never a record.

A neuron's row is a list of segments laid end to end on the axis u, each as wide as its mean number of synapses, in
32.32 fixed point. Synapse j of neuron i draws a 64-bit r and sits at u = j + r/2⁶⁴: the segment that holds u is its
target population, the place within the segment is its target neuron. The integers are fixed in
docs/decisions/0001-synapse.md; what is here is that page in NumPy, slow and obvious. The backends compute the same.

    u axis of a source neuron, in synapses:
    0        1        2        3        4
    |--------|--------|--------|--------|      stratum j: exactly one draw in each
    [ V1.E      |V1.I |   V2.E     | … ]       segment m: from c_m to c_{m+1}
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dtb.network import rng
from dtb.network.network import Network
from dtb.network.projection import KINDS, QUANTILES, Projection

ONE = 2**32  # one synapse, in fixed point
MAX_OUT_DEGREE = 2**20
MANTISSA = 53  # bits that a float64 holds exactly
WEIGHT_BITS = 14  # the largest weight of a kind is above 2^13 and at most 2^14 units
CHUNK = 1 << 20  # pairs of regions that are summed up at once


class Tables(NamedTuple):
    """Fixed-point form of one projection: p pairs, r regions, k target classes times delay classes.

    width (p,) uint64: mean synapses of one source neuron into the target region, 32.32.
    start (p,) uint64: sum of the widths before it in its source region's part of the row.
    total (r,) uint64: width of a source region's part of the row.
    split (r, k + 1) uint64: how a target region's share divides over class and delay class, of 2³².
    """

    width: np.ndarray
    start: np.ndarray
    total: np.ndarray
    split: np.ndarray


class Row(NamedTuple):
    """The segments of one source population, m of them.

    bound (m + 1,) uint64 32.32; population, first gid, n, projection (m,); delay (m,) ms; pair (m,) of its projection.
    """

    bound: np.ndarray
    population: np.ndarray
    first: np.ndarray
    n: np.ndarray
    delay: np.ndarray
    projection: np.ndarray
    pair: np.ndarray


class Synapses(NamedTuple):
    """Outgoing synapses of one neuron, in the order of j, autapses dropped.

    j (s,) number; target (s,) gid; weight (s,) int32 in units of `weight_unit`; delay (s,) ms; kind (s,) 0 excitatory,
    1 inhibitory; projection (s,) its number; autapses: how many were dropped, autapse_delay (autapses,) ms of these.
    """

    j: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    delay: np.ndarray
    kind: np.ndarray
    projection: np.ndarray
    autapses: int
    autapse_delay: np.ndarray


@lru_cache(maxsize=64)
def tables(network: Network, number: int) -> Tables:
    """Compile projection `number` to integers; only +, ·, / and rounding in float64, the same on every machine."""
    projection = network.projections[number]
    pairs = projection.pairs
    fed = _fed(network, projection)  # (r, k) neurons times factor
    region_fed = fed[:, -1]
    pool = network.size[:, network.class_indices(projection.pre)].sum(axis=1)
    sources = np.maximum(pool, 1)[pairs.pre].astype(float)
    mean = pairs.in_degree * region_fed[pairs.post] / sources
    if mean.max(initial=0.0) >= MAX_OUT_DEGREE:
        raise ValueError(
            f"projection '{projection.name}' asks for {mean.max():.3g} synapses of one neuron; limit 2^20."
        )
    width = np.rint(mean * ONE).astype(np.uint64)
    ends = np.concatenate([[np.uint64(0)], np.cumsum(width)])
    at_region = ends[pairs.start]
    start = ends[:-1] - at_region[pairs.pre]
    return Tables(width, start, np.diff(at_region), _split(fed, len(projection.delay_classes)))


def _fed(network: Network, projection: Projection) -> np.ndarray:
    """(R, classes) float64: running sum over target classes of neurons times factor."""
    fed = network.size[:, network.class_indices(projection.post)] * np.array(projection.factor, float)
    return np.cumsum(fed, axis=1)


def _split(fed: np.ndarray, n_delays: int) -> np.ndarray:
    """(R, classes · delays + 1) uint64: shares of 2³², each class cut into equal delay classes by integer division."""
    whole = np.where(fed[:, -1:] > 0, fed[:, -1:], 1.0)
    share = np.zeros((len(fed), fed.shape[1] + 1), np.uint64)
    share[:, 1:] = np.rint(fed / whole * ONE).astype(np.uint64)
    steps = np.arange(n_delays, dtype=np.uint64)
    cut = share[:, :-1, None] + np.diff(share, axis=1)[:, :, None] * steps // np.uint64(n_delays)
    return np.concatenate([cut.reshape(len(fed), -1), share[:, -1:]], axis=1)


def scale(width: np.ndarray, share: np.ndarray) -> np.ndarray:
    """⌊width · share / 2³²⌋ of a 52-bit width and a share up to 2³², without leaving 64 bits."""
    low, half = np.uint64(ONE - 1), np.uint64(32)
    return (width >> half) * share + ((width & low) * share >> half)


def offsets(network: Network) -> np.ndarray:
    """(populations, projections + 1) uint64: where each projection's part of a population's row begins."""
    begin = np.zeros((network.n_populations, len(network.projections) + 1), np.uint64)
    for number, projection in enumerate(network.projections):
        sends = np.isin(network.population_class, network.class_indices(projection.pre))
        total = tables(network, number).total[network.population_region]
        begin[:, number + 1] = begin[:, number] + np.where(sends, total, np.uint64(0))
    if begin[:, -1].max(initial=0) >= MAX_OUT_DEGREE * ONE:
        worst = int(np.argmax(begin[:, -1]))
        raise ValueError(
            f"one neuron of '{network.population_name(worst)}' would have {begin[worst, -1] / ONE:,.0f} synapses; "
            "limit 2^20. Lower in_degree or give the region more neurons."
        )
    return begin


def population_of(network: Network, gids: int | np.ndarray) -> np.ndarray:
    """Population of each gid, checked to be one of the network's."""
    gids = np.asarray(gids)
    if gids.size and not (gids.min() >= 0 and gids.max() < network.n_neurons):
        raise ValueError(
            f"gid {gids.min() if gids.min() < 0 else gids.max()} is not in this network; its neurons are 0 to "
            f"{network.n_neurons - 1:,}."
        )
    return np.searchsorted(network.first_gid, gids, side="right") - 1


@lru_cache(maxsize=64)
def row_width(network: Network) -> np.ndarray:
    """(populations,) uint64 32.32: D, the mean out-degree of the neurons of each population."""
    width = offsets(network)[:, -1].copy()
    width.setflags(write=False)
    return width


def out_degree(network: Network, gids: np.ndarray) -> np.ndarray:
    """(n,) int64: synapses that each neuron emits, before autapses and lesions are taken off.

    All strata below ⌊D⌋ are full; the last, of width D - ⌊D⌋, holds a synapse where its draw falls into it.
    """
    gids = np.asarray(gids, np.int64)
    width = row_width(network)[population_of(network, gids)]
    whole = width >> np.uint64(32)
    draw = rng.hash64(gids, rng.key(network.seed, rng.Stream.POSITION, whole)) >> np.uint64(32)
    return (whole + (draw < (width & np.uint64(ONE - 1)))).astype(np.int64)


def expected_autapses(network: Network) -> float:
    """Mean number of synapses that hit their own source and are dropped: d/n for each neuron of a population, so d."""
    total = 0.0
    for number, projection in enumerate(network.projections):
        own = np.flatnonzero(projection.pairs.post == projection.pairs.pre)
        for name, width in zip(projection.post, _class_widths(network, number, own), strict=True):
            if name in projection.pre:
                total += float(width.sum())
    return total


def expected_multapses(network: Network) -> float:
    """Mean number of pairs of synapses of one projection that join the same two neurons.

    A target holds w = d/n of each segment. Two points of the u axis that are x apart lie in different strata, and so
    may both hold a synapse, with probability min(1, x), if where strata begin is taken as random. Summed over the
    target's parts of its segments, of which a projection with m delay classes has m, each d further on:

        n [h(w) + Σ_s (m - s) c(s d, w)],   h'' = min(1, |x|),   c(x, w) = h(x + w) + h(x - w) - 2 h(x)

    with h(w) = w³/6 for w ≤ 1. See docs/decisions/0001-synapse.md.
    """
    total = 0.0
    for number, projection in enumerate(network.projections):
        pairs, delays = projection.pairs, len(projection.delay_classes)
        pool = network.size[:, network.class_indices(projection.pre)].sum(axis=1)
        for begin in range(0, len(pairs), CHUNK):
            chunk = slice(begin, begin + CHUNK)
            sources = pool[pairs.pre[chunk]].astype(float)
            classes = network.class_indices(projection.post)
            for k, width in zip(classes, _class_widths(network, number, chunk), strict=True):
                n = np.maximum(network.size[pairs.post[chunk], k], 1)
                d = width / delays
                pairs_of_one = _h(d / n)
                for s in range(1, delays):
                    pairs_of_one += (delays - s) * _coincide(s * d, d / n)
                total += float((sources * n * pairs_of_one).sum())
    return total


def _class_widths(network: Network, number: int, chunk: slice | np.ndarray) -> Iterator[np.ndarray]:
    """For each target class of a projection the mean synapses of one source neuron into it, one float per pair."""
    projection, table = network.projections[number], tables(network, number)
    share = np.diff(table.split[:, :: len(projection.delay_classes)].astype(float), axis=1) / ONE
    post, width = projection.pairs.post[chunk], table.width[chunk].astype(float) / ONE
    for c in range(len(projection.post)):
        yield width * share[post, c]


def _h(x: np.ndarray) -> np.ndarray:
    """The even function with second derivative min(1, |x|)."""
    x = np.abs(x)
    return np.where(x <= 1, x**3 / 6, 1 / 6 + (x - 1) / 2 + (x - 1) ** 2 / 2)


def _coincide(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Integral of min(1, |x + a - b|) over a and b in [0, w]; x ≥ w."""
    near = np.where(x + w <= 1, x * w * w, _h(x + w) + _h(x - w) - 2 * _h(x))
    return np.where(x - w >= 1, w * w, near)


@lru_cache(maxsize=1024)
def row(network: Network, population: int) -> Row:
    """The segments of one source population, empty ones left out."""
    region, cell_class = network.population_region[population], network.population_class[population]
    bounds, targets, delays, numbers, of_pair = [], [], [], [], []
    begin = np.uint64(0)
    for number, projection in enumerate(network.projections):
        if cell_class not in network.class_indices(projection.pre):
            continue
        table, pairs = tables(network, number), projection.pairs
        of_region = slice(pairs.start[region], pairs.start[region + 1])
        post, width, start = pairs.post[of_region], table.width[of_region], table.start[of_region]
        split = table.split[post]  # (pairs, k + 1)
        cut = begin + start[:, None] + scale(width[:, None], split[:, :-1])
        n_delays = len(projection.delay_classes)
        index = network.population_index[post][:, network.class_indices(projection.post)]
        bounds.append(cut.ravel())
        targets.append(np.repeat(index, n_delays, axis=1).ravel())
        multiples = np.tile(projection.delay_classes, len(projection.post))
        delays.append((pairs.delay[of_region, None].astype(float) * multiples).ravel())
        numbers.append(np.full(cut.size, number))
        of_pair.append(np.repeat(np.arange(pairs.start[region], pairs.start[region + 1]), cut.shape[1]))
        begin = begin + table.total[region]
    bound = np.concatenate([*bounds, [begin]]).astype(np.uint64) if bounds else np.zeros(1, np.uint64)
    keep = np.diff(bound) > 0
    population_of = np.concatenate(targets)[keep] if targets else np.zeros(0, np.int64)
    return Row(
        np.concatenate([bound[:-1][keep], bound[-1:]]),
        population_of,
        network.first_gid[population_of],
        np.diff(network.first_gid)[population_of],
        np.concatenate(delays)[keep] if delays else np.zeros(0),
        np.concatenate(numbers)[keep] if numbers else np.zeros(0, np.int64),
        np.concatenate(of_pair)[keep] if of_pair else np.zeros(0, np.int64),
    )


def synapses(network: Network, gid: int, lesions: tuple[np.ndarray, ...] | None = None) -> Synapses:
    """Every outgoing synapse of neuron `gid`: the definition of the network's graph.

    Parameters
    ----------
    gid : int
    lesions : one (pairs,) float array per projection, or None
        Fraction of the synapses of each pair that is dropped; the others stay what they are. See `lesion_tracts`.

    Examples
    --------
    >>> import dtb
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=100)
    >>> out = synapses(network, 0)
    >>> len(out.target) > 50
    True
    """
    population = int(population_of(network, gid))
    segments = row(network, population)
    width = int(row_width(network)[population])
    j = np.arange(-(-width // ONE), dtype=np.uint64)
    r = rng.hash64(gid, rng.key(network.seed, rng.Stream.POSITION, j))
    u = (j << np.uint64(32)) + (r >> np.uint64(32))
    here = u < np.uint64(width)
    j, r, u = j[here], r[here], u[here]
    m = np.searchsorted(segments.bound, u, side="right") - 1
    target = segments.first[m] + place(u - segments.bound[m], r, np.diff(segments.bound)[m], segments.n[m])
    own = target == gid
    keep = ~own
    if lesions is not None:
        keep &= ~_lesioned(network, gid, j, segments, m, lesions)
    table = np.array([weight_table(network, p) for p in range(len(network.projections))], np.int32).reshape(
        -1, QUANTILES
    )
    choice = rng.hash64(gid, rng.key(network.seed, rng.Stream.WEIGHT, j)) >> np.uint64(56)
    number = segments.projection[m]
    kind = np.array([KINDS.index(p.kind) for p in network.projections], np.int64)[number]
    weight = table[number, choice.astype(np.int64)]
    fields = (j.astype(np.int64), target, weight, segments.delay[m], kind, number)
    return Synapses._make([*(field[keep] for field in fields), int(own.sum()), segments.delay[m][own]])


def place(offset: np.ndarray, r: np.ndarray, width: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Target within its population: ⌊(u - c) n / d⌋ as one float64 product of an exact integer and a constant.

    offset (s,) uint64: u - c, 32.32; the low half of r adds `spare_bits` further bits to it.
    """
    spare = spare_bits(width)
    exact = (offset << spare) + ((r & np.uint64(ONE - 1)) >> (np.uint64(32) - spare))
    found = np.floor(exact.astype(float) * reciprocal(width, n)).astype(np.int64)
    return np.minimum(found, n - 1)


def spare_bits(width: np.ndarray) -> np.ndarray:
    """How many bits of the low half of r fit a float64 beside a segment's 32.32 width: 53 less its bits, at most 32."""
    bits = np.frexp(np.asarray(width, float))[1]  # width < 2^52 is exact, so this is its bit length
    return np.minimum(MANTISSA - bits, 32).astype(np.uint64)


def reciprocal(width: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The constant of `place`: targets per unit of the exact integer."""
    return np.asarray(n, float) / np.ldexp(np.asarray(width, float), spare_bits(width).astype(np.int64))


def _lesioned(network, gid, j, segments, m, lesions) -> np.ndarray:
    """(s,) bool: dropped by a lesion, h(i, j) < f on the top 32 bits of a word of its own."""
    fraction = np.zeros(len(segments.pair))
    for number, of_pair in enumerate(lesions):
        here = segments.projection == number
        fraction[here] = of_pair[segments.pair[here]]
    word = rng.hash64(gid, rng.key(network.seed, rng.Stream.LESION, j)) >> np.uint64(32)
    return word < threshold(fraction)[m]


def threshold(fraction: np.ndarray) -> np.ndarray:
    """A lesioned fraction as the integer that 32 random bits are compared with; 1 drops all."""
    return np.rint(np.asarray(fraction, float) * ONE).astype(np.uint64)


def weight_unit(network: Network, kind: str) -> float:
    """Activation S per integer unit of a kind's weights: a power of two, so that the largest is at most 2¹⁴ units."""
    largest = max((p.weights.quantiles().max() for p in network.projections if p.kind == kind), default=1.0)
    mantissa, exponent = np.frexp(largest if largest > 0 else 1.0)
    return float(np.ldexp(1.0, int(exponent) - WEIGHT_BITS - (mantissa == 0.5)))


def weight_table(network: Network, number: int) -> np.ndarray:
    """(256,) int32: the weights of a projection in units of its kind."""
    projection = network.projections[number]
    return np.rint(projection.weights.quantiles() / weight_unit(network, projection.kind)).astype(np.int32)
