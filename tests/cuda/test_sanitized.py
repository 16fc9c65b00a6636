"""The kernels touch no memory that is not theirs, and do nothing that C++ leaves undefined."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.host_device import COMPILER, compiler

REPOSITORY = Path(__file__).parents[2]
SOME = "(ManyGroups or SpikeBySpike or Overflow) and large or checkpoints and tiny or grows"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["address", "undefined"])
def test_kernels_under_a_sanitizer(kind: str) -> None:
    """The tests of test_kernels.py, with every access to device memory checked, as compute-sanitizer does on a GPU."""
    if compiler() is None:
        pytest.skip(f"there is no C++ compiler '{COMPILER}': name one in CXX")
    short = {"address": "asan", "undefined": "ubsan"}[kind]
    found = subprocess.run([COMPILER, f"-print-file-name=lib{short}.so"], capture_output=True, text=True, check=True)
    if not Path(found.stdout.strip()).is_absolute():
        pytest.skip(f"{COMPILER} has no lib{short}")
    environment = os.environ | {
        "DTB_HOST_FLAGS": f"-g -fsanitize={kind} -fno-sanitize-recover=all",
        "LD_PRELOAD": found.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",  # Python leaks; fibers have other stacks
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not gpu", "-k", SOME, "tests/cuda/test_kernels.py"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert " passed" in done.stdout
