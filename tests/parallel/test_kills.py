"""Law 1 across kills: whenever a process dies, on one rank or two, the run goes on from its last checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from dtb.engine.checkpoint_file import generations
from dtb.engine.recording import Recording
from tests.parallel.launch import MARK, launcher, process_of, start

CONFIG = """
[build_network]
n_neurons = 3_000
in_degree = 60
[Simulation]
threads = 1
[Recording]
spikes = ["*.E"]
[run]
duration = 40_000
checkpoint_every = 0.05
[Balloon]
"""
KEYS = "spike_digest", "state_digest", "spikes", "synaptic_events", "isi_cv", "rate_hz", "fc_correlation", "scans"


def begin(out: Path, ranks: int, *options: str) -> subprocess.Popen:
    arguments = "-m", "dtb.cli", "run", str(out.parent / "c.toml"), "-o", str(out), "--no-report"
    return start(ranks, *arguments, *options, **{MARK: str(out)})


def names(out: Path) -> list[str]:
    return [path.name for path in generations(out / "checkpoints")]


def wait_for_another(out: Path, before: list[str], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while names(out) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def amid_a_write(out: Path) -> bool:
    return any((out / "checkpoints").glob(".partial-step-*"))


def wait_for_a_write(out: Path, process: subprocess.Popen) -> None:
    while not amid_a_write(out) and process.poll() is None:
        pass


def kill(process: subprocess.Popen, out: Path, rank: int | None) -> None:
    """Without warning: the one process, or one rank of several, whose launcher then ends."""
    if rank is None:
        process.kill()
    elif process.poll() is None:
        with suppress(ValueError, ProcessLookupError):  # it has just come to its end
            os.kill(process_of(rank, str(out)), signal.SIGKILL)


@pytest.mark.parametrize(
    ("kills", "seed"), [(4, 1), *(pytest.param(25, seed, marks=pytest.mark.slow) for seed in range(2, 6))]
)
def test_a_run_that_is_killed_again_and_again_ends_as_the_run(tmp_path: Path, kills: int, seed: int) -> None:
    """SIGKILL at a random moment, or every third time as soon as a checkpoint is being written; none is ever lost.

    Each life lasts until it has written something and up to 0.6 s more; storage changes from life to life, and every
    fourth one is on two ranks, of which one is killed. A run that is complete before the last kill starts anew.
    """
    (tmp_path / "c.toml").write_text(CONFIG)
    whole = begin(tmp_path / "whole", 1)
    assert whole.communicate(timeout=120) and whole.returncode == 0
    expected = json.loads((tmp_path / "whole" / "summary.json").read_text())
    rng, out, number, on_two, amid = np.random.default_rng(seed), tmp_path / "out-0", 0, 0, 0
    two = 2 if launcher() is not None else 1

    def finish() -> None:
        process = begin(out, two if number % 20 == 0 else 1, "--resume")
        assert process.communicate(timeout=120) and process.returncode == 0
        summary = json.loads((out / "summary.json").read_text())
        assert {key: summary[key] for key in KEYS} == {key: expected[key] for key in KEYS}
        assert not (out / "checkpoints").exists()
        one, other = (Recording.open(place / "recording.zarr") for place in (out, tmp_path / "whole"))
        for name in ("region_rate", "spike_time", "spike_gid", "raster_gid"):
            assert np.array_equal(one[name], other[name])

    while number < kills:
        way, ranks = ("stored", "procedural")[number % 2], two if number % 4 == 3 else 1
        before = names(out)
        process = begin(out, ranks, "--resume", "--set", f"Simulation.synapses={way}")
        wait_for_another(out, before, process)
        time.sleep(float(rng.uniform(0, 0.6)))
        if number % 3 == 0:
            wait_for_a_write(out, process)
        kill(process, out, int(rng.integers(ranks)) if ranks > 1 else None)
        _, errors = process.communicate(timeout=60)
        if process.returncode == 0:
            out = tmp_path / f"out-{number}-next"
            continue
        assert process.returncode == (signal.SIGKILL if ranks > 1 else -signal.SIGKILL), errors
        after = names(out)
        assert after and (not before or after[0] >= before[0])
        number, on_two = number + 1, on_two + (ranks > 1)
        amid += amid_a_write(out)
        if number % 10 == 0 or number == kills:
            finish()
            out = tmp_path / f"out-{number}"
    print(f"{number} kills, {on_two} of them on two ranks, {amid} amid a write; all went on")
