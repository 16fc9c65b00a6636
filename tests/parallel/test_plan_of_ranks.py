"""What is planned for ranks, what one of them does in a rehearsal, and what ranks really do, under mpiexec."""

from __future__ import annotations

import json

import pytest

import dtb
from benchmarks.ranks import SETTLE_MS, TIMED_MS, network_of
from cluster.devices import CORE, bare_process_bytes
from cluster.dryrun import DryRunComm
from cluster.plan import plan

N = 60_000


@pytest.fixture(scope="module")
def measured(on_ranks):
    """By number of ranks; a first run is left out, for it may compile, which takes memory."""

    def told(ranks: int) -> dict:
        done = on_ranks(ranks, "-m", "benchmarks.ranks", "--neurons", str(N))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    told(2)
    return {ranks: told(ranks) for ranks in (2, 3)}


def planned(measured: dict, ranks: int):
    network, size = network_of("default", N)
    rates = {c.name: measured[ranks]["rate"][0] for c in network.classes}
    return plan(network, ranks, CORE, ranks, rates=rates, tile_size=size, per_rank=True)


@pytest.mark.parametrize("ranks", [2, 3])
def test_events_and_spikes_of_each_rank_are_as_planned(measured, ranks) -> None:
    """At the rate of the run, events within 3 %, spikes from others within 3 %: regions fire not quite alike."""
    found, told = planned(measured, ranks), measured[ranks]
    assert found.events_rank.each == pytest.approx(told["events"], rel=0.03)
    assert found.spikes_in_rank.each == pytest.approx(told["spikes_in"], rel=0.03)
    assert found.spikes_out_rank.total == pytest.approx(sum(told["spikes_in"]), rel=0.03)


@pytest.mark.parametrize("ranks", [2, 3])
def test_memory_of_each_rank_is_as_planned(measured, ranks) -> None:
    """Within 10 % of the whole process, most of which is Python, numba and MPI at this size."""
    found, told = planned(measured, ranks), measured[ranks]
    expected = found.memory_rank.max - CORE.base_bytes + bare_process_bytes()
    assert expected == pytest.approx(max(told["rss"]), rel=0.1)


def test_a_rehearsed_rank_does_what_the_real_one_does(measured) -> None:
    """Its own cells hear made-up spikes instead of real ones, so it fires a little unlike: events within 3 %."""
    told = measured[2]
    network, size = network_of("default", N)
    rates = {c.name: told["rate"][0] for c in network.classes}
    for rank in (0, 1):
        simulation = dtb.Simulation(
            network, threads=1, synapses="procedural", tile_size=size, comm=DryRunComm(rank, 2, 2, rates=rates)
        )
        simulation.run(SETTLE_MS)
        events, spikes_in = simulation.events_here, simulation.spikes_in
        simulation.run(TIMED_MS)
        per = 1000 / TIMED_MS
        assert (simulation.events_here - events) * per == pytest.approx(told["events"][rank], rel=0.03)
        assert (simulation.spikes_in - spikes_in) * per == pytest.approx(told["spikes_in"][rank], rel=0.03)
        state, backend = simulation._state, simulation._backend
        assert backend.neuron_bytes(state) == pytest.approx(told["bytes"][rank], rel=0.05)
