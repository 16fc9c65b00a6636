"""The command line. What is heavy is imported inside the commands, so that --help is quick."""

from __future__ import annotations

import errno
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dtb import __version__

if TYPE_CHECKING:
    from cluster.mpi import MPIComm

OK, FAILED, USAGE, INVALID, RESOURCES, INTERRUPTED = 0, 1, 2, 3, 4, 130
CHECKPOINTED = 75  # EX_TEMPFAIL: saved, and to be started again with --resume
LINE_EVERY = 10.0  # s between progress lines where there is no terminal

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Digital Twin Brain: a spiking simulation of one person's brain. Research use only; not a medical device.",
)
brain_app = typer.Typer(no_args_is_help=True, help="Brain files: what one person's scans say.")
app.add_typer(brain_app, name="brain")

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"dtb {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    config: Annotated[Path, typer.Argument(readable=False, help="A TOML file, such as configs/rest.toml.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Run folder; runs/NAME of the config if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint, or begin.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="TABLE.key=value", help="Override one value of the config.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Make report.html, a page to look at.")] = True,
    debug: Debug = False,
) -> None:
    """Simulate a brain, record it, make its BOLD, and sum it up."""
    if resume and force:
        refuse("--resume goes on with a run, --force replaces it. Give one of them.", USAGE)
    comm = ranks(debug)
    first = comm is None or comm.rank == 0
    with reported(debug, comm):
        from dtb.config import load_config

        settings = load_config(config, set_ or ())
        if comm is not None and settings.MPIComm is not None:
            comm.use(**settings.MPIComm.keywords())
        folder = out if out is not None else Path("runs") / config.stem
        if first:
            say("building the network" if comm is None else f"building the network on {comm.size} ranks")
        from dtb.run import Checkpointed, run_config

        try:
            with progress_bar(settings.Simulation.dt, first) as progress:
                summary = run_config(settings, folder, force, progress, report, comm, resume, say)
        except Checkpointed as stopped:
            if first:
                say(str(stopped))
            raise typer.Exit(CHECKPOINTED) from None
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # it asks to be quick, of what is done
        if summary is None:  # rank 0 has it
            return
        print(summary)
        print(f"  {'folder':<26}{folder}")
        if report:
            print(f"  {'look at':<26}{folder / 'report.html'}")
        print(f'  {"open it with":<26}xarray.open_zarr("{folder / "recording.zarr"}", consolidated=False)')
        if summary.status == "interrupted":
            if summary.checkpoint_s is None:
                raise typer.Exit(INTERRUPTED)
            print(f"  {'go on with':<26}dtb run {config} --resume -o {folder}")
            raise typer.Exit(CHECKPOINTED)


