"""Run by mpiexec: tests/parallel/on_ranks.py, with the cuda backend. The second argument names its device: "processor"
or "gpu", of which all ranks share what there is.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dtb.engine.backends import cuda, cuda_device
from tests.cuda.host_device import HostDevice
from tests.parallel import on_ranks


def use_processors() -> None:
    cuda_device.open_device = lambda rank=None: HostDevice()
    cuda.THREADS = 64


if __name__ == "__main__":
    if sys.argv[2] == "processor":
        use_processors()
    on_ranks.main()
