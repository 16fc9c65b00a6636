"""What the cuda backend asks of a device, what it refuses, and how it stands in for one that is not there."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dtb
from benchmarks import gpu
from dtb.config import load_config
from dtb.engine.backends import cuda, cuda_device, cuda_plan
from dtb.engine.backends.cuda_world import source
from dtb.engine.constants import compile_constants
from dtb.engine.partition import Partition
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.network import Network
from dtb.network.tiles import DEVICE_TILE, tile
from dtb.run import run_config
from tests.contracts.test_backends import run
from tests.cuda.host_device import HostDevice
from tests.networks import regional, tiny_populations

CUDA = {"backend": "cuda"}
TOY = Path(__file__).parents[2] / "configs" / "toy.toml"


@pytest.fixture(autouse=True)
def few_threads(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "THREADS", 64)


def test_a_network_that_does_not_fit_says_how_much_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    small = HostDevice(capacity=1 << 29)
    monkeypatch.setattr("dtb.engine.backends.cuda_device.open_device", lambda rank=None: small)
    network = dtb.build_network(dtb.default_brain(), n_neurons=20_000_000)
    with pytest.raises(MemoryError, match=r"need 1\.\d GiB here; .* has 0\.5 GiB free of 0\.5\. \d such devices"):
        Simulation(network, **CUDA)


def test_what_is_counted_is_what_is_allocated(host: HostDevice) -> None:
    for make in (regional, tiny_populations):
        host.used = 0
        simulation = Simulation(make(), **CUDA)
        world = simulation._state.world
        held = sum(array.nbytes for array in world.arrays.values())
        assert held == simulation._backend.device_bytes
        assert 0 <= host.used - held - world.record.nbytes < 0.01 * held + 10_000  # tables of the initial state


def test_stored_synapses_are_refused() -> None:
    with pytest.raises(ValueError, match="backend 'cuda' computes synapses and stores none"):
        Simulation(regional(), synapses="stored", **CUDA)


def test_tiles_too_large_for_shared_memory_are_refused() -> None:
    network: Network = regional(n_regions=1, n=60_000, in_degree=1.0)
    with pytest.raises(ValueError, match=r"a tile has .* neurons; the shared memory of a GPU holds 16,384"):
        Simulation(network, partition=Partition.even(np.ones(3), 1), tile_size=32_768, **CUDA)


def every_kernel() -> Iterator[str]:
    for line in source().splitlines():
        if line.startswith("KERNEL("):
            yield line.split()[1].partition("(")[0]


def test_every_kernel_is_launched(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    launch = host.launch
    monkeypatch.setattr(host, "launch", lambda each: (seen.add(each.kernel), launch(each)))
    monkeypatch.setattr(cuda_plan, "ROOM", 0.1)
    monkeypatch.setattr(cuda_plan, "few_spikes", lambda plan, dt: False)
    for make in (regional, tiny_populations):
        run(make(), steps=120, **CUDA)
        simulation = Simulation(make(), **CUDA)
        simulation.run(5.0, Recording(spikes=["*.E"]))
        assert len(simulation.state_digest) == 16
    backend, state = simulation._backend, simulation._state
    tiles = np.arange(len(backend.tiles.n))
    backend.incoming(state, np.full(1, -1), 0, 5, backend.outgoing(state, tiles[:1], 0, 5))
    assert seen == set(every_kernel())


def test_a_billion_neurons_take_less_than_36_bytes_each_and_60_gigabytes_in_all() -> None:
    """Law 3, and the bar of a single device: state, history, tables, buckets, all that would be allocated."""
    network = dtb.build_network(dtb.default_brain(), n_neurons=1_000_000_000, in_degree=556)
    tiles, constants = tile(network, DEVICE_TILE), compile_constants(network, 1.0)
    empty = HostDevice(capacity=60 * 10**9)
    backend = cuda.CudaBackend(network, constants, 1.0, True, tiles, empty)
    assert network.n_synapses == pytest.approx(556e9, rel=1e-6)
    assert backend.device_bytes < 36 * network.n_neurons < 60e9
    assert empty.used == 0


@pytest.mark.parametrize(("n", "dt"), [(300_000, 1.0), (2_000_000, 0.1)])
def test_a_neuron_of_a_large_population_costs_at_most_36_bytes(n: int, dt: float) -> None:
    """What grows with neurons; buckets and sums for their overflow are for one group of tiles at a time."""
    simulation = Simulation(dtb.build_network(dtb.default_brain(), n_neurons=n), dt=dt, **CUDA)
    assert simulation.bytes_per_neuron <= 36
    assert simulation.bytes_per_synapse == 0


def test_a_neuron_of_a_small_population_costs_at_most_44_bytes() -> None:
    simulation = Simulation(tiny_populations(n_regions=1_000), **CUDA)
    assert simulation.bytes_per_neuron <= 44


def test_memory_for_delivery_does_not_grow_with_the_network() -> None:
    at_work = []
    for n in (500_000_000, 4_000_000_000):
        network = dtb.build_network(dtb.default_brain(), n_neurons=n, in_degree=556)
        tiles = tile(network, DEVICE_TILE)
        plan = cuda_plan.compile_plan(network, tiles, compile_constants(network, 1.0), 1.0, np.ones(len(tiles.n), bool))
        shapes = cuda_plan.arrays(plan)
        at_work.append(sum(4 * int(np.prod(shapes[name])) for name in ("bucket", "spill")))
        assert plan.buckets <= cuda_plan.MAX_BUCKETS
    assert max(at_work) <= cuda_plan.TURNS * (cuda_plan.BUCKET_BYTES + cuda_plan.SPILL_BYTES)


def test_a_machine_without_cupy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without_cupy(name: str, *rest):
        if name.partition(".")[0] == "cupy":
            raise ImportError("No module named 'cupy'")
        return imported(name, *rest)

    monkeypatch.undo()
    monkeypatch.setattr(builtins, "__import__", without_cupy)
    with pytest.raises(ConnectionError, match=r"needs CuPy .*pip install 'digital-twin-brain\[cuda\]'.*set backend"):
        Simulation(regional(), **CUDA)
    assert cuda_device.available()[0] is False


def test_a_rank_takes_the_device_of_its_number_on_its_machine() -> None:
    assert cuda_device.local_rank({}) == 0
    assert cuda_device.local_rank({"OMPI_COMM_WORLD_LOCAL_RANK": "3"}) == 3
    assert cuda_device.local_rank({"SLURM_LOCALID": "2", "MPI_LOCALRANKID": ""}) == 2


def test_the_second_device_is_stricter_than_the_first(host: HostDevice) -> None:
    """What would be a race or a hang on a GPU is an error here: shared memory that is too small, say."""
    simulation = Simulation(regional(), **CUDA)
    simulation.run(2.0)
    state, backend = simulation._state, simulation._backend
    launch = next(each for each in backend.kernels(state) if each.kernel == "advance")
    backend._set_clock(state, state.step + 1, state.step)
    with pytest.raises(RuntimeError, match="kernel advance: a block wrote beyond its shared memory"):
        host.launch(launch._replace(shared=launch.shared // 2))
    with pytest.raises(RuntimeError, match="threads come in warps"):
        host.launch(launch._replace(threads=33))


def test_a_figure_has_all_its_columns(tmp_path) -> None:
    """What `make bench-gpu` appends; here of a network so small, and a device so slow, that it says nothing."""
    network = gpu.circuit(n=400, in_degree=30.0)
    figure = gpu.timed("toy", network, 0.1, warm=3.0, duration=6.0)
    assert network.max_delay == 1.5
    assert figure["spike_digest"] == gpu.on_cpu(network, 0.1, 9.0)
    assert figure["device_bytes"] > 0 and figure["realtime_factor"] > 0 and figure["biological_s"] == 0.009
    path = tmp_path / "results.jsonl"
    assert "Nothing has been measured" in gpu.show(path)
    path.write_text(json.dumps(dict.fromkeys(gpu.COLUMNS) | figure) + "\n")
    assert "| toy |" in gpu.show(path)


def test_without_a_gpu_nothing_is_measured() -> None:
    if cuda_device.available()[0]:
        pytest.skip("there is a GPU here")
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "nothing can be measured here: backend 'cuda'" in done.stderr


def test_a_run_says_where_it_ran(tmp_path, host: HostDevice) -> None:
    """The summary names the device and what it held, the provenance what the kernels were compiled with."""
    settings = ["run.duration=60.0", "build_network.n_neurons=600", "build_network.in_degree=30", "Balloon.tr_s=0.02"]
    ours, theirs = (
        run_config(load_config(TOY, [*settings, f"Simulation.backend={name}"]), tmp_path / name, report=False)
        for name in ("cuda", "cpu")
    )
    assert ours.spike_digest == theirs.spike_digest and ours.state_digest == theirs.state_digest and ours.spikes > 0
    assert (ours.backend, ours.device, ours.synapse_storage) == ("cuda", host.name, "procedural")
    assert ours.device_bytes > 600 * 26 and theirs.device_bytes is None
    compiled = json.loads((tmp_path / "cuda" / "provenance.json").read_text())["kernels"]
    assert "--fmad=false" in compiled["options"]


def test_few_spikes_are_looked_for_one_by_one() -> None:
    """By what is predicted: up to some hundred thousand neurons of a brain, but not in a column with wide rows."""
    brains = [dtb.build_network(dtb.default_brain(), n_neurons=n) for n in (20_000, 5_000_000)]
    plans = [Simulation(network, **CUDA)._backend.plan for network in brains]
    assert [plan.scattered for plan in plans] == [False, True]
    assert Simulation(gpu.circuit(7_700), dt=0.1, **CUDA)._backend.plan.scattered