@app.command("report")
def report_(
    folder: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    brain: Annotated[
        Path | None, typer.Option("--brain", help="Its Brain file, if that is not where the config of the run says.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Make report.html of a run anew: one page with all its figures, to look at in a browser."""
    with reported(debug):
        from dtb.brain import Brain
        from dtb.report.run import make_report

        print(make_report(folder, None if brain is None else Brain.load(brain)))


@app.command()
def show(
    file: Annotated[Path, typer.Argument(readable=False, help="A Brain file (.h5), a config (.toml) or a run folder.")],
    debug: Debug = False,
) -> None:
    """One screen about a brain, a config or a run."""
    with reported(debug):
        print(describe(file))


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(readable=False, help="A TOML file, such as configs/rest_1m.toml.")],
    ranks: Annotated[int, typer.Option("--ranks", help="Number of ranks.", min=1)],
    ranks_per_node: Annotated[int, typer.Option("--ranks-per-node", help="Ranks that share a node.", min=1)] = 1,
    device: Annotated[
        str,
        typer.Option("--device", help="Of a rank: cpu (one core, measured now), h200, a100, dcu-16gb, published-16gb."),
    ] = "cpu",
    balance: Annotated[
        str, typer.Option("--balance", help="regions, longest-processing-time, graph, published or even.")
    ] = "regions",
    routing: Annotated[str, typer.Option("--routing", help="two-level, flat or grid.")] = "two-level",
    history: Annotated[
        str, typer.Option("--history", help="Who keeps spikes until due: receiver, as now, or sender.")
    ] = "receiver",
    rates: Annotated[
        Path | None, typer.Option("--rates", help="Folder of an earlier run whose rates are expected again.")
    ] = None,
    speeds: Annotated[
        str | None, typer.Option("--speeds", help="Relative speeds of ranks, as 1,1,0.5; repeated in turn.")
    ] = None,
    dry_run: Annotated[
        int | None,
        typer.Option("--dry-run", metavar="RANK", help="Run this rank for real, with spikes of the others made up."),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Add the other methods of balance.")] = False,
    per_rank: Annotated[bool, typer.Option("--per-rank", help="Keep every rank's numbers in the JSON.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, as cluster/plan.schema.json has it.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="TABLE.key=value", help="Override one value of the config.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Say what a run on many ranks needs and takes: memory, balance, traffic, time. Allocates nothing, but with
    --dry-run what one rank needs.
    """
    with reported(debug):
        from cluster.plan import plan_config
        from cluster.plan_report import tables
        from dtb.config import load_config

        found = plan_config(
            load_config(config, set_ or ()), ranks, ranks_per_node, device, balance, routing, rates, speeds, compare,
            per_rank, history, dry_run,
        )  # fmt: skip
        if json:
            print(found.model_dump_json(indent=2))
        else:
            from rich.console import Console

            Console(width=None if sys.stdout.isatty() else 120, soft_wrap=True).print(tables(found))
        if not found.fits:
            raise MemoryError(found.refusal(str(config)))


@app.command()
def check(debug: Debug = False) -> None:
    """Say what works on this machine, and try the laws on a toy brain."""
    with reported(debug):
        from dtb.check import laws, machine

        for line in machine():
            print(line)
        failed = 0
        for name, fault in laws():
            failed += bool(fault)
            print(f"{'FAIL' if fault else 'PASS'}  {name}{': ' + fault if fault else ''}", flush=True)
        if failed:
            raise typer.Exit(FAILED)


@app.command()
def submit(
    verb: Annotated[str, typer.Argument(help="What to do with the config: run.")],
    config: Annotated[Path, typer.Argument(readable=False, help="A TOML file, such as configs/rest.toml.")],
    site: Annotated[
        str, typer.Option("--site", metavar="NAME", help="Site profile: a name, or a path ending in .toml.")
    ],
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", help="Nodes of the job.")] = 1,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Run folder; runs/NAME of the config if not given.")
    ] = None,
    array: Annotated[
        str | None, typer.Option("--array", metavar="K[%M]", help="K runs of seeds that count up, at most M at a time.")
    ] = None,
    dependency: Annotated[
        str | None, typer.Option("--dependency", metavar="KIND:JOB", help="Such as afterok:123 or afterok:runs/first.")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", help="Limit of one go, such as 12:00:00; the site's if not given.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the script, ask Slurm about it, submit nothing.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="TABLE.key=value", help="Override one value of the config.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Make report.html of each run.")] = True,
    debug: Debug = False,
) -> None:
    """Hand a run to Slurm: it keeps its state before its time is up, queues itself again, and goes on."""
    with reported(debug):
        from shutil import which

        from cluster.launch import SCRIPT, Job, known_verb
        from dtb.config import load_config

        known_verb(verb)
        settings = load_config(config, set_ or ())
        folder = out if out is not None else Path("runs") / config.stem
        job = Job(verb, settings, site, nodes, folder, array, dependency, time, report)
        print(job.script())
        if dry_run:
            print(job.test() if which("sbatch") else "no Slurm was asked: no sbatch on the PATH", file=sys.stderr)
            return
        number = job.submit().job
        log = str(job.log).replace("%j", number).replace("%A", number).replace("%a", "*")
        print(f"job {number}: {job.folder / SCRIPT}, log {log}")


@app.command("jobs")
def jobs_(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Where to look: run folders, or folders of them; runs if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    debug: Debug = False,
) -> None:
    """State, progress and time left of submitted runs."""
    with reported(debug):
        import json

        from cluster.jobs import jobs, table

        places = folders or [Path("runs")]
        rows = jobs(places)
        if as_json:
            print(json.dumps([row._asdict() for row in rows], indent=2))
        elif rows:
            print(table(rows))
        else:
            say(f"nothing was submitted in {', '.join(map(str, places))}: dtb submit run CONFIG --site NAME --nodes N")


@brain_app.command()
def validate(
    file: Annotated[Path, typer.Argument(readable=False, help="A Brain file (.h5).")], debug: Debug = False
) -> None:
    """Print everything that is wrong with a brain, where, and what to do."""
    with reported(debug):
        from dtb.brain_faults import faults
        from dtb.brain_file import read

        found = faults(read(file))
        for fault in found:
            print(fault)
        errors = sum(fault.severity == "error" for fault in found)
        print(f"{file}: {errors} errors, {len(found) - errors} warnings")
        if errors:
            raise typer.Exit(INVALID)


def describe(file: Path) -> str:
    """What `dtb show` prints."""
    if file.is_dir():
        return describe_run(file)
    if file.suffix == ".toml":
        return describe_config(file)
    if file.suffix in (".h5", ".hdf5") or str(file) == "default":
        from dtb.brain import Brain, default_brain

        return str(default_brain() if str(file) == "default" else Brain.load(file))
    if not file.exists():
        raise FileNotFoundError(f"there is no '{file}'. Give a Brain file (.h5), a config (.toml) or a run folder.")
    raise ValueError(f"'{file}' is neither a Brain file (.h5) nor a config (.toml) nor a run folder.")


def describe_config(file: Path) -> str:
    from dtb.brain import Brain, default_brain
    from dtb.config import load_config
    from dtb.network.build import build_network

    config = load_config(file)
    brain = default_brain() if config.brain == "default" else Brain.load(config.brain)
    network = build_network(brain, **config.build_network.keywords())
    steps = round(config.run.duration / config.Simulation.dt)
    return f"{config.to_toml()}\n{network}\n  {config.run.duration / 1000:g} s are {steps:,} steps"


def describe_run(folder: Path) -> str:
    import json

    from dtb.run_checkpoints import describe_checkpoint
    from dtb.summary import Summary

    if not (folder / "config.toml").is_file():
        raise ValueError(f"'{folder}' is not a run folder: it has no config.toml.")
    files = sorted(
        str(f.relative_to(folder)) for f in (*folder.glob("*"), *folder.glob("bold/**/*.*")) if f.name != "bold"
    )
    tail = f"  {'files':<26}{', '.join(files)}"
    if (saved := describe_checkpoint(folder)) is not None:
        tail = f"  {'checkpoint':<26}{saved}\n{tail}"
    try:
        content = json.loads((folder / "summary.json").read_bytes())
    except FileNotFoundError:
        return f"Run unfinished: it has no summary.json; it is still going on, or was killed.\n{tail}"
    except ValueError as error:
        raise ValueError(f"'{folder / 'summary.json'}' is damaged: {error}.") from None
    return f"{Summary.model_validate(content)}\n{tail}"


# errors and progress -------------------------------------------------------------------------------------------


def ranks(debug: bool) -> MPIComm | None:
    """The communicator where a launcher started several processes; its faults are told once, not by each of them."""
    from cluster.mpi import launched, world

    told_by = launched()
    try:
        return world(told)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if told_by is not None and told_by[1] > 0:
            time.sleep(1.0)  # a launcher may end all when the first one ends, and that should be the one that speaks
            raise typer.Exit(told(error)[1]) from None
        refuse(*told(error))
        raise


@contextmanager
def reported(debug: bool, comm: MPIComm | None = None) -> Iterator[None]:
    """Errors as one clear line and the exit code of their kind; the traceback only where it is wanted."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, typer.Exit):
            if comm is not None:
                comm.done()
            raise
        if debug:
            traceback.print_exc()
        text, code = told(error) if comm is None else comm.fail(error)
        if not text:
            raise typer.Exit(code) from None
        refuse(text, code)
    if comm is not None and (code := comm.done()) != OK:
        raise typer.Exit(code)


def told(error: BaseException) -> tuple[str, int]:
    """Text and exit code of an error."""
    notes = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
    text = f"{error}{notes}"
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted before anything was recorded, or while results were written.{notes}", INTERRUPTED
    if isinstance(error, FileExistsError) and error.errno is None:
        return text, USAGE
    if isinstance(error, MemoryError):
        return text if str(error) else f"out of memory. Lower n_neurons in [build_network].{notes}", RESOURCES
    if isinstance(error, OSError) and error.errno is not None:
        return f"{refused_by_system(error)}{notes}", RESOURCES
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return text, RESOURCES
    if isinstance(error, ValueError | FileNotFoundError | FloatingPointError):
        return text, INVALID
    return f"{type(error).__name__}: {text.rstrip('.')}. This is a fault of dtb; --debug shows where.", FAILED


def refused_by_system(error: OSError) -> str:
    """What the system would not do, and the remedy."""
    place = f"'{error.filename}'" if error.filename else "what was recorded"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        why = "no file may grow that large here (ulimit -f)" if error.errno == errno.EFBIG else "the disk is full"
        return f"cannot write {place}: {why}. Make room, keep less in [Recording], or choose another folder with -o."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write {place}. Choose another folder with -o, or change its permissions."
    return f"{error.strerror or error}: {place}. Look at the disk and the path, or choose another folder with -o."


def refuse(message: str, code: int) -> None:
    for line in message.splitlines():  # more about the same error is indented
        print(line if line.startswith(" ") else f"error: {line}", file=sys.stderr)
    raise typer.Exit(code)


def say(message: str) -> None:
    """A line beside the results."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(dt: float, shown: bool = True) -> Iterator[Callable[[int, int], None] | None]:
    """A function of (steps done, steps in total): a bar on a terminal, a line every 10 s elsewhere."""
    if not shown:
        yield None
        return
    if not sys.stderr.isatty():
        yield ProgressLines(dt)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        first, begun = 0, time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal first, begun
            if bar.tasks[task].total != total:
                first, begun = done, time.monotonic()
            rate = pace((done - first) * dt, time.monotonic() - begun)
            bar.update(task, completed=done, total=total, description=f"{done * dt / 1000:.1f} s simulated, {rate}")

        yield progress


class ProgressLines:
    """Progress where nobody watches: a log file."""

    def __init__(self, dt: float) -> None:
        self.dt = dt
        self.begun = self.last = time.monotonic()
        self.first: int | None = None  # step from which a run goes on

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.begun = done, now
        if now - self.last < LINE_EVERY:
            return
        self.last = now
        left = (now - self.begun) / max(done - self.first, 1) * (total - done)
        rate = pace((done - self.first) * self.dt, now - self.begun)
        say(f"{done * self.dt / 1000:.1f} of {total * self.dt / 1000:g} s simulated, {rate}, {left:,.0f} s left")


def pace(simulated: float, wall_s: float) -> str:
    """Speed, from ms simulated and s of wall time."""
    return f"{wall_s / (simulated / 1000):.3g} s per simulated second" if simulated else "starting"


if __name__ == "__main__":
    app()
