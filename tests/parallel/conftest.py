"""Commands on several ranks, with whatever MPI there is."""

from __future__ import annotations

import subprocess

import pytest

from tests.parallel.launch import launcher, start


@pytest.fixture(scope="session")
def started_on_ranks():
    """Start a command of this Python on n ranks: the process of mpiexec."""
    if launcher() is None:
        pytest.skip("there is no MPI: pip install mpi4py mpich, or load a module that has one")
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
