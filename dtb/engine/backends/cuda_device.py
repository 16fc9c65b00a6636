"""Where the kernels of the cuda backend run: an NVIDIA GPU, by CuPy. The only file that imports it.

`Device` is all that the backend asks of it: arrays, copies, launches. The tests have a second one, which runs the same
kernels on a processor (tests/cuda/host_device.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from dtb.engine.backends.cuda_world import source

# Law 1: no operation is fused, none is rounded otherwise than on a processor, and subnormal numbers are kept.
OPTIONS: tuple[str, ...] = ("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")  # Open MPI, MPICH and Intel, srun
INSTALL = (
    "Install it with pip install 'digital-twin-brain[cuda]' (driver 525 or later) or '[cuda13]' (580 or later), or set "
    'backend = "cpu".'
)


class Launch(NamedTuple):
    """One kernel: blocks of threads, dynamic shared memory in bytes, and arguments: arrays of the device, and ints.

    queue: kernels of one queue run one after another.  after: numbers, in a sequence, of kernels of other queues that
    must be done before.
    """

    kernel: str
    blocks: int
    threads: int
    shared: int
    arguments: tuple[Any, ...]
    queue: int = 0
    after: tuple[int, ...] = ()


class Device(Protocol):
    """name; options: what kernels were compiled with; shared: bytes of shared memory that a block can have."""

    name: str
    options: tuple[str, ...]
    shared: int

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and all."""

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        """An array on the device; it can be sliced, and has nbytes."""

    def put(self, array: np.ndarray) -> Any:
        """A copy on the device."""

    def write(self, to: Any, values: np.ndarray) -> None:
        """Fill an array of the device, or a contiguous part of one."""

    def get(self, array: Any) -> np.ndarray:
        """A copy on this machine, when all that was launched is done."""

    def stage(self, array: Any) -> np.ndarray:
        """As `get`, through memory that the device copies to at full speed; valid until the next call."""

    def address(self, array: Any) -> int: ...

    def launch(self, launch: Launch) -> None:
        """Start a kernel after all that were started before."""

    def sequence(self, launches: list[Launch]) -> Callable[[int], None]:
        """A function that starts these kernels, each as soon as its queue and `after` let it, a number of times."""


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Number of this process among those of its machine, as the launcher says; 0 without one."""
    for name in LOCAL_RANKS:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return 0


def available() -> tuple[bool, str]:
    """Whether there is a GPU that can be used, and what it is or what is missing."""
    try:
        return True, CupyDevice(0).name
    except ConnectionError as error:
        return False, str(error)


@cache
def open_device(rank: int | None = None) -> Device:
    """The GPU of this process, one for all its simulations: ranks of one machine take turns."""
    return CupyDevice(local_rank() if rank is None else rank)


class CupyDevice:
    """See `Device`.

    Parameters
    ----------
    number : int
        Modulo the GPUs that this process sees.

    Raises
    ------
    ConnectionError
        If there is no CuPy, no driver, or no GPU.
    """

    def __init__(self, number: int) -> None:
        try:
            import cupy
        except ImportError as error:
            raise ConnectionError(f"backend 'cuda' needs CuPy ({error}). {INSTALL}") from None
        self._cupy = cupy
        runtime = cupy.cuda.runtime
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            raise ConnectionError(
                f"backend 'cuda' finds no NVIDIA driver that works ({error}). nvidia-smi should list a GPU; the driver "
                'must be as new as the CUDA of CuPy. Or set backend = "cpu".'
            ) from None
        if not count:
            raise ConnectionError(
                "backend 'cuda' finds no GPU: CUDA_VISIBLE_DEVICES is "
                f"'{os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}'. Set it to the number of one that nvidia-smi "
                'lists, or set backend = "cpu".'
            )
        self.number = number % count
        self._device = cupy.cuda.Device(self.number)
        self._device.use()
        about = runtime.getDeviceProperties(self.number)
        self.name = about["name"].decode()
        self.shared = int(about["sharedMemPerBlockOptin"])
        self.options = OPTIONS
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._queues = [self._stream]
        self._module = cupy.RawModule(code=source(), options=OPTIONS, backend="nvrtc")
        self._functions: dict[str, Any] = {}
        self._pinned = np.zeros(0, np.uint8)

    def memory(self) -> tuple[int, int]:
        free, all_of_it = self._cupy.cuda.runtime.memGetInfo()
        return free + self._cupy.get_default_memory_pool().free_bytes(), all_of_it  # the pool keeps what was freed

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        with self._stream:
            return self._cupy.zeros(shape, dtype)

    def put(self, array: np.ndarray) -> Any:
        if array.dtype.names:  # CuPy has no records
            array = array.view(np.uint8)
        with self._stream:
            made = self._cupy.empty(array.shape, array.dtype)
        self.write(made, array)
        return made

    def write(self, to: Any, values: np.ndarray) -> None:
        if not to.size:
            return
        to.set(np.ascontiguousarray(values, to.dtype).reshape(to.shape), stream=self._stream)
        self._stream.synchronize()  # what is copied from may change right after

    def get(self, array: Any) -> np.ndarray:
        if not array.size:
            return np.zeros(array.shape, array.dtype)
        found = array.get(stream=self._stream)
        self._stream.synchronize()
        return found

    def stage(self, array: Any) -> np.ndarray:
        if not array.size:
            return np.zeros(array.shape, array.dtype)
        if len(self._pinned) < array.nbytes:
            memory = self._cupy.cuda.alloc_pinned_memory(max(2 * array.nbytes, 1 << 16))
            self._pinned = np.frombuffer(memory, np.uint8)
        out = self._pinned[: array.nbytes].view(array.dtype).reshape(array.shape)
        array.get(stream=self._stream, out=out)
        self._stream.synchronize()
        return out

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def launch(self, launch: Launch) -> None:
        if launch.kernel not in self._functions:
            self._functions[launch.kernel] = self._module.get_function(launch.kernel)
        function = self._functions[launch.kernel]
        function.max_dynamic_shared_size_bytes = max(function.max_dynamic_shared_size_bytes, launch.shared)
        arguments = tuple(np.int64(a) if isinstance(a, int | np.integer) else a for a in launch.arguments)
        with self._queues[launch.queue]:
            function((launch.blocks,), (launch.threads,), arguments, shared_mem=launch.shared)

    def sequence(self, launches: list[Launch]) -> Callable[[int], None]:
        """The launches as a CUDA graph: the host starts all of them at once, and need not keep up with the device."""
        for launch in launches:  # what is loaded and set at first use cannot be while a graph is captured
            function = self._module.get_function(launch.kernel)
            function.max_dynamic_shared_size_bytes = max(function.max_dynamic_shared_size_bytes, launch.shared)
            self._functions[launch.kernel] = function
        graph = self._capture(launches)

        def start(times: int) -> None:
            for _ in range(times):
                graph.launch(self._stream)

        return start

    def _capture(self, launches: list[Launch]) -> Any:
        """A graph of kernels: all queues but the first, our stream, branch from it and return to it."""
        used = {launch.queue for launch in launches} | {0}
        while len(self._queues) <= max(used):
            self._queues.append(self._cupy.cuda.Stream(non_blocking=True))
        branches = [self._queues[number] for number in sorted(used - {0})]
        waited_for = {number for launch in launches for number in launch.after}
        events: dict[int, Any] = {}
        self._stream.begin_capture()
        begun = self._stream.record()
        for branch in branches:
            branch.wait_event(begun)
        for number, launch in enumerate(launches):
            for before in launch.after:
                self._queues[launch.queue].wait_event(events[before])
            self.launch(launch)
            if number in waited_for:
                events[number] = self._queues[launch.queue].record()
        for branch in branches:
            self._stream.wait_event(branch.record())
        return self._stream.end_capture()

    def elapsed(self, launches: list[Launch]) -> dict[str, float]:
        """Milliseconds that each kernel took, all its launches together: for benchmarks."""
        marks = [self._cupy.cuda.Event() for _ in range(len(launches) + 1)]
        marks[0].record(self._stream)
        for launch, mark in zip(launches, marks[1:], strict=True):
            self.launch(launch._replace(queue=0))
            mark.record(self._stream)
        self._stream.synchronize()
        took: dict[str, float] = {}
        for launch, begin, end in zip(launches, marks[:-1], marks[1:], strict=True):
            took[launch.kernel] = took.get(launch.kernel, 0.0) + self._cupy.cuda.get_elapsed_time(begin, end)
        return took

    def copy_bandwidth(self, size: int = 1 << 32, repetitions: int = 5) -> float:
        """Bytes read and written per second by a copy within the device: what an update can reach at most."""
        runtime = self._cupy.cuda.runtime
        source_, to = (self.zeros(size, np.uint8) for _ in range(2))
        best = float("inf")
        for _ in range(repetitions + 1):
            begin, end = (self._cupy.cuda.Event() for _ in range(2))
            begin.record(self._stream)
            runtime.memcpyAsync(to.data.ptr, source_.data.ptr, size, runtime.memcpyDeviceToDevice, self._stream.ptr)
            end.record(self._stream)
            self._stream.synchronize()
            best = min(best, self._cupy.cuda.get_elapsed_time(begin, end) / 1000)
        return 2 * size / best

    def driver(self) -> str:
        """Version of the CUDA that the driver supports."""
        version = self._cupy.cuda.runtime.driverGetVersion()
        return f"CUDA {version // 1000}.{version % 1000 // 10}"
