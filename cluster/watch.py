"""What ranks tell the process that watches over those of their machine; see `cluster.witness`."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from cluster import witness

NAME_BYTES = 64


class Watch:
    """One end of a line to the witness, which the first rank of a machine begins; all of them make this together.

    Parameters
    ----------
    machine : mpi4py communicator
        Of the ranks that share this machine's memory.
    rank, size : int
        Of this process, of all.
    """

    def __init__(self, machine, rank: int, size: int) -> None:
        name, ranks = np.zeros(NAME_BYTES, np.uint8), machine.Get_size()
        if machine.Get_rank() == 0:
            told = begin(size, ranks)
            name[: len(told)] = np.frombuffer(told, np.uint8)
        machine.Bcast(name)
        self._line = None
        if name.any():
            self._line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._line.connect(b"\0" + name.tobytes().rstrip(b"\0"))
            self._line.send(json.dumps([rank, os.getpid()]).encode())
            atexit.register(self.leave)  # runs before MPI ends, which registered earlier

    def leave(self) -> None:
        """This rank ends in good order."""
        self._say("left")

    def failed(self) -> None:
        """An error was told, and all ranks end: there is nothing more to say."""
        self._say("failed")

    def remedy(self, text: str) -> None:
        """What to do, should a rank be lost."""
        self._say("remedy", text)

    def _say(self, kind: str, what: str = "") -> None:
        if self._line is not None:
            with suppress(OSError):  # a witness that is gone sees nothing
                self._line.send(json.dumps([kind, what]).encode())


def begin(size: int, here: int) -> bytes:
    """Begin the witness of the ranks `here`; the name of its socket, or nothing where there can be none."""
    if not sys.platform.startswith("linux"):
        return b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind("")  # the system chooses a name, \0 and five hex digits, that no file has
        door.listen(here)
        command = [sys.executable, "-I", "-S", str(Path(witness.__file__)), *map(str, (door.fileno(), size, here))]
        try:
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(door.fileno(),),
                start_new_session=True,
            )  # fmt: skip
        except OSError:
            return b""
        return bytes(door.getsockname()[1:])
