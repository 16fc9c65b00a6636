"""c. Speed on many ranks: against one rank, against independent halves, against equal counts of neurons.

Simulations of every kind stand side by side in the same processes and take turns, so that a busy machine disturbs all
alike. A rank that has no part in a turn sleeps.

python -m benchmarks.cluster_speed                       # starts mpiexec for each part
mpiexec -n 2 python -m benchmarks.cluster_speed halves   # one part, under a launcher
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import dtb
from benchmarks.measure import REPETITIONS, Neighbours, quotient, report

N, STEPS = 1_000_000, 100
PARTS = {"halves": 2, "unlike": 2, "oversubscribed": 4}  # ranks of each
HEAVY_YIELD = {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1"}  # MPICH: ranks that share a core leave it to each other


def run() -> None:
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if mpiexec is None:
        raise SystemExit("there is no mpiexec: pip install mpich, or load a module that has one.")
    for part, ranks in PARTS.items():
        settings = os.environ | (HEAVY_YIELD if ranks > len(os.sched_getaffinity(0)) else {})
        command = [mpiexec, "-n", str(ranks), sys.executable, "-m", "benchmarks.cluster_speed", part]
        subprocess.run(command, env=settings, check=True)


class Turns:
    """Ranks that take turns.

    Parameters
    ----------
    comm : MPIComm
    pin : bool
        Whether each rank keeps to one core.
    """

    def __init__(self, comm, pin: bool = True) -> None:
        self.comm = comm
        cores = sorted(os.sched_getaffinity(0))
        if pin:
            os.sched_setaffinity(0, {cores[comm.rank % len(cores)]})

    def quiet(self) -> None:
        """Wait for all, asleep: a rank that looks for messages takes a core."""
        meeting = self.comm._end.Ibarrier()
        while not meeting.Test():
            time.sleep(0.001)

    def measure(self, simulations: dict[str, dtb.Simulation | None], rounds: int = REPETITIONS) -> dict[str, np.ndarray]:
        """(rounds, ranks, 4) of each: s of wall, of it advancing, exchanging, waiting; zeros where a rank has none."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in simulations}
        for number in range(rounds + 1):
            for name, simulation in simulations.items():
                self.quiet()
                mine = np.zeros(4) if simulation is None else timed(simulation)
                self.quiet()
                if number:  # the first round loads kernels, and lets rates settle
                    found[name].append(self.comm.all(mine))
        return {name: np.array(rows) for name, rows in found.items()}


def timed(simulation: dtb.Simulation) -> np.ndarray:
    def state() -> np.ndarray:
        ranks, phases = simulation._ranks, simulation.phases
        waited = 0.0 if ranks is None or ranks.epoch is None else ranks._exchange.waited_s
        return np.array([time.perf_counter(), phases["advance"], phases.get("exchange", 0.0), waited])

    before = state()
    simulation.run(STEPS * simulation.dt)
    return state() - before


