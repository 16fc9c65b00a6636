"""Expected activity against the synapses themselves, and against a run."""

import numpy as np
import pytest

import dtb
from cluster.expected import expected, pieces, population_rates, rates_of_run, reach
from dtb.network.synapses import population_of, synapses
from dtb.network.tiles import tile
from tests.networks import regional, tiny_populations
from tests.synthetic import HETEROGENEOUS_HZ, heterogeneous_network


@pytest.fixture(scope="module")
def enumerated():
    """A small network, and (pre, post) synapses between its populations, counted one by one."""
    network = regional(delay_classes=(0.8, 1.2))
    count = np.zeros((network.n_populations, network.n_populations))
    for gid in range(network.n_neurons):
        found = synapses(network, gid)
        pre = int(population_of(network, gid))
        np.add.at(count[pre], population_of(network, found.target), 1)
        count[pre, pre] += found.autapses
    return network, count


def test_events_are_the_synapses_of_what_fires(enumerated):
    """Out-degrees are exact to within one per neuron, targets are drawn: 5 sigma of 10⁴ synapses."""
    network, count = enumerated
    rate = np.linspace(1.0, 20.0, network.n_populations)
    found = expected(network, rate)
    large = found.n > 20  # of three neurons, too few synapses are counted
    assert (rate @ count / found.n)[large] == pytest.approx(found.events[large], rel=0.05)
    assert (count.sum(axis=0) / found.n)[large] == pytest.approx(found.synapses[large], rel=0.05)


def test_what_reaches_a_rank_are_the_synapses_that_end_there(enumerated):
    network, count = enumerated
    tiles = tile(network, 64)
    owner = (np.arange(len(tiles.n)) % 3).astype(np.int32)
    parts = pieces(network, tiles, owner)
    on = np.zeros((network.n_populations, 3))
    on[parts.population, parts.rank] = parts.neurons / np.diff(network.first_gid)[parts.population]
    n, here = np.diff(network.first_gid), (count @ on)
    for k, mean in reach(network, parts, 3).items():
        mine = np.flatnonzero((network.population_class == k) & (n > 20))
        assert mean.toarray()[network.population_region[mine]] == pytest.approx(here[mine] / n[mine, None], rel=0.1)


def test_events_of_a_run_are_those_expected_from_its_rates():
    """The bar of the plan is 3 %; rates are those of the run, so what differs are synapses and spikes under way."""
    network = heterogeneous_network(20_000)
    simulation, recording = dtb.Simulation(network, threads=1), dtb.Recording(rates="population")
    simulation.run(300.0, recording=recording)
    before = simulation.synaptic_events
    simulation.run(200.0, recording=recording)
    found = expected(network, recording.population_rate[-200:].mean(axis=0))
    measured = (simulation.synaptic_events - before) / 0.2
    assert measured == pytest.approx((found.n * found.events).sum(), rel=0.03)


def test_pieces_are_all_neurons_once():
    for network, size in ((heterogeneous_network(50_000), 128), (tiny_populations(), 64)):
        tiles = tile(network, size)
        owner = np.random.default_rng(1).integers(0, 5, len(tiles.n)).astype(np.int32)
        parts = pieces(network, tiles, owner)
        assert np.bincount(parts.population, parts.neurons).tolist() == np.diff(network.first_gid).tolist()
        assert np.bincount(parts.rank, parts.neurons).tolist() == np.bincount(owner, tiles.n).tolist()
        assert len(set(zip(parts.rank, parts.population, strict=True))) == len(parts.rank)


def test_rates_default_to_those_of_the_cells_at_rest():
    network = dtb.build_network(dtb.default_brain(), 10_000, cell="nsr2023")
    assert population_rates(network, None) == pytest.approx(3.8)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"E_calm": 1.0}, "lacks class"),
        (HETEROGENEOUS_HZ | {"X": 1.0}, "names class 'X'"),
        (np.ones(3), "one per population"),
        (np.full(64, np.nan), "not a number"),
    ],
)
def test_wrong_rates_are_named(rates, message):
    with pytest.raises(ValueError, match=message):
        expected(heterogeneous_network(50_000), rates)


def test_no_rates_come_from_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        rates_of_run(regional(), tmp_path)
