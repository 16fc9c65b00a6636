"""Descriptions of small networks, made by hand or by hypothesis, and the Network and the edges they stand for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from dtb.network import rng
from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF
from dtb.network.projection import Pairs, Projection, Weights
from dtb.network.synapses import ONE, place, row, row_width, weight_table


class Edges(NamedTuple):
    """Every synapse of a network, autapses among them, neuron by neuron and in the order of j.

    pre, post gid; j; u 32.32; weight; delay ms; projection; pair of it; segment of the source population's row.
    """

    pre: np.ndarray
    post: np.ndarray
    j: np.ndarray
    u: np.ndarray
    weight: np.ndarray
    delay: np.ndarray
    projection: np.ndarray
    pair: np.ndarray
    segment: np.ndarray


def network_of(description: dict[str, Any], seed: int | None = None) -> Network:
    """A Network from the form that the known answers are kept in; every class has the default cell."""
    n_regions = len(description["regions"])
    projections = []
    for p in description["projections"]:
        post, pre, in_degree, delay = zip(*p["pairs"], strict=True) if p["pairs"] else ((), (), (), ())
        pairs = Pairs.from_triplets(n_regions, post, pre, in_degree, delay)
        names = (p["name"], p["kind"], tuple(p["pre"]), tuple(p["post"]), tuple(p["factor"]))
        projections.append(Projection(*names, pairs, Weights(*p["weights"]), tuple(p["delay_classes"])))
    classes = tuple(CellClass(name, LIF()) for name in description["classes"])
    seed = description["seed"] if seed is None else seed
    return Network(tuple(description["regions"]), classes, np.array(description["size"]), tuple(projections), seed)


def rule(name, pre, post, pairs, kind="excitatory", factor=None, weights=("uniform", 0.0, 1.0), delay_classes=(1.0,)):
    """A projection of a description; pairs are (post region, pre region, in-degree, delay)."""
    return {
        "name": name,
        "kind": kind,
        "pre": list(pre),
        "post": list(post),
        "factor": list(factor or [1.0] * len(post)),
        "pairs": [list(pair) for pair in pairs],
        "weights": list(weights),
        "delay_classes": list(delay_classes),
    }


def describe(size, projections, classes=("E", "I"), seed=1):
    """A description; one region per row of `size`."""
    names = [f"R{i}" for i in range(len(size))]
    return {
        "regions": names,
        "classes": list(classes),
        "size": [list(sizes) for sizes in size],
        "seed": seed,
        "projections": list(projections),
    }


def ei(n, in_degree, seed=1):
    """One region of n neurons, 80 % of them E; four of five synapses from E."""
    size = [[n * 4 // 5, n - n * 4 // 5]]
    local = [
        rule("local.E", ["E"], ["E", "I"], [(0, 0, 0.8 * in_degree, 1.0)]),
        rule("local.I", ["I"], ["E", "I"], [(0, 0, 0.2 * in_degree, 1.0)], kind="inhibitory"),
    ]
    return describe(size, local, seed=seed)


def brainlike(seed=1):
    """Three unequal regions, E and I, long-range with four delay classes, and unequal factors."""
    tracts = [(0, 1, 7.3, 11.0), (0, 2, 3.1, 25.0), (1, 0, 9.9, 11.0), (2, 0, 0.4, 25.0), (2, 1, 12.2, 7.0)]
    local = [(0, 0, 21.7, 1.0), (1, 1, 30.0, 1.0), (2, 2, 5.55, 1.0)]
    rules = [
        rule("long", ["E"], ["E", "I"], tracts, factor=[1.0, 0.5], delay_classes=[0.5, 0.9, 1.1, 1.5]),
        rule("local.E", ["E"], ["E", "I"], local, factor=[0.8, 1.2], weights=("normal", 1.0, 0.4)),
        rule("local.I", ["I"], ["E", "I"], local, kind="inhibitory", weights=("constant", 2.5, 0.0)),
    ]
    return describe([[203, 50], [97, 31], [310, 77]], rules, seed=seed)


def edges(network: Network, populations: np.ndarray | None = None) -> Edges:
    """`synapses` of all neurons (of some populations), a population at a time."""
    found = []
    table = np.array([weight_table(network, p) for p in range(len(network.projections))])
    for p in range(network.n_populations) if populations is None else populations:
        r_of, width = row(network, p), row_width(network)[p]
        gids = np.arange(*network.first_gid[p : p + 2])[:, None]
        j = np.arange(-(-int(width) // ONE), dtype=np.uint64)
        r = rng.hash64(gids, rng.key(network.seed, rng.Stream.POSITION, j))
        choice = rng.hash64(gids, rng.key(network.seed, rng.Stream.WEIGHT, j)) >> np.uint64(56)
        u = (j << np.uint64(32)) + (r >> np.uint64(32))
        here = u < width
        pre, j, r, u, choice = (np.broadcast_to(a, here.shape)[here] for a in (gids, j, r, u, choice))
        m = np.searchsorted(r_of.bound, u, side="right") - 1
        post = r_of.first[m] + place(u - r_of.bound[m], r, np.diff(r_of.bound)[m], r_of.n[m])
        number = r_of.projection[m]
        weight = table[number, choice.astype(np.int64)] if len(table) else np.zeros(0, np.int32)
        found.append(Edges(pre, post, j.astype(np.int64), u, weight, r_of.delay[m], number, r_of.pair[m], m))
    return Edges(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


# hypothesis ------------------------------------------------------------------------------------------------------

KINDS = st.sampled_from(["excitatory", "inhibitory"])
DEGREES = st.one_of(st.just(0.0), st.floats(1e-10, 1e-6), st.floats(0.01, 3.0), st.floats(3.0, 40.0))
FACTORS = st.one_of(st.just(0.0), st.floats(0.05, 3.0))
WEIGHTS = st.one_of(
    st.tuples(st.just("uniform"), st.floats(0, 1), st.floats(1, 4)),
    st.tuples(st.just("constant"), st.floats(0, 4), st.just(0.0)),
    st.tuples(st.just("normal"), st.floats(0, 2), st.floats(0, 2)),
)
SEEDS = st.one_of(st.integers(0, 100), st.integers(0, 2**64 - 1))


@st.composite
def rules(draw, number, size, classes):
    """A projection over some classes and some region pairs, leaving out pairs without sources."""
    some = st.lists(st.sampled_from(classes), min_size=1, max_size=len(classes), unique=True)
    pre, post = draw(some), draw(some)
    regions = range(len(size))
    sending = [q for q in regions if sum(size[q][classes.index(c)] for c in pre)]
    every = [(r, q) for q in sending for r in regions]
    chosen = draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    pairs = [(r, q, draw(DEGREES), draw(st.floats(0.1, 90.0))) for r, q in chosen]
    factor = [draw(FACTORS) for _ in post]
    delays = draw(st.lists(st.floats(0.1, 3.0), min_size=1, max_size=4))
    return rule(f"p{number}", pre, post, pairs, draw(KINDS), factor, draw(WEIGHTS), delays)


@st.composite
def descriptions(draw):
    """Up to four regions of up to three classes of up to 60 neurons, joined by up to three projections."""
    classes = ["E", "I", "L4E"][: draw(st.integers(1, 3))]
    sizes = st.lists(st.integers(0, 60), min_size=len(classes), max_size=len(classes))
    size = draw(st.lists(sizes, min_size=1, max_size=4).filter(lambda rows: any(map(any, rows))))
    projections = [draw(rules(number, size, classes)) for number in range(draw(st.integers(0, 3)))]
    return describe(size, projections, classes, draw(SEEDS))
