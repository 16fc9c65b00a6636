"""What becomes of a run on many ranks that is stopped, loses a rank, or finds its checkpoint damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dtb.engine.checkpoint_file import generations
from tests.parallel.launch import MARK, process_of, processes

CONFIG = """
[build_network]
n_neurons = 3_000
in_degree = 60
[Simulation]
threads = 1
[run]
duration = 30_000
checkpoint_every = 0.2
"""
DTB = ("-m", "dtb.cli", "run")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict:
    """The summary of the run that nothing disturbs, on one rank."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "c.toml").write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, *DTB, str(folder / "c.toml"), "-o", str(folder / "out"), "--no-report"]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads((folder / "out" / "summary.json").read_text())


def arguments(config: Path, *more: str) -> list[str]:
    return [*DTB, str(config), "-o", str(config.parent / "out"), "--no-report", *more]


def alike(out: Path, expected: dict, ranks: int) -> bool:
    summary = json.loads((out / "summary.json").read_text())
    assert summary["ranks"] == ranks and summary["status"] == "complete"
    keys = "spike_digest", "state_digest", "spikes", "synaptic_events", "autapses_dropped", "rate_hz", "isi_cv"
    return all(summary[key] == expected[key] for key in keys)


def saved(out: Path) -> list[str]:
    return [path.name for path in generations(out / "checkpoints")]


def wait_for_another(out: Path, process: subprocess.Popen, before: list[str]) -> None:
    deadline = time.monotonic() + 60
    while saved(out) == before and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_run_stopped_by_any_signal_goes_on_on_other_ranks(started_on_ranks, config: Path, expected: dict) -> None:
    """SIGINT and SIGTERM to the launcher, which passes them on; SIGUSR2 to one rank of three only."""
    out, mark, options = config.parent / "out", str(config), ()
    for ranks, number in ((2, signal.SIGTERM), (4, signal.SIGINT), (3, signal.SIGUSR2)):
        before = saved(out)
        process = started_on_ranks(ranks, *arguments(config, *options), **{MARK: mark})
        wait_for_another(out, process, before)
        if number == signal.SIGUSR2:
            os.kill(process_of(2, mark), number)
        else:
            process.send_signal(number)
        told, errors = process.communicate(timeout=60)
        assert process.returncode == 75, errors
        assert ("stopped and saved at" in errors) != (number == signal.SIGINT), errors
        assert ("go on with" in told) == (number == signal.SIGINT)
        assert errors.count("error:") == 0
        options = ("--resume",)
    done = started_on_ranks(2, *arguments(config, "--resume"))
    assert "going on from the checkpoint" in done.communicate(timeout=120)[1]
    assert alike(out, expected, 2)


def test_a_killed_rank_is_named_the_others_end_and_the_checkpoint_is_good(
    started_on_ranks, on_ranks, config: Path, expected: dict
) -> None:
    out, mark = config.parent / "out", str(config)
    process = started_on_ranks(4, *arguments(config), **{MARK: mark})
    wait_for_another(out, process, [])
    assert sorted(rank for rank in processes(mark).values() if rank is not None) == [0, 1, 2, 3]
    victim, began = process_of(2, mark), time.monotonic()
    os.kill(victim, signal.SIGKILL)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode != 0 and time.monotonic() - began < 60
    assert errors.count("error:") == 1
    assert f"rank 2 of 4 (process {victim} on" in errors and "crashed or was killed" in errors
    assert f"is good: go on with --resume -o {out}" in errors
    while processes(mark) and time.monotonic() - began < 60:
        time.sleep(0.05)
    assert not processes(mark), "orphans"
    done = on_ranks(2, *arguments(config, "--resume"))
    assert done.returncode == 0 and "going on from the checkpoint" in done.stderr
    assert alike(out, expected, 2)


def test_the_others_end_where_the_launcher_leaves_them_alone(started_on_ranks, config: Path) -> None:
    """MPICH's can be told to: then the ranks wait for the lost one, and the witness of their machine ends them."""
    process = started_on_ranks(3, *arguments(config), options=("-disable-auto-cleanup",), **{MARK: str(config)})
    try:
        wait_for_another(config.parent / "out", process, [])
    except AssertionError as error:
        if "auto-cleanup" in str(error):
            pytest.skip("this MPI's launcher always cleans up")
        raise
    began = time.monotonic()
    os.kill(process_of(0, str(config)), signal.SIGKILL)
    errors = process.communicate(timeout=60)[1]
    assert "rank 0 of 3" in errors and time.monotonic() - began < 60
    assert not processes(str(config)), "orphans"


def test_a_damaged_part_is_named_and_the_checkpoint_before_used(
    started_on_ranks, on_ranks, config: Path, expected: dict
) -> None:
    out = config.parent / "out"
    process = started_on_ranks(3, *arguments(config))
    wait_for_another(out, process, [])
    wait_for_another(out, process, saved(out))
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) and process.returncode == 75
    newer, older = generations(out / "checkpoints")
    part = newer / "part-00002.bin"
    assert sorted(f.name for f in newer.iterdir()) == ["manifest.json", *(f"part-0000{rank}.bin" for rank in range(3))]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 4
    part.write_bytes(data)
    shutil.copytree(out, config.parent / "second")
    done = on_ranks(2, *arguments(config, "--resume"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is damaged") == 1 and "of part-00002.bin fails its checksum" in done.stderr
    assert "The one before it is used" in done.stderr
    assert alike(out, expected, 2)
    (config.parent / "second" / "checkpoints" / older.name / "part-00001.bin").unlink()
    shutil.rmtree(out)
    (config.parent / "second").rename(out)
    done = on_ranks(2, *arguments(config, "--resume"))
    assert done.returncode == 3 and done.stderr.count("error:") == 1, done.stderr
    assert older.name in done.stderr and newer.name in done.stderr and "--force" in done.stderr


ONE_FAILS = """
import json, resource, sys
from pathlib import Path
import dtb
from cluster.mpi import MPIComm
from dtb.engine.checkpoint_file import Checkpoint
from tests.networks import regional
comm, folder = MPIComm(), Path(sys.argv[1])
simulation = dtb.Simulation(regional(), comm=comm, threads=1)
simulation.run(10.0)
before = simulation.save(folder)
simulation.run(10.0)
if comm.rank == 1:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
try:
    simulation.save(folder)
except OSError as error:
    told = error.errno, Path(error.filename).name, error.__notes__
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
left = [path.name for path in folder.iterdir()]
Checkpoint(before).verify()
simulation.run(10.0)
after = simulation.save(folder)
other = dtb.Simulation(regional(seed=2), comm=comm, threads=1)
try:
    other.restore(after)
except ValueError as error:
    refused = str(error)
if comm.rank == 0:
    print(json.dumps([told, left, refused, [path.name for path in sorted(folder.iterdir())]]))
"""


def test_a_disk_that_is_full_for_one_rank_fails_all_and_leaves_the_checkpoint_before(on_ranks, tmp_path: Path) -> None:
    """Rank 1 may write no file beyond 2,000 bytes; afterwards it may, and the next checkpoint is good. It is refused
    by a simulation of another network, on all ranks.
    """
    done = on_ranks(3, "-c", ONE_FAILS, str(tmp_path / "checkpoints"))
    assert done.returncode == 0, done.stderr
    (errno, name, notes), left, refused, kept = json.loads(done.stdout)
    assert os.strerror(errno) == "File too large" and name == "step-000000000020"
    assert notes == ["It happened on rank 1 of 3."]
    assert left == ["step-000000000010"]
    assert "is of another network" in refused
    assert kept == ["step-000000000010", "step-000000000030"]
