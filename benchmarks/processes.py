"""A measurement in a process of its own, so that its memory is its own."""

from __future__ import annotations

import json
import subprocess
import sys


def child(module: str, *arguments: object) -> dict:
    """What `python -m module arguments` prints as JSON."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def memory(what: str = "VmHWM") -> int:
    """Bytes resident in this process: the peak, or now (VmRSS). Unlike ru_maxrss without the parent's."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(what))
    return int(line.split()[1]) * 1024
