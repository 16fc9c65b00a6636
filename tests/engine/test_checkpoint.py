"""Checkpoints on disk: whole, checked to the last bit, two of them, and refused where they do not belong."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from dtb.engine.checkpoint_file import Checkpoint, generations, newest
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.lesion import lesion_tracts
from tests.networks import regional, tiny_populations

FLIPS = 300


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A checkpoint of a small network, inside its folder."""
    simulation = Simulation(regional(), seed=5)
    simulation.run(40.0)
    return simulation.save(tmp_path_factory.mktemp("run") / "checkpoints")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoints" / saved.name))


def test_every_one_of_300_flipped_bits_is_found(copy: Path) -> None:
    """Each byte of each file is as likely; so are ten further bits of the manifest, which is small."""
    rng = np.random.default_rng(1)
    files = sorted(copy.iterdir())
    sizes = np.array([f.stat().st_size for f in files])
    Checkpoint(copy).verify()
    for flip in range(FLIPS):
        file = files[rng.choice(len(files), p=sizes / sizes.sum())] if flip >= 10 else copy / "manifest.json"
        good = file.read_bytes()
        bad, bit = bytearray(good), int(rng.integers(8 * len(good)))
        bad[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(bad)
        with pytest.raises(ValueError, match="is damaged"):
            Checkpoint(copy).verify()
        file.write_bytes(good)
    Checkpoint(copy).verify()


@pytest.mark.parametrize("name", ["part-00000.bin", "manifest.json"])
@pytest.mark.parametrize("left", [None, 0, 100, -1])
def test_a_file_that_is_missing_or_cut_short_is_found(copy: Path, name: str, left: int | None) -> None:
    file = copy / name
    data = file.read_bytes()
    file.unlink()
    if left is not None:
        file.write_bytes(data[:left])
    with pytest.raises(ValueError, match=r"step-000000000040' is damaged"):
        Checkpoint(copy).verify()


def test_a_longer_file_is_found(copy: Path) -> None:
    with open(copy / "part-00000.bin", "ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match="bytes where its manifest says"):
        Checkpoint(copy).verify()


def test_the_one_before_is_used_where_the_newest_is_damaged(tmp_path: Path) -> None:
    simulation = Simulation(regional(), seed=5)
    for _ in range(4):
        simulation.run(10.0)
        last = simulation.save(tmp_path)
    assert [path.name for path in generations(tmp_path)] == ["step-000000000040", "step-000000000030"]
    (last / "part-00000.bin").write_bytes(b"")
    found, faults = newest(tmp_path)
    assert found is not None and found.step == 30
    assert len(faults) == 1 and "step-000000000040" in faults[0]
    generations(tmp_path)[1].joinpath("manifest.json").unlink()
    with pytest.raises(ValueError, match=r"step-000000000040.*step-000000000030.*run again with --force"):
        newest(tmp_path)


def test_a_run_comes_by_a_damaged_checkpoint_and_mends_it(tmp_path: Path) -> None:
    simulation = Simulation(regional(), seed=5)
    simulation.run(10.0)
    path = simulation.save(tmp_path)
    (path / "manifest.json").unlink()
    assert simulation.save(tmp_path) == path
    Checkpoint(path).verify()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_half_a_checkpoint_of_a_killed_process_is_no_checkpoint_and_goes(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / ".partial-step-000000000020")
    assert generations(tmp_path) == []
    simulation = Simulation(regional(), seed=5)
    simulation.run(10.0)
    path = simulation.save(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_one_before_as_it_was(tmp_path: Path) -> None:
    """No file may grow beyond 10 kB, as on a full disk; the error names the place."""
    simulation = Simulation(regional(), seed=5)
    simulation.run(10.0)
    before = simulation.save(tmp_path)
    simulation.run(10.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError) as caught:
            simulation.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value.filename).endswith("step-000000000020")
    assert list(tmp_path.iterdir()) == [before]
    Checkpoint(before).verify()


OTHERS = {
    "network": ({"seed": 2}, {}, "of another network"),
    "seed": ({}, {"seed": 6}, "made with seed = 5, here it is 6"),
    "dt": ({}, {"dt": 0.5}, "made with dt = 1.0, here it is 0.5"),
    "integrator": ({}, {"integrator": "euler"}, "made with integrator = semi-implicit, here it is euler"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_something_else_is_refused(saved: Path, what: str) -> None:
    network, settings, says = OTHERS[what]
    simulation = Simulation(regional(**network), **{"seed": 5, **settings})
    with pytest.raises(ValueError, match=says):
        simulation.restore(saved)
    assert simulation.step == 0


def test_a_checkpoint_without_the_lesion_is_refused(saved: Path) -> None:
    network = regional()
    simulation = Simulation(network, seed=5, lesions=lesion_tracts(network, {("R1", "R0"): 0.5}))
    with pytest.raises(ValueError, match="made with lesions = None"):
        simulation.restore(saved)


def test_constants_of_another_model_are_refused_and_a_last_bit_is_taken_over(saved: Path) -> None:
    """Two machines' exponentials may differ in a last bit: then the constants of the checkpoint hold."""
    for factor, fits in ((np.float32(1 + 2**-22), True), (np.float32(1.01), False)):
        simulation = Simulation(regional(), seed=5)
        compiled = simulation._backend.constants
        simulation._backend.constants = compiled._replace(decay=compiled.decay * factor)
        if fits:
            simulation.restore(saved)
            assert np.array_equal(simulation._backend.constants.decay, compiled.decay)
        else:
            with pytest.raises(ValueError, match="other constants"):
                simulation.restore(saved)


def test_a_lost_synapse_is_noticed_across_a_checkpoint(saved: Path) -> None:
    """The counters of synapses on their way are part of the state: forget one and the run names the step."""
    simulation = Simulation(regional(), seed=5, synapses="procedural", threads=1)
    simulation.restore(saved)
    column = 39 & (simulation._state.tallies.shape[2] - 1)
    simulation._state.tallies[0, 0, column] -= 1
    with pytest.raises(RuntimeError, match="emitted in step 39"):
        simulation.run(60.0)


@pytest.mark.parametrize("make", [lambda: regional(n_regions=10, n=4_000, in_degree=40.0), tiny_populations])
def test_a_checkpoint_is_hardly_larger_than_the_state(make, tmp_path: Path) -> None:
    """26 bytes a neuron, 4 a spike on its way, 24 the control and 8 the counts of each population."""
    network = make()
    simulation = Simulation(network)
    simulation.run(50.0)
    path = simulation.save(tmp_path)
    size = sum(f.stat().st_size for f in path.iterdir())
    state = 26 * network.n_neurons + 32 * network.n_populations + 4 * len(Checkpoint(path).spikes()[0])
    assert size < 1.1 * state + 6_000  # the manifest, and constants and counters, which do not grow


# recordings ----------------------------------------------------------------------------------------------------


def record(store: Path, **changed) -> Recording:
    wanted = {"spikes": ["*.E"], "membrane": ["R1"], "bin": 2.0, "raster": 50, **changed}
    return Recording(**wanted, store=store)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("closed", [False, True], ids=["killed", "closed"])
def test_a_recording_goes_on_to_the_same_bytes(tmp_path: Path, closed: bool) -> None:
    """It is cut inside a bin, went on after the checkpoint, and was cut off or closed then."""
    network = regional()
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    with record(whole) as expected:
        Simulation(network, seed=5, dt=0.5).run(4000.0, expected)
    first, recording = Simulation(network, seed=5, dt=0.5), record(parts)
    first.run(2500.5, recording)
    path = first.save(tmp_path / "checkpoints", recording)
    first.run(300.0, recording)
    if closed:
        recording.close()
    second = Simulation(network, seed=5, dt=0.5, synapses="procedural")
    with record(parts) as recording:
        second.restore(path, recording)
        second.run(4000.0 - 2500.5, recording)
    for name in ("isi_cv", "synchrony", "mean_rate_hz", "rate_hz"):
        assert getattr(recording.statistics, name) == getattr(expected.statistics, name)
    assert recording.statistics.isi_cv is not None
    assert files_of(parts) == files_of(whole)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"spikes": ["*.I"]}, "made with another 'spike_population'"),
        ({"membrane": []}, "also holds"),
        ({"raster": 0}, "also holds"),
    ],
)
def test_a_recording_of_other_things_does_not_go_on(tmp_path: Path, changed: dict, says: str) -> None:
    first, recording = Simulation(regional(), seed=5), record(tmp_path / "a.zarr")
    first.run(20.0, recording)
    path = first.save(tmp_path / "checkpoints", recording)
    before = files_of(tmp_path)
    second = Simulation(regional(), seed=5)
    with pytest.raises(ValueError, match=says):
        second.restore(path, record(tmp_path / "a.zarr", **changed))
    assert files_of(tmp_path) == before and second.step == 0


def test_a_recording_that_lost_rows_does_not_go_on(tmp_path: Path) -> None:
    first, recording = Simulation(regional(), seed=5), record(tmp_path / "a.zarr")
    first.run(20.0, recording)
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "earlier.zarr")
    first.run(20.0, recording)
    path = first.save(tmp_path / "checkpoints", recording)
    with pytest.raises(ValueError, match="has 10 rows, and had 20 when the checkpoint was made"):
        Simulation(regional(), seed=5).restore(path, record(tmp_path / "earlier.zarr"))


def test_a_recording_in_memory_is_not_saved(tmp_path: Path) -> None:
    simulation, recording = Simulation(regional()), Recording()
    simulation.run(20.0, recording)
    with pytest.raises(ValueError, match="kept in memory"):
        simulation.save(tmp_path, recording)
