"""Law 1 across checkpoints: saved anywhere, restored onto anything, killed at any moment, the spikes are the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

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
