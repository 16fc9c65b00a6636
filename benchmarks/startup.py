"""f. How soon it starts: the import, the help, the toy run; every time a new process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import interleaved, quotient, report, seconds

ROOT = Path(__file__).parent.parent
HEAVY = ("numba", "cupy", "mpi4py", "matplotlib", "dask")
DTB = "from dtb.cli import app; app()"  # what the console script does
LIST = f"import sys, json, dtb; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"


def run() -> None:
    heavy = json.loads(subprocess.run(command(LIST), capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    with tempfile.TemporaryDirectory() as folder:
        times = interleaved(
            {
                "nothing": process("pass"),
                "import dtb": process("import dtb"),
                "dtb --help": process(DTB, "--help"),
                "dtb run": process(DTB, "run", "configs/toy.toml", "-o", str(Path(folder) / "toy"), "--force"),
            }
        )
    for bench, what, bar_s, more in (
        ("f.import", "import dtb", 0.5, {"heavy_modules": heavy}),
        ("f.help", "dtb --help", 0.7, {}),
        ("f.toy_run", "dtb run", 5.0, {}),
    ):
        report(
            bench, times[what], "s", against=f"{bar_s} s", ratios=[s / bar_s for s in times[what]], bar=1.0, n=0,
            ratio_to_empty_python=sorted(quotient(times[what], times["nothing"]))[2], **more,
        )  # fmt: skip


def command(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def process(code: str, *arguments: str) -> Callable[[], float]:
    def once() -> float:
        return seconds(lambda: subprocess.run(command(code, *arguments), capture_output=True, check=True, cwd=ROOT))

    return once
