"""k. Checkpoints: bandwidth against a plain write of the same bytes with fsync, and size against the state."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

import dtb
from benchmarks.measure import interleaved, quotient, report, seconds
from dtb.engine.checkpoint_file import Checkpoint

N = 4_000_000
STEPS = 60.0  # ms: about the longest delay, so that the spike history is as full as it gets
WARM_UP = 3  # rounds, until files lie in memory that was in use before: what is new to a virtual machine is slow
BLOCK = 4 * 2**20  # bytes of a write, as `dd bs=4M conv=fsync`


def run() -> None:
    simulation = dtb.Simulation(dtb.build_network(dtb.default_brain(), n_neurons=N, in_degree=100))
    simulation.run(STEPS)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        folder = Path(place)
        path = simulation.save(folder / "checkpoints")
        size = sum(f.stat().st_size for f in path.iterdir())
        block = np.random.default_rng(1).bytes(BLOCK)
        parts = {
            "save": lambda: seconds(simulation.save, folder / "checkpoints"),
            "plain": lambda: seconds(plain, folder, block, size),
        }
        interleaved(parts, WARM_UP)
        times = interleaved(parts)
        spikes = len(Checkpoint(path).spikes()[0])
        restored = dtb.Simulation(simulation.network)
        restore_s = seconds(restored.restore, path)
    assert restored.state_digest == simulation.state_digest
    report(
        "k.bandwidth", [size / t / 1e9 for t in times["save"]], "GB/s", against="a plain write of as much, with fsync",
        ratios=quotient(times["plain"], times["save"]), bar=0.5, bar_is="at least", n=N, restore_s=restore_s,
    )  # fmt: skip
    state = 26 * N + 4 * spikes  # fields and refractoriness; step and number of each spike on its way, as in memory
    report("k.size", [size / N], "bytes/neuron", against="the state", ratios=[size / state], bar=1.1, n=N)


def plain(folder: Path, block: bytes, size: int) -> None:
    """What `dd` does, beside the two files before, of which then one goes: as a checkpoint, it gets no memory that it
    has just given back, which this machine's system hands out five times faster.
    """
    names = [folder / f"plain-{age}" for age in range(3)]
    with open(names[0], "wb", buffering=0) as file:
        for begin in range(0, size, BLOCK):
            file.write(block[: size - begin])
        os.fsync(file.fileno())
    names[2].unlink(missing_ok=True)
    for younger, older in ((1, 2), (0, 1)):
        if names[younger].exists():
            names[younger].rename(names[older])
