"""Cells on their own, and cells that others drive at chosen times: what the physics tests share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF, Background
from dtb.network.projection import Pairs, Projection, Weights

PULSE = 1e7  # pA; for one step of 0.01 ms or more, takes any resting cell of these tests past its threshold


def alone(cell: LIF, sizes: Sequence[int], seed: int = 1) -> Network:
    """Populations of one cell class without a synapse, one to a region."""
    regions = tuple(f"R{r}" for r in range(len(sizes)))
    return Network(regions, (CellClass("E", cell),), np.array(sizes)[:, None], (), seed)


def quiet(cell: LIF) -> LIF:
    """The same cell without a background current."""
    return replace(cell, background=Background(0.0, 0.0, 4.0))


def driven(cell: LIF, weight: float, delay: float, n_excitatory: int = 1, n_inhibitory: int = 1) -> Network:
    """One target, the last neuron, that receives one synapse from every source: E sources first, then I sources.

    Populations are S.E, S.I and T.E; sources have no background and fire where a stimulus of PULSE says so.
    """
    classes = (CellClass("E", cell), CellClass("I", cell))
    size = np.array([[n_excitatory, n_inhibitory], [1, 0]])
    rules = [
        Projection(
            f"from {name}", kind, (name,), ("E",), (1.0,),
            Pairs.from_triplets(2, [1], [0], [float(n)], delay), Weights.constant(weight),
        )
        for name, kind, n in (("E", "excitatory", n_excitatory), ("I", "inhibitory", n_inhibitory))
    ]  # fmt: skip
    return Network(("S", "T"), classes, size, tuple(rules), seed=1)
