"""g. From a fresh clone to a minute of a whole brain: `make run`, with the install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import report, seconds

ROOT = Path(__file__).parent.parent
BAR_S = 300.0


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "dtb"
        source = copy(clone)
        environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
        make = ["make", "run"]
        wall = seconds(lambda: subprocess.run(make, cwd=clone, env=environment, stdout=sys.stderr, check=True))
    against = f"{BAR_S:g} s"
    report("g.first_run", [wall], "s", against=against, ratios=[wall / BAR_S], bar=1.0, n=200_000, source=source)


def copy(target: Path) -> str:
    """A clone of this repository; where nothing is committed yet, a copy of what would be."""
    head = subprocess.run(["git", "rev-parse", "-q", "--verify", "HEAD"], cwd=ROOT, capture_output=True, check=False)
    if head.returncode == 0:
        subprocess.run(["git", "clone", "-q", ROOT, target], check=True)
        return "git clone"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return "copy of files not ignored"
