"""c. Speed of many ranks: against one, against independent halves, and balanced against equal counts of neurons."""

from __future__ import annotations

import os

from benchmarks.measure import interleaved, quotient, report
from benchmarks.ranks import measured

N, HALF = 1_000_000, 500_000
HETEROGENEOUS = 1_000_000
REPETITIONS = 3


def run() -> None:
    walls: dict[str, list[dict]] = {}

    def of(name: str, ranks: int, **options) -> tuple[str, object]:
        def once() -> float:
            walls.setdefault(name, []).append(measured(ranks, **options))
            return walls[name][-1]["wall"][0]

        return name, once

    times = interleaved(
        dict(
            [
                of("one", 1, neurons=N),
                of("two", 2, neurons=N),
                of("halves", 2, neurons=HALF, together=0),
                of("four", 4, neurons=N),
            ]
        ),
        REPETITIONS,
    )
    two = walls["two"][1:]
    shared = [max(row["exchange"]) / row["wall"][0] for row in two]
    common = {"n": N, "ranks": 2}
    report(
        "c.two_ranks", times["two"], "wall s per biological s", against="one rank, over two",
        ratios=quotient(times["one"], times["two"]), bar=1.6, bar_is="at least", **common,
    )  # fmt: skip
    report(
        "c.halves", times["halves"], "wall s per biological s", against="throughput of two ranks over that of two "
        "independent halves", ratios=quotient(times["halves"], times["two"]), bar=0.92, bar_is="at least", **common,
    )  # fmt: skip
    report("c.exchange", shared, "of the time", against="5 %", ratios=[s / 0.05 for s in shared], bar=1.0, **common)
    cores = len(os.sched_getaffinity(0))
    report(
        "c.four_ranks", times["four"], "wall s per biological s", against="one rank, over four",
        ratios=quotient(times["one"], times["four"]), bar=None, n=N, ranks=4, cores=cores, oversubscribed=cores < 4,
    )  # fmt: skip
    unlike = interleaved(
        {
            partition: lambda p=partition: measured(2, neurons=HETEROGENEOUS, brain="heterogeneous", partition=p)[
                "wall"
            ][0]
            for partition in ("usual", "even")
        },
        REPETITIONS,
    )
    report(
        "c.heterogeneous", unlike["usual"], "wall s per biological s", against="equal counts, over balanced",
        ratios=quotient(unlike["even"], unlike["usual"]), bar=1.3, bar_is="at least", n=HETEROGENEOUS, ranks=2,
    )  # fmt: skip
