"""Ranks as MPI processes: the same script or command, started by mpiexec or srun.

The field's classic silent fault is a launcher that speaks another dialect than the MPI library: each process then
believes that it is alone, and the whole job runs N times. So the launcher's word is compared with MPI's at the start.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping

import numpy as np

from cluster.routing import ROUTINGS, Flat, TwoLevel
from dtb.engine.partition import Partition
from dtb.engine.routes import Routes
from dtb.network.network import Network
from dtb.network.tiles import Tiles

# What launchers tell their processes: how many there are, and which one this is. MPI's own come first, because mpiexec
# inside a Slurm job starts one step per node, of which Slurm's own numbers then speak.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI's mpiexec
    ("PMI_SIZE", "PMI_RANK"),  # MPICH's and Intel's mpiexec, srun --mpi=pmi2
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),  # srun
)
FAIL_TOGETHER_S = 2.0  # how long a rank that failed waits for the others to fail alike
CORES = 4096  # largest number of a core, in the mask that ranks of a node compare


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(processes, number of this one) as the launcher says; None where there is none."""
    for size, rank in LAUNCHERS:
        if environment.get(size, "").isdigit():
            number = environment.get(rank, "0")
            return int(environment[size]), int(number) if number.isdigit() else 0
    return None


def check_world(size: int, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse an MPI world of another size than the launcher started."""
    told = launched(environment)
    if told is None or told[0] == size:
        return
    dialect = "srun" if "SLURM_STEP_NUM_TASKS" in environment and "PMI_SIZE" not in environment else "mpiexec"
    remedy = {
        "srun": "Use srun --mpi=pmi2 with MPICH and Intel MPI, --mpi=pmix with Open MPI; see srun --mpi=list",
        "mpiexec": "Use the mpiexec, or the srun --mpi=…, that belongs to the MPI library that mpi4py loads here",
    }[dialect]
    raise ConnectionError(
        f"the launcher started {told[0]} processes, but MPI sees {size}: they would all simulate the same. {remedy}."
    )


class MPIComm:
    """All processes of MPI_COMM_WORLD; see `dtb.engine.comm.Communicator`.

    Parameters
    ----------
    routing : "two-level" or "flat"
        Whether ranks of one node meet in shared memory and nodes exchange one message per pair, or all ranks exchange
        messages. Changes nothing but speed.
    ranks_per_node : int or None
        Makes nodes of so many ranks, as if memory were shared only among them; None asks MPI.

    Examples
    --------
    The script of a laptop, with one more argument, started by ``mpiexec -n 4 python script.py``:

    >>> from cluster.mpi import MPIComm                                           # doctest: +SKIP
    >>> simulation = dtb.Simulation(network, comm=MPIComm())                      # doctest: +SKIP
    """

    def __init__(self, routing: str = "two-level", ranks_per_node: int | None = None) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise ConnectionError(
                f"many ranks need mpi4py ({error}). Install it with pip install 'digital-twin-brain[mpi]', and an MPI "
                "library, if the site has none, with pip install mpich."
            ) from None
        except RuntimeError as error:  # mpi4py looks for the library when it is imported
            raise ConnectionError(
                f"mpi4py finds no MPI library ({str(error).splitlines()[0]}). Load the site's module, or pip install "
                "mpich."
            ) from None
        self._mpi = MPI
        check_world(MPI.COMM_WORLD.Get_size())
        self._world, self._end = MPI.COMM_WORLD.Dup(), MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        self.tell: Callable[[BaseException], tuple[str, int]] = describe
        self._machine = self._world.Split_type(MPI.COMM_TYPE_SHARED, self.rank)
        self.local_ranks, self.whole = self._machine.Get_size(), True
        self.use(routing, ranks_per_node)
        self._cores = self._share_of_cores()
        self._told = ""  # a traceback, before an error
        sys.excepthook = self._excepthook

    def use(self, routing: str = "two-level", ranks_per_node: int | None = None) -> None:
        """Choose how the simulations that are made from now on exchange spikes."""
        if routing not in ROUTINGS:
            raise ValueError(f"unknown routing '{routing}'. Known: {', '.join(ROUTINGS)}.")
        if ranks_per_node is not None and ranks_per_node < 1:
            raise ValueError(f"ranks_per_node is {ranks_per_node}. A node has at least one.")
        self.routing, self._node = routing, self._machine
        if ranks_per_node is not None:
            self._node = self._world.Split(self.rank // ranks_per_node, self.rank)

    @property
    def cores(self) -> int:
        return self._cores

    def _share_of_cores(self) -> int:
        """Of cores that several ranks of this machine may use, each counts for its part."""
        mine = np.zeros(CORES, np.int32)
        mine[[core for core in os.sched_getaffinity(0) if core < CORES]] = 1
        ranks = np.zeros_like(mine)
        self._machine.Allreduce(mine, ranks)
        return max(1, int((mine / np.maximum(ranks, 1)).sum() + 1e-9))

    # all ranks together -----------------------------------------------------------------------------------------

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Element by element over ranks, of integers."""
        values = np.ascontiguousarray(values)
        total = np.empty_like(values)
        self._world.Allreduce(values, total)
        return total

    def all(self, values: np.ndarray) -> np.ndarray:
        """(size, ...): equally long arrays of all ranks."""
        values = np.ascontiguousarray(values)
        out = np.empty((self.size, *values.shape), values.dtype)
        self._world.Allgather(values, out)
        return out

    def gather(self, values: np.ndarray) -> list[np.ndarray]:
        """Arrays of all ranks, alike but for their first dimension, on rank 0."""
        values = np.ascontiguousarray(values)
        rows = self.all(np.array([len(values)], np.int64))[:, 0]
        if self.rank != 0:
            self._world.Gatherv(values, None)
            return []
        shape = values.shape[1:]
        out = np.empty((int(rows.sum()), *shape), values.dtype)
        width = int(np.prod(shape, dtype=np.int64))
        self._world.Gatherv(values, [out, (rows * width).tolist()])
        return np.split(out, np.cumsum(rows)[:-1])

    # spikes -----------------------------------------------------------------------------------------------------

    def place(self, network: Network, tiles: Tiles, dt: float, wanted: Partition | None) -> Partition:
        """As wanted, or as `cluster.balance.usual` says; rank 0 tells, for processors may differ in a last bit."""
        if wanted is not None:
            return wanted
        from cluster.balance import usual  # here, because it compiles

        mine = usual(network, tiles, self.size, dt).owner if self.rank == 0 else np.zeros(len(tiles.n), np.int32)
        return Partition(self.sum(mine))

    def connect(self, routes: Routes, steps: int, spikes: int) -> Flat | TwoLevel:
        """An exchange along these routes, of so many steps at once, in which this rank emits `spikes` at most."""
        if self.routing == "flat":
            return Flat(self._mpi, self._world, routes)
        return TwoLevel(self._mpi, self._world, self._node, routes, steps, spikes)

    # the end ----------------------------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> tuple[str, int]:
        """Text and exit code of an error: text on rank 0 if all ranks failed; if not, the others are ended here.

        They wait for this rank, and would for ever. Most errors, such as those of a config, all ranks meet alike.
        """
        text, code = self.tell(error)
        request, began = self._end.Ibarrier(), time.monotonic()
        while not request.Test():
            if time.monotonic() - began > FAIL_TOGETHER_S:
                print(f"{self._told}error: rank {self.rank} of {self.size}: {text}", file=sys.stderr, flush=True)
                self._end.Abort(code)
            time.sleep(0.01)
        codes = np.array([code], np.int64)
        self._end.Bcast(codes)
        return (text if self.rank == 0 else ""), int(codes[0])

    def _excepthook(self, kind, error, trace) -> None:
        """What a script leaves uncaught: one traceback, by rank 0 if all ranks have it, or by the one that failed."""
        self._told = "".join(traceback.format_exception(kind, error, trace))
        if self.fail(error)[0]:
            print(self._told, file=sys.stderr, end="")


def describe(error: BaseException) -> tuple[str, int]:
    """Text and exit code where nobody said how errors are told."""
    return f"{type(error).__name__}: {error}", 1


def world(tell: Callable[[BaseException], tuple[str, int]] = describe) -> MPIComm | None:
    """The communicator of this process if a launcher started several; None, and MPI not touched, if not."""
    told = launched()
    if told is None or told[0] == 1:
        return None
    comm = MPIComm()
    comm.tell = tell
    return comm
