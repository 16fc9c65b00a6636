"""Several ranks, on a device each or sharing one, fire the spikes of one processor."""

from __future__ import annotations

import json

import pytest

from dtb.engine.backends.cuda_device import Device
from tests.cuda import on_ranks as script
from tests.cuda.host_device import HostDevice
from tests.parallel.conftest import on_ranks, started_on_ranks  # noqa: F401 - fixtures
from tests.parallel.on_ranks import run

FLAT, NODES = {"routing": "flat"}, {"routing": "two-level", "ranks_per_node": 2}
CUT = [["R1", "R0", 0.5], ["R2", "R3", 1.0]]
CUDA = {"backend": "cuda"}

TASKS = [
    {
        "network": ["regional", {}],
        "steps": [30, 30],
        "cases": [CUDA | {"partition": "shuffled", "lesions": CUT, **way} for way in (FLAT, NODES)],
    },
    {  # epochs of several blocks, which overlap; a run ends within an epoch
        "network": ["regional", {"delays": [6.0, 9.0], "local_delay": 1.0}],
        "steps": [31, 30],
        "cases": [CUDA | {"partition": "by region", **NODES}],
    },
    {
        "network": ["tiny_populations", {"delay_classes": [1.0, 1.5]}],
        "steps": [30, 40],
        "cases": [CUDA | {"partition": "shuffled", **FLAT}],
    },
]


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_fire_the_spikes_of_one_processor(on_ranks, device: Device, ranks: int) -> None:  # noqa: F811
    kind = "processor" if isinstance(device, HostDevice) else "gpu"
    done = on_ranks(ranks, script.__file__, json.dumps(TASKS), kind)
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    plain = [task | {"cases": [case | {"backend": "cpu"} for case in task["cases"]]} for task in TASKS]
    alone = run(plain, lambda settings: None)
    for ours, theirs in zip(together, alone, strict=True):
        assert theirs["counts"][0] > 50, "nothing happened, so nothing was compared"
        assert ours.pop("epoch") >= 1, "nothing was exchanged"
        assert ours == {key: value for key, value in theirs.items() if key != "epoch"}
