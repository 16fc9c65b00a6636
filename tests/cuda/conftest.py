"""The cuda backend on this processor, where there is a C++ compiler."""

from __future__ import annotations

import pytest

from dtb.engine.backends import cuda_device
from tests.cuda.host_device import COMPILER, HostDevice, compiler


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """The device that simulations of this test run on."""
    if compiler() is None:
        pytest.skip(f"there is no C++ compiler '{COMPILER}': name one in CXX")
    device = HostDevice()
    monkeypatch.setattr(cuda_device, "open_device", lambda rank=None: device)
    return device
