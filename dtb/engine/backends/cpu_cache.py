"""Forget compiled code that no longer belongs to its sources.

numba keeps what it compiled beside a function's file, and looks at that file alone to see whether it still holds: a
function keeps the old code of another file's function that was compiled into it, and an entry that names a class which
is gone cannot even be read. So the kernels are one unit here: when any of their files changes, all are compiled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numba

STAMP = "dtb-kernels.stamp"


def forget_stale_code(cache: Path) -> None:
    """Empty a cache folder whose stamp is not that of the sources, then stamp it."""
    sources = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(source.read_bytes())
    stamp, current = cache / STAMP, sources.hexdigest()
    with contextlib.suppress(OSError):  # a folder that cannot be written holds nothing to forget
        if stamp.is_file() and stamp.read_text(encoding="ascii") == current:
            return
        cache.mkdir(parents=True, exist_ok=True)
        for entry in [*cache.glob("cpu_*.nbi"), *cache.glob("cpu_*.nbc")]:
            entry.unlink(missing_ok=True)
        stamp.write_text(current, encoding="ascii")
