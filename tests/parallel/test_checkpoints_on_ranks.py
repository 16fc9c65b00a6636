"""Law 1 across checkpoints and ranks: saved by any number of ranks, restored on any other, the spikes are the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.parallel import legs as script
from tests.protocol import STEPS, random_cuts

NETWORK = ["regional", {"delay_classes": [1.0, 1.5, 2.1]}]
RANKS = [(1, 2), (2, 1), (2, 3), (4, 2), (3, 4), (1, 4), (3, 1), (4, 3), (2, 4), (1, 3)]  # before and after a cut
WAYS = [
    {"synapses": "procedural"},
    {"synapses": "stored", "partition": "shuffled", "routing": "flat"},
    {"synapses": "procedural", "threads": 2, "tile_size": 48, "partition": "even", "routing": "two-level"},
    {"synapses": "stored", "threads": 2},
]


@pytest.fixture(scope="module")
def travel(on_ranks):
    """Run legs, each on so many ranks: what each told, in their order."""

    def run(legs: list[tuple[int, dict]]) -> list[dict]:
        told: dict[int, dict] = {}
        for ranks in sorted({n for n, _ in legs}):
            mine = [number for number, (n, _) in enumerate(legs) if n == ranks]
            if ranks == 1:
                told |= {number: script.run_leg(legs[number][1], None) for number in mine}
                continue
            done = on_ranks(ranks, script.__file__, json.dumps([legs[number][1] for number in mine]))
            assert done.returncode == 0, done.stderr
            told |= dict(zip(mine, json.loads(done.stdout), strict=True))
        return [told[number] for number in range(len(legs))]

    return run


OTHERS = [  # epochs of several blocks, long delays ahead of time; small populations, many in a tile
    (["regional", {"delays": [6.0, 9.0], "local_delay": 1.0}], {"partition": "by region", "synapses": "procedural"}),
    (["regional", {"delays": [6.0, 9.0], "local_delay": 1.0}], {"partition": "by region", "synapses": "stored"}),
    (["tiny_populations", {"delay_classes": [1.0, 1.5]}], {"partition": "shuffled", "synapses": "stored"}),
    (["tiny_populations", {"delay_classes": [1.0, 1.5]}], {"partition": "even", "synapses": "procedural"}),
]


def test_epochs_deliveries_ahead_of_time_and_small_populations_go_on_too(travel, tmp_path: Path) -> None:
    """From 2 ranks onto 3, at a step that lies amid an epoch, against one rank that is never stopped."""
    legs, ends = [], []
    for number, (network, way) in enumerate(OTHERS):
        leg = {"network": network, "store": str(tmp_path / f"{number}.zarr"), "from": None, "stop": 61}
        whole = leg | {"store": str(tmp_path / f"whole-{number}.zarr"), "stop": 130, "folder": None}
        ends.append(script.run_leg(whole | {"way": {"synapses": way["synapses"]}}, None))
        legs.append((2, leg | {"folder": str(tmp_path / f"{number}"), "way": way, "ahead": True}))
    for number, told in enumerate(travel(legs)):
        legs[number] = 3, legs[number][1] | {"from": told["path"], "stop": 130, "folder": None}
    for end, expected in zip(travel(legs), ends, strict=True):
        assert end == expected and expected["told"][2] > 100


def test_a_run_cut_anywhere_goes_on_on_another_number_of_ranks(travel, tmp_path: Path) -> None:
    """Ten random cuts, and another storage, partition, routing and number of threads after each of them."""
    whole = script.run_leg(
        {
            "network": NETWORK,
            "store": str(tmp_path / "whole.zarr"),
            "from": None,
            "stop": STEPS,
            "folder": None,
            "way": {"synapses": "procedural"},
        },
        None,
    )
    assert whole["told"][2] > 500
    legs = []
    for number, (cut, (before, _)) in enumerate(zip(random_cuts(), RANKS, strict=True)):
        store, folder = str(tmp_path / f"{number}.zarr"), str(tmp_path / f"{number}")
        leg = {"network": NETWORK, "store": store, "from": None, "stop": cut, "folder": folder}
        legs.append((before, leg | {"way": WAYS[number % 4]}))
    saved = travel(legs)
    for number, (_, after) in enumerate(RANKS):
        leg = legs[number][1] | {"from": saved[number]["path"], "stop": STEPS, "folder": None}
        legs[number] = after, leg | {"way": WAYS[(number + 1 + number // 4) % 4]}
    for ranks, end in zip(RANKS, travel(legs), strict=True):
        assert end == whole | {"path": None}, ranks
