"""What the compiler makes of the kernels of the cuda backend: registers, spills, shared memory. Needs no GPU.

python -m benchmarks.kernels            a table for sm_80 and sm_90, as docs/cuda.md has it
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from dtb.engine.backends import cuda_plan
from dtb.engine.backends.cuda_device import OPTIONS
from dtb.engine.backends.cuda_world import source

ARCHITECTURES = ("sm_80", "sm_90")  # A100; H100 and H200
REGISTERS = 65_536  # of an SM, by the CUDA programming guide, for both
SHARED = {"sm_80": 163 * 1024, "sm_90": 227 * 1024}  # bytes that a block can have, by the same
ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '\w+'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


class Kernel(NamedTuple):
    """What one takes: registers of a thread, bytes of its stack, and of spills written and read in the whole text."""

    name: str
    registers: int
    stack: int
    stores: int
    loads: int


def nvcc() -> str | None:
    return shutil.which("nvcc")


def report(architecture: str) -> list[Kernel]:
    """Compile with nvcc, warnings being errors."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "kernels.cu"
        text.write_text(source(), encoding="utf-8")
        command = [nvcc() or "nvcc", "-cubin", f"-arch={architecture}", *OPTIONS, "--Werror", "all-warnings"]
        done = subprocess.run(
            [*command, "-Xptxas", "-v", str(text), "-o", f"{folder}/kernels.cubin"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"nvcc refuses the kernels for {architecture}:\n{done.stdout}{done.stderr}")
    found = [Kernel(name, int(used), *map(int, rest)) for name, *rest, used in ENTRY.findall(done.stderr)]
    return sorted(found)


def nvrtc() -> Path | None:
    """The library of the wheel nvidia-cuda-nvrtc, or of one of its names for earlier versions."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("**/libnvrtc.so.*"), key=lambda p: len(p.name)):
            if "builtins" not in path.name and "alt" not in path.name:
                return path
    return None


def compile_with_nvrtc(architecture: str) -> tuple[bytes, str]:
    """The machine code of the kernels, and what NVRTC says about them, which should be nothing."""
    library = ctypes.CDLL(str(nvrtc()))
    program = ctypes.c_void_p()
    options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture={architecture}")]

    def call(name: str, *arguments) -> int:
        return getattr(library, name)(*arguments)

    call("nvrtcCreateProgram", ctypes.byref(program), source().encode(), b"kernels.cu", 0, None, None)
    failed = call("nvrtcCompileProgram", program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    call("nvrtcGetProgramLog", program, log)
    said = log.value.decode().strip()
    if failed:
        raise RuntimeError(f"NVRTC refuses the kernels for {architecture}:\n{said}")
    call("nvrtcGetCUBINSize", program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    call("nvrtcGetCUBIN", program, code)
    call("nvrtcDestroyProgram", ctypes.byref(program))
    return code.raw, said


def shared_of(name: str, tile: int) -> int:
    """Dynamic shared memory of a kernel in bytes, with tiles of so many neurons, and the most buckets."""
    threads = cuda_plan.THREADS
    if name == "scatter":
        return cuda_plan.scatter_bytes(cuda_plan.MAX_BUCKETS, threads)
    if name in ("advance", "advance_spread"):
        return cuda_plan.advance_bytes(tile, name == "advance")
    return 4 * (threads + cuda_plan.WARP) if name == "measure_message" else 0


def blocks_per_sm(kernel: Kernel, architecture: str, tile: int) -> int:
    """Blocks of threads that an SM holds at once: by threads (2,048), registers in eights, and shared memory."""
    threads = cuda_plan.THREADS
    by_registers = REGISTERS // (-(-kernel.registers // 8) * 8 * threads)
    used = shared_of(kernel.name, tile) + 1024  # the system's share of each block
    return min(2048 // threads, by_registers, (SHARED[architecture] + 1024) // used)


def run() -> None:
    from dtb.network.tiles import DEVICE_TILE

    columns = [f"{a}: registers | spilled, bytes | blocks per SM" for a in ARCHITECTURES]
    print(f"| kernel | {' | '.join(columns)} | shared, bytes |")
    print("|---|" + "---:|" * (3 * len(ARCHITECTURES) + 1))
    reports = [report(a) for a in ARCHITECTURES]
    for row in zip(*reports, strict=True):
        cells = []
        for architecture, kernel in zip(ARCHITECTURES, row, strict=True):
            spilled = f"{kernel.stores} + {kernel.loads}"
            cells.append(f"{kernel.registers} | {spilled} | {blocks_per_sm(kernel, architecture, DEVICE_TILE)}")
        print(f"| {row[0].name} | {' | '.join(cells)} | {shared_of(row[0].name, DEVICE_TILE):,} |")


if __name__ == "__main__":
    run()
