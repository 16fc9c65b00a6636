"""A run that takes as long as it takes, for tests of the script around it: what `dtb run CONFIG -o DIR` promises to do.

Told by a signal, it keeps its state and ends with 75; begun with --resume, it ends well. It notes how it was begun.
"""

import signal
import sys
import time
from pathlib import Path

folder = Path(sys.argv[sys.argv.index("-o") + 1])
how = "--resume" if sys.argv[-1] == "--resume" else "afresh"


def keep(number: int, frame: object) -> None:
    (folder / "checkpoints" / "step-000000000100").mkdir(parents=True)
    sys.exit(75)


signal.signal(signal.SIGUSR2, keep)
signal.signal(signal.SIGTERM, keep)
folder.mkdir(exist_ok=True)
with open(folder / "begun", "a", encoding="ascii") as f:
    f.write(f"{how}\n")
if how == "afresh":
    time.sleep(300)
