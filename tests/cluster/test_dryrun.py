"""One rank of many, run alone: what it hears, what it does, and `dtb plan --dry-run`."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import dtb
from cluster.dryrun import DryRunComm
from cluster.expected import expected, pieces
from cluster.plan_report import Plan
from cluster.traffic import traffic
from dtb.cli import app
from dtb.engine.backends.cpu_spikes import pack
from dtb.engine.partition import Partition
from dtb.engine.simulation import shared_size
from dtb.network.tiles import tile
from tests.synthetic import voxel_brain, voxel_network

CONFIG = """
[build_network]
n_neurons = 40_000
in_degree = 50
[Simulation]
threads = 1
synapses = "procedural"
[run]
duration = 100
"""


@pytest.fixture(scope="module")
def network():
    return dtb.build_network(dtb.default_brain(), n_neurons=40_000, in_degree=50)


def simulated(network, comm, duration=100.0, **keywords):
    simulation = dtb.Simulation(network, comm=comm, threads=1, synapses="procedural", **keywords)
    simulation.run(duration)
    return simulation


def history(simulation):
    """Everything that a rank holds of spikes of others in its last 40 steps, by first gid of the tile."""
    backend, state = simulation._backend, simulation._state
    others = np.flatnonzero(~backend.here)
    stop = int(state.heard[others].min())
    return {
        int(backend.tiles.first[t]): pack(state.history[0], np.array([t]), stop - 40, stop).tolist() for t in others
    }


@pytest.mark.parametrize(("routing", "per_node"), [("flat", 1), ("two-level", 1), ("two-level", 2), ("two-level", 4)])
def test_a_rank_hears_others_at_the_rates_expected_of_them(network, routing, per_node):
    """40 ms at some 6 spikes/s of 30,000 neurons: 7,200 spikes, of which four standard deviations are 5 %."""
    rates = {"E": 5.0, "I": 10.0}
    comm = DryRunComm(1, 4, per_node, routing, rates)
    simulation = simulated(network, comm, 60.0)
    known = expected(network, rates)
    tiles = tile(network, shared_size(network, 32_768, 4))
    owner = comm.place(network, tiles, 1.0, None).owner
    planned = traffic(network, known, pieces(network, tiles, owner), 4, per_node, 1.0)
    heard = simulation._state.heard.max() / 1000  # s
    assert simulation.spikes_in / heard == pytest.approx(planned.into[1], rel=0.05)


def test_what_is_made_up_depends_on_seed_step_and_neuron_only(network):
    """Not on routing, nodes or how often ranks meet."""
    told = [history(simulated(network, comm)) for comm in (DryRunComm(0, 3, 1, "flat"), DryRunComm(0, 3, 3))]
    assert told[0] == told[1]
    other = history(simulated(network, DryRunComm(0, 3, 3, seed=2)))
    assert other.keys() == told[0].keys() and other != told[0]


def test_no_neuron_fires_twice_in_a_step(network):
    for message in history(simulated(network, DryRunComm(0, 3, rates={"E": 300.0, "I": 300.0}), 45.0)).values():
        counts, neurons = message[:40], message[40:]
        for step in np.split(np.array(neurons), np.cumsum(counts)[:-1]):
            assert (np.diff(step) > 0).all()


def test_silence_and_certainty_are_rates_too(network):
    assert simulated(network, DryRunComm(0, 2, rates={"E": 0.0, "I": 0.0}), 20.0).spikes_in == 0
    comm = DryRunComm(0, 2, rates={"E": 1000.0, "I": 0.0})
    tiles = tile(network, shared_size(network, 32_768, 2))
    simulation = simulated(network, comm, 3.0)
    elsewhere = comm.place(network, tiles, 1.0, None).owner == 1
    excitatory = network.population_class[tiles.population] == 0
    steps = int(simulation._state.heard.max())
    assert steps and simulation.spikes_in == steps * int(tiles.n[elsewhere & excitatory].sum())


def test_all_ranks_in_turn_are_the_network(network):
    """Neurons, and events: those of ranks rehearsed one by one are those of one process that holds all.

    Without recurrent effects: all start alike, and 30 ms are short of the rates settling, so events agree to some 10 %.
    """
    whole = simulated(network, None, 30.0)
    rate = whole.spikes / network.n_neurons / 0.030
    ranks = [simulated(network, DryRunComm(r, 3, rates={"E": rate, "I": rate}), 30.0) for r in range(3)]
    assert sum(len(r._backend.layout.own) for r in ranks) == ranks[0].tiles
    assert sum(r.spikes for r in ranks) == pytest.approx(whole.spikes, rel=0.05)


def test_small_populations_are_heard_at_the_mean_rate_of_their_tile():
    brain = voxel_network(voxel_brain(n_voxels=200, n_pairs=6_000), n_neurons=20_000)
    rates = {c.name: 4.0 for c in brain.classes}
    comm = DryRunComm(0, 2, rates=rates)
    simulation = simulated(brain, comm, 60.0)
    tiles = simulation._ranks.tiles
    far = int(tiles.n[~simulation._ranks.here].sum())
    assert simulation.spikes_in == pytest.approx(far * 4e-3 * simulation._state.heard.max(), rel=0.1)


def test_a_rank_that_hears_nobody_runs(network):
    """All tiles but one are on rank 0, and their cells do not reach rank 1 before the run ends: it must not wait."""
    tiles = tile(network, 1024)
    owner = np.zeros(len(tiles.n), np.int32)
    owner[-1] = 1
    simulation = simulated(network, DryRunComm(1, 2), 20.0, tile_size=1024, partition=Partition(owner))
    assert simulation.step == 20 and simulation._ranks.here.sum() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((4, 4), "no rank 4 of 4"), ((-1, 4), "Allowed: 0 to 3"), ((0, 2, 1, "grid"), "Known: two-level, flat")],
)
def test_a_rank_that_does_not_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DryRunComm(*arguments)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(CONFIG)
    return path


def planned(*arguments):
    return CliRunner().invoke(app, ["plan", *(str(a) for a in arguments)])


def test_the_command_shows_what_one_rank_takes_beside_the_plan(config):
    """The rates at rest are those of in-degree 100; with 50 these cells fire some 10 % less, and so do events."""
    result = planned(config, "--ranks", 4, "--ranks-per-node", 2, "--dry-run", 2, "--json")
    assert result.exit_code == 0, result.output
    told = Plan.model_validate(json.loads(result.stdout)).rehearsed
    assert told is not None and told.rank == 2 and 9_000 < told.neurons < 11_000
    assert told.spikes_in.measured == pytest.approx(told.spikes_in.planned, rel=0.01)
    for both in (told.events, told.spikes_out):
        assert both.measured == pytest.approx(both.planned, rel=0.2)
    assert told.memory.measured == pytest.approx(told.memory.planned, rel=0.1)
    assert told.step_ms.measured > 0


def test_the_table_has_both(config):
    result = planned(config, "--ranks", 2, "--dry-run", 0)
    assert "dry run of rank 0" in result.stdout and "planned / measured" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dry-run", 2), "no rank 2 of 2"),
        (("--dry-run", 0, "--history", "sender"), "planned, not built"),
        (("--dry-run", 0, "--routing", "grid"), "planned, not built"),
    ],
)
def test_what_cannot_be_run_is_refused(config, options, message):
    result = planned(config, "--ranks", 2, "--device", "h200", *options)
    assert result.exit_code == 3 and message in result.stderr


def test_a_rank_too_large_for_this_machine_is_refused(config):
    """Three times as many spikes of others as memory: 10¹¹ neurons heard for a quarter of a second, 2 bytes each."""
    result = planned(
        config, "--set", "build_network.n_neurons=100_000_000_000", "--ranks", 4000, "--device", "h200", "--dry-run", 7
    )
    assert result.exit_code == 4 and "rank 7 needs about" in result.stderr
