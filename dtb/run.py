"""The main job: a config becomes a run folder with what was simulated, its BOLD, and a summary."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGUSR2
from typing import Any

import numpy as np

from dtb.brain import Brain, default_brain
from dtb.config import Config
from dtb.engine.agreement import from_first, together
from dtb.engine.backends.cuda_device import OPTIONS
from dtb.engine.checkpoint_file import generations
from dtb.engine.comm import Communicator, LocalComm
from dtb.engine.ranks import agree
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.engine.statistics import Statistics
from dtb.engine.storage import choose_storage, stored_bytes
from dtb.engine.store import write_file
from dtb.network.build import build_network
from dtb.network.network import Network, scaled
from dtb.network.synapses import expected_multapses
from dtb.network.tiles import PURE_FROM
from dtb.observe.balloon import Balloon
from dtb.observe.bids import write_bold
from dtb.observe.measures import fc_correlation, functional_connectivity
from dtb.progress import ProgressFile
from dtb.report.glass_brain import GlassBrain
from dtb.run_checkpoints import (
    FOLDER,
    Checkpointed,
    Keeper,
    Signals,
    alone,
    begun,
    clear_checkpoints,
    find_checkpoint,
    progress_of,
    simulate,
)
from dtb.summary import Summary, peak_rss_bytes, processor, versions

OWN = (  # what a run folder holds
    "config.toml",
    "provenance.json",
    "progress.json",
    "summary.json",
    "report.html",
    "recording.zarr",
    "spikes.h5",
    "bold",
    FOLDER,
)
RESULTS = ("summary.json", "report.html", "spikes.h5", "bold")  # of a run that was interrupted: made anew at its end
BASE_BYTES = 400 * 2**20  # Python, numba, buffers of the recording
NEURON_BYTES = 40  # state, spike lists, synaptic sums; law 3 allows 36 on a device
SMALL_NEURON_BYTES = 48  # where populations are small, parameters are looked up by blocks of lanes
HEARD_BYTES = 4  # of a neuron on another rank: its spikes of a quarter of a second, at 8 spikes/s
ONSET_S = 20.0  # the haemodynamic start from rest, which all regions share, is left out of functional connectivity
MIN_SCANS = 10  # of which a correlation is made
SHORT = 1e9  # neuron-steps, a few seconds: what draws the page gets ready while such a run computes
THREADS_PER_CORE, MANY_THREADS = 4, 16  # a block waits for its slowest thread: more than these are a slip of the pen
PSEUDONYM = r"sub-[0-9a-f]{8}"


def run_config(
    config: Config,
    out: str | os.PathLike[str],
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    report: bool = True,
    comm: Communicator | None = None,
    resume: bool = False,
    tell: Callable[[str], object] = lambda text: None,
) -> Summary | None:
    """Simulate, record, make BOLD, compare with the person's recording; leave a run folder and return its summary.

    Parameters
    ----------
    config : Config
    out : path
        A folder that does not exist yet, unless `force`, which replaces an earlier run, or `resume`.
    progress : function of (steps done, steps in total)
    report : bool
        Whether report.html is made, too; `dtb report` makes it later.
    comm : Communicator or None
        Between ranks, which all call this. Rank 0 writes and returns the summary, the others return None.
    resume : bool
        Go on from the last good checkpoint in `out`, or begin where there is none. Backend, threads, storage and tile
        size may be others than before, and so may the number of ranks.
    tell : function of str
        Is told from where a run goes on.

    Raises
    ------
    Checkpointed
        If the run was stopped by SIGTERM or SIGUSR2, or shortly before its Slurm job ends: its state is kept.

    Examples
    --------
    >>> from dtb.config import load_config
    >>> summary = run_config(load_config("configs/toy.toml"), "runs/toy")                    # doctest: +SKIP
    """
    out, comm = Path(out), comm or LocalComm()
    with Signals() as signals, private(config.brain != "default"):
        signals.hold(SIGUSR2)  # comes shortly before a job ends, and never kills: what is nearly done is finished
        return _run(config, out, force, progress, report, comm, resume, tell, signals)


def _run(
    config: Config, out: Path, force: bool, progress, report: bool, comm: Communicator, resume: bool, tell,
    signals: Signals,
) -> Summary | None:  # fmt: skip
    """See `run_config`."""
    first = comm.rank == 0
    tell = tell if first else lambda text: None
    with together(comm):
        if first:
            check_folder(out, force, resume)
    check_config(config)
    glass = GlassBrain() if report and first and is_short(config) else None
    agree(comm, "the config", config.hash)
    clock = Clock()
    brain = load_brain(config)
    clock.lap("brain")
    saved = None
    if resume:
        so_far = from_first(comm, lambda: progress_of(out, portable(config, brain)))
        if so_far == "complete":
            tell(f"the run in '{out}' is complete")
            return complete(out, brain, report) if first else None
        if so_far == "begun":
            saved = find_checkpoint(out, comm, tell)
    network = build_network(brain, **config.build_network.keywords())
    check_memory(network, config, comm)
    clock.lap("network")
    recording = Recording(**config.Recording.keywords(), store=out / "recording.zarr")
    recording.prepare(network, config.Simulation.dt)
    simulation = Simulation(network, **config.Simulation.keywords(), comm=comm)
    clock.lap("compile")
    with ExitStack() as stack:
        with together(comm):
            if first:
                stack.enter_context(whole_or_none(out, recording, saved is not None))
                if saved is None:  # nothing was written until here
                    clear_folder(out)
                    write_file(out / "provenance.json", provenance(brain, network, config))
        if saved is not None:
            simulation.restore(saved.path, recording)
        with together(comm):
            if first:
                clear_folder(out, RESULTS)
                write_file(out / "config.toml", portable(config, brain).to_toml())
        clock.lap("restore")
        keeper = Keeper(simulation, recording, out, config.run.checkpoint_every, saved)
        watched = ProgressFile(out / "progress.json", progress) if first else None  # for who looks on from elsewhere
        status = simulate(simulation, recording, config.run.duration, keeper, signals, watched)
        if status == "checkpointed":
            done = f"{simulation.step * simulation.dt / 1000:g} of {config.run.duration / 1000:g} s"
            raise Checkpointed(f"stopped and saved at {done}: go on with --resume -o {out}")
        clock.lap("run")
        clock.seconds["run"] += keeper.earlier_s
        measured = measure(simulation)
        if not first:
            return None
        scans, used, fc = observe(config, brain, recording, out)
        clock.lap("bold")
        summary = summarise(config, simulation, recording, clock, status, (scans, used, fc), measured)
        if status == "interrupted" and keeper.step == simulation.step:
            summary = summary.model_copy(update={"checkpoint_s": summary.biological_s})
        write_file(out / "summary.json", summary.model_dump_json(indent=2) + "\n")
        (out / "progress.json").unlink(missing_ok=True)  # the summary says it all
        if status == "complete":
            clear_checkpoints(out)
        if report:  # of the finished folder: if drawing fails, the run is there all the same
            from dtb.report.run import make_report  # here, because it reads runs, and because drawing is heavy

            make_report(out, brain, glass)
            clock.lap("report")
            phases = summary.phases | {"report": clock.seconds["report"]}
            summary = summary.model_copy(update={"phases": phases})
            write_file(out / "summary.json", summary.model_dump_json(indent=2) + "\n")
    return summary


def complete(out: Path, brain: Brain, report: bool) -> Summary:
    """A run that had nothing left to do, but perhaps its page."""
    summary = Summary.model_validate_json((out / "summary.json").read_bytes())
    clear_checkpoints(out)
    if report and not (out / "report.html").exists():
        from dtb.report.run import make_report  # here, as above

        make_report(out, brain)
    return summary


class Clock:
    """Wall time by what was done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._since
        self._since = now


