"""Several ranks, with whatever MPI there is, and who is who among their processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MARK = "DTB_TEST_RUN"  # in the environment of all processes of a run, whoever started them
SETTINGS = {
    "MPIR_CVAR_ENABLE_HEAVY_YIELD": "1",  # MPICH: more ranks than cores leave each other the core, instead of polling
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # Open MPI: containers have no other user
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


def launcher() -> str | None:
    """Path of mpiexec, or None where there is no MPI."""
    if find_spec("mpi4py") is None:
        return None
    return shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def start(ranks: int, *arguments: str, options: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
    """A command of this Python on so many ranks: the process of mpiexec, or of the one rank."""
    command = [sys.executable, *arguments]
    if ranks > 1:
        command = [str(launcher()), *options, "-n", str(ranks), *command]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ | SETTINGS | environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def processes(mark: str) -> dict[int, int | None]:
    """Processes of a run and the rank of each, None of launchers and the like."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = dict(v.partition("=")[::2] for v in (folder / "environ").read_text().split("\0"))
            if variables.get(MARK) == mark:
                rank = variables.get("PMI_RANK", variables.get("OMPI_COMM_WORLD_RANK"))
                main = "dtb.cli" in (folder / "cmdline").read_text()
                found[int(folder.name)] = int(rank) if rank is not None and main else None
    return found


def process_of(rank: int, mark: str) -> int:
    (found,) = [process for process, of in processes(mark).items() if of == rank]
    return found
