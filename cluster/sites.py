"""What is particular about a cluster: its account, partition, modules, MPI and GPUs, as a TOML file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from dtb.config import Table, nearest, read_toml, shown, wording

Line = Annotated[str, Field(min_length=1, pattern=r"^[^\r\n\x00]+$")]  # what goes into a script must stay on its line
Word = Annotated[str, Field(pattern=r"^[\w.,:@%+/=&|*\[\]()-]+$")]  # of an option of sbatch, without blanks
TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$")
EARLY_S = 60  # by which Slurm may be early with a signal (man sbatch, --signal)
FOLDERS = "DTB_SITES"  # environment variable: more folders with profiles, the first that has a name wins


class Site(Table):
    """A site profile. What is left out is left to the cluster.

    Examples
    --------
    >>> Site(tasks_per_node=4, gpus_per_node=4).gpus()
    ['--gres=gpu:4']
    """

    description: Line | None = Field(default=None, description="what it is, in a few words")
    account: Word | None = Field(default=None, description="what the time is booked on")
    partition: Word | None = Field(default=None, description="queue, by sinfo")
    qos: Word | None = Field(default=None, description="quality of service")
    constraint: Word | None = Field(default=None, description="features that nodes must have")
    reservation: Word | None = Field(default=None, description="nodes set aside")
    modules: list[Line] = Field(default=[], description="loaded before the run")
    setup: list[Line] = Field(default=[], description="further lines of shell before the run")
    command: list[Line] = Field(default=[], description="how dtb is called; this installation's if not given")
    container: list[Line] = Field(default=[], description="what runs the command in a container, as a list of words")
    mpi: Word = Field(default="pmix", description="how srun starts MPI, by srun --mpi=list")
    tasks_per_node: int = Field(default=1, ge=1, description="ranks on a node")
    cpus_per_task: int | None = Field(default=None, ge=1, description="cores of a rank")
    memory: Word | None = Field(default=None, description='of a node, such as "64G"; "0" takes all')
    gpus_per_node: int = Field(default=0, ge=0, description="GPUs on a node")
    gpu_syntax: Literal["gres", "gpus-per-node", "gpus-per-task"] = Field(
        default="gres", description="how this site is asked for GPUs"
    )
    gpu_type: Word | None = Field(default=None, description="which of a site's kinds of GPU")
    time: Word = Field(default="01:00:00", description="limit of a job where --time is not given")
    signal_s: int = Field(default=120, ge=1, le=65535, description="before the end a run is told to keep its state [s]")
    sbatch: list[Annotated[str, Field(pattern=r"^--?[\w-]+[^\r\n\x00]*$")]] = Field(
        default=[], description="further options of sbatch"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Site:
        seconds(self.time)
        if self.gpu_syntax == "gpus-per-task" and self.gpus_per_node % self.tasks_per_node:
            raise ValueError(
                f"gpus_per_node = {self.gpus_per_node} over tasks_per_node = {self.tasks_per_node} is no whole number "
                'for gpu_syntax = "gpus-per-task". Make it one, or say "gres".'
            )
        return self

    def gpus(self) -> list[str]:
        """The option that asks for GPUs."""
        if not self.gpus_per_node:
            return []
        kind = f"{self.gpu_type}:" if self.gpu_type else ""
        if self.gpu_syntax == "gres":
            return [f"--gres=gpu:{kind}{self.gpus_per_node}"]
        number = self.gpus_per_node // (self.tasks_per_node if self.gpu_syntax == "gpus-per-task" else 1)
        return [f"--{self.gpu_syntax}={kind}{number}"]


def seconds(time: str) -> float:
    """A time limit as Slurm writes them: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.

    Examples
    --------
    >>> seconds("90"), seconds("1:30:00"), seconds("1-12")
    (5400.0, 5400.0, 129600.0)
    """
    found = TIME.fullmatch(time)
    if found is None:
        raise ValueError(f"time is {shown(time)}. Write minutes, or H:M:S, or D-H:M:S, such as 12:00:00.")
    days, first, second, third = (int(part or 0) for part in found.groups())
    if found[1]:
        total = 86_400 * days + 3600 * first + 60 * second + third
    elif found[4]:
        total = 3600 * first + 60 * second + third
    else:
        total = 60 * first + second
    if not total:
        raise ValueError(f"time is {shown(time)}, which is none. Write minutes, or H:M:S, or D-H:M:S.")
    return float(total)


def shipped(name: str) -> Path:
    """A file of slurm/: beside the packages in a checkout, in this one where dtb was installed from a wheel."""
    here = Path(__file__).resolve().parent
    beside = here.parent / "slurm" / name
    return beside if beside.exists() else here / "slurm" / name


def site_folders() -> Iterator[Path]:
    yield from (Path(folder) for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder)
    yield Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dtb" / "sites"
    yield shipped("sites")


def load_site(name: str) -> Site:
    """The profile of a name, or of a path that ends in .toml."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.exists():
            raise FileNotFoundError(f"there is no site profile '{name}'.")
    else:
        known = {p.stem: p for folder in reversed([*site_folders()]) for p in sorted(folder.glob("*.toml"))}
        if name not in known:
            raise ValueError(
                f"unknown site '{name}'.{nearest(name, [*known])} Known: {', '.join(sorted(known))}. For a new one, "
                f"copy slurm/sites/cpu.toml, change it, and give its path, or name its folder in ${FOLDERS}."
            )
        path = known[name]
    content = read_toml(path)
    try:
        return Site.model_validate(content)
    except ValidationError as error:
        raise ValueError("\n".join(explain(dict(fault), str(path)) for fault in error.errors())) from None


def explain(fault: dict, where: str) -> str:
    """One line: where, what was found, what is allowed."""
    if not fault["loc"]:
        return f"{where}: {str(fault['msg']).removeprefix('Value error, ')}"
    key = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        known = list(Site.model_fields)
        return f"{where}: unknown key '{key}'.{nearest(key, known)} Known: {', '.join(known)}."
    allowed = wording(fault)
    if fault["type"] == "string_pattern_mismatch":
        allowed = 'an option such as "--exclusive"' if key == "sbatch" else "on one line, and a word where it is a name"
    about = Site.model_fields[key].description
    return f"{where}: {key} ({about}) is {shown(fault['input'])}; it should be {allowed}."