def measure(simulation: Simulation) -> dict:
    """What a summary says of all ranks together, which therefore all must call."""
    peaks = simulation.comm.all(np.array([peak_rss_bytes()], np.int64))
    return {
        "state_digest": simulation.state_digest,
        "bytes_per_neuron": simulation.bytes_per_neuron,
        "bytes_per_synapse": simulation.bytes_per_synapse,
        "peak_rss_bytes": int(peaks.max()),
        "device_bytes": simulation.device_bytes,
    }


# folders and memory --------------------------------------------------------------------------------------------


def check_folder(out: Path, force: bool, resume: bool = False) -> None:
    """Refuse to write where nothing can be made, over anything, or with `force` or `resume` over anything but a run."""
    place = next(parent for parent in (out, *out.absolute().parents) if parent.exists() or parent.is_symlink())
    if place != out and not place.is_dir():
        raise FileExistsError(f"'{place}' is not a folder, so '{out}' cannot be made in it. Choose another with -o.")
    if place.is_dir() and (place != out or force or resume) and not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write into '{place}'. Choose another folder with -o, or chmod u+w it.")
    if place != out:
        return
    if resume:
        if begun(out) or (out.is_dir() and all(f.name in OWN or f.name.startswith(".") for f in out.iterdir())):
            return  # in the second case a run was killed as it began
        raise FileExistsError(f"'{out}' is not a run folder, so --resume cannot go on in it. Choose another with -o.")
    if not force:
        raise FileExistsError(f"'{out}' exists. Choose another folder with -o, or replace the run in it with --force.")
    if not (out.is_dir() and (out / "config.toml").is_file()):
        raise FileExistsError(f"'{out}' is not a run folder, so --force does not replace it. Choose another with -o.")


