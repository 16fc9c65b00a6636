"""From a Brain to a Network: grey matter sets sizes, synapse density in-degrees, tracts who and how late."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from dtb.brain import Brain
from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF, cell_named
from dtb.network.projection import Pairs, Projection, Weights

DENSITY_RANGE = (0.7, 1.3)  # relative in-degree is clipped to it, as published (DetailedDTB, preprocess_original.py)


@dataclass(frozen=True)
class Microcircuit:
    """Cell classes of one region and the synapses between them.

    classes: names; excitatory: which of them are; share: of a region's neurons; local (post, pre): synapses of one
    target neuron from each class of its own region; outer: its long-range synapses. Only proportions of `local` and
    `outer` matter: the mean over neurons is scaled to the in-degree asked for. Long-range sources are all excitatory
    classes, in proportion to their neurons.
    """

    classes: tuple[str, ...]
    excitatory: tuple[bool, ...]
    share: tuple[float, ...]
    local: tuple[tuple[float, ...], ...]
    outer: tuple[float, ...]

    def in_degrees(self) -> tuple[np.ndarray, np.ndarray]:
        """local (post, pre) and outer (post,) as multiples of the mean in-degree."""
        local, outer = np.array(self.local, float), np.array(self.outer, float)
        mean = np.average(local.sum(axis=1) + outer, weights=self.share)  # shares as published add up to 0.984
        return local / mean, outer / mean


# Four in seven of a neuron's synapses come from local E, one from local I, two from E cells elsewhere: the published
# voxel model (Digital_twin_brain-open, test_generation.py).
EI = Microcircuit(
    classes=("E", "I"),
    excitatory=(True, False),
    share=(0.8, 0.2),
    local=((4.0, 1.0), (4.0, 1.0)),
    outer=(2.0, 2.0),
)

# Synapses per neuron of the cortical column of Du, Vegh & Reutens (2012), PLoS Comput. Biol. 8:e1002666, after
# Binzegger, Douglas & Martin (2004), J. Neurosci. 24:8441, as used by the published system. Shares: layer × E or I.
COLUMN = Microcircuit(
    classes=("L23E", "L23I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I"),
    excitatory=(True, False) * 4,
    share=tuple(
        layer * part for layer, e in ((0.338, 0.78), (0.349, 0.80), (0.076, 0.82), (0.221, 0.83)) for part in (e, 1 - e)
    ),
    local=(
        (3554, 804, 881, 45, 431, 0, 136, 0),
        (1778, 532, 456, 29, 217, 0, 69, 0),
        (417, 84, 1070, 690, 79, 93, 1686, 0),
        (168, 41, 628, 538, 36, 0, 1028, 0),
        (2550, 176, 765, 99, 621, 596, 363, 7),
        (1357, 76, 380, 32, 375, 403, 129, 0),
        (643, 46, 549, 196, 327, 126, 925, 597),
        (80, 8, 92, 3, 159, 11, 76, 499),
    ),
    outer=(1020, 396, 1489, 790, 1591, 214, 2609, 1794),
)

MICROCIRCUITS = {"ei": {"*": EI}, "column": {"cortical": COLUMN, "*": EI}}  # by kind of region; * for all others


def build_network(
    brain: Brain,
    n_neurons: int,
    in_degree: float = 100.0,
    microcircuit: str = "ei",
    cell: str | LIF = "release2024",
    velocity: float = 3.0,
    local_delay: float = 1.0,
    min_delay: float | None = None,
    seed: int = 1,
) -> Network:
    """Describe a spiking network of one person's brain; nothing is expanded, so any size takes seconds.

    Parameters
    ----------
    brain : Brain
        Grey-matter volumes become population sizes, relative synapse density becomes in-degree, tract weights become
        the sources of long-range synapses (row-normalised: of all that reaches a region), tract lengths delays.
    n_neurons : int
    in_degree : float
        Synapses that a neuron receives, mean over the neurons of a region of density 1.
    microcircuit : "ei" or "column"
        Two populations in every region, or eight in cortical ones.
    cell : str or LIF
        A named parameter set, or one of your own.
    velocity : float [mm/ms]
        Of conduction along tracts. 3 mm/ms lies within what is measured in human cortico-cortical fibres.
    local_delay : float [ms]
        Of synapses within a region.
    min_delay : float or None [ms]
        Floor of the delay of tracts; None takes `local_delay`.
    seed : int
        Of the synapses.

    Examples
    --------
    >>> import dtb
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=86_000_000_000, in_degree=556)
    >>> f"{network.n_synapses:.3g}"
    '4.78e+13'
    """
    kinds = _microcircuits(microcircuit)
    parameters = cell_named(cell) if isinstance(cell, str) else cell
    for name, value in (("in_degree", in_degree), ("velocity", velocity), ("local_delay", local_delay)):
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be above zero.")
    circuits = [kinds.get(kind, kinds["*"]) for kind in brain.kind]
    distinct = list(dict.fromkeys(circuits))
    classes = tuple(name for circuit in distinct for name in circuit.classes)
    size = _sizes(brain, n_neurons, circuits, classes)
    degree = in_degree * np.clip(brain.density, *DENSITY_RANGE)
    floor = local_delay if min_delay is None else min_delay
    rules = [_long_range(brain, distinct, degree, velocity, floor)]
    for circuit in distinct:
        regions = np.array([r for r, c in enumerate(circuits) if c is circuit])
        pairs = Pairs.from_triplets(brain.n_regions, regions, regions, degree[regions], local_delay)
        rules += [_local(circuit, pre, pairs) for pre in range(len(circuit.classes))]
    return Network(brain.labels, tuple(CellClass(name, parameters) for name in classes), size, tuple(rules), seed)


def _microcircuits(name: str) -> dict[str, Microcircuit]:
    if name in MICROCIRCUITS:
        return MICROCIRCUITS[name]
    near = difflib.get_close_matches(name, MICROCIRCUITS, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown microcircuit '{name}'. Known: {', '.join(MICROCIRCUITS)}.{hint}")


def _sizes(brain: Brain, n_neurons: int, circuits: list[Microcircuit], classes: tuple[str, ...]) -> np.ndarray:
    """(R, K) int64: neurons by grey matter, then by class; every population gets at least one."""
    least = np.array([len(circuit.classes) for circuit in circuits])
    if n_neurons < least.sum():
        raise ValueError(
            f"n_neurons is {n_neurons:,}, but this brain needs at least {least.sum():,}: one for each population."
        )
    per_region = least + apportion(n_neurons - int(least.sum()), brain.volume)
    size = np.zeros((brain.n_regions, len(classes)), np.int64)
    for circuit in dict.fromkeys(circuits):
        rows = np.array([r for r, c in enumerate(circuits) if c is circuit])
        columns = np.array([classes.index(name) for name in circuit.classes])
        spare = per_region[rows] - len(columns)
        size[np.ix_(rows, columns)] = 1 + apportion_rows(spare, np.array(circuit.share))
    return size


def apportion(total: int, weight: np.ndarray) -> np.ndarray:
    """Whole numbers that sum to `total`, proportional to `weight`, by largest remainder; ties to the earlier one."""
    return apportion_rows(np.array([total]), np.asarray(weight, float))[0]


def apportion_rows(totals: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(rows, parts) int64: `apportion` of each total."""
    exact = totals[:, None] * (weight / weight.sum())
    whole = np.floor(exact).astype(np.int64)
    left = totals - whole.sum(axis=1)
    rank = np.argsort(np.argsort(whole - exact, axis=1, kind="stable"), axis=1, kind="stable")
    return whole + (rank < left[:, None])


