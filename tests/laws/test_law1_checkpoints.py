"""Law 1 across checkpoints: saved anywhere, restored onto anything, killed at any moment, the spikes are the same."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dtb.engine.checkpoint_file import generations
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.lesion import lesion_tracts
from tests.networks import regional, tiny_populations
from tests.protocol import STEPS, Protocol, random_cuts, told

REPOSITORY = Path(__file__).parents[2]
WAYS = [
    {"synapses": "procedural", "threads": 1},
    {"synapses": "procedural", "threads": 2, "tile_size": 48},
    {"synapses": "stored", "threads": 2},
    {"backend": "reference"},
]


@pytest.mark.parametrize(("make", "dt"), [(regional, 1.0), (regional, 0.3), (tiny_populations, 1.0)])
def test_every_way_goes_on_from_every_other(make, dt: float, tmp_path: Path) -> None:
    """Counters included: what is counted as it is sent in one way is counted as it arrives in another."""
    network = make(delay_classes=(1.0, 1.5, 2.1))
    cut = lesion_tracts(network, {(f"R{r}", "R0"): 0.5 for r in range(1, len(network.regions))})
    whole = Simulation(network, seed=5, dt=dt, lesions=cut, **WAYS[0])
    whole.run(100 * dt)
    assert whole.spikes > 50 and whole.synaptic_events > 0 and whole.lesioned > 0
    pairs = list(itertools.product(WAYS, WAYS))
    for number, (before, after) in enumerate(pairs[:: 1 if dt == 1 else 3]):
        first, second = (Simulation(network, seed=5, dt=dt, lesions=cut, **way) for way in (before, after))
        first.run((15 + 3 * number) * dt)
        second.restore(first.save(tmp_path))
        second.run((85 - 3 * number) * dt)
        assert told(second) == told(whole), (before, after)


def test_a_run_cut_anywhere_is_the_run(tmp_path: Path) -> None:
    """10 random cuts, one of them inside the stimulus and all inside a scan: spikes, rates, BOLD, statistics."""
    protocol = Protocol(regional())
    whole, expected = protocol.begin(tmp_path / "whole.zarr", **WAYS[0])
    protocol.run(whole, expected, STEPS)
    for number, cut in enumerate(random_cuts()):
        before, after = WAYS[number % 3], WAYS[(number + 1 + number // 3) % 3]
        store = tmp_path / f"{number}.zarr"
        first, recording = protocol.begin(store, **before)
        protocol.run(first, recording, cut)
        path = first.save(tmp_path / f"{number}", recording)
        second, recording = protocol.begin(store, **after)
        second.restore(path, recording)
        assert second.control.mean[0] == whole.control.mean[0]
        protocol.run(second, recording, STEPS)
        assert told(second) == told(whole)
        assert protocol.result(recording) == protocol.result(expected)


def test_sums_ahead_of_time_are_used_up_before_a_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where long delays deliver several blocks at once, a run ends with nothing delivered that has not arrived."""
    monkeypatch.setattr("dtb.engine.backends.cpu_tables.SUM_NS", 0.0)
    network = regional()
    whole, first, second = (Simulation(network, seed=5, synapses="procedural", threads=1) for _ in range(3))
    assert first._backend.way.rows > 1
    whole.run(60.0)
    first.run(23.0)
    assert first.settled
    second.restore(first.save(tmp_path))
    second.run(37.0)
    assert told(second) == told(whole)
    first._state.ring[1][1] += 1
    with pytest.raises(ValueError, match="amid a delivery"):
        first.save(tmp_path)


# processes that are killed -------------------------------------------------------------------------------------

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


def start(folder: Path, out: str, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dtb.cli", "run", "c.toml", "-o", out, "--no-report", *options]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def names(out: Path) -> list[str]:
    return [path.name for path in generations(out / "checkpoints")]


def wait_for_another(out: Path, before: list[str], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while names(out) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_as_the_run(tmp_path: Path, kills: int) -> None:
    """SIGKILL at a random moment, most of them during a write, for one follows the other; no checkpoint is ever lost.

    Each life lasts until it has written something and up to 0.6 s more; storage changes from life to life. A run that
    is complete before the last kill starts anew.
    """
    (tmp_path / "c.toml").write_text(CONFIG)
    whole = start(tmp_path, "whole")
    assert whole.wait(120) == 0, whole.stderr and whole.stderr.read()
    expected = json.loads((tmp_path / "whole" / "summary.json").read_text())
    rng, out, number = np.random.default_rng(2), tmp_path / "out-0", 0
    keys = ("spike_digest", "state_digest", "spikes", "synaptic_events", "isi_cv", "rate_hz", "fc_correlation", "scans")

    def finish() -> None:
        process = start(tmp_path, out.name, "--resume")
        assert process.communicate(timeout=120) and process.returncode == 0
        summary = json.loads((out / "summary.json").read_text())
        assert {key: summary[key] for key in keys} == {key: expected[key] for key in keys}
        assert not (out / "checkpoints").exists()
        one, other = (Recording.open(place / "recording.zarr") for place in (out, tmp_path / "whole"))
        for name in ("region_rate", "spike_time", "spike_gid", "raster_gid"):
            assert np.array_equal(one[name], other[name])

    while number < kills:
        way = ("stored", "procedural")[number % 2]
        before = names(out)
        process = start(tmp_path, out.name, "--resume", "--set", f"Simulation.synapses={way}")
        wait_for_another(out, before, process)
        time.sleep(float(rng.uniform(0, 0.6)))
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        if process.returncode == 0:
            out = tmp_path / f"out-{number}-next"
            continue
        assert process.returncode == -signal.SIGKILL, errors
        after = names(out)
        assert after and (not before or after[0] >= before[0])
        number += 1
        if number % 10 == 0 or number == kills:
            finish()
            out = tmp_path / f"out-{number}"
