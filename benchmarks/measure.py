"""How everything here is measured: five repetitions, interleaved, so that a busy machine disturbs all sides alike."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from statistics import median

REPETITIONS = 5


def interleaved(parts: dict[str, Callable[[], float]], repetitions: int = REPETITIONS) -> dict[str, list[float]]:
    """Call every part in turn, again and again; what each returned. One round before that is not counted."""
    for part in parts.values():
        part()
    results: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repetitions):
        for name, part in parts.items():
            results[name].append(part())
    return results


def seconds(function: Callable, *arguments) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


class Neighbours:
    """How busy the machine is without us: above 0.1 cores, take no figure for the truth."""

    def __init__(self) -> None:
        self.begin = self._now()

    def cores(self) -> float:
        """Cores that other processes used since this object was made, on average."""
        (wall, busy, own), (wall_0, busy_0, own_0) = self._now(), self.begin
        return max(0.0, (busy - busy_0 - own + own_0) / (wall - wall_0))

    @staticmethod
    def _now() -> tuple[float, float, float]:
        with open("/proc/stat") as statistics:
            user, nice, system, _, _, irq, soft_irq = map(int, statistics.readline().split()[1:8])
        busy = (user + nice + system + irq + soft_irq) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, sum(os.times()[:4])


def quotient(above: list[float], below: list[float]) -> list[float]:
    """Ratios of what was measured in the same round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def report(
    bench: str,
    values: list[float],
    unit: str,
    *,
    against: str,
    ratios: list[float],
    bar: float | None,
    n: int,
    bar_is: str = "at most",
    **more,
) -> None:
    """Print one line of JSON.

    Parameters
    ----------
    bench : letter of issue 2 and name
    values, ratios : one per repetition; the medians are printed, and the extremes
    against : what `ratios` are relative to
    bar : float or None
        What the median ratio should not pass ("at most"), or should reach ("at least").
    n : neurons
    """
    line = {
        "bench": bench,
        "value": rounded(median(values)),
        "unit": unit,
        "ratio": rounded(median(ratios)),
        "bar": bar,
        "bar_is": bar_is,
        "against": against,
        "n": n,
        "median_of": len(values),
        "min": rounded(min(values)),
        "max": rounded(max(values)),
        "ratio_min": rounded(min(ratios)),
        "ratio_max": rounded(max(ratios)),
        **{name: rounded(value) for name, value in more.items()},
    }
    print(json.dumps(line), flush=True)


def rounded(value):
    """Four digits of a float; anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
