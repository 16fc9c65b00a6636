"""How far a run is, as a small file in its folder that others read while it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from dtb.engine.store import write_file

EVERY = 2.0  # s


class Progress(NamedTuple):
    """What the file says.

    step, steps: done and in total, of the whole run; since_step, wall_s: where this process first told, and its time
    since then [s]; written_utc: when.
    """

    step: int
    steps: int
    since_step: int
    wall_s: float
    written_utc: str

    def left_s(self, now: datetime | None = None) -> float | None:
        """Wall time to the end [s] at the pace so far; None as long as there is none."""
        if self.step <= self.since_step:
            return None
        age = ((now or datetime.now(UTC)) - datetime.fromisoformat(self.written_utc)).total_seconds()
        return max(0.0, self.wall_s / (self.step - self.since_step) * (self.steps - self.step) - age)


class ProgressFile:
    """A function of (steps done, steps in total) that writes progress.json every two seconds.

    Parameters
    ----------
    path : path of the file
    also : function of (steps done, steps in total)
        Called each time, such as a bar.
    """

    def __init__(self, path: Path, also: Callable[[int, int], None] | None = None) -> None:
        self.path, self.also = path, also
        self._first = 0  # steps that were done at the first call: all those before a checkpoint
        self._begun = self._due = -1.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._begun < 0:
            self._first, self._begun = done, now
        if now >= self._due:
            self._due = now + EVERY
            told = datetime.now(UTC).isoformat(timespec="seconds")
            content = Progress(done, total, self._first, now - self._begun, told)
            with suppress(OSError):  # a full disk stops the run where results are lost, not here
                write_file(self.path, json.dumps(content._asdict()) + "\n")
        if self.also is not None:
            self.also(done, total)


def read_progress(path: Path) -> Progress | None:
    """What a run last said, or None."""
    try:
        content = json.loads(path.read_bytes())
        return Progress(**{name: content[name] for name in Progress._fields})
    except (OSError, ValueError, KeyError, TypeError):
        return None
