"""The kernels compile for the accelerators that they are meant for, without a word, and can be launched there."""

from __future__ import annotations

import re

import pytest

from benchmarks import kernels
from benchmarks.kernels import ARCHITECTURES, REGISTERS, SHARED, blocks_per_sm, compile_with_nvrtc, report
from dtb.engine.backends import cuda_plan
from dtb.engine.backends.cuda_device import OPTIONS
from dtb.engine.backends.cuda_world import KERNELS, TYPES, clock, members, record, source
from dtb.network.tiles import DEVICE_TILE

HOT = {"scatter": 2, "advance": 2}  # blocks of threads that an SM must hold at once


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvcc_compiles_the_kernels_and_an_sm_can_hold_them(architecture: str) -> None:
    if kernels.nvcc() is None:
        pytest.skip("there is no nvcc on the PATH")
    found = {kernel.name: kernel for kernel in report(architecture)}
    assert len(found) == source().count("\nKERNEL(")
    for kernel in found.values():
        assert kernel.registers * cuda_plan.THREADS <= REGISTERS, "a block of threads cannot be launched"
        assert blocks_per_sm(kernel, architecture, DEVICE_TILE) >= HOT.get(kernel.name, 1), kernel
        assert kernel.stores < 100, "a kernel spills more than docs/cuda.md says"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_the_kernels_without_a_word(architecture: str) -> None:
    if kernels.nvrtc() is None:
        pytest.skip("the wheel nvidia-cuda-nvrtc is not installed")
    code, said = compile_with_nvrtc(architecture)
    assert said == ""
    assert code[:4] == b"\x7fELF"


def test_the_largest_tile_fits_the_shared_memory_of_every_architecture() -> None:
    largest = cuda_plan.advance_bytes(cuda_plan.LARGEST_TILE, scattered=True)
    assert largest <= min(SHARED.values())
    assert cuda_plan.scatter_bytes(cuda_plan.MAX_BUCKETS) <= min(SHARED.values())


def test_only_one_file_imports_cupy() -> None:
    root = KERNELS.parents[3]
    imports = re.compile(r"^\s*(import|from) cupy", re.MULTILINE)
    found = [p.name for top in ("dtb", "cluster") for p in (root / top).rglob("*.py") if imports.search(p.read_text())]
    assert found == ["cuda_device.py"]


def test_operations_are_neither_fused_nor_rounded_otherwise() -> None:
    assert {"--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"} <= set(OPTIONS)
    assert not re.search(r"\bfma\w*\(|__f\w+_r[nzud]\(|rsqrt|fast_math|\b(exp|log|sqrt|sin|cos|pow)f?\(", source())


def test_no_float64_is_in_the_update() -> None:
    text = source()
    update = text[text.index("DEVICE bool update(") : text.index("DEVICE i64 population_of")]
    assert "f64" not in update
    assert not re.search(r"\d\.\d*(?![\dfe])|\d\.\d+e[-+]?\d+(?!f)", update), "a literal without f is a float64"


def test_what_python_reads_of_the_kernels_is_all_of_it() -> None:
    kinds = {kind.rstrip("*") for kind, _ in members("World")}
    assert kinds == set(TYPES) - {"f64"} | {"Entry", "Segment", "Item", "Group"}
    lines = source().split("struct World {")[1].split("};")[0].splitlines()
    assert len(members("World")) == sum(bool(line.strip()) and not line.strip().startswith("//") for line in lines)
    assert list(clock())[-1] == "CLOCKS"
    assert record("Segment").itemsize % 16 == 0
    parameters = source().split("struct Parameters {")[1].split("};")[0]
    assert sum(int(n or 1) for n in re.findall(r"\w+(?:\[(\d)\])?[,;]", parameters)) == len(cuda_plan.PARAMETERS)
