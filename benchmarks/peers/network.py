"""The regional network: 80 regions, 200,000 neurons, 20 million synapses, delays of 1 to 20 ms, about 8 spikes/s.

Its table goes to every simulator: for each pair of populations the kind, the number of synapses and the delay. Each
draws as many synapses as the table says between neurons chosen at random, so numbers and delays are equal, and
in-degrees spread alike (binomially); which neurons they join differs, and none is joined to itself. Initial membranes
are uniform between reset and threshold.
"""

from __future__ import annotations

import numpy as np

import dtb
from dtb.network.build import apportion
from dtb.network.network import CellClass, Network
from dtb.network.projection import KINDS, Pairs, Projection, Weights

REGIONS, NEURONS = 80, 200_000
LOCAL_E, LOCAL_I, LONG_E = 50.0, 20.0, 30.0  # synapses that a neuron receives
DENSITY = 0.2  # of pairs of regions that a tract joins
LOCAL_DELAY, LONGEST = 1.0, 20  # ms
CURRENT = 200.0  # pA

# The cell of Vogels & Abbott (2005), J. Neurosci. 25:10786, as in Brette et al. (2007), J. Comput. Neurosci. 23:349.
# There 6 and 67 nS and no current; 2.2 nS and 200 pA hold this network, with its delays, at 8 spikes/s (measured). Two
# receptors, because NEST's iaf_cond_exp has two; ours computes all four and its noise, and multiplies them by zero.
CELL = dtb.LIF(
    c_m=200.0,
    g_leak=10.0,
    e_leak=-60.0,
    v_threshold=-50.0,
    v_reset=-60.0,
    t_ref=5.0,
    g=(2.2, 0.0, 67.0, 0.0),
    e_rev=(0.0, 0.0, -80.0, -80.0),
    tau_syn=(5.0, 50.0, 10.0, 50.0),
    background=dtb.Background(CURRENT, 0.0, 5.0),
)

# Integrators err differently, and with them the rate. So that all have as many events to deliver, Brian2 has excitatory
# weights of its own [nS], by dt, with which it fires as ours and NEST do (measured).
WEIGHT_E = {("brian2", 0.1): 1.95, ("brian2", 1.0): 1.67}


def regional_network(neurons: int = NEURONS, regions: int = REGIONS, seed: int = 1) -> Network:
    """Regions of lognormal size, four fifths excitatory; a sparse random connectome with lognormal weights."""
    rng = np.random.default_rng(seed)
    per_region = 20 + apportion(neurons - 20 * regions, rng.lognormal(0.0, 0.5, regions))
    inhibitory = per_region // 5
    size = np.stack([per_region - inhibitory, inhibitory], axis=1)
    weight = np.where(rng.random((regions, regions)) < DENSITY, rng.lognormal(0.0, 1.5, (regions, regions)), 0.0)
    np.fill_diagonal(weight, 0.0)
    ring = np.arange(regions), np.arange(regions) - 1
    weight[ring] = np.where(weight.sum(axis=1) == 0, 1.0, weight[ring])
    delay = rng.integers(1, LONGEST + 1, (regions, regions))
    delay = np.maximum(delay, delay.T)
    post, pre = np.nonzero(weight)
    share = weight[post, pre] / weight.sum(axis=1)[post]
    here = np.arange(regions)

    def rule(name: str, source: str, post, pre, in_degree, delay) -> Projection:
        pairs = Pairs.from_triplets(regions, post, pre, np.broadcast_to(in_degree, np.shape(post)), delay)
        kind = "excitatory" if source == "E" else "inhibitory"
        return Projection(name, kind, (source,), ("E", "I"), (1.0, 1.0), pairs, Weights.constant(1.0))

    rules = (
        rule("long_range", "E", post, pre, LONG_E * share, delay[post, pre].astype(float)),
        rule("local.E", "E", here, here, LOCAL_E, LOCAL_DELAY),
        rule("local.I", "I", here, here, LOCAL_I, LOCAL_DELAY),
    )
    classes = (CellClass("E", CELL), CellClass("I", CELL))
    return Network(tuple(f"R{r:02d}" for r in range(regions)), classes, size, rules, seed)


def table(network: Network) -> dict[str, np.ndarray]:
    """What other simulators need of a network: one row per pair of regions of every projection.

    first (2 R + 1,): gids of populations, E and I of each region in turn; for each row projection, pre_first, pre_n,
    post_first, post_n (the whole target region), inhibitory, synapses, delay [ms].
    """
    first = network.first_gid
    rows = []
    for number, p in enumerate(network.projections):
        source = network.class_indices(p.pre)[0]
        pairs, inhibitory = p.pairs, KINDS.index(p.kind)
        for post, pre, in_degree, delay in zip(pairs.post, pairs.pre, pairs.in_degree, pairs.delay, strict=True):
            begin, end = first[2 * pre + source : 2 * pre + source + 2]
            target, n = first[2 * post], first[2 * post + 2] - first[2 * post]
            rows.append((number, begin, end - begin, target, n, inhibitory, round(in_degree * n), delay))
    names = ("projection", "pre_first", "pre_n", "post_first", "post_n", "inhibitory", "synapses", "delay")
    columns = dict(zip(names, np.array(rows, float).T, strict=True))
    return {name: c if name == "delay" else c.astype(np.int64) for name, c in columns.items()} | {
        "neurons": np.array(network.n_neurons)
    }
