"""A real Slurm, which stands as long as the tests of this folder run."""

import os

import pytest

from tests.slurm.local_slurm import LocalSlurm, missing


@pytest.fixture(scope="session")
def slurm():
    why = missing()
    if why:
        pytest.skip(f"no Slurm for tests: {why}")
    started = LocalSlurm(n_nodes=2, cpus=2)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = started.environment["SLURM_CONF"]
    yield started
    started.stop()
    if before is None:
        del os.environ["SLURM_CONF"]
    else:
        os.environ["SLURM_CONF"] = before
