"""When a run is saved, why it stops early, and from where it goes on."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from dtb.config import Config, load_config, toml_value
from dtb.engine.checkpoint_file import Checkpoint, newest, standing
from dtb.engine.comm import Communicator
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)  # of a user, a scheduler at the end, and one before it
FOLDER = "checkpoints"
FREE = {  # what may change when a run goes on, because no spike depends on it
    ("Simulation", "backend"), ("Simulation", "threads"), ("Simulation", "synapses"), ("Simulation", "tile_size"),
    ("run", "checkpoint_every"),
}  # fmt: skip
FREE_TABLES = {"MPIComm"}  # for the same reason
AGAIN_S = 2.0  # after which a signal that comes again is a second wish
BEFORE_END_S = 15.0  # before the end of a job it is saved, at least; Slurm itself kills 30 s after it asked to stop
BEFORE_END_SAVES = 3  # times as long as the last checkpoint took


class Checkpointed(Exception):
    """A run stopped before its end, at a signal or because its job ends, and can go on."""


class Keeper:
    """Saves a run every so often, and when it has to stop.

    Parameters
    ----------
    every : float [s]
        Of wall time between checkpoints.
    saved : Checkpoint or None
        From which the run went on.
    """

    def __init__(
        self, simulation: Simulation, recording: Recording, out: Path, every: float, saved: Checkpoint | None
    ) -> None:
        self.simulation, self.recording, self.folder, self.every = simulation, recording, out / FOLDER, every
        notes: dict[str, Any] = {} if saved is None else saved.about["notes"]
        self.earlier_s = float(notes.get("wall_s", 0.0))
        for name, wall in notes.get("phases", {}).items():
            simulation.phases[name] = simulation.phases.get(name, 0.0) + wall
        self.step = None if saved is None else saved.step  # of the last checkpoint
        self.begun = self.last = time.monotonic()
        self.took = 0.0
        end = os.environ.get("SLURM_JOB_END_TIME", "")  # s since 1970; Slurm sets it for every step of a job
        self.job_end = float(end) if end.isdecimal() else float("inf")
        self._tell_remedy()

    def _tell_remedy(self) -> None:
        place = self.folder.parent
        if self.step is None:
            self.simulation.comm.remedy(f"There is no checkpoint yet: begin again with --resume -o {place}.")
        else:
            self.simulation.comm.remedy(f"The last checkpoint, {self._good} -o {place}.")

    @property
    def _good(self) -> str:
        return f"at {(self.step or 0) * self.simulation.dt / 1000:g} s, is good: go on with --resume"

    @property
    def wall_s(self) -> float:
        """Wall time of all steps so far, those before the run went on included."""
        return self.earlier_s + time.monotonic() - self.begun

    @property
    def due(self) -> bool:
        return time.monotonic() - self.last >= self.every

    @property
    def job_ends(self) -> bool:
        return time.time() + max(BEFORE_END_S, BEFORE_END_SAVES * self.took) >= self.job_end

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one."""
        simulation = self.simulation
        if self.step == simulation.step:
            return
        begin = time.monotonic()
        try:
            simulation.save(self.folder, self.recording, {"wall_s": self.wall_s, "phases": dict(simulation.phases)})
        except OSError as error:
            if self.step is not None:
                error.add_note(f"The checkpoint before it, {self._good}.")
            raise
        self.step, self.last = simulation.step, time.monotonic()
        self.took = self.last - begin
        self._tell_remedy()
        simulation.phases["checkpoint"] = simulation.phases.get("checkpoint", 0.0) + self.took

    def wish(self, signals: Signals) -> Wish:
        """What all ranks do next: any of them may have been asked to stop, and the clock of rank 0 counts."""
        comm, came = self.simulation.comm, signals.came
        first = comm.rank == 0
        mine = signal.SIGINT in came, bool(came) or (first and self.job_ends), first and self.due
        by_user, stop, due = (comm.sum(np.array(mine, np.int64)) > 0).tolist()
        return Wish(by_user, stop, due)


class Wish(NamedTuple):
    """Whether a run is to stop, and by_user, with SIGINT; whether a checkpoint is due."""

    by_user: bool
    stop: bool
    due: bool


