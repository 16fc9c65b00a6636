"""The complete description of what is simulated: populations, projections, seed.

A Network is a few tables over regions, classes and region pairs. It holds nothing per neuron and nothing per synapse:
86 billion neurons take as much memory as 86 thousand.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dtb.network.neuron import LIF
from dtb.network.projection import Projection

MAX_POPULATION = 2**36  # a target number and the fraction that finds it fit the 53 bits of a float64


@dataclass(frozen=True)
class CellClass:
    """A name and the parameters that all its neurons share, such as `CellClass("L4E", LIF())`."""

    name: str
    cell: LIF

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", str(self.name))  # a NumPy string prints, and is digested, unlike its equal


@dataclass(frozen=True)
class Population:
    """`n` neurons of one class in one region, with consecutive gids from `first`."""

    name: str
    region: str
    cell_class: CellClass
    n: int
    first: int


@dataclass(frozen=True, eq=False)
class Network:
    """Populations, projections and the seed that makes every synapse.

    Parameters
    ----------
    regions : names, R of them
    classes : CellClass, K of them
    size : (R, K) integers
        Neurons of each class in each region; 0 where a region has no such class. Populations, and with them gids,
        run over the non-zero entries region by region.
    projections : Projection
        Their order, and the order of the pairs in them, is the order of the synapses in a neuron's row.
    seed : int
        Of the synapses; the seed of noise and initial state belongs to the Simulation.

    Examples
    --------
    >>> from dtb.network.projection import Pairs, Projection
    >>> local = Pairs.from_triplets(1, post=[0], pre=[0], in_degree=[10.0], delay=1.0)
    >>> rule = Projection("local", "excitatory", ("E",), ("E",), (1.0,), local)
    >>> network = Network(("V1_L",), (CellClass("E", LIF()),), [[1000]], (rule,), seed=1)
    >>> network.n_neurons, round(network.n_synapses)
    (1000, 10000)
    """

    regions: tuple[str, ...]
    classes: tuple[CellClass, ...]
    size: np.ndarray
    projections: tuple[Projection, ...]
    seed: int = 1

    def __post_init__(self) -> None:
        given = np.asarray(self.size)
        size = np.array(given, np.int64)
        if not np.array_equal(size, given):
            raise ValueError("size must hold whole numbers of neurons.")
        size.setflags(write=False)
        for name, value in (
            ("size", size),
            ("seed", int(self.seed)),
            ("regions", tuple(str(region) for region in self.regions)),
            ("classes", tuple(self.classes)),
            ("projections", tuple(self.projections)),
        ):
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        names = [c.name for c in self.classes]
        if self.size.shape != (len(self.regions), len(names)):
            raise ValueError(
                f"size is {self.size.shape}, but there are {len(self.regions)} regions and {len(names)} classes; "
                "it needs one row per region and one column per class."
            )
        rules = [p.name for p in self.projections]
        for what, items in (("region", self.regions), ("class", names), ("projection", rules)):
            if len(set(items)) != len(items):
                twice = next(item for item in items if list(items).count(item) > 1)
                raise ValueError(f"{what} '{twice}' is there twice; names must differ.")
        if self.size.min(initial=0) < 0 or self.size.max(initial=0) >= MAX_POPULATION:
            worst = np.argmin(self.size) if self.size.min() < 0 else np.argmax(self.size)
            region, k = np.unravel_index(int(worst), self.size.shape)
            raise ValueError(
                f"population '{self.regions[region]}.{names[k]}' has {self.size[region, k]:,} neurons; allowed: 0 to "
                "2^36 - 1. Divide a larger one over more regions."
            )
        if not self.size.any():
            raise ValueError("the network has no neurons; at least one entry of size must be above zero.")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^64 - 1.")
        for projection in self.projections:
            self._check_projection(projection, names)

    def _check_projection(self, projection: Projection, names: list[str]) -> None:
        for name in (*projection.pre, *projection.post):
            if name not in names:
                raise ValueError(f"projection '{projection.name}' names class '{name}'. Known: {', '.join(names)}.")
        pairs = projection.pairs
        if len(pairs.start) != len(self.regions) + 1 or pairs.post.max(initial=0) >= len(self.regions):
            raise ValueError(f"the pairs of projection '{projection.name}' are not over {len(self.regions)} regions.")
        pool = self.size[:, [names.index(c) for c in projection.pre]].sum(axis=1)
        fed = self.size[:, [names.index(c) for c in projection.post]] @ np.array(projection.factor) > 0
        lost = (pool[pairs.pre] == 0) & (pairs.in_degree > 0) & fed[pairs.post]
        if lost.any():
            q, r = pairs.pre[lost][0], pairs.post[lost][0]
            raise ValueError(
                f"projection '{projection.name}' feeds region '{self.regions[r]}' from region '{self.regions[q]}', "
                f"which has no neurons of class {' or '.join(projection.pre)}. Add neurons or remove the pair."
            )

    # populations -----------------------------------------------------------------------------------------------

    @cached_property
    def population_region(self) -> np.ndarray:
        """(populations,) int32: region of each population."""
        return np.nonzero(self.size)[0].astype(np.int32)

    @cached_property
    def population_class(self) -> np.ndarray:
        """(populations,) int32: class of each population."""
        return np.nonzero(self.size)[1].astype(np.int32)

    @cached_property
    def first_gid(self) -> np.ndarray:
        """(populations + 1,) int64: population p has the gids first_gid[p] : first_gid[p + 1]."""
        return np.concatenate([[0], np.cumsum(self.size[self.size > 0])])

    @cached_property
    def population_index(self) -> np.ndarray:
        """(R, K) int32: number of the population of a region and class, -1 where there is none."""
        index = np.full(self.size.shape, -1, np.int32)
        index[self.size > 0] = np.arange(len(self.population_region))
        return index

    @property
    def n_neurons(self) -> int:
        return int(self.size.sum())

    @property
    def n_populations(self) -> int:
        return len(self.population_region)

    def population_name(self, population: int) -> str:
        region, cell_class = self.population_region[population], self.population_class[population]
        return f"{self.regions[region]}.{self.classes[cell_class].name}"

    def population(self, population: int) -> Population:
        region, k = self.population_region[population], self.population_class[population]
        first, end = self.first_gid[population : population + 2]
        name = self.population_name(population)
        return Population(name, self.regions[region], self.classes[k], int(end - first), int(first))

    def find_populations(self, names: Sequence[str]) -> np.ndarray:
        """Indices of populations by name, 'Precentral_L.E', by region, 'Precentral_L', or by class, '*.E'."""
        known = {c.name: k for k, c in enumerate(self.classes)}
        regions = {name: r for r, name in enumerate(self.regions)}
        found: list[int] = []
        for name in names:
            region, _, cell = name.rpartition(".") if name not in regions else (name, "", "")
            rows = range(len(self.regions)) if region == "*" else [regions[region]] if region in regions else []
            columns = [known[cell]] if cell in known else range(len(known)) if cell == "" else []
            hits = [p for r in rows for k in columns if (p := int(self.population_index[r, k])) >= 0]
            if not hits:
                names = [*regions, *(f"{region}.{cell}" for region in (*regions, "*") for cell in known)][:20_000]
                lower = {candidate.lower(): candidate for candidate in names}
                near = difflib.get_close_matches(str(name).lower(), lower, 1)
                hint = f" Did you mean '{lower[near[0]]}'?" if near else ""
                raise ValueError(
                    f"no population '{name}'.{hint} Names are REGION.CLASS, REGION or *.CLASS, with regions such as "
                    f"'{self.regions[0]}' and classes {', '.join(known)}."
                )
            found += hits
        return np.unique(np.array(found, np.int64))

    # what it will cost ----------------------------------------------------------------------------------------

    def synapses_by_projection(self) -> dict[str, float]:
        """Mean number of synapses each projection makes."""
        return {p.name: float((p.pairs.in_degree * self._fed(p)[p.pairs.post]).sum()) for p in self.projections}

    def _fed(self, projection: Projection) -> np.ndarray:
        """(R,) float64: target neurons of each region, each counted with the factor of its class."""
        return self.size[:, self.class_indices(projection.post)] @ np.array(projection.factor)

    def class_indices(self, names: Sequence[str]) -> list[int]:
        known = [c.name for c in self.classes]
        return [known.index(name) for name in names]

    @property
    def n_synapses(self) -> float:
        """Mean number of synapses; the realised number differs by less than one per neuron."""
        return sum(self.synapses_by_projection().values())

    @property
    def min_delay(self) -> float:
        """Shortest delay [ms]; infinite without projections."""
        delays = [float(p.pairs.delay.min()) * min(p.delay_classes) for p in self.projections if len(p.pairs)]
        return min(delays, default=float("inf"))

    @property
    def max_delay(self) -> float:
        """Longest delay [ms]; 0 without projections."""
        return max(
            (float(p.pairs.delay.max()) * max(p.delay_classes) for p in self.projections if len(p.pairs)), default=0
        )

    @cached_property
    def digest(self) -> str:
        """16 hex digits over everything that makes the spikes."""
        h = hashlib.sha256()
        for item in (self.regions, self.classes, self.seed):
            h.update(repr(item).encode())
        h.update(self.size.tobytes())
        for p in self.projections:
            h.update(repr((p.name, p.kind, p.pre, p.post, p.factor, p.weights, p.delay_classes)).encode())
            for array in (p.pairs.start, p.pairs.post, p.pairs.in_degree, p.pairs.delay):
                h.update(array.tobytes())
        return h.hexdigest()[:16]

    @property
    def description_bytes(self) -> int:
        """Memory of the description itself."""
        pairs = [(p.pairs.start, p.pairs.post, p.pairs.in_degree, p.pairs.delay) for p in self.projections]
        return self.size.nbytes + sum(array.nbytes for arrays in pairs for array in arrays)

    def __str__(self) -> str:
        return summary(self)


def summary(network: Network) -> str:
    """One screen: sizes, synapses, delays, and what a run needs at 7 spikes/s."""
    from dtb.network.tiles import BYTES_PER_NEURON  # here, because tiles describe networks

    n, synapses = network.n_neurons, network.n_synapses
    rate = 7.0  # spikes/s, that of the default regime
    lines = [
        f"network {network.digest}, seed {network.seed}",
        f"  {n:,} neurons in {network.n_populations:,} populations of {len(network.regions):,} regions",
        f"  {synapses:,.0f} synapses, {synapses / n:,.1f} per neuron, delays {network.min_delay:.3g} to "
        f"{network.max_delay:.3g} ms",
    ]
    for k, cell in enumerate(network.classes):
        lines.append(f"    class {cell.name:6s} {network.size[:, k].sum():>18,} neurons")
    for name, count in network.synapses_by_projection().items():
        lines.append(f"    projection {name:14s} {count:>22,.0f} synapses")
    lines += [
        f"  description {scaled(network.description_bytes)}, state {scaled(n * BYTES_PER_NEURON)} "
        f"({BYTES_PER_NEURON} bytes a neuron), synapses 0 B procedural or {scaled(synapses * 6)} stored",
        f"  at {rate:g} spikes/s: {n * rate:,.3g} spikes and {synapses * rate:,.3g} synaptic events per second",
    ]
    return "\n".join(lines)


def scaled(n_bytes: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.3g} {unit}" if unit != "B" else f"{n_bytes:.0f} B"
        n_bytes /= 1024
    return f"{n_bytes:,.1f} PiB"
