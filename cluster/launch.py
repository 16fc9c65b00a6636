"""From a config and a site profile to a job of Slurm: its script, what is kept beside the run, and its number."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from cluster.sites import EARLY_S, Site, load_site, seconds, shipped
from dtb.config import Config, Table, shown
from dtb.run import private

VERBS: dict[str, str | None] = {  # what can be submitted: its template in slurm/; None for what is not there yet
    "run": "run.sh",
    "fit": None,
    "experiment": None,
}
SCRIPT, CONFIG, SUBMISSION = "job.sh", "config.toml", "submission.json"
BESIDE = ".slurm"  # runs/rest.slurm holds what belongs to the job of runs/rest
ARRAY = re.compile(r"([0-9]+)(%[1-9][0-9]*)?$")
SEED_END = 2**63  # the shell counts in 64 bits with a sign
PATIENCE = 120.0  # s for an answer of Slurm; a busy controller takes its time
START_S = 60  # what a run needs to begin before it can keep anything


class Submission(Table):
    """What is known of a job once it was submitted; submission.json, without a path that tells of the machine."""

    job: str = Field(description="number that Slurm gave")
    name: str = Field(description="of the job")
    verb: str
    site: str
    run: str = Field(description="run folder, or the folder of a run for each seed, from this file's folder")
    seeds: list[int] | None = Field(default=None, description="first and last of an array")
    nodes: int
    tasks: int
    time: str
    duration: float = Field(description="biological time [ms]")
    submitted_utc: str


class Job:
    """A job that could be submitted.

    Parameters
    ----------
    verb : str
        What to do with the config: one of `VERBS`.
    config : Config
        Kept as it is now, beside the run: what is changed later changes no job that waits.
    site : name of a profile, or path that ends in .toml
    nodes : int
    out : path
        Run folder; with `array`, the folder of seed-1, seed-2, … Neither it nor OUT.slurm may exist.
    array : "K" or "K%M"
        K runs, of the seeds Simulation.seed, Simulation.seed + 1, …; at most M of them at a time.
    dependency : str
        As sbatch has it, such as "afterok:123", where runs/first may stand for the number of its job.
    time : str
        Limit of one go; the site's if not given. A run that needs longer goes on where it was.
    report : bool
        Whether runs make report.html.

    Examples
    --------
    >>> job = Job("run", load_config("configs/toy.toml"), "local", nodes=2, out="runs/toy")      # doctest: +SKIP
    >>> print(job.script()); job.submit()                                                        # doctest: +SKIP
    """

    def __init__(
        self,
        verb: str,
        config: Config,
        site: str,
        nodes: int,
        out: str | os.PathLike[str],
        array: str | None = None,
        dependency: str | None = None,
        time: str | None = None,
        report: bool = True,
    ) -> None:
        self.template = known_verb(verb)
        self.verb, self.config, self.site_name, self.site = verb, config, site, load_site(site)
        if nodes < 1:
            raise ValueError(f"nodes is {nodes}. A job needs at least 1: --nodes 1.")
        self.nodes, self.tasks, self.report = nodes, nodes * self.site.tasks_per_node, report
        self.out = Path(out)
        if self.out.name in ("", ".."):
            raise FileExistsError(f"'{out}' exists. Choose another folder with -o.")
        self.folder = self.out.with_name(self.out.name + BESIDE)
        self.name = f"dtb-{re.sub(r'[^A-Za-z0-9_.-]', '_', self.out.name)}"
        self.array, self.at_once = parse_array(array, config.Simulation.seed)
        self.dependency = None if dependency is None else resolved(dependency)
        self.time = time or self.site.time
        least = self.site.signal_s + EARLY_S + START_S
        if seconds(self.time) < least:
            raise ValueError(
                f"time is {self.time}, but site '{site}' tells runs to keep their state {self.site.signal_s} s before "
                f"its end, Slurm may be {EARLY_S} s early, and a run takes up to {START_S} s to begin. Give at least "
                f"--time {-(-least // 60)} (minutes), or lower signal_s in the profile."
            )
        if self.site.mpi == "none" and self.tasks > 1:
            raise ValueError(
                f"site '{site}' has mpi = \"none\", which starts {self.tasks} runs that do not know of each other. "
                'Say "pmix" or "pmi2" there (srun --mpi=list), or tasks_per_node = 1 and --nodes 1.'
            )
        if config.brain != "default" and not Path(config.brain).exists():
            raise FileNotFoundError(f"there is no Brain file '{config.brain}', which the config names.")
        for place in (self.out, self.folder):
            if place.exists() or place.is_symlink():
                raise FileExistsError(f"'{place}' exists. Choose another folder with -o, or remove it.")

    @property
    def log(self) -> Path:
        """Where the output of the job goes; %j, %A and %a become numbers."""
        return self.folder / ("%A_%a.log" if self.array else "%j.log")

    def options(self) -> list[str]:
        """Of sbatch."""
        site = self.site
        log = str(self.log.parent).replace("%", "%%") + f"/{self.log.name}"
        given = {
            "job-name": self.name,
            "account": site.account,
            "partition": site.partition,
            "qos": site.qos,
            "constraint": site.constraint,
            "reservation": site.reservation,
            "nodes": self.nodes,
            "ntasks-per-node": site.tasks_per_node,
            "cpus-per-task": site.cpus_per_task,
            "mem": site.memory,
            "time": self.time,
            "array": self.array and f"0-{self.array - 1}{self.at_once}",
            "dependency": self.dependency,
            "kill-on-invalid-dep": self.dependency and "yes",  # a chain whose first job failed is no job that waits
            "output": log,
            "open-mode": "append",  # one log, however often the job begins again
            "signal": f"B:USR2@{site.signal_s}",
        }
        named = [f"--{name}={quoted(str(value))}" for name, value in given.items() if value is not None]
        return [*named, "--requeue", *site.gpus(), *site.sbatch]

    def script(self) -> str:
        """The whole sbatch script."""
        from jinja2 import Environment, StrictUndefined

        seed = self.config.Simulation.seed
        arguments = ([] if self.report else ["--no-report"]) + (["--set Simulation.seed=$seed"] if self.array else [])
        lines = Environment(trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701
        return lines.from_string(shipped(self.template).read_text(encoding="utf-8")).render(
            options=self.options(),
            setup=[*(f"module load {shlex.quote(name)}" for name in self.site.modules), *self.site.setup],
            run=shlex.quote(str(self.out)),
            folder=shlex.quote(str(self.folder)),
            config=shlex.quote(str(self.folder / CONFIG)),
            script=shlex.quote(str(self.folder / SCRIPT)),
            seed=seed if self.array else None,
            mpi=self.site.mpi,
            command=shlex.join(command(self.site)),
            verb=self.verb,
            arguments="".join(f"{argument} " for argument in arguments),
        )

    def test(self) -> str:
        """What Slurm would say, without a job: when and where it could begin."""
        check_mpi(self.site, self.site_name)
        done = ask("sbatch", "--test-only", text=self.script())
        if done.returncode:
            raise ValueError(self.refusal(done.stderr))
        return done.stderr.replace("sbatch: ", "").strip()

    def submit(self) -> Submission:
        """Write the script and the config beside the run, hand them to Slurm, and say what became of it."""
        check_mpi(self.site, self.site_name)
        with private(self.config.brain != "default"), whole_or_none(self.folder):
            (self.folder / CONFIG).write_text(self.kept_config().to_toml(), encoding="utf-8")
            (self.folder / SCRIPT).write_text(self.script(), encoding="utf-8")
            done = ask("sbatch", "--parsable", str(self.folder / SCRIPT))
            number = done.stdout.strip().partition(";")[0]
            if done.returncode or not number.isdigit():
                raise ValueError(self.refusal(done.stderr))
            submission = Submission(
                job=number,
                name=self.name,
                verb=self.verb,
                site=Path(self.site_name).stem,
                run=os.path.relpath(self.out, self.folder),
                seeds=[self.config.Simulation.seed, self.config.Simulation.seed + self.array - 1]
                if self.array
                else None,
                nodes=self.nodes,
                tasks=self.tasks,
                time=self.time,
                duration=self.config.run.duration,
                submitted_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            (self.folder / SUBMISSION).write_text(submission.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return submission

    def kept_config(self) -> Config:
        """The config as it stands beside the run, where the path of a brain begins at that folder."""
        if self.config.brain == "default":
            return self.config
        return self.config.model_copy(update={"brain": os.path.relpath(self.config.brain, self.folder)})

    def refusal(self, said: str) -> str:
        """What Slurm said, and what of the job it is about."""
        lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in said.splitlines() if line.strip()]
        why = (lines[-1] if lines else "nothing was said").removeprefix("Batch job submission failed: ")
        why = why.removeprefix("allocation failure: ").rstrip(".")
        limits = [line for line in lines[:-1] if re.fullmatch(r"[A-Z]\w+Limit", line)]  # such as QOSMaxWallDuration…
        why += f" ({', '.join(limits)})" if limits else ""
        lower, site = why.lower(), self.site
        hint = ""
        if "policy" in lower:
            hint = f" Site '{self.site_name}' has {told('account', site.account)}, {told('qos', site.qos)}."
        elif "account" in lower:
            hint = (
                f" Site '{self.site_name}' has {told('account', site.account)}; sacctmgr show associations lists yours."
            )
        elif "partition" in lower:
            there = ", ".join(dict.fromkeys(ask("sinfo", "-h", "-o", "%R").stdout.split()))
            hint = f" Site '{self.site_name}' has {told('partition', site.partition)}; this cluster has: {there}."
        elif "qos" in lower:
            hint = f" Site '{self.site_name}' has {told('qos', site.qos)}."
        elif "dependency" in lower:
            hint = f" --dependency is {self.dependency}; squeue --me lists your jobs."
        elif "node" in lower or "cpu" in lower or "memory" in lower or "feature" in lower:
            cores = f" of {site.cpus_per_task} cores" if site.cpus_per_task else ""
            more = " ".join([f"constraint {site.constraint}" if site.constraint else "", *site.gpus()]).strip()
            hint = (
                f" Asked were {self.nodes} nodes of {site.tasks_per_node} tasks{cores}{f', {more}' if more else ''}; "
                "sinfo -N -l lists what there is."
            )
        elif "time" in lower:
            hint = f" Asked was --time {self.time}; sinfo -s lists the limits of partitions."
        return f"Slurm refused the job: {why}.{hint}"


# parts of a job ------------------------------------------------------------------------------------------------


def known_verb(verb: str) -> str:
    """The template of a verb."""
    template = VERBS.get(verb)
    if template is None:
        known = ", ".join(name for name, there in VERBS.items() if there)
        why = "is not there yet" if verb in VERBS else "is nothing to submit"
        raise ValueError(f"'{verb}' {why}. dtb submit knows so far: {known}, as in dtb submit run CONFIG.")
    return template


def parse_array(array: str | None, seed: int) -> tuple[int | None, str]:
    """Number of runs, and the limit of those at a time as sbatch writes it."""
    if array is None:
        return None, ""
    found = ARRAY.fullmatch(array)
    if found is None or int(found[1]) < 1:
        raise ValueError(f"array is {shown(array)}. Give a number of runs, 8, or with how many at a time, 8%4.")
    if seed + int(found[1]) > SEED_END:
        raise ValueError(f"[Simulation] seed is {seed}, and an array counts up from it to at most 2^63. Lower it.")
    return int(found[1]), found[2] or ""


def resolved(dependency: str) -> str:
    """A dependency in which run folders became the numbers of their jobs."""

    def number(place: str) -> str:
        if re.fullmatch(r"[0-9]+(_[0-9*]+)?(\+[0-9]+)?", place):
            return place
        file = Path(place.rstrip("/") + BESIDE) / SUBMISSION
        if not file.is_file():
            raise ValueError(
                f"dependency: '{place}' is neither the number of a job nor a run folder with a '{file}'. "
                "Write afterok:123, or afterok:runs/first."
            )
        return read_submission(file).job

    def one(text: str) -> str:
        kind, *places = text.split(":")
        if not re.fullmatch("after(any|burstbuffer|corr|notok|ok)?|singleton", kind) or bool(places) == (
            kind == "singleton"
        ):
            raise ValueError(
                f"dependency: {shown(text)} is not KIND:JOB. Kinds: after, afterany, afterok, afternotok, aftercorr; "
                "or singleton alone. Write afterok:123, or afterok:runs/first."
            )
        return ":".join([kind, *map(number, places)])

    return ",".join(one(part) for part in dependency.split(","))


def read_submission(file: Path) -> Submission:
    try:
        return Submission.model_validate(json.loads(file.read_bytes()))
    except ValueError as error:
        raise ValueError(f"'{file}' is damaged: {str(error).splitlines()[0]}.") from None


def command(site: Site) -> list[str]:
    """How a job calls dtb: as the profile says, else the installation that submits."""
    if site.command:
        return [*site.container, *site.command]
    if site.container:
        return [*site.container, "dtb"]
    here = Path(sys.executable).parent / "dtb"
    if not here.exists():
        return [sys.executable, "-m", "dtb.cli"]
    return [str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)]


def quoted(value: str) -> str:
    """A value of an option in a script: sbatch knows quotes as a shell does."""
    return value if re.fullmatch(r"[\w./%:,@=+*|&\[\]()-]+", value) else shlex.quote(value)


def told(key: str, value: str | None) -> str:
    return f'{key} = "{value}"' if value else f"no {key}"


@contextmanager
def whole_or_none(folder: Path) -> Iterator[None]:
    """A folder that is gone again if the job was refused."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder)
        for place in made[1:]:
            place.rmdir()
        raise


