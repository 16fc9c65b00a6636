"""Traffic against a count spike by spike, and the shortest delay between ranks."""

import numpy as np
import pytest

from cluster.expected import Pieces, expected, pieces
from cluster.traffic import COUNT_BYTES, SPIKE_BYTES, grid, partners, shortest, traffic
from dtb.network.network import Network
from dtb.network.projection import Pairs, Projection
from dtb.network.synapses import population_of, row, synapses
from dtb.network.tiles import tile
from tests.networks import regional

RANKS, PER_NODE = 11, 2  # six nodes, the last of one rank


@pytest.fixture(scope="module")
def placed():
    """A network whose regions project to few others, scattered over ranks."""
    base = regional(n_regions=9, n=200, seed=4)
    post = (np.repeat(np.arange(9), 2) + np.tile([1, 3], 9)) % 9
    pairs = Pairs.from_triplets(9, post, np.repeat(np.arange(9), 2), np.full(18, 8.0), 4.0)
    far = Projection("far", "excitatory", ("E",), ("E", "I"), (1.0, 1.0), pairs)
    network = Network(base.regions, base.classes, base.size, (far, *base.projections[1:]), seed=1)
    tiles = tile(network, 32)
    owner = np.sort(np.random.default_rng(2).integers(0, RANKS, len(tiles.n))).astype(np.int32)
    known = expected(network, np.linspace(1.0, 9.0, network.n_populations))
    parts = pieces(network, tiles, owner)
    return network, tiles, owner, known, parts, traffic(network, known, parts, RANKS, PER_NODE, 1.0)


def by_hand(placed):
    """For every tile its rank, its spikes/s, and the ranks with populations that its row names."""
    network, tiles, owner, known, _, _ = placed
    holds = {r: set(tiles.population[owner == r].tolist()) for r in range(RANKS)}
    for t, population in enumerate(tiles.population):
        targets = set(row(network, int(population)).population.tolist())
        reached = {r for r in range(RANKS) if holds[r] & targets}
        yield int(owner[t]), tiles.n[t] * known.rate[population], reached


def test_spikes_between_ranks_are_those_counted_tile_by_tile(placed):
    out, into = np.zeros(RANKS), np.zeros(RANKS)
    for rank, spikes, reached in by_hand(placed):
        for other in reached - {rank}:
            out[rank] += spikes
            into[other] += spikes
    assert placed[-1].out == pytest.approx(out) and placed[-1].into == pytest.approx(into)


def test_spikes_between_nodes_go_once_to_each_node(placed):
    nodes = -(-RANKS // PER_NODE)
    out, into = np.zeros(nodes), np.zeros(nodes)
    for rank, spikes, reached in by_hand(placed):
        for other in {r // PER_NODE for r in reached} - {rank // PER_NODE}:
            out[rank // PER_NODE] += spikes
            into[other] += spikes
    assert placed[-1].node_out == pytest.approx(out) and placed[-1].node_in == pytest.approx(into)


def test_peers_are_the_ranks_and_nodes_that_a_rank_or_node_sends_to(placed):
    ranks, nodes = {}, {}
    for rank, _, reached in by_hand(placed):
        ranks.setdefault(rank, set()).update(reached - {rank})
        nodes.setdefault(rank // PER_NODE, set()).update({r // PER_NODE for r in reached} - {rank // PER_NODE})
    assert placed[-1].peers.tolist() == [len(ranks.get(r, ())) for r in range(RANKS)]
    assert placed[-1].node_peers.tolist() == [len(nodes[n]) for n in range(len(nodes))]


def test_on_a_grid_every_node_gets_a_spike_by_at_most_one_forwarding(placed):
    """Counted hop by hop: once to each column, in the own row, and from there within the column."""
    columns = grid(-(-RANKS // PER_NODE))[1]
    hops = np.zeros(-(-RANKS // PER_NODE))
    for rank, spikes, reached in by_hand(placed):
        own = rank // PER_NODE
        nodes = {r // PER_NODE for r in reached} - {own}
        first = {n % columns for n in nodes} - {own % columns}
        then = {n for n in nodes if n // columns != own // columns}
        hops[own] += (SPIKE_BYTES * spikes + COUNT_BYTES * 1000) * (len(first) + len(then))
    assert placed[-1].grid_node_bytes == pytest.approx(hops)


def test_bytes_are_two_for_a_spike_and_two_for_the_count_of_each_tile_and_step(placed):
    found = np.zeros(RANKS)
    for rank, spikes, reached in by_hand(placed):
        found[rank] += (SPIKE_BYTES * spikes + COUNT_BYTES * 1000) * len(reached - {rank})
    assert placed[-1].bytes_out == pytest.approx(found)


def test_a_spike_that_goes_only_where_its_synapses_end_takes_fewer_bytes(placed):
    """Against nodes counted neuron by neuron; the model takes synapses as independent, strata make them less so."""
    network, tiles, owner, known, _, lines = placed
    node_of = owner[np.repeat(np.arange(len(tiles.n)), tiles.n)] // PER_NODE
    copies = 0.0
    for gid in range(network.n_neurons):
        nodes = set(node_of[synapses(network, gid).target].tolist()) - {int(node_of[gid])}
        copies += len(nodes) * known.rate[population_of(network, gid)]
    whole = lines.node_out.sum()
    assert lines.by_spike_node_out / whole == pytest.approx(copies / whole, rel=0.05)


def test_an_epoch_is_the_shortest_delay_between_ranks():
    network = regional(n_regions=4, delays=(3.0, 9.0), local_delay=1.0)
    region = network.population_region
    n = np.diff(network.first_gid)
    whole = Pieces(np.arange(len(n)), region.astype(np.int64) // 2, n, np.ones(len(n), np.int64))
    apart = network.projections[0].pairs
    across = apart.delay[apart.pre // 2 != apart.post // 2].min()
    assert shortest(network, whole, 2, 0.1) == pytest.approx(round(float(across) / 0.1) * 0.1)
    split = whole._replace(rank=np.arange(len(n)) % 2)  # E and I of a region on two ranks
    assert shortest(network, split, 2, 0.1) == pytest.approx(1.0)
    assert shortest(network, whole._replace(rank=np.zeros(len(n), np.int64)), 1, 0.1) == np.inf


def test_sparse_and_dense_counts_of_partners_agree(placed, monkeypatch):
    network, _, _, _, parts, lines = placed
    import cluster.traffic as module
    from cluster.expected import reach

    cell, region = network.population_class[parts.population], network.population_region[parts.population]
    sends = [
        (region[cell == k], parts.rank[cell == k], module.ones(m)) for k, m in reach(network, parts, RANKS).items()
    ]
    monkeypatch.setattr(module, "SPARSE_WORK", 0)
    assert partners(sends, RANKS).tolist() == lines.peers.tolist()