def simulate(
    simulation: Simulation, recording: Recording, duration: float, keeper: Keeper, signals: Signals, progress
) -> str:
    """Run to the end, or until the user or the scheduler stops it; the recording holds everything done either way.

    Returns "complete", "interrupted" by the user, or "checkpointed".
    """
    start, total = simulation.step, round(duration / simulation.dt)

    def between_chunks(done: int, _: int) -> None:
        if progress is not None:
            progress(start + done, total)
        wish = keeper.wish(signals)
        if not (wish.stop or wish.due) or start + done == total or not simulation.settled:
            return
        keeper.save()
        if wish.stop:
            raise Checkpointed("interrupted" if wish.by_user else "checkpointed")

    signals.hold(*SIGNALS)
    try:
        if progress is not None:
            progress(start, total)
        if start < total:
            simulation.run((total - start) * simulation.dt, recording=recording, progress=between_chunks)
    except Checkpointed as stopped:
        if str(stopped) == "interrupted":
            recording.close()
        return str(stopped)
    except BaseException as error:
        with suppress(OSError):  # the disk may be full: what matters is why the run failed
            recording.close()
        if isinstance(error, KeyboardInterrupt) and simulation.comm.size == 1:  # a second one, which acts at once
            return "interrupted"
        raise
    finally:
        signals.release(signal.SIGINT)
    recording.close()
    return "complete"


class Signals:
    """Signals that ask to stop, held back so that state and recording agree.

    One that comes again acts as it would have: but not at once, for launchers pass on to all ranks what a terminal or a
    scheduler has already sent to each.

    Attributes
    ----------
    came : dict
        Time at which each was first held back.
    """

    def __init__(self) -> None:
        self.came: dict[int, float] = {}
        self._before: dict[int, Any] = {}

    def hold(self, *numbers: int) -> None:
        if threading.current_thread() is not threading.main_thread():  # only there can a signal be handled
            return
        for number in numbers:
            if number not in self._before:
                self._before[number] = signal.signal(number, self._remember)

    def release(self, *numbers: int) -> None:
        for number in numbers:
            if number in self._before:
                signal.signal(number, self._before.pop(number))

    def _remember(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if now - self.came.setdefault(number, now) > AGAIN_S:
            self.release(number)
            os.kill(os.getpid(), number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        self.release(*tuple(self._before))


# going on ------------------------------------------------------------------------------------------------------


def begun(out: Path) -> bool:
    """Whether a run was begun in this folder."""
    return (out / "config.toml").is_file()


def check_same_run(out: Path, config: Config) -> None:
    """Refuse to go on with a run of another config; name the first difference."""
    theirs, mine = load_config(out / "config.toml").model_dump(), config.model_dump()
    theirs["brain"] = Path(theirs["brain"]).name  # `load_config` adds the folder
    for table in mine:
        if table in FREE_TABLES:
            continue
        a, b = theirs[table], mine[table]
        if not (isinstance(a, dict) and isinstance(b, dict)):
            a, b = {"": a}, {"": b}
        for key in b:
            if (table, key) not in FREE and a[key] != b[key]:
                name = f"[{table}] {key}" if key else table
                raise ValueError(
                    f"the run in '{out}' was made with {name} = {said(a[key])}, here it is {said(b[key])}. Go on with "
                    f"--resume and the same config, '{out / 'config.toml'}', or run anew into another folder with -o."
                )


def said(value: Any) -> str:
    return "nothing" if value is None else "a table" if isinstance(value, dict) else toml_value(value)


def progress_of(out: Path, config: Config) -> str:
    """Whether the run in a folder is "new", "begun" or "complete"; refuses one of another config."""
    if not begun(out):
        return "new"
    check_same_run(out, config)
    return "begun" if finished(out) is None else "complete"


def find_checkpoint(out: Path, comm: Communicator, tell) -> Checkpoint | None:
    """The newest good checkpoint of a run folder; tells which ones are damaged. None: the run has to begin again.

    All ranks must call, for each reads its share.
    """
    saved, faults = newest(out / FOLDER, comm)
    if saved is not None:
        seconds = saved.step * saved.about["identity"]["dt"] / 1000
        for fault in faults:
            tell(f"{fault} The one before it is used.")
        tell(f"going on from the checkpoint at {seconds:g} s")
    elif (out / "summary.json").exists():
        raise FileExistsError(
            f"the run in '{out}' was interrupted and left no checkpoint to go on from. Replace it with --force."
        )
    else:
        tell(f"there is no checkpoint in '{out}' yet: beginning again")
    return saved


def finished(out: Path) -> str | None:
    """The text of the summary, if the run in a folder is complete."""
    try:
        text = (out / "summary.json").read_text(encoding="utf-8")
        return text if json.loads(text)["status"] == "complete" else None
    except (FileNotFoundError, ValueError, KeyError):
        return None


def clear_checkpoints(out: Path) -> None:
    """A complete run needs none."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def describe_checkpoint(out: Path) -> str | None:
    """Up to where a run folder's newest checkpoint reaches."""
    found = standing(out / FOLDER)
    if not found:
        return None
    about = found[0]
    return f"at {about['step'] * about['identity']['dt'] / 1000:g} s ({about['step']:,} steps); go on with --resume"


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Refuse a folder in which another process is running; the lock goes with the process, however it ends."""
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(
                f"another process is running in '{out}'. Wait for it, stop it, or choose another folder with -o."
            ) from None
        except OSError:
            pass  # not every file system knows locks
        yield
    finally:
        os.close(handle)
