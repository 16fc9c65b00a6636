"""What a network is expected to do: spikes, events and synapses of its populations, and of pieces of them on ranks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dtb.network.network import Network
from dtb.network.neuron import CELLS, LIF
from dtb.network.projection import Projection
from dtb.network.tiles import Tiles

# spikes/s of a neuron in a default brain at rest, measured (architecture, section 6); any other cell is taken as busy.
REST_HZ = {"release2024": 7.7, "nsr2023": 3.8}
OTHER_HZ = 7.7


class Expected(NamedTuple):
    """Of p populations, per second of biological time where nothing else is said.

    n (p,) neurons; rate (p,) spikes/s of a neuron; synapses (p,) that end on one neuron; events (p,) that arrive at one
    neuron; heard (p,) spikes of all neurons that project into the region of the population, whether or not they hit it.
    """

    n: np.ndarray
    rate: np.ndarray
    synapses: np.ndarray
    events: np.ndarray
    heard: np.ndarray

    @property
    def spikes(self) -> np.ndarray:
        """(p,) spikes/s of whole populations."""
        return self.n * self.rate


class Pieces(NamedTuple):
    """Neurons of one population on one rank, one row each, sorted by rank; all have the same length.

    population, rank, neurons, tiles (a tile that holds several populations counts in each).
    """

    population: np.ndarray
    rank: np.ndarray
    neurons: np.ndarray
    tiles: np.ndarray


def expected(network: Network, rates: np.ndarray | Mapping[str, float] | None = None) -> Expected:
    """Expected activity of a network, from its description alone.

    Parameters
    ----------
    rates : (populations,) float [spikes/s], or {name of class: float}, or None
        Of a neuron; None takes what its cell does in a brain at rest.

    Examples
    --------
    >>> import dtb
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=10_000, in_degree=100)
    >>> found = expected(network, {"E": 5.0, "I": 10.0})
    >>> round(float(found.events[0]))                      # 600 from E cells and a seventh of 100 from I at 10 spikes/s
    571
    """
    rate = population_rates(network, rates)
    region, cell = network.population_region, network.population_class
    synapses, events = np.zeros((2, *network.size.shape))
    heard = np.zeros(len(network.regions))
    by_class = np.zeros(network.size.shape)
    by_class[region, cell] = rate
    for projection in network.projections:
        pairs, classes = projection.pairs, network.class_indices(projection.pre)
        pool = network.size[:, classes].sum(axis=1)
        spikes = (network.size[:, classes] * by_class[:, classes]).sum(axis=1)
        mean = np.divide(spikes, pool, out=np.zeros(len(pool)), where=pool > 0)
        into = (len(network.regions),)
        degree = np.bincount(pairs.post, pairs.in_degree, into[0])
        arriving = np.bincount(pairs.post, pairs.in_degree * mean[pairs.pre], into[0])
        columns, factor = network.class_indices(projection.post), np.array(projection.factor)
        synapses[:, columns] += degree[:, None] * factor
        events[:, columns] += arriving[:, None] * factor
        real = pairs.in_degree > 0
        heard += np.bincount(pairs.post[real], spikes[pairs.pre[real]], into[0]) * len(projection.delay_classes)
    n = np.diff(network.first_gid)
    return Expected(n, rate, synapses[region, cell], events[region, cell], heard[region])


def population_rates(network: Network, rates: np.ndarray | Mapping[str, float] | None) -> np.ndarray:
    """(populations,) spikes/s, checked."""
    if rates is None:
        rates = {c.name: resting_rate(c.cell) for c in network.classes}
    if isinstance(rates, Mapping):
        names = [c.name for c in network.classes]
        unknown, missing = [k for k in rates if k not in names], [k for k in names if k not in rates]
        if unknown or missing:
            what = f"names class '{unknown[0]}'" if unknown else f"lacks class '{missing[0]}'"
            raise ValueError(f"rates {what}. It needs one rate for each of {', '.join(names)}.")
        rates = np.array([rates[name] for name in names], float)[network.population_class]
    found = np.array(rates, float)
    if found.shape != (network.n_populations,):
        raise ValueError(f"rates has shape {found.shape}; it needs one per population, ({network.n_populations},).")
    if not (np.isfinite(found).all() and found.min() >= 0):
        raise ValueError("rates holds values that are negative or not a number.")
    return found


def resting_rate(cell: LIF) -> float:
    return next((REST_HZ[name] for name, known in CELLS.items() if known == cell), OTHER_HZ)


def rates_of_run(network: Network, folder: str | os.PathLike[str]) -> np.ndarray:
    """(populations,) spikes/s: means over an earlier run of a network with the same regions and classes."""
    import json

    from dtb.engine.recording import Recording

    folder = Path(folder)
    if not (folder / "summary.json").is_file():
        raise ValueError(f"'{folder}' is no finished run: it has no summary.json. Give the folder of one, or no rates.")
    names = [network.population_name(p) for p in range(network.n_populations)]
    recording = Recording.open(folder / "recording.zarr")
    if "population_rate" in recording:
        measured = dict(zip(recording["population"].tolist(), mean_rows(recording), strict=True))
        lost = [name for name in names if name not in measured]
        if lost:
            raise ValueError(
                f"the run '{folder}' has no population '{lost[0]}'; rates come from a run of the same brain."
            )
        return np.array([measured[name] for name in names], float)
    by_class = json.loads((folder / "summary.json").read_bytes())["rate_hz"]
    return population_rates(network, {name: rate for name, rate in by_class.items() if rate is not None})


def mean_rows(recording) -> np.ndarray:
    total, rows = 0.0, 0
    for block in recording.read_blocks("population_rate"):
        total, rows = total + block.sum(axis=0, dtype=float), rows + len(block)
    if not rows:
        raise ValueError("the run kept no rates. Give one with rates in [Recording] and a few hundred ms at least.")
    return np.asarray(total) / rows


def pieces(network: Network, tiles: Tiles, owner: np.ndarray) -> Pieces:
    """Which neurons of which population are where."""
    population, tile, n = fragments(network, tiles)
    rank = owner[tile].astype(np.int64)
    key = rank * network.n_populations + population
    if len(key) > 1 and (np.diff(key) < 0).any():
        order = np.argsort(key, kind="stable")
        key, n = key[order], n[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    neurons = np.add.reduceat(n, first)
    counts = np.diff(np.append(first, len(key)))
    return Pieces(key[first] % network.n_populations, key[first] // network.n_populations, neurons, counts)


def fragments(network: Network, tiles: Tiles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Population, tile and neurons of every stretch of neurons that shares both; one per tile where tiles are pure."""
    if tiles.pure:
        return tiles.population.astype(np.int64), np.arange(len(tiles.n)), tiles.n.astype(np.int64)
    edges = np.union1d(tiles.first, network.first_gid)
    edges = edges[edges < network.n_neurons]
    n = np.diff(np.append(edges, network.n_neurons))
    population = np.searchsorted(network.first_gid, edges, side="right") - 1
    return population, np.searchsorted(tiles.first, edges, side="right") - 1, n


