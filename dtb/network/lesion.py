"""Lesions: which synapses of a network are cut, without changing what any other synapse is."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import numpy as np

from dtb.network.network import Network


def lesion_tracts(network: Network, fractions: Mapping[tuple[str, str], float]) -> tuple[np.ndarray, ...]:
    """Fractions of tracts to cut, as `synapses` and `Simulation` take them.

    Parameters
    ----------
    network : Network
    fractions : {(post region, pre region): fraction in [0, 1]}
        All synapses from the second region to the first, of every projection; with one region twice, its local ones.

    Returns
    -------
    tuple of (pairs,) float64, one per projection
        Zero where nothing is cut.

    Examples
    --------
    >>> import dtb
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000)
    >>> cut = lesion_tracts(network, {(network.regions[1], network.regions[0]): 0.5})
    >>> [float(of_pairs.sum()) for of_pairs in cut]
    [0.5, 0.0, 0.0]
    """
    number = {name: r for r, name in enumerate(network.regions)}
    cut = tuple(np.zeros(len(p.pairs)) for p in network.projections)
    for (post, pre), fraction in fractions.items():
        for name in (post, pre):
            if name not in number:
                raise ValueError(_unknown(name, network.regions))
        if not 0 <= fraction <= 1:
            raise ValueError(
                f"lesion of the tract from '{pre}' to '{post}' is {fraction}; allowed: 0 (none) to 1 (all)."
            )
        found = False
        for projection, of_pairs in zip(network.projections, cut, strict=True):
            start, end = projection.pairs.start[number[pre] : number[pre] + 2]
            hit = start + np.flatnonzero(projection.pairs.post[start:end] == number[post])
            of_pairs[hit] = fraction
            found |= len(hit) > 0
        if not found:
            raise ValueError(
                f"no projection joins '{pre}' to '{post}', so there is nothing to cut. Tracts are given as "
                "(post region, pre region): is it the other way round?"
            )
    return cut


def _unknown(name: str, regions: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(name), regions, 1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known are {len(regions):,}, such as '{regions[0]}'."
    return f"unknown region '{name}' in a lesion. {hint}"
