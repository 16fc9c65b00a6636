"""A brain of voxels, made up: what a description must carry at the finest scale anyone has asked for."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np

from dtb import build_network
from dtb.brain import Brain, Tracts
from dtb.network import build
from dtb.network.build import COLUMN, EI, Microcircuit
from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF, Background
from dtb.network.projection import Pairs, Projection, Weights

SIDE = 3.0  # mm: voxels of the published brain
RADII = np.array([65.0, 80.0, 55.0])  # mm: half axes of the ellipsoid that grey matter lines
DEEP = 0.08  # share of voxels that lie inside it and are subcortical

# Eight classes of a column and two of a nucleus in every voxel, as in the published tables of ten rows per voxel.
TEN = Microcircuit(
    classes=COLUMN.classes + EI.classes,
    excitatory=COLUMN.excitatory + EI.excitatory,
    share=tuple(0.9 * x for x in COLUMN.share) + tuple(0.1 * x for x in EI.share),
    local=tuple((*row, 0.0, 0.0) for row in COLUMN.local)
    + tuple((0.0,) * 8 + tuple(800.0 * x for x in row) for row in EI.local),
    outer=COLUMN.outer + tuple(800.0 * x for x in EI.outer),
)


def voxel_brain(n_voxels: int = 22_703, n_pairs: int = 4_500_000, seed: int = 0) -> Brain:
    """Voxels along a folded shell, most tracts between near ones, none within a voxel; 8 % of the voxels lie deep."""
    rng = np.random.default_rng(seed)
    deep = np.arange(n_voxels) % round(1 / DEEP) == 0
    centroid = _positions(rng, deep)
    pre, post = _pairs(rng, n_voxels, n_pairs)
    length = np.linalg.norm(centroid[post] - centroid[pre], axis=1) * rng.uniform(1.0, 1.5, n_pairs) + SIDE
    weight = rng.lognormal(0.0, 1.0, n_pairs) * np.exp(-length / 40.0)  # counts fall with distance over some 4 cm
    return Brain(
        name="voxels, made up",
        labels=tuple(f"v{i:05d}" for i in range(n_voxels)),
        hemisphere=tuple(np.where(centroid[:, 0] < 0, "L", "R").tolist()),
        centroid=centroid,
        kind=tuple(np.where(deep, "subcortical", "cortical").tolist()),
        volume=SIDE**3 * rng.uniform(0.2, 0.95, n_voxels),
        tracts=Tracts(post, pre, weight, length.astype(np.float32)),
        density=np.clip(rng.lognormal(0.0, 0.2, n_voxels), 0.3, 6.7),
    )


def voxel_network(brain: Brain, n_neurons: int = 1_000_000, in_degree: float = 100.0, seed: int = 1) -> Network:
    """A network with all ten populations in every voxel: 227,030 of them in the whole voxel brain."""
    with patch.dict(build.MICROCIRCUITS, {"ten": {"*": TEN}}):
        return build_network(brain, n_neurons, in_degree, microcircuit="ten", seed=seed)


def _positions(rng: np.random.Generator, deep: np.ndarray) -> np.ndarray:
    """(voxels, 3) mm, numbered from back to front, so that near numbers are mostly near in space."""
    direction = rng.normal(size=(len(deep), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction = direction[np.lexsort((direction[:, 2], direction[:, 1]))]
    radius = np.where(deep, rng.uniform(0.2, 0.5, len(deep)), rng.uniform(0.75, 1.0, len(deep)))
    centroid = direction * radius[:, None] * RADII
    centroid[:, 0] += np.where(centroid[:, 0] < 0, -1.0, 1.0)  # no voxel on the midline
    return centroid


def _pairs(rng: np.random.Generator, n: int, n_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """(pre, post) of exactly n_pairs different pairs; every voxel has a tract from the one before it."""
    if not n <= n_pairs <= n * (n - 1):
        raise ValueError(f"{n_pairs:,} pairs of {n:,} voxels; allowed: {n:,} to {n * (n - 1):,}.")
    ring = np.arange(n) * n + (np.arange(n) + 1) % n
    found = ring
    while len(found) < n_pairs:
        more = round(1.1 * (n_pairs - len(found))) + 100
        pre = rng.integers(0, n, more)
        step = np.where(rng.random(more) < 0.5, rng.geometric(min(1.0, 40 / n), more), rng.integers(1, n, more))
        post = (pre + step * rng.choice([-1, 1], more)) % n
        found = np.union1d(found, (pre * n + post)[pre != post])
    spare = np.setdiff1d(found, ring, assume_unique=True)
    chosen = np.concatenate([ring, rng.choice(spare, n_pairs - n, replace=False)])
    return chosen // n, chosen % n


# pA: mean and sd of the background of three kinds of cells, and the spikes/s with which these fire in
# `heterogeneous_network`, measured with 60,000 neurons from 200 to 600 ms; E and I cells alike.
BACKGROUNDS = {"calm": (330.0, 150.0), "usual": (450.0, 200.0), "busy": (600.0, 250.0)}
HETEROGENEOUS_HZ = {
    f"{cell}_{name}": rate for name, rate in (("calm", 0.43), ("usual", 6.2), ("busy", 13.5)) for cell in ("E", "I")
}


def heterogeneous_network(n_neurons: int = 1_000_000, n_regions: int = 32, seed: int = 5) -> Network:
    """The heterogeneous brain: sizes, densities of synapses and rates of regions each differ by ten times and more.

    The largest region is 40 times the smallest; a neuron has from 20 to 400 synapses by its region; a third of the
    regions is calm, a third usual, a third busy, whatever their size. Neighbours by number are alike, as along the
    gradients of a real brain, so equal counts of neurons are far from equal work. Events per neuron differ by 70 times.
    """
    rng = np.random.default_rng(seed)
    volume = np.exp(rng.permutation(np.linspace(0.0, np.log(40.0), n_regions)))
    in_degree = np.exp(np.linspace(np.log(20.0), np.log(400.0), n_regions))[_along(rng, n_regions)]
    kind = (np.arange(n_regions) * 3 // n_regions)[_along(rng, n_regions)]
    names = [f"{cell}_{name}" for name in BACKGROUNDS for cell in ("E", "I")]
    cells = [LIF(background=Background(*level, 4.0)) for level in BACKGROUNDS.values() for _ in range(2)]
    per_region = build.apportion(n_neurons, volume)
    size = np.zeros((n_regions, len(names)), np.int64)
    rows = np.arange(n_regions)
    size[rows, 2 * kind + 1] = np.maximum(1, per_region // 5)
    size[rows, 2 * kind] = per_region - size[rows, 2 * kind + 1]
    far = (rng.random((n_regions, n_regions)) < 0.3) & ~np.eye(n_regions, dtype=bool)
    far[rows, (rows + 1) % n_regions] = True
    post, pre = np.nonzero(far)
    weight = rng.lognormal(0.0, 1.0, len(post))
    arriving = np.bincount(post, weight, minlength=n_regions)
    long = Pairs.from_triplets(
        n_regions, post, pre, in_degree[post] * 2 / 7 * weight / arriving[post], rng.uniform(2.0, 20.0, len(post))
    )
    local = Pairs.from_triplets(n_regions, rows, rows, in_degree, 1.0)
    every, excitatory, inhibitory = tuple(names), tuple(names[::2]), tuple(names[1::2])
    rules = (
        Projection("long_range", "excitatory", excitatory, every, (1.0,) * len(names), long, Weights.uniform(0, 0.5)),
        Projection("local.E", "excitatory", excitatory, every, (4 / 7,) * len(names), local, Weights.uniform(0, 0.5)),
        Projection("local.I", "inhibitory", inhibitory, every, (1 / 7,) * len(names), local, Weights.uniform(0, 1.0)),
    )
    classes = tuple(CellClass(name, cell) for name, cell in zip(names, cells, strict=True))
    return Network(tuple(f"R{r:02d}" for r in range(n_regions)), classes, size, rules, seed)


def _along(rng: np.random.Generator, n: int) -> np.ndarray:
    """Ranks 0 to n - 1 that rise from region to region, but roughly."""
    return np.argsort(np.argsort(np.arange(n) + rng.normal(0.0, n / 3, n)))
