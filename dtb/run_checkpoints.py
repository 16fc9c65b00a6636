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
from typing import Any

import numpy as np

from dtb.config import Config, load_config, toml_value
from dtb.engine.checkpoint_file import Checkpoint, newest, standing
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)  # of a user, a scheduler at the end, and one before it
FOLDER = "checkpoints"
FREE = {  # what may change when a run goes on, because no spike depends on it
    ("Simulation", "backend"), ("Simulation", "threads"), ("Simulation", "synapses"), ("Simulation", "tile_size"),
    ("run", "checkpoint_every"),
}  # fmt: skip
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
                seconds = self.step * simulation.dt / 1000
                error.add_note(f"The checkpoint before it, at {seconds:g} s, is good: go on with --resume.")
            raise
        self.step, self.last = simulation.step, time.monotonic()
        self.took = self.last - begin
        simulation.phases["checkpoint"] = simulation.phases.get("checkpoint", 0.0) + self.took


def simulate(simulation: Simulation, recording: Recording, duration: float, keeper: Keeper, progress) -> str:
    """Run to the end, or until the user or the scheduler stops it; the recording holds everything done either way.

    Returns "complete", "interrupted" by the user, or "checkpointed".
    """
    start, total, comm = simulation.step, round(duration / simulation.dt), simulation.comm
    try:
        with signals_held_back() as asked:

            def between_chunks(done: int, _: int) -> None:
                if progress is not None:
                    progress(start + done, total)
                stop = bool(asked) or keeper.job_ends
                if comm.size > 1:  # all stop after the same chunk, whichever was asked first; they are not saved yet
                    if comm.sum(np.array([stop], np.int64))[0]:
                        raise KeyboardInterrupt
                    return
                if not (stop or keeper.due) or not simulation.settled or start + done == total:
                    return
                keeper.save()
                if stop:
                    raise KeyboardInterrupt if signal.SIGINT in asked else Checkpointed

            if progress is not None:
                progress(start, total)
            if start < total:
                simulation.run((total - start) * simulation.dt, recording=recording, progress=between_chunks)
    except Checkpointed:
        return "checkpointed"
    except KeyboardInterrupt:
        recording.close()
        return "interrupted"
    except BaseException:
        with suppress(OSError):  # the disk may be full: what matters is why the run failed
            recording.close()
        raise
    recording.close()
    return "complete"


@contextmanager
def signals_held_back() -> Iterator[list[int]]:
    """Signals that ask to stop, collected so that state and recording agree; a second one of a kind acts at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only there can a signal be handled
        yield asked
        return
    before: dict[int, Any] = {}

    def remember(number: int, frame: object) -> None:
        signal.signal(number, before[number])
        asked.append(number)

    for number in SIGNALS:
        before[number] = signal.signal(number, remember)
    try:
        yield asked
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)


# going on ------------------------------------------------------------------------------------------------------


def begun(out: Path) -> bool:
    """Whether a run was begun in this folder."""
    return (out / "config.toml").is_file()


def check_same_run(out: Path, config: Config) -> None:
    """Refuse to go on with a run of another config; name the first difference."""
    theirs, mine = load_config(out / "config.toml").model_dump(), config.model_dump()
    theirs["brain"] = Path(theirs["brain"]).name  # `load_config` adds the folder
    for table in mine:
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


def find_checkpoint(out: Path, tell) -> Checkpoint | None:
    """The newest good checkpoint of a run folder; tells which ones are damaged. None: the run has to begin again."""
    saved, faults = newest(out / FOLDER)
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
