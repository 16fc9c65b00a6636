"""Who owns what, who sends to whom, and how often: all found without asking anybody."""

from __future__ import annotations

import numpy as np
import pytest

from dtb.engine.partition import Partition
from dtb.engine.routes import find_routes
from dtb.network.network import Network
from dtb.network.tiles import Tiles, tile
from tests.networks import delay_line, regional, tiny_populations


def by_region(network: Network, tiles: Tiles, ranks: int) -> Partition:
    region = network.population_region[tiles.population].astype(np.int64)
    return Partition((region * ranks // len(network.regions)).astype(np.int32))


@pytest.mark.parametrize("make", [regional, tiny_populations])
def test_what_one_rank_sends_the_other_expects(make) -> None:
    network, ranks = make(), 5
    tiles = tile(network, 32)
    partition = Partition.shuffled(tiles.n, ranks)
    routes = [find_routes(network, tiles, partition, r, ranks, dt=1.0) for r in range(ranks)]
    for a in range(ranks):
        for b in range(ranks):
            sent, expected = (t.get(to, np.zeros(0)) for t, to in ((routes[a].sends, b), (routes[b].receives, a)))
            assert np.array_equal(sent, expected)
            assert (partition.owner[expected.astype(int)] == a).all()


def test_an_epoch_is_the_shortest_delay_between_ranks() -> None:
    """Regions are whole on a rank, so the delay of synapses within them, 2 ms, does not count."""
    network = regional(delays=(6.0, 9.0), local_delay=2.0)
    tiles = tile(network, 64)
    whole = find_routes(network, tiles, by_region(network, tiles, 2), 0, 2, dt=0.5)
    tracts = network.projections[0].pairs
    crosses = (tracts.pre < 2) != (tracts.post < 2)
    assert whole.epoch == round(float(tracts.delay[crosses].min()) / 0.5)
    cut = find_routes(network, tiles, Partition.shuffled(tiles.n, 2), 0, 2, dt=0.5)
    assert cut.epoch == 4


def test_spikes_go_only_where_they_have_targets() -> None:
    """One source region sends to all others, and nobody answers."""
    network = delay_line(longest=5, step=1.0, n=40)
    tiles = tile(network)
    routes = [find_routes(network, tiles, by_region(network, tiles, 3), r, 3, dt=1.0) for r in range(3)]
    assert {r: t.tolist() for r, t in routes[0].sends.items()} == {1: [0], 2: [0]}
    assert routes[1].sends == {} and routes[2].sends == {}
    assert [r.incoming.tolist() for r in routes] == [[], [0], [0]]
    assert {r.epoch for r in routes} == {2}  # region 1, one step away, is on the rank of the source


def test_ranks_without_a_synapse_between_them_need_not_meet() -> None:
    network = delay_line(longest=5, step=1.0, n=40)
    tiles = tile(network)
    owner = np.zeros(len(tiles.n), np.int32)
    assert find_routes(network, tiles, Partition(owner), 0, 2, dt=1.0).epoch is None


@pytest.mark.parametrize(
    ("owner", "said"),
    [([0, 0, 0], "rank 1 owns none"), ([0, 1, 2], "but there are 2"), ([0, 1], r"owners of \(2,\) tiles")],
)
def test_a_partition_that_does_not_fit_is_refused(owner: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Partition(np.array(owner, np.int32)).check(3, 2)
