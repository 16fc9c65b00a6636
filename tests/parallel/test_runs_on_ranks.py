"""`dtb run` under a launcher: the files of one process, and one clear line where the ranks cannot work together."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dtb.engine.recording import Recording
from dtb.run import available_bytes

CONFIG = """
[build_network]
n_neurons = 4000
in_degree = 50

[Recording]
spikes = ["*.I"]
membrane = ["Precentral_L"]

[run]
duration = 300

[Balloon]
tr_s = 0.1
"""
DTB = ("-m", "dtb.cli", "run")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def test_a_run_on_three_ranks_leaves_the_files_of_one(on_ranks, config: Path, tmp_path: Path) -> None:
    arguments = str(config), "--no-report", "--set", "Simulation.threads=1"
    done = on_ranks(3, *DTB, *arguments, "-o", str(tmp_path / "three"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Run complete") == 1
    one = [sys.executable, *DTB, *arguments, "-o", str(tmp_path / "one")]
    subprocess.run(one, check=True, capture_output=True)
    summaries = [json.loads((tmp_path / run / "summary.json").read_bytes()) for run in ("one", "three")]
    assert [s["ranks"] for s in summaries] == [1, 3]
    assert "run.exchange" in summaries[1]["phases"]
    for key in (
        "config_hash", "spike_digest", "state_digest", "spikes", "synaptic_events", "autapses_dropped", "rate_hz",
        "fastest_population", "fc_correlation", "synchrony",
    ):  # fmt: skip
        assert summaries[0][key] == summaries[1][key], key
    recordings = [Recording.open(tmp_path / run / "recording.zarr") for run in ("one", "three")]
    for name in ("region_rate", "population_rate", "spike_time", "spike_gid", "V", "I_AMPA", "raster_time"):
        first, second = (recording[name] for recording in recordings)
        assert len(first) and np.array_equal(first, second), name
    bold = [
        {str(f.relative_to(tmp_path / run)): f.read_bytes() for f in (tmp_path / run / "bold").rglob("*.tsv*")}
        for run in ("one", "three")
    ]
    assert bold[0] and bold[0] == bold[1]


def test_a_wrong_config_is_told_once(on_ranks, config: Path, tmp_path: Path) -> None:
    done = on_ranks(3, *DTB, str(config), "-o", str(tmp_path / "run"), "--set", "run.duration=0.1")
    assert done.returncode == 3
    assert done.stderr.count("error:") == 1
    assert not (tmp_path / "run").exists()


def test_ranks_that_do_not_fit_the_memory_are_refused_once_with_a_number_that_does(on_ranks, config, tmp_path) -> None:
    many = f"build_network.n_neurons={int(available_bytes() / 16)}"  # a rank needs 2.5 times its half
    done = on_ranks(2, *DTB, str(config), "-o", str(tmp_path / "run"), "--set", many)
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("error:") == 1 and "each rank of this run on 2 ranks needs" in done.stderr
    assert re.search(r"Take \d+ ranks .* \(see dtb plan CONFIG --ranks \d+\)", done.stderr)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_only_rank_0_looks_at_stops_all(on_ranks, config: Path, tmp_path: Path) -> None:
    done = on_ranks(2, *DTB, str(config), "-o", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and "exists" in done.stderr


def test_a_rank_that_fails_alone_ends_all(on_ranks) -> None:
    """The others wait for it in an exchange, and would for ever."""
    code = """
import numpy as np, dtb
from cluster.mpi import MPIComm
from tests.networks import regional
comm = MPIComm()
simulation = dtb.Simulation(regional(), comm=comm, threads=1)
simulation.run(5.0)
if comm.rank == 1:
    raise OSError("the disk of rank 1 is gone")
simulation.run(500.0)
"""
    began = time.monotonic()
    done = on_ranks(3, "-c", code, timeout=60)
    assert done.returncode != 0
    assert "rank 1 of 3: OSError: the disk of rank 1 is gone" in done.stderr
    assert time.monotonic() - began < 60


def test_a_runaway_stops_all_ranks_with_one_message(on_ranks, config: Path, tmp_path: Path) -> None:
    code = """
import numpy as np, dtb
from cluster.mpi import MPIComm
from tests.networks import regional
simulation = dtb.Simulation(regional(), comm=MPIComm(), threads=1, integrator="euler", dt=1.0)
simulation.run(500.0, stimulus=np.full(8, 1e9))
"""
    done = on_ranks(2, "-c", code)
    assert done.returncode != 0
    assert "FloatingPointError: membrane of neuron" in done.stderr


def test_networks_of_other_seeds_do_not_mix(on_ranks) -> None:
    code = """
import dtb
from cluster.mpi import MPIComm
from tests.networks import regional
comm = MPIComm()
dtb.Simulation(regional(seed=1 + comm.rank), comm=comm)
"""
    done = on_ranks(2, "-c", code)
    assert done.returncode != 0
    assert "on rank 0, but" in done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"PMI_SIZE": "4", "PMI_RANK": "0"},
        {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"},
        {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_singletons_under_a_launcher_are_refused(config: Path, tmp_path: Path, environment: dict) -> None:
    """As a launcher of another dialect would leave them: it told them of four, and MPI finds one."""
    pytest.importorskip("mpi4py")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI", "SLURM"))}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *DTB, str(config), "-o", str(tmp_path / "run")],
        env=clean | environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 4
    assert time.monotonic() - began < 5
    assert "started 4 processes, but MPI sees 1" in done.stderr
    assert not (tmp_path / "run").exists()


def test_threads_share_the_cores(on_ranks) -> None:
    code = """
import os
import numpy as np
from cluster.mpi import MPIComm
comm = MPIComm()
mine = comm.all(np.array([comm.cores, len(os.sched_getaffinity(0))]))
if comm.rank == 0:
    print(mine.tolist())
"""
    done = on_ranks(2, "-c", code)
    for mine, cores in json.loads(done.stdout):
        assert mine == max(1, cores // 2)


def test_a_process_alone_does_not_touch_mpi(config: Path, tmp_path: Path) -> None:
    code = "import sys; from cluster.mpi import world; assert world() is None; print('mpi4py' in sys.modules)"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI", "SLURM"))}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_ranks_with_more_threads_than_cores_leave_each_other_the_cores(on_ranks) -> None:
    """Workers that kept a core while those they wait for have none would take minutes for this second."""
    code = """
import dtb
from cluster.mpi import MPIComm
comm = MPIComm()
network = dtb.build_network(dtb.default_brain(), n_neurons=50_000)
simulations = [dtb.Simulation(network, comm=comm, threads=threads, synapses="procedural") for threads in (1, 4)]
for simulation in simulations:
    simulation.run(200.0)
if comm.rank == 0:
    print(*(simulation.spike_digest for simulation in simulations), simulations[0].spikes)
"""
    done = on_ranks(2, "-c", code, timeout=60)
    assert done.returncode == 0, done.stderr
    one, four, spikes = done.stdout.split()
    assert one == four and int(spikes) > 1000
