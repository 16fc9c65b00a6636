"""Simulations side by side fire the spikes that each fires alone."""

from __future__ import annotations

import numpy as np
import pytest

from dtb.engine.backends import cuda, cuda_plan
from dtb.engine.backends.cuda_device import Device
from dtb.engine.backends.cuda_sequence import repeated
from dtb.engine.ensemble import run_together
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.lesion import lesion_tracts
from dtb.network.network import Network
from tests.cuda.host_device import HostDevice
from tests.networks import regional, tiny_populations

MEMBERS = 4


@pytest.fixture(autouse=True)
def few_threads(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(device, HostDevice):
        monkeypatch.setattr(cuda, "THREADS", 64)


def ensemble(network: Network, **settings) -> tuple[list[Simulation], list, list]:
    """Members that differ in seed, background, stimulus and lesions; one of them is recorded."""
    cut = lesion_tracts(network, {("R1", "R0"): 0.5})
    members = [Simulation(network, seed=9 + m, lesions=cut if m == 1 else None, **settings) for m in range(MEMBERS)]
    for m, member in enumerate(members):
        member.control.mean[:] *= np.float32(1 + 0.1 * m)
    stimulus = np.zeros((60, network.n_populations))
    stimulus[5:20] = 100.0  # pA
    kept = Recording(rates="population", spikes=["*.E"], membrane=[network.regions[0]])
    return members, [None, None, kept, None], [None, stimulus, None, stimulus[0]]


def told(simulation: Simulation) -> tuple:
    counts = simulation.spikes, simulation.synaptic_events, simulation.autapses, simulation.lesioned
    return simulation.spike_digest, simulation.state_digest, *counts


@pytest.mark.parametrize(("make", "few"), [(regional, False), (regional, True), (tiny_populations, True)])
def test_members_of_a_batch_fire_the_spikes_of_each_alone(make, few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_plan, "few_spikes", lambda plan, dt: few)
    monkeypatch.setattr(cuda_plan, "ROOM", 0.3)  # members run out of room at different steps
    network = make()
    ours, kept, given = ensemble(network, backend="cuda")
    theirs, kept_alone, _ = ensemble(network, synapses="procedural", threads=1)
    for _ in range(2):
        run_together(ours, 60.0, kept, given)
        for simulation, recording, stimulus in zip(theirs, kept_alone, given, strict=True):
            simulation.run(60.0, recording, stimulus)
    assert min(simulation.spikes for simulation in theirs) > 50
    assert len({told(simulation) for simulation in theirs}) == MEMBERS
    assert [told(simulation) for simulation in ours] == [told(simulation) for simulation in theirs]
    for name in ("population_rate", "spike_time", "spike_gid", "V"):
        assert np.array_equal(kept[2][name], kept_alone[2][name]), name


def test_no_kernel_of_one_member_waits_for_another_member() -> None:
    network = regional()
    members = [Simulation(network, seed=seed, backend="cuda") for seed in range(3)]
    kernels = [member._backend.kernels(member._state) for member in members]
    launches = repeated(kernels, 2)
    assert len(launches) == 2 * sum(map(len, kernels))
    for launch in launches:
        assert all(launches[number].queue // 2 == launch.queue // 2 for number in launch.after)


def test_other_backends_run_one_after_another() -> None:
    network = regional(n_regions=2)
    ours, theirs = ([Simulation(network, seed=seed, threads=1) for seed in (1, 2)] for _ in "12")
    run_together(ours, 30.0)
    for simulation in theirs:
        simulation.run(30.0)
    assert [told(simulation) for simulation in ours] == [told(simulation) for simulation in theirs]


def test_what_cannot_run_side_by_side_is_refused() -> None:
    one, other = Simulation(regional(), threads=1), Simulation(regional(seed=2), threads=1)
    with pytest.raises(ValueError, match=r"simulation 1 has network .* the first one"):
        run_together([one, other], 10.0)
    with pytest.raises(ValueError, match=r"has dt 0\.5, the first one 1\.0"):
        run_together([one, Simulation(regional(), dt=0.5, threads=1)], 10.0)
    with pytest.raises(ValueError, match="there is no simulation"):
        run_together([], 10.0)
    with pytest.raises(ValueError, match="1 simulations have 1 recordings and 2 stimuli"):
        run_together([one], 10.0, stimuli=[None, None])
    with pytest.raises(ValueError, match="less than one step"):
        run_together([one], 0.2)
