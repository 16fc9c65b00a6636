"""Commands on several ranks, with whatever MPI there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SETTINGS = {
    "MPIR_CVAR_ENABLE_HEAVY_YIELD": "1",  # MPICH: more ranks than cores leave each other the core, instead of polling
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # Open MPI: containers have no other user
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


@pytest.fixture(scope="session")
def started_on_ranks():
    """Start a command of this Python on n ranks: the process of mpiexec."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install mpi4py mpich")
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if mpiexec is None:
        pytest.skip("there is no mpiexec: pip install mpich, or load a module that has one")

    def start(n: int, *arguments: str, options: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [mpiexec, *options, "-n", str(n), sys.executable, *arguments], cwd=REPOSITORY,
            env=os.environ | SETTINGS | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


@pytest.fixture(scope="session")
def on_ranks(started_on_ranks):
    """Run a command of this Python on n ranks: the finished process."""

    def run(n: int, *arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess:
        process = started_on_ranks(n, *arguments, **environment)
        try:
            out, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.terminate()  # mpiexec ends its ranks
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    return run
