"""Small networks that tests of the engine share."""

from __future__ import annotations

import numpy as np

from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF
from dtb.network.projection import Pairs, Projection, Weights


def regional(
    n_regions: int = 4,
    n: int = 300,
    in_degree: float = 60.0,
    delays: tuple[float, float] = (1.0, 9.0),
    local_delay: float = 2.0,
    delay_classes: tuple[float, ...] = (1.0,),
    seed: int = 1,
    cell: LIF | None = None,
) -> Network:
    """Excitatory and inhibitory cells of unequal regions, local and long-range synapses, a population of three."""
    rng = np.random.default_rng(seed)
    size = np.stack([rng.integers(n // 2, n, n_regions), rng.integers(n // 8, n // 4, n_regions)], axis=1)
    size[0, 1] = 3
    classes = (CellClass("E", cell or LIF()), CellClass("I", LIF(t_ref=3.0)))
    post, pre = np.nonzero(~np.eye(n_regions, dtype=bool))
    weight = rng.lognormal(0, 1, len(post))
    arriving = np.bincount(post, weight, minlength=n_regions)
    long = Pairs.from_triplets(
        n_regions, post, pre, in_degree * 2 / 7 * weight / arriving[post], rng.uniform(*delays, len(post))
    )
    here = np.arange(n_regions)
    local = Pairs.from_triplets(n_regions, here, here, np.full(n_regions, in_degree), local_delay)
    rules = (
        Projection("long_range", "excitatory", ("E",), ("E", "I"), (1.0, 1.0), long, delay_classes=delay_classes),
        Projection("local.E", "excitatory", ("E",), ("E", "I"), (4 / 7, 4 / 7), local),
        Projection("local.I", "inhibitory", ("I",), ("E", "I"), (1 / 7, 1 / 7), local),
    )
    return Network(tuple(f"R{r}" for r in range(n_regions)), classes, size, rules, seed)


def tiny_populations(n_regions: int = 150, seed: int = 2, **kwargs) -> Network:
    """As `regional`, but with some four neurons in each population: what a voxel brain looks like."""
    network = regional(n_regions=n_regions, n=8, in_degree=30.0, seed=seed, **kwargs)
    size = network.size.copy()
    size[0, 1] = max(1, size[0, 1])
    size = np.maximum(size, 1)
    return Network(network.regions, network.classes, size, network.projections, seed)


def delay_line(longest: int, step: float, n: int = 1) -> Network:
    """One source region and a target region for every delay of 1..longest steps, one sure synapse to each neuron."""
    post = np.arange(1, longest + 1)
    pairs = Pairs.from_triplets(longest + 1, post, np.zeros(longest), np.full(longest, 1.0), post * step)
    rule = Projection("line", "excitatory", ("E",), ("E",), (1.0,), pairs, Weights.constant(1.0))
    size = np.full((longest + 1, 1), n)
    size[0] = 1
    return Network(tuple(f"d{d}" for d in range(longest + 1)), (CellClass("E", LIF()),), size, (rule,), seed=3)
