"""The devices that tests of the cuda backend run on: a processor, where there is a C++ compiler, and a GPU."""

from __future__ import annotations

from functools import cache

import pytest

from dtb.engine.backends import cuda_device
from tests.cuda.host_device import COMPILER, HostDevice, compiler


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """A processor, on which simulations of this test run."""
    if compiler() is None:
        pytest.skip(f"there is no C++ compiler '{COMPILER}': name one in CXX")
    device = HostDevice()
    monkeypatch.setattr(cuda_device, "open_device", lambda rank=None: device)
    return device


@cache
def gpu() -> cuda_device.Device | str:
    """One for all tests, for its kernels take a while to compile; or why there is none."""
    there, what = cuda_device.available()
    return cuda_device.open_device() if there else what


@pytest.fixture(params=["processor", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> cuda_device.Device:
    """Each of both in turn, on which simulations of this test run."""
    if request.param == "processor":
        return request.getfixturevalue("host")
    found = gpu()
    if isinstance(found, str):
        pytest.skip(found)
    monkeypatch.setattr(cuda_device, "open_device", lambda rank=None: found)
    return found