def check_config(config: Config) -> None:
    """Refuse what a table alone cannot know to be wrong, before any work is done."""
    duration, dt, threads = config.run.duration, config.Simulation.dt, config.Simulation.threads
    if round(duration / dt) < 1:
        raise ValueError(
            f"[run] duration is {duration:g} ms, less than one step: [Simulation] dt is {dt:g} ms. Raise it."
        )
    cores = len(os.sched_getaffinity(0))
    if threads > max(MANY_THREADS, THREADS_PER_CORE * cores):
        raise ValueError(
            f"[Simulation] threads is {threads:,}, but this process may use {cores}, and threads without a core "
            "make the others wait. Set threads = 0 to use all cores."
        )
    if config.Balloon is not None:
        try:
            Balloon(**config.Balloon.keywords())
        except ValueError as error:
            raise ValueError(f"[Balloon] {error}") from None


def is_short(config: Config) -> bool:
    return config.build_network.n_neurons * config.run.duration / config.Simulation.dt < SHORT


def load_brain(config: Config) -> Brain:
    if config.brain == "default":
        return default_brain()
    try:
        return Brain.load(config.brain)
    except FileNotFoundError as error:
        if re.fullmatch(PSEUDONYM + r"\.h5", Path(config.brain).name):
            text = f"{error} A run folder does not tell where a person's brain lies: add --set brain=PATH."
            raise FileNotFoundError(text) from None
        raise


@contextmanager
def whole_or_none(out: Path, recording: Recording, going_on: bool) -> Iterator[None]:
    """Where a run fails before anything was recorded, leave the disk as it was; later, keep it and say so."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    with alone(out):  # before anything in it is touched
        try:
            yield
        except Checkpointed:
            raise
        except BaseException as error:
            if going_on:
                raise
            if recording.written or generations(out / FOLDER):
                error.add_note(f"What was recorded until then is kept: '{out / 'recording.zarr'}'.")
                raise
            clear_folder(out)
            for folder in made:
                with suppress(OSError):  # somebody else may have put something there
                    folder.rmdir()
            raise


def clear_folder(out: Path, names: tuple[str, ...] = OWN) -> None:
    for name in reversed(names):  # config.toml last, so that a removal that was cut short can be taken up
        place = out / name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


@contextmanager
def private(personal: bool) -> Iterator[None]:
    """Results of a person's brain are readable by their owner only."""
    before = os.umask(0o077) if personal else None
    try:
        yield
    finally:
        if before is not None:
            os.umask(before)


