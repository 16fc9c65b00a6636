"""One simulation on the ranks that a launcher started, measured: rank 0 prints one JSON object.

mpiexec -n 2 python -m benchmarks.ranks --neurons 1000000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import dtb
from benchmarks.processes import memory
from dtb.engine.comm import Communicator, LocalComm
from dtb.engine.partition import Partition
from dtb.engine.simulation import shared_size
from dtb.network.network import Network
from dtb.network.tiles import tile
from tests.synthetic import heterogeneous_network

SETTLE_MS, TIMED_MS = 300.0, 300.0  # rates are steady at 300 ms; timed so long that noise of seconds matters little
TILE = 2048  # of the heterogeneous brain, so that its small regions can be placed
SETTINGS = {  # more ranks than cores leave each other the core, instead of polling; MPICH
    "MPIR_CVAR_ENABLE_HEAVY_YIELD": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def measured(ranks: int, **options: object) -> dict:
    """What `main` prints, on so many ranks; MPI is told to be polite only where there are more ranks than cores."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.ranks", *words]
    settings = dict(os.environ)
    if ranks > 1:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        command = [shutil.which("mpiexec", path=path) or "mpiexec", "-n", str(ranks), *command]
    if ranks > len(os.sched_getaffinity(0)):
        settings |= SETTINGS
    done = subprocess.run(command, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, default=1_000_000)
    parser.add_argument("--brain", choices=("default", "heterogeneous"), default="default")
    parser.add_argument("--partition", choices=("usual", "even"), default="usual")
    parser.add_argument("--together", type=int, default=1, help="0: each rank simulates the network for itself")
    options = parser.parse_args()
    comm: Communicator = LocalComm()
    if "PMI_SIZE" in os.environ or "OMPI_COMM_WORLD_SIZE" in os.environ:
        from cluster.mpi import MPIComm

        comm = MPIComm()
    network, size = network_of(options.brain, options.neurons)
    partition = None
    if options.partition == "even" and comm.size > 1:
        size = shared_size(network, size, comm.size)
        partition = Partition.even(tile(network, size).n, comm.size)
    simulation = dtb.Simulation(
        network, threads=1, synapses="procedural", tile_size=size, partition=partition,
        comm=comm if options.together else LocalComm(),
    )  # fmt: skip
    rows = comm.all(np.array(timed(simulation, comm)))
    if comm.rank == 0:
        names = ("wall", "advance", "observe", "exchange", "spikes_in", "events", "bytes", "rss", "rate")
        print(json.dumps({"ranks": comm.size} | {k: v.tolist() for k, v in zip(names, rows.T, strict=True)}))


def network_of(brain: str, n_neurons: int) -> tuple[Network, int]:
    """And the size of its tiles."""
    if brain == "heterogeneous":
        return heterogeneous_network(n_neurons), TILE
    return dtb.build_network(dtb.default_brain(), n_neurons, 100), dtb.network.tiles.MAX_TILE


def timed(simulation: dtb.Simulation, comm: Communicator) -> list[float]:
    """Of this rank, per biological second where that is meant; times once all ranks have begun."""
    simulation.run(SETTLE_MS)
    for phase in simulation.phases:
        simulation.phases[phase] = 0.0
    spikes_in, events, spikes = simulation.spikes_in, simulation.events_here, simulation.spikes
    comm.sum(np.zeros(1, np.int64))  # wait for all
    begin = time.perf_counter()
    simulation.run(TIMED_MS)
    comm.sum(np.zeros(1, np.int64))
    wall = time.perf_counter() - begin
    per = 1000 / TIMED_MS
    phases = (simulation.phases.get(name, 0.0) * per for name in ("advance", "observe", "exchange"))
    state, backend = simulation._state, simulation._backend
    return [
        wall * per, *phases, (simulation.spikes_in - spikes_in) * per, (simulation.events_here - events) * per,
        float(backend.neuron_bytes(state)), float(memory("VmRSS")),
        (simulation.spikes - spikes) * per / simulation.network.n_neurons,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