def _long_range(
    brain: Brain, circuits: list[Microcircuit], degree: np.ndarray, velocity: float, min_delay: float
) -> Projection:
    """All tracts as one projection; first in every row, so that a region's sources share their strata."""
    tracts = brain.tracts
    between = tracts.post != tracts.pre
    post, pre, weight = tracts.post[between], tracts.pre[between], tracts.weight[between]
    arriving = np.bincount(post, weight, minlength=brain.n_regions)
    if (arriving == 0).any():
        lonely = brain.labels[int(np.argmin(arriving))]
        raise ValueError(
            f"no tract arrives at region '{lonely}', so its long-range synapses have no source. "
            "Leave the region out of the brain or give it a tract."
        )
    names: list[str] = []
    factor: list[float] = []
    sources: list[str] = []
    for circuit in circuits:
        names += circuit.classes
        factor += list(circuit.in_degrees()[1])
        sources += [name for name, is_e in zip(circuit.classes, circuit.excitatory, strict=True) if is_e]
    delay = np.maximum(tracts.length[between].astype(float) / velocity, min_delay)
    pairs = Pairs.from_triplets(brain.n_regions, post, pre, degree[post] * weight / arriving[post], delay)
    return Projection("long_range", "excitatory", tuple(sources), tuple(names), tuple(factor), pairs, Weights.uniform())


def _local(circuit: Microcircuit, pre: int, pairs: Pairs) -> Projection:
    """Synapses within regions from one class to all of its microcircuit."""
    factor = circuit.in_degrees()[0][:, pre]
    kind = "excitatory" if circuit.excitatory[pre] else "inhibitory"
    name = f"local.{circuit.classes[pre]}"
    return Projection(name, kind, (circuit.classes[pre],), circuit.classes, tuple(factor), pairs, Weights.uniform())
