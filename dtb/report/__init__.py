"""Pages that show what was simulated, for people."""

from __future__ import annotations

import threading


def warm_up() -> None:
    """Import what draws, in a thread of its own: two seconds that pass while the simulation computes."""

    def load() -> None:
        import nilearn.plotting  # noqa: F401

    threading.Thread(target=load, daemon=True).start()
