"""Law 1 on many ranks: the same spikes, state, counts and recordings, bit for bit."""

from __future__ import annotations

import json

import pytest

from tests.parallel import on_ranks as script

SCRIPT = script.__file__
CUT = [["R1", "R0", 0.5], ["R2", "R3", 1.0], ["R1", "R1", 0.25]]
STORAGE = ("procedural", "stored")
FLAT, NODES = {"routing": "flat"}, {"routing": "two-level", "ranks_per_node": 2}

TASKS = [
    {  # blocks of two steps
        "network": ["regional", {}],
        "steps": [35, 35],
        "cases": [
            {"partition": partition, "synapses": synapses, **way}
            for synapses in STORAGE
            for partition, way in (
                ("even", FLAT),
                ("balanced", {}),
                ("shuffled", FLAT),
                ("shuffled", {}),
                ("shuffled", NODES),
            )
        ],
    },
    {  # ranks share a region whose delay is one step; lesions; two threads
        "network": ["regional", {"local_delay": 1.0, "delay_classes": [1.0, 1.5, 2.1]}],
        "steps": [20, 50],
        "cases": [{"synapses": synapses, "lesions": CUT, "threads": 2, **FLAT} for synapses in STORAGE],
    },
    {  # epochs of several blocks, which overlap; long delays deliver ahead of time; a run ends within an epoch
        "network": ["regional", {"delays": [6.0, 9.0], "local_delay": 1.0}],
        "steps": [31, 40],
        "cases": [
            {"partition": "by region", "synapses": synapses, "ahead": ahead, **way}
            for synapses, ahead in (("procedural", True), ("procedural", False), ("stored", False))
            for way in (FLAT, NODES)
        ],
    },
    {  # small populations, many in a tile
        "network": ["tiny_populations", {"delay_classes": [1.0, 1.5]}],
        "steps": [30, 40],
        "cases": [{"partition": "shuffled", "synapses": synapses, **NODES} for synapses in STORAGE]
        + [{"partition": "even", "tile_size": 48, "synapses": "procedural", "threads": 2, **FLAT}],
    },
    {  # the brain, as one would run it
        "network": ["brain", {"n_neurons": 8000, "in_degree": 60}],
        "steps": [60, 60],
        "cases": [{"synapses": "procedural"}, {"synapses": "stored", "dt": 0.5}],
    },
]


@pytest.fixture(scope="module")
def alone() -> list[dict]:
    """What one process makes of every case."""
    return script.run(TASKS, lambda settings: None)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_spikes_do_not_depend_on_the_number_of_ranks(alone, on_ranks, ranks: int) -> None:
    done = on_ranks(ranks, SCRIPT, json.dumps(TASKS))
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    cases = [case for task in TASKS for case in task["cases"]]
    assert len(together) == len(alone) == len(cases)
    for case, ours, theirs in zip(cases, together, alone, strict=True):
        assert theirs["counts"][0] > 50, "nothing happened, so nothing was compared"
        epoch = ours.pop("epoch")
        assert epoch >= 1, "nothing was exchanged"
        assert ours == {key: value for key, value in theirs.items() if key != "epoch"}, case


MATRIX = {  # the brain with delays, for a second
    "network": ["brain", {"n_neurons": 100_000, "in_degree": 100}],
    "steps": [500, 500],
    "cases": [
        {"threads": threads, "partition": partition, "tile_size": 2048, "routing": routing, "synapses": synapses} | node
        for synapses in STORAGE
        for routing, node in (("flat", {}), ("two-level", {"ranks_per_node": 2}))
        for partition in ("even", "balanced", "shuffled")
        for threads in (1, 2)
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_one_digest_of_100_000_neurons(on_ranks, ranks: int) -> None:
    """Threads, partition, routing and storage, in all combinations."""
    one = MATRIX | {"cases": [{"threads": 1, "synapses": "procedural"}]}
    (alone,) = script.run([one], lambda settings: None)
    done = on_ranks(ranks, SCRIPT, json.dumps([MATRIX]), timeout=3600)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert len(together) == 24
    for case, ours in zip(MATRIX["cases"], together, strict=True):
        assert ours | {"epoch": None} == alone, case
