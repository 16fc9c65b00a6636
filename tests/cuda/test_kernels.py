"""The kernels of the cuda backend, run on this processor and on a GPU, give the bits of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dtb
from dtb.engine.backends import cuda, cuda_plan
from dtb.engine.backends.cuda_device import Device
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.lesion import lesion_tracts
from tests.contracts.test_backends import BackendContract, run
from tests.cuda.host_device import HostDevice
from tests.networks import delay_line, regional, tiny_populations

CUDA = {"backend": "cuda"}


@pytest.fixture(autouse=True)
def few_threads(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 threads: on a processor a fiber each. Nothing depends on their number."""
    if isinstance(device, HostDevice):
        monkeypatch.setattr(cuda, "THREADS", 64)


@pytest.fixture(autouse=True)
def scattered(monkeypatch: pytest.MonkeyPatch) -> None:
    """These networks are so small that large populations would be delivered to spike by spike, too."""
    monkeypatch.setattr(cuda_plan, "few_spikes", lambda plan, dt: False)


def told(simulation: Simulation) -> tuple:
    counts = simulation.spikes, simulation.synaptic_events, simulation.autapses, simulation.lesioned
    return simulation.spike_digest, simulation.state_digest, *counts


class TestCuda(BackendContract):
    settings = CUDA


class TestCudaSpikeBySpike(BackendContract):
    """Large populations, and few spikes."""

    settings = CUDA

    @pytest.fixture(autouse=True)
    def spread(self, scattered: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda_plan, "few_spikes", lambda plan, dt: True)

    def test_this_network_is_delivered_to_spike_by_spike(self) -> None:
        assert not Simulation(regional(), **self.settings)._backend.plan.scattered


class TestCudaInManyGroups(BackendContract):
    """Groups of four tiles, or fewer: populations are cut between groups."""

    settings = CUDA | {"tile_size": 32}

    @pytest.fixture(autouse=True)
    def small_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda_plan, "MAX_BUCKETS", 8)

    def test_this_network_has_many_groups(self) -> None:
        assert len(Simulation(regional(), **self.settings)._backend.plan.groups) > 5


class TestCudaWithBucketsThatOverflow(BackendContract):
    """Buckets of 64 synapses: more arrive in a step."""

    settings = CUDA

    @pytest.fixture(autouse=True)
    def small_buckets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda_plan, "MARGIN", 0.0)

    def test_these_buckets_overflow(self) -> None:
        simulation = Simulation(regional(), seed=7, **CUDA)
        counts = []
        for _ in range(30):
            simulation.run(1.0)
            counts.append(simulation.synaptic_events)
        assert max(np.diff(counts)) > 64 * len(simulation._backend.tiles.n)


@pytest.mark.parametrize("threads", [32, 96, 512])
def test_the_number_of_threads_changes_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = regional(n_regions=2)
    first = run(network, steps=30, **CUDA)
    monkeypatch.setattr(cuda, "THREADS", threads)
    other = run(network, steps=30, **CUDA)
    assert first.spikes > 50
    assert told(other) == told(first)


@pytest.mark.parametrize(
    ("microcircuit", "dt", "few"), [("ei", 1.0, False), ("ei", 1.0, True), ("column", 1.0, True), ("ei", 0.1, False)]
)
def test_the_brain_fires_the_spikes_of_the_cpu(device: Device, microcircuit, dt: float, few: bool, monkeypatch) -> None:
    """Whole: all regions and tracts of the embedded brain, rates, membranes and rasters recorded."""
    monkeypatch.setattr(cuda_plan, "few_spikes", lambda plan, dt: few)
    if isinstance(device, HostDevice):
        monkeypatch.setattr(cuda, "THREADS", 32)
    network = dtb.build_network(dtb.default_brain(), n_neurons=20_000, in_degree=40, microcircuit=microcircuit)
    ours, theirs = (Simulation(network, seed=5, dt=dt, **way) for way in (CUDA, {"synapses": "procedural"}))
    recordings = [
        Recording(rates="population", spikes=["*.E"], membrane=[network.regions[-1]], raster=500) for _ in "12"
    ]
    for simulation, recording in zip((ours, theirs), recordings, strict=True):
        simulation.run(12 * dt if dt == 1 else 60 * dt, recording)
    assert theirs.spikes > 50
    assert told(ours) == told(theirs)
    for name in ("population_rate", "spike_time", "spike_gid", "V", "I_background", "raster_gid"):
        assert np.array_equal(recordings[0][name], recordings[1][name]), name


def test_populations_of_many_tiles_fire_the_spikes_of_the_cpu() -> None:
    network = regional(n_regions=2, n=60_000, in_degree=80.0)
    ours, theirs = (Simulation(network, seed=5, **way) for way in (CUDA, {"synapses": "procedural"}))
    for simulation in (ours, theirs):
        simulation.control.mean[:] *= np.float32(1.2)
        simulation.run(8.0)
    assert len(ours._backend.tiles.n) > 100
    assert np.bincount(ours._backend.plan.items["entry"]).max() > 1, "no entry is shared by several blocks of threads"
    assert theirs.spikes > 500
    assert told(ours) == told(theirs)


