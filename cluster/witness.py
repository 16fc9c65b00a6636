"""A process beside the ranks of one machine that says which of them was lost, and sees to it that the others end.

MPI libraries wait for a lost rank for ever, and launchers end the others before these could say anything. So it is a
process of its own, begun by `Watch`; it imports nothing of dtb, and ends with the last rank.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress

MESSAGE_BYTES = 65536
GRACE_S = 10.0  # in which a launcher ends the other ranks; then this does
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # meant for the ranks


def main(descriptor: int, size: int, here: int) -> None:
    """Watch those ranks of a job of `size` that are `here`: each keeps a connection, which ends with its process."""
    for meant in IGNORED:
        signal.signal(meant, signal.SIG_IGN)
    door = socket.socket(fileno=descriptor)
    lines: dict[int, Line] = {}
    ready = select.epoll()  # tells the first one first
    for _ in range(here):
        line = Line(door.accept()[0])
        lines[line.socket.fileno()] = line
        ready.register(line.socket, select.EPOLLIN)
    remedy, over = "", False
    while lines:
        told = ready.poll(GRACE_S if over else None, 1)
        if not told:
            for line in lines.values():
                line.end()
        for number, _ in told:
            kind, what = lines[number].hear()
            if kind == "remedy":
                remedy = what
            elif kind == "failed":  # an error was told, and all end
                over = True
            elif kind == "gone":
                line = lines.pop(number)
                ready.unregister(number)
                line.socket.close()
                if not (line.left or over):
                    over = True
                    say(line.rank, size, line.process, remedy)


class Line:
    """A connection to a rank, which says who it is first."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.left = connection, False
        self.rank, self.process = json.loads(connection.recv(MESSAGE_BYTES))
        self._handle = None
        with suppress(OSError, AttributeError):  # gone already, or Linux before 5.3
            self._handle = os.pidfd_open(self.process)

    def hear(self) -> tuple[str, str]:
        """What it says next, or that it is gone."""
        try:
            message = self.socket.recv(MESSAGE_BYTES)
        except OSError:
            message = b""
        kind, what = json.loads(message) if message else ("gone", "")
        self.left |= kind == "left"
        return kind, what

    def end(self) -> None:
        if self._handle is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)


def say(rank: int, size: int, process: int, remedy: str) -> None:
    text = (
        f"error: rank {rank} of {size} (process {process} on {socket.gethostname()}) crashed or was killed, perhaps "
        f"because memory ran short. All others end. {remedy}".rstrip()
    )
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


if __name__ == "__main__":
    main(*(int(n) for n in sys.argv[1:]))