def halves(comm) -> None:
    """Two ranks against one, and against two networks of half the size that know nothing of each other."""
    turns = Turns(comm)
    brain = dtb.default_brain()
    whole, half = (dtb.build_network(brain, n_neurons=n) for n in (N, N // 2))
    one = {"threads": 1, "synapses": "procedural"}
    ours = dtb.Simulation(whole, comm=comm, **one)
    neighbours = Neighbours()
    found = turns.measure({
        "alone": dtb.Simulation(whole, **one) if comm.rank == 0 else None,
        "ours": ours,
        "halves": dtb.Simulation(half, seed=1 + comm.rank, **one),
    })  # fmt: skip
    busy = neighbours.cores()
    if comm.rank:
        return
    wall = {name: rows[:, :, 0] for name, rows in found.items()}
    both, alone = wall["ours"].max(axis=1).tolist(), wall["alone"].max(axis=1).tolist()
    per_step = [1000 * seconds / STEPS for seconds in both]
    more = {"n": N, "ranks": comm.size, "epoch": ours._ranks.epoch, "busy_cores": busy}
    report(
        "c.speedup", per_step, "ms/step", against="1 rank, 1 thread", ratios=quotient(alone, both), bar=1.6,
        bar_is="at least", **more,
    )  # fmt: skip
    # Throughput of two that never meet is the sum of both; those of different length end at different times.
    apart = (2 / (1 / wall["halves"]).sum(axis=1)).tolist()
    report(
        "c.of_halves", per_step, "ms/step", against="two independent halves", ratios=quotient(apart, both), bar=0.92,
        bar_is="at least", **more,
    )  # fmt: skip
    share = found["ours"][:, :, 2] / found["ours"][:, :, 0]
    waiting = found["ours"][:, :, 3] / found["ours"][:, :, 0]
    report(
        "c.exchange", share.mean(axis=1).tolist(), "of wall time, mean over ranks", against="5 %",
        ratios=(share.mean(axis=1) / 0.05).tolist(), bar=1.0, waiting=float(np.median(waiting.mean(axis=1))),
        each_rank=[float(f"{x:.3f}") for x in np.median(share, axis=0)], **more,
    )  # fmt: skip


def unlike(comm) -> None:
    """The heterogeneous brain: placed by what regions cost, against equal counts of neurons per rank."""
    from cluster.balance import balance, tile_load
    from cluster.devices import CORE
    from cluster.expected import expected
    from dtb.engine.partition import Partition
    from dtb.engine.simulation import shared_size
    from dtb.network.tiles import MAX_TILE, tile
    from tests.synthetic import HETEROGENEOUS_HZ, heterogeneous_network

    turns, network = Turns(comm), heterogeneous_network(N)
    size = shared_size(network, MAX_TILE, comm.size)
    tiles = tile(network, size)
    load = tile_load(network, tiles, expected(network, HETEROGENEOUS_HZ), CORE, 1.0)
    one = {"threads": 1, "synapses": "procedural", "comm": comm, "tile_size": size}
    kinds = {"even": Partition.even(tiles.n, comm.size), "balanced": balance(network, tiles, comm.size, load)}
    neighbours = Neighbours()
    found = turns.measure({name: dtb.Simulation(network, partition=kind, **one) for name, kind in kinds.items()})
    busy = neighbours.cores()
    if comm.rank:
        return
    wall = {name: rows[:, :, 0].max(axis=1).tolist() for name, rows in found.items()}
    report(
        "c.unlike", [1000 * seconds / STEPS for seconds in wall["balanced"]], "ms/step", bar=1.3, bar_is="at least",
        against="equal counts of neurons", ratios=quotient(wall["even"], wall["balanced"]), n=N, ranks=comm.size,
        busy_cores=busy, advance_s={name: np.median(rows[:, :, 1], axis=0).round(4).tolist() for name, rows in found.items()},
    )  # fmt: skip


def oversubscribed(comm) -> None:
    """More ranks than cores, which no one should want: reported, without a bar."""
    turns = Turns(comm, pin=False)
    network = dtb.build_network(dtb.default_brain(), n_neurons=N)
    one = {"threads": 1, "synapses": "procedural"}
    neighbours = Neighbours()
    found = turns.measure({
        "alone": dtb.Simulation(network, **one) if comm.rank == 0 else None,
        "ours": dtb.Simulation(network, comm=comm, **one),
    })  # fmt: skip
    busy = neighbours.cores()
    if comm.rank:
        return
    wall = {name: rows[:, :, 0].max(axis=1).tolist() for name, rows in found.items()}
    report(
        "c.oversubscribed", [1000 * seconds / STEPS for seconds in wall["ours"]], "ms/step", against="1 rank, 1 thread",
        ratios=quotient(wall["alone"], wall["ours"]), bar=None, bar_is="at least", n=N, ranks=comm.size,
        cores=len(os.sched_getaffinity(0)), busy_cores=busy,
    )  # fmt: skip


def main() -> None:
    if len(sys.argv) < 2:
        return run()
    from cluster.mpi import MPIComm

    parts: dict[str, Callable] = {"halves": halves, "unlike": unlike, "oversubscribed": oversubscribed}
    return parts[sys.argv[1]](MPIComm())


if __name__ == "__main__":
    main()