# Slurm ---------------------------------------------------------------------------------------------------------


def ask(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """One command of Slurm; what it says is for the caller to read."""
    if shutil.which(arguments[0]) is None:
        raise OSError(
            f"there is no Slurm here: no {arguments[0]} on the PATH. Call this on a login node of a cluster, perhaps "
            "after `module load slurm`; dtb submit --dry-run shows a script anywhere."
        )
    try:
        return subprocess.run(
            arguments, input=text, capture_output=True, text=True, timeout=PATIENCE, check=False,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise OSError(
            f"Slurm did not answer {arguments[0]} within {PATIENCE:g} s. Is its controller up? scontrol ping"
        ) from None


def check_mpi(site: Site, name: str) -> None:
    """Refuse a kind of MPI that this Slurm does not know, which would end the job in its first second."""
    if shutil.which("srun") is None:
        return
    done = ask("srun", "--mpi=list")
    known = listed_mpi(f"{done.stdout}\n{done.stderr}")
    if done.returncode == 0 and known and site.mpi not in known:
        raise ValueError(
            f"site '{name}' has mpi = \"{site.mpi}\", which this Slurm does not know. Known: {', '.join(known)}."
        )


def listed_mpi(text: str) -> Sequence[str]:
    """Kinds of MPI in what srun --mpi=list prints, which differs from version to version."""
    words = [
        word
        for line in text.splitlines()
        for word in line.removeprefix("srun:").split(":")[-1].replace(",", " ").split()
    ]
    return sorted({word for word in words if re.fullmatch(r"none|openmpi|pmi2|pmix\w*|cray_shasta", word)})
