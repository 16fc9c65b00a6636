"""r. What recording costs: the default config with everything that it keeps, against the same steps without."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import dtb
from benchmarks.measure import interleaved, quotient, report, seconds
from dtb.config import load_config
from dtb.engine.recording import Recording

CONFIG = Path(__file__).parent.parent / "configs" / "rest.toml"
PIECE = 20_000.0  # ms; each ends with a flush, which a run of a minute has once
REPETITIONS = 3
BAR = 1.05


def run(threads: int = 0) -> None:
    config = load_config(CONFIG)
    network = dtb.build_network(dtb.default_brain(), **config.build_network.keywords())
    keywords = config.Simulation.keywords() | {"threads": threads}
    plain, recorded = (dtb.Simulation(network, **keywords) for _ in range(2))  # the same spikes in every round
    with (
        tempfile.TemporaryDirectory() as folder,
        Recording(**config.Recording.keywords(), store=Path(folder) / "recording.zarr") as recording,
    ):
        times = interleaved(
            {"recorded": partial(timed, recorded, recording), "plain": partial(timed, plain)}, REPETITIONS
        )
    assert recorded.spike_digest == plain.spike_digest
    walls, observing = ({k: [t[i] for t in v] for k, v in times.items()} for i in (0, 1))
    extra = [r - p for r, p in zip(observing["recorded"], observing["plain"], strict=True)]  # one thread does it
    by_phase = quotient([p + e for p, e in zip(walls["plain"], extra, strict=True)], walls["plain"])
    report(
        "r.recording", [1e6 * e / PIECE for e in extra], "ms per simulated s",
        against="the same steps, not recorded", ratios=quotient(walls["recorded"], walls["plain"]), bar=BAR,
        n=network.n_neurons, threads=recorded.threads, ratio_by_phase=median(by_phase),
    )  # fmt: skip


def timed(simulation: dtb.Simulation, recording: Recording | None = None) -> tuple[float, float]:
    """Wall time of a run, and of what is done between its chunks, recording included."""
    before = simulation.phases["observe"]
    wall = seconds(lambda: simulation.run(PIECE, recording=recording))
    return wall, simulation.phases["observe"] - before
