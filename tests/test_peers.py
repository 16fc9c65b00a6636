"""What is asked of other simulators is what ours is asked, and the comparison can tell right from wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dtb
from benchmarks.peers.network import CELL, regional_network, table
from dtb.network.synapses import synapses, weight_unit
from validate.compare import compare, firing, matched
from validate.driven import Driven, at_grid
from validate.nest_process import cell_parameters
from validate.network import Case, Spikes

REPOSITORY = Path(__file__).parents[1]


# the regional network ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return regional_network()


def test_the_regional_network_has_the_size_that_was_agreed(network):
    assert (network.n_neurons, len(network.regions)) == (200_000, 80)
    assert network.n_synapses == pytest.approx(20e6)
    assert (network.min_delay, network.max_delay) == (1.0, 20.0)


def test_the_table_for_other_simulators_has_the_synapses_of_the_network(network):
    rows = table(network)
    for number, expected in enumerate(network.synapses_by_projection().values()):
        here = rows["projection"] == number
        assert abs(rows["synapses"][here].sum() - expected) <= 0.5 * here.sum()  # rounded pair by pair


def test_the_table_names_the_neurons_of_one_class_and_of_one_region(network):
    rows, first = table(network), network.first_gid
    source = np.searchsorted(first, rows["pre_first"])
    np.testing.assert_array_equal(first[source + 1] - first[source], rows["pre_n"])
    np.testing.assert_array_equal(source % 2, rows["inhibitory"])  # E and I in turn
    target = np.searchsorted(first, rows["post_first"])
    np.testing.assert_array_equal(first[target + 2] - first[target], rows["post_n"])


# the driven neuron ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [dtb.LIF(), CELL], ids=["default", "peers"])
def test_the_membrane_of_a_driven_neuron_converges_to_the_exact_one_with_order_one(cell):
    """Semi-implicit Euler is of first order (Hairer, Norsett & Wanner 1993); 10 % for terms of second order."""
    case = Driven(replace(cell, v_threshold=0.0), duration=300.0)
    exact = case.exact()
    error = [np.sqrt(np.mean((at_grid(case.ours(dt).v, dt) - exact) ** 2)) for dt in (0.1, 0.05)]
    assert np.log2(error[0] / error[1]) == pytest.approx(1.0, abs=0.1)


def test_a_driven_neuron_gets_a_synapse_from_every_source():
    case = Driven(dtb.LIF())
    rows = [synapses(case.network, gid) for gid in range(case.gid)]
    assert [row.target.tolist() for row in rows] == [[case.gid]] * 100


# the network for NEST ------------------------------------------------------------------------------------------


def test_edges_are_the_synapses_in_nanosiemens():
    case = Case(seed=1, neurons=200, regions=3)
    edges, network = case.edges, case.network
    for gid in (0, network.n_neurons - 1):  # an excitatory neuron and an inhibitory one
        out, here = synapses(network, gid), edges.pre == gid
        np.testing.assert_array_equal(edges.post[here], out.target)
        np.testing.assert_array_equal(edges.delay[here], out.delay)
        kind, g = ("excitatory", 2.0) if gid == 0 else ("inhibitory", -10.0)  # AMPA, GABA_A of release2024
        np.testing.assert_allclose(edges.weight[here], out.weight * weight_unit(network, kind) * g)
    assert len(edges.pre) == sum(len(synapses(network, gid).target) for gid in range(network.n_neurons))


def test_a_cell_with_receptors_that_nest_lacks_is_refused():
    with pytest.raises(ValueError, match="no receptor NMDA"):
        cell_parameters(dtb.LIF(g=(2.0, 1.0, 10.0, 0.0)))


# the comparison ------------------------------------------------------------------------------------------------


def poisson(rate: float, seed: int, n: int = 400, duration: float = 5_500.0) -> Spikes:
    rng = np.random.default_rng(seed)
    step, gid = np.nonzero(rng.random((round(duration), n)) < rate / 1000)
    return Spikes(step, gid, 1.0, duration)


def test_poisson_trains_are_irregular_and_uncorrelated():
    """The CV of 40 geometric intervals of 1 ms steps is just below 1; the mean of 200 correlations has sd 0.002."""
    found = firing(poisson(8.0, seed=1), 400, pair_seed=1)
    assert found.rate.mean() == pytest.approx(8.0, rel=0.03)  # 16,000 spikes: 0.8 %
    assert found.cv.mean() == pytest.approx(0.98, abs=0.03)
    assert abs(found.correlation.mean()) < 0.01


def test_networks_alike_are_found_alike_and_others_are_not():
    a = [firing(poisson(8.0, seed), 400, seed) for seed in range(10)]
    b = [firing(poisson(8.0, seed + 100), 400, seed) for seed in range(10)]
    c = [firing(poisson(8.4, seed + 200), 400, seed) for seed in range(10)]
    assert all(verdict.alike for verdict in compare(a, b))
    assert not compare(a, c)[0].alike  # 5 % in rate


def test_matched_spikes_are_of_the_same_neuron_and_near():
    a = Spikes(np.array([10, 20, 30, 40]), np.array([0, 1, 2, 3]), 1.0, 100.0)
    b = Spikes(np.array([11, 20, 35, 40]), np.array([0, 2, 2, 3]), 1.0, 100.0)
    assert matched(a, b, 0.0, 100.0, within=1.0) == 0.5


def test_where_there_is_no_nest_that_is_said(tmp_path):
    command = [sys.executable, "-m", "validate", "--nest", str(tmp_path / "python")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("NOT COMPARED WITH NEST")
