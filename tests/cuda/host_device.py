"""A device that runs the kernels of the cuda backend on this processor: the same text, built by a C++ compiler.

Arrays are NumPy's. What CUDA has beyond C++ is in host.hpp; what happens there in another order than on a GPU may not
change a bit, so the order of threads, of blocks, and of kernels that may run at once is shuffled, each time anew.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dtb.engine.backends.cuda_device import Launch
from dtb.engine.backends.cuda_world import KERNELS, source

HEADER = Path(__file__).with_name("host.hpp")
COMPILER = os.environ.get("CXX", "g++")
OPTIONS = ("-std=c++17", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror")
FLAGS = tuple(os.environ.get("DTB_HOST_FLAGS", "").split())  # more of them: test_sanitized.py asks for sanitizers
SILENT = ("-Wno-unknown-pragmas", "-Wno-unused-parameter")


def compiler() -> str | None:
    return shutil.which(COMPILER)


@cache
def library() -> ctypes.CDLL:
    """The kernels, built once for each text of theirs."""
    text = source() + HEADER.read_text() + repr(FLAGS)
    name = f"dtb-kernels-{hashlib.sha256(text.encode()).hexdigest()[:16]}-{os.getuid()}.so"
    built = Path(tempfile.gettempdir()) / name
    if not built.exists():
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / name
            command = [COMPILER, *OPTIONS, *FLAGS, *SILENT, "-fPIC", "-shared", "-include", str(HEADER), "-x", "c++"]
            subprocess.run([*command, str(KERNELS), "-o", str(made)], check=True)
            partial = built.with_suffix(f".{os.getpid()}")
            shutil.copy(made, partial)
            partial.replace(built)
    loaded = ctypes.CDLL(str(built))
    loaded.host_launch.restype = ctypes.c_char_p
    loaded.host_launch.argtypes = (
        ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint64,
    )  # fmt: skip
    return loaded


class HostDevice:
    """See `dtb.engine.backends.cuda_device.Device`.

    Parameters
    ----------
    capacity : int [bytes]
        Of memory, of which arrays made take their part for good.
    """

    name, options, shared = "a processor that stands in for a GPU", OPTIONS, 200_000

    def __init__(self, capacity: int = 1 << 40, shuffled: bool = True) -> None:
        self.capacity, self.used, self.shuffled, self.launches = capacity, 0, shuffled, 0
        self._order = np.random.default_rng(1)

    def memory(self) -> tuple[int, int]:
        return self.capacity - self.used, self.capacity

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
        made = np.zeros(shape, dtype)
        self.used += made.nbytes
        return made

    def put(self, array: np.ndarray) -> np.ndarray:
        self.used += array.nbytes
        return np.ascontiguousarray(array).copy()

    def write(self, to: np.ndarray, values: np.ndarray) -> None:
        to[...] = np.asarray(values).reshape(to.shape)

    def get(self, array: np.ndarray) -> np.ndarray:
        return array.copy()

    def stage(self, array: np.ndarray) -> np.ndarray:
        return array

    def address(self, array: np.ndarray) -> int:
        return int(array.ctypes.data)

    def launch(self, launch: Launch) -> None:
        self.launches += 1
        values = [a if isinstance(a, int | np.integer) else self.address(a) for a in launch.arguments]
        arguments = np.array(values, np.int64)
        kernel = ctypes.cast(getattr(library(), launch.kernel), ctypes.c_void_p)
        fault = library().host_launch(
            kernel, launch.blocks, launch.threads, launch.shared, arguments.ctypes.data, len(values),
            self.launches if self.shuffled else 0,
        )  # fmt: skip
        if fault:
            raise RuntimeError(f"kernel {launch.kernel}: {fault.decode()}")

    def sequence(self, launches: list[Launch]) -> Callable[[int], None]:
        """In any order that the queues and `after` allow: each time another."""

        def start(times: int) -> None:
            for _ in range(times):
                self._run(launches)

        return start

    def _run(self, launches: list[Launch]) -> None:
        queues = [
            [n for n, launch in enumerate(launches) if launch.queue == q]
            for q in sorted({launch.queue for launch in launches})
        ]
        done: set[int] = set()
        while any(queues):
            ready = [q for q in queues if q and done.issuperset(launches[q[0]].after)]
            assert ready, "kernels wait for each other"
            number = ready[self._order.integers(len(ready)) if self.shuffled else 0].pop(0)
            self.launch(launches[number])
            done.add(number)
