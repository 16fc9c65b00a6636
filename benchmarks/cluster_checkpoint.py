"""g. Checkpoints of one rank and of two: bandwidth against a plain write of the same bytes with fsync, and size.

python -m benchmarks.cluster_checkpoint                     # starts mpiexec for two
mpiexec -n 2 python -m benchmarks.cluster_checkpoint ranks  # on as many as a launcher gives
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import dtb
from benchmarks.checkpoint import BLOCK, STEPS, WARM_UP, N, plain
from benchmarks.measure import Neighbours, interleaved, quotient, report, seconds
from cluster.mpi import world
from dtb.engine.agreement import tell
from dtb.engine.checkpoint_file import Checkpoint
from dtb.engine.comm import LocalComm


def run() -> None:
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if mpiexec is None:
        raise SystemExit("there is no mpiexec: pip install mpich, or load a module that has one.")
    for ranks in (1, 2):
        command = [mpiexec, "-n", str(ranks), sys.executable, "-m", "benchmarks.cluster_checkpoint", "ranks"]
        subprocess.run(command, check=True)


def measure() -> None:
    comm, neighbours = world() or LocalComm(), Neighbours()
    first = comm.rank == 0
    network = dtb.build_network(dtb.default_brain(), n_neurons=N, in_degree=100)
    simulation, restored = (dtb.Simulation(network, comm=comm, threads=1) for _ in range(2))
    simulation.run(STEPS)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        folder = Path(tell(comm, place))
        path = simulation.save(folder / "checkpoints")
        size = sum(f.stat().st_size for f in path.iterdir())
        block = np.random.default_rng(1).bytes(BLOCK)

        def alone() -> float:
            wall = seconds(plain, folder, block, size) if first else 0.0
            comm.sum(np.zeros(1, np.int64))  # nobody saves meanwhile
            return wall

        parts = {"save": lambda: seconds(simulation.save, folder / "checkpoints"), "plain": alone}
        interleaved(parts, WARM_UP)
        times = interleaved(parts)
        restore_s = seconds(restored.restore, path)
        spikes = len(Checkpoint(path).spikes()[0])
        same = restored.state_digest == simulation.state_digest
        comm.sum(np.zeros(1, np.int64))  # all have read it
    assert same
    if not first:
        return
    report(
        f"g.bandwidth.{comm.size}", [size / t / 1e9 for t in times["save"]], "GB/s",
        against="a plain write of as much by one process, with fsync", ratios=quotient(times["plain"], times["save"]),
        bar=0.5, bar_is="at least", n=N, ranks=comm.size, restore_s=restore_s, others=neighbours.cores(),
    )  # fmt: skip
    state = 26 * N + 4 * spikes  # fields and refractoriness; number of each spike on its way
    report(f"g.size.{comm.size}", [size / N], "bytes/neuron", against="the state", ratios=[size / state], bar=1.1, n=N)


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["ranks"] else run()