def check_memory(network: Network, config: Config, comm: Communicator) -> None:
    """Refuse what would not fit, before anything is allocated; all ranks alike, where it does not fit one of them."""
    per_neuron = NEURON_BYTES if network.n_neurons >= PURE_FROM * network.n_populations else SMALL_NEURON_BYTES
    dt, storage = config.Simulation.dt, choose_storage(network, config.Simulation.dt, config.Simulation.synapses)
    on_device = config.Simulation.backend == "cuda"  # where synapses are computed, and which says itself what it holds
    stored = stored_bytes(network, dt) if storage == "stored" and not on_device else 0.0
    free = float(comm.all(np.array([available_bytes() / comm.local_ranks])).min())
    own = network.n_neurons * (0 if on_device else per_neuron) + stored
    heard = 0 if on_device else network.n_neurons * HEARD_BYTES
    need = BASE_BYTES + own / comm.size + heard * (1 - 1 / comm.size)
    if need <= free:
        return
    synapses = f" and {scaled(stored / comm.size)} for {network.n_synapses / comm.size:,.0f} stored synapses"
    what = f"{-(-network.n_neurons // comm.size):,} neurons at {per_neuron} bytes{synapses if stored else ''}"
    whose = "run" if comm.size == 1 else f"run on {comm.size} ranks"
    remedies = ['set synapses = "procedural" in [Simulation]'] if stored else []
    if (room := free - BASE_BYTES - heard) > 0:
        ranks = max(comm.size + 1, int(-(-(own - heard) // room)))
        remedies.append(f"take {ranks:,} ranks with as much memory each (see dtb plan CONFIG --ranks {ranks})")
    remedies.append("lower n_neurons in [build_network]")
    remedy = ", or ".join(remedies)
    raise MemoryError(
        f"{'this' if comm.size == 1 else 'each rank of this'} {whose} needs about {scaled(need)} ({what}); "
        f"{scaled(free)} are free. {remedy[0].upper()}{remedy[1:]}, or take a larger machine."
    )


def available_bytes() -> float:
    """Memory that this process may still take, by the system and by its control group."""
    free = float("inf")
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        if limit != "max":
            free = min(free, int(limit) - int(used["anon"]))
    except (OSError, KeyError, ValueError):
        pass  # no such file on other systems: what is known so far holds
    return free


# what is written -----------------------------------------------------------------------------------------------


def portable(config: Config, brain: Brain) -> Config:
    """The config as it stands in the run folder: a path may name a person, so a brain of a file goes by its digest."""
    if config.brain == "default":
        return config
    return config.model_copy(update={"brain": f"sub-{pseudonym(config, brain)}.h5"})


def pseudonym(config: Config, brain: Brain) -> str:
    """What a brain is called in results, as a BIDS label: the same for the same content, and nobody's name."""
    return "default" if config.brain == "default" else brain.digest()[:8]


def provenance(brain: Brain, network: Network, config: Config) -> str:
    """Where a run comes from, without names of people, machines or folders."""
    told = ("source", "terms", "acknowledgement", "citation", "statements")
    content: dict[str, Any] = {
        "use": "Research use only; not a medical device.",
        "generated_by": {"name": "Digital Twin Brain", "versions": versions()},
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "config_hash": config.hash,
        "network_hash": network.digest,
        "brain": {"name": pseudonym(config, brain), "sha256": brain.digest()}
        | {key: brain.provenance[key] for key in told if key in brain.provenance},
    }
    if config.Simulation.backend == "cuda":
        content["kernels"] = {"compiler": "NVRTC", "options": list(OPTIONS)}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def observe(config: Config, brain: Brain, recording: Recording, out: Path) -> tuple[int, int, float | None]:
    """Make BOLD of the rates of regions and compare its functional connectivity with the recorded one's.

    Returns the number of scans, how many of them were compared, and the correlation, which is not a fit.
    """
    if config.Balloon is None:
        return 0, 0, None
    balloon = Balloon(**config.Balloon.keywords())
    state, scans = balloon.start(brain.n_regions), [np.zeros((0, brain.n_regions))]
    for rate in recording.read_blocks("region_rate"):
        state, taken = balloon.advance(state, rate, config.Recording.bin)
        scans.append(taken)
    bold = np.concatenate(scans)
    write_bold(out / "bold", bold, brain.labels, balloon, pseudonym(config, brain))
    late = bold[round(ONSET_S / balloon.tr_s) :]
    if len(late) < MIN_SCANS or "rest" not in brain.bold or (np.ptp(late, axis=0) == 0).any():
        return len(bold), len(late), None
    recorded = functional_connectivity(brain.bold["rest"].data)
    return len(bold), len(late), fc_correlation(functional_connectivity(late), recorded)


def extreme_populations(network: Network, statistics: Statistics) -> tuple[dict, dict]:
    """The populations that fired least and most, with their mean rates over the run."""
    rate = statistics.population_spikes / np.diff(network.first_gid) / (statistics.duration / 1000)
    low, high = int(np.argmin(rate)), int(np.argmax(rate))
    slowest, fastest = ({"name": network.population_name(p), "rate_hz": float(rate[p])} for p in (low, high))
    return slowest, fastest


def summarise(
    config: Config, simulation: Simulation, recording: Recording, clock: Clock, status: str, bold: tuple, measured: dict
) -> Summary:
    network, statistics = simulation.network, recording.statistics
    seconds = clock.seconds
    biological = simulation.step * simulation.dt / 1000
    ends = extreme_populations(network, statistics) if statistics and biological else (None, None)
    return Summary.model_validate(
        {
            "status": status,
            "config_hash": config.hash,
            "network_hash": network.digest,
            "network_seed": network.seed,
            "seed": config.Simulation.seed,
            "members": 1,
            "neurons": network.n_neurons,
            "synapses": network.n_synapses,
            "populations": network.n_populations,
            "regions": len(network.regions),
            "tiles": simulation.tiles,
            "ranks": simulation.comm.size,
            "threads": simulation.threads,
            "backend": config.Simulation.backend,
            "device": simulation.device or processor(),
            "synapse_storage": simulation.synapse_storage,
            "dt_ms": simulation.dt,
            "biological_s": biological,
            "build_s": seconds["brain"] + seconds["network"] + seconds["compile"],
            "wall_s": seconds["run"],
            "realtime_factor": seconds["run"] / biological if biological else None,
            "mean_rate_hz": statistics and statistics.mean_rate_hz,
            "rate_hz": statistics.rate_hz if statistics else {},
            "isi_cv": statistics and statistics.isi_cv,
            "synchrony": statistics and statistics.synchrony,
            "slowest_population": ends[0],
            "fastest_population": ends[1],
            "spikes": simulation.spikes,
            "synaptic_events": simulation.synaptic_events,
            "autapses_dropped": simulation.autapses,
            "lesioned": simulation.lesioned,
            "multapses_expected": expected_multapses(network),
            "spike_digest": simulation.spike_digest,
            **measured,
            "peak_rss_bytes": max(measured["peak_rss_bytes"], peak_rss_bytes()),
            "scans": bold[0],
            "fc_scans": bold[1],
            "fc_correlation": bold[2],
            "phases": seconds | {f"run.{name}": wall for name, wall in simulation.phases.items()},
            "versions": versions(),
        }
    )
