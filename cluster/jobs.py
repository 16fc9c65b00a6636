"""What became of submitted jobs: state by Slurm, progress and time left by their run folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cluster.launch import BESIDE, SUBMISSION, Submission, ask, read_submission
from dtb.progress import read_progress

FIELDS = "%i|%j|%T|%M|%S|%r"  # job, name, state, time so far, start, why it waits
NO_REASON = ("None", "N/A", "")


class Queued(NamedTuple):
    """What Slurm says of one job, or one run of an array."""

    name: str
    state: str
    elapsed: str
    start: str
    reason: str


class Row(NamedTuple):
    """One line: a run that was submitted.

    state: Slurm's word, GONE where it no longer knows the job; done: share of the biological time, None if unknown;
    left_s: wall time to the end [s], of a run that goes on.
    """

    job: str
    run: str
    state: str
    done: float | None
    left_s: float | None
    elapsed: str
    reason: str
    log: str


def jobs(folders: Iterable[Path]) -> list[Row]:
    """The submitted runs below some folders, in the order of their numbers."""
    found = sorted({file for folder in folders for file in submissions(folder)})
    told = [(file, read_submission(file)) for file in found]
    queue = queued()  # asked in any case: where there is no Slurm, that is what there is to say
    forgotten = [s.job for _, s in told if not any(known(queue, s, number) for number, _ in runs(s))]
    queue |= accounted(forgotten)
    rows = [row(file, s, number, run, known(queue, s, number)) for file, s in told for number, run in runs(s)]
    return sorted(rows, key=lambda r: tuple(int(part) for part in r.job.split("_")))


def submissions(folder: Path) -> list[Path]:
    """Files of submissions below a folder, or the one of a run folder."""
    own = folder.with_name(folder.name + BESIDE) / SUBMISSION if folder.name else folder / SUBMISSION
    return [own] if own.is_file() else [*folder.glob(f"**/*{BESIDE}/{SUBMISSION}")]


def runs(submission: Submission) -> list[tuple[str, str]]:
    """(Number, run folder from the submission's) of each run of a job."""
    if submission.seeds is None:
        return [(submission.job, submission.run)]
    first, last = submission.seeds
    return [(f"{submission.job}_{seed - first}", f"{submission.run}/seed-{seed}") for seed in range(first, last + 1)]


def row(file: Path, submission: Submission, number: str, run: str, queued: Queued | None) -> Row:
    folder = file.parent.parent / Path(run).relative_to("..")
    state = queued.state if queued else "GONE"
    done, left = progress(folder, submission.duration)
    if state not in ("RUNNING", "COMPLETING"):
        left = None
    reason = "" if queued is None or queued.reason in NO_REASON else queued.reason
    if state == "PENDING" and queued is not None and queued.start not in NO_REASON:
        reason = f"{reason}, starts {queued.start}".lstrip(", ")
    if queued is None:
        reason = "Slurm no longer knows it" if done != 1 else "complete, by its summary"
    log = file.parent / (f"{number}.log")
    return Row(number, str(folder), state, done, left, queued.elapsed if queued else "", reason, str(log))


def progress(folder: Path, duration: float) -> tuple[float | None, float | None]:
    """Share of the biological time that is done, and wall time left [s]; None where the run folder does not tell."""
    try:
        summary = json.loads((folder / "summary.json").read_bytes())
        return (1.0 if summary["status"] == "complete" else 1000 * summary["biological_s"] / duration), None
    except (OSError, ValueError, KeyError, TypeError):
        pass  # it is not done, or not even begun
    now = read_progress(folder / "progress.json")
    return (None, None) if now is None else (now.step / now.steps, now.left_s())


# what Slurm says -----------------------------------------------------------------------------------------------


def queued() -> dict[str, Queued]:
    """Own jobs by number: those that wait and go on, and those that ended a while ago."""
    done = ask("squeue", "--me", "--noheader", "--states=all", "--array", f"--format={FIELDS}")
    if done.returncode:
        raise OSError(f"Slurm does not tell of jobs: {(done.stderr.strip() or 'squeue failed').splitlines()[-1]}.")
    return parse_queue(done.stdout)


def parse_queue(text: str) -> dict[str, Queued]:
    """Lines of squeue by number of job.

    Examples
    --------
    >>> parse_queue("7_1|dtb-rest|RUNNING|1:02|2026-01-01T00:00:00|None")["7_1"].state
    'RUNNING'
    """
    lines = (line.split("|", 5) for line in text.splitlines() if line.count("|") >= 5)
    return {number: Queued(*rest) for number, *rest in lines}


def accounted(numbers: list[str]) -> dict[str, Queued]:
    """What the accounting remembers of jobs that the controller forgot; nothing where there is none."""
    if not numbers:
        return {}
    try:
        done = ask(
            "sacct", "-X", "-n", "-P", "--jobs", ",".join(numbers), "--format=JobID,JobName,State,Elapsed,Start,Reason"
        )
    except OSError:
        return {}
    told = parse_queue(done.stdout) if done.returncode == 0 else {}
    return {number: q._replace(state=q.state.partition(" ")[0]) for number, q in told.items()}  # CANCELLED by 1000


def known(queue: dict[str, Queued], submission: Submission, number: str) -> Queued | None:
    """The entry of a run; another job may have its number since Slurm was set up anew, but hardly its name, too."""
    entry = queue.get(number)
    return entry if entry is not None and entry.name == submission.name else None


# a table -------------------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """What dtb jobs prints."""
    head = ("job", "state", "done", "left", "so far", "run", "")
    lines = [
        (r.job, r.state, "" if r.done is None else f"{r.done:.0%}", clock(r.left_s), r.elapsed, r.run, r.reason)
        for r in rows
    ]
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in (head, *lines)
    )


def clock(s: float | None) -> str:
    """Wall time as Slurm writes it.

    Examples
    --------
    >>> clock(3725), clock(93_600)
    ('1:02:05', '1-02:00:00')
    """
    if s is None:
        return ""
    days, rest = divmod(round(s), 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, whole = divmod(rest, 60)
    return f"{days}-{hours:02}:{minutes:02}:{whole:02}" if days else f"{hours}:{minutes:02}:{whole:02}"