def widths(network: Network, projection: Projection) -> sparse.csr_array:
    """(pre, post) regions: mean synapses of one source neuron into a whole region."""
    pairs = projection.pairs
    columns = network.class_indices(projection.post)
    fed = network.size[:, columns] @ np.array(projection.factor)
    pool = np.maximum(network.size[:, network.class_indices(projection.pre)].sum(axis=1), 1)
    data = pairs.in_degree * fed[pairs.post] / pool[pairs.pre]
    n = len(network.regions)
    matrix = sparse.csr_array((data, pairs.post.copy(), pairs.start.copy()), shape=(n, n))
    matrix.eliminate_zeros()
    return matrix


def reach(network: Network, parts: Pieces, ranks: int) -> dict[int, sparse.csr_array]:
    """Class → (regions, ranks): mean synapses of one neuron of this class and region that end on each rank."""
    found: dict[int, sparse.csr_array] = {}
    shape = (len(network.regions), ranks)
    region, cell = network.population_region[parts.population], network.population_class[parts.population]
    for projection in network.projections:
        weight = np.zeros(len(network.classes))
        weight[network.class_indices(projection.post)] = projection.factor
        fed = np.maximum(network.size @ weight, np.finfo(float).tiny)
        share = sparse.csr_array((parts.neurons * weight[cell] / fed[region], (region, parts.rank)), shape=shape)
        share.sum_duplicates()
        share.eliminate_zeros()
        here = sparse.csr_array(widths(network, projection) @ share)
        for k in network.class_indices(projection.pre):
            found[k] = sparse.csr_array(found[k] + here) if k in found else here
    return found