def test_every_delay_arrives_at_exactly_its_step() -> None:
    for n in (1, 40):
        network = delay_line(60, step=0.5, n=n)
        kick = np.zeros((70, network.n_populations))
        kick[4, 0] = 1e5  # pA: above threshold within a step, from anywhere
        ours, theirs = (Simulation(network, dt=0.5, **way) for way in (CUDA, {"backend": "reference"}))
        for simulation in (ours, theirs):
            simulation.control.mean[:] = simulation.control.sd[:] = 0.0
            simulation.run(35.0, stimulus=kick)
        assert ours.synaptic_events > 20
        assert told(ours) == told(theirs)


WAYS = [CUDA, CUDA | {"tile_size": 48}, {"synapses": "procedural", "threads": 1}, {"backend": "reference"}]


@pytest.mark.parametrize(("make", "dt"), [(regional, 1.0), (regional, 0.3), (tiny_populations, 1.0)])
def test_checkpoints_go_on_from_cpu_to_gpu_and_back(make, dt: float, tmp_path: Path) -> None:
    network = make(delay_classes=(1.0, 1.5, 2.1))
    cut = lesion_tracts(network, {(f"R{r}", "R0"): 0.5 for r in range(1, len(network.regions))})
    whole = Simulation(network, seed=5, dt=dt, lesions=cut, **WAYS[-1])
    whole.run(100 * dt)
    assert whole.spikes > 50 and whole.synaptic_events > 0 and whole.lesioned > 0
    for number, (before, after) in enumerate(((0, 2), (2, 0), (1, 0), (0, 3), (3, 1))):
        first, second = (Simulation(network, seed=5, dt=dt, lesions=cut, **WAYS[way]) for way in (before, after))
        first.run((15 + 5 * number) * dt)
        second.restore(first.save(tmp_path))
        second.run((85 - 5 * number) * dt)
        assert told(second) == told(whole), (WAYS[before], WAYS[after])


@pytest.mark.parametrize("make", [regional, tiny_populations])
def test_constants_of_a_checkpoint_are_those_that_count(make) -> None:
    """They may differ in a last bit from those that are compiled here; `restore` replaces them."""
    ours, theirs = (Simulation(make(), seed=5, **way) for way in (CUDA, {"synapses": "procedural", "threads": 1}))
    for simulation in (ours, theirs):
        c = simulation._backend.constants
        other = {name: np.nextafter(getattr(c, name), np.float32(1)) for name in ("decay", "bg_mean", "bg_noise")}
        simulation._backend.constants = c._replace(**other)
        simulation.run(30.0)
    assert theirs.spikes > 50
    assert told(ours) == told(theirs)


def test_a_run_in_pieces_is_the_run() -> None:
    network = regional()
    whole, parts = (Simulation(network, seed=5, dt=0.5, **CUDA) for _ in "12")
    whole.run(40.0)
    for steps in (1, 7, 30, 3, 39):
        parts.run(steps * 0.5)
    assert whole.spikes > 50
    assert told(parts) == told(whole)


@pytest.mark.parametrize("make", [regional, tiny_populations])
def test_a_history_that_is_full_grows(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for half a spike of each neuron, beside those of one block: it runs out twice in this run."""
    network = make()
    theirs = run(network, steps=120, synapses="procedural", threads=1)
    monkeypatch.setattr(cuda_plan, "ROOM", 0.1)
    simulation = Simulation(network, **CUDA)
    before = simulation._state.room.copy()
    ours = run(network, steps=120, **CUDA)
    assert (ours._state.room > before).any()
    assert told(ours) == told(theirs)


def test_a_ring_goes_round() -> None:
    """More spikes than a history has room for, over the run; positions come back to its beginning."""
    network = regional(n_regions=2, n=120)
    stimulus = np.full(network.n_populations, 200.0)
    ours, theirs = (Simulation(network, seed=5, **way) for way in (CUDA, {"synapses": "procedural", "threads": 1}))
    for simulation in (ours, theirs):
        for _ in range(6):
            simulation.run(150.0, stimulus=stimulus)
    assert ours.spikes > 2 * ours._state.room.sum()
    assert told(ours) == told(theirs)


def test_a_membrane_that_is_not_a_number_is_named() -> None:
    network = regional()
    simulation = Simulation(network, **CUDA)
    simulation.run(5.0)
    stimulus = np.zeros(network.n_populations, np.float32)
    stimulus[2] = np.float32(-3e38)
    with pytest.raises(FloatingPointError, match=r"'R1\.E' is .* mV at step 5 "):
        simulation.run(5.0, stimulus=stimulus)


def change(simulation: Simulation, name: str, place: tuple[int, ...], to) -> None:
    """Change one number on the device."""
    device, array = simulation._backend.device, simulation._state.world.arrays[name]
    values = device.get(array)
    values[place] = to(int(values[place])) % 2**64
    device.write(array, values)


@pytest.mark.parametrize("make", [regional, tiny_populations])
def test_a_lost_synapse_stops_the_run(make) -> None:
    simulation = Simulation(make(), **CUDA)
    simulation.run(20.0)
    column = (simulation.step - 1) & (simulation._backend.plan.columns - 1)
    change(simulation, "tallies", (0, column), lambda told: told - 1)
    with pytest.raises(RuntimeError, match=f"emitted in step {simulation.step - 1}"):
        simulation.run(60.0)


def test_a_synapse_lost_between_two_kernels_stops_the_run() -> None:
    simulation = Simulation(regional(), **CUDA)
    simulation.run(20.0)
    change(simulation, "bucket_count", (0,), lambda count: count + 1)  # one that nobody drew
    with pytest.raises(RuntimeError, match="sorted into buckets before step"):
        simulation.run(10.0)
