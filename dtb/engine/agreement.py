"""What all ranks do or none of them, and what one tells the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from dtb.engine.comm import Communicator

KINDS = {  # of errors that cross from one rank to the others, the special ones first; each has its exit code
    kind.__name__: kind
    for kind in (FileNotFoundError, FileExistsError, OSError, MemoryError, FloatingPointError, ValueError)
}


def tell(comm: Communicator, text: str, rank: int = 0) -> str:
    """A text of one rank, on all of them."""
    if comm.size == 1:
        return text
    mine = np.frombuffer(text.encode() if comm.rank == rank else b"", np.uint8)
    told = np.zeros(int(comm.sum(np.array([len(mine)], np.int64))[0]), np.uint8)
    told[: len(mine)] = mine
    return comm.sum(told).tobytes().decode()


@contextmanager
def together(comm: Communicator) -> Iterator[None]:
    """A block that all ranks go through: where it fails on one, it fails on all, with the same error.

    Within it ranks must not meet.
    """
    failed = None
    try:
        yield
    except Exception as error:  # noqa: BLE001 raised below, once all know
        failed = error
    if comm.size == 1:
        if failed is not None:
            raise failed
        return
    ranks = np.flatnonzero(comm.all(np.array([failed is not None], np.int8)))
    if not len(ranks):
        return
    first = int(ranks[0])
    told = tell(comm, json.dumps(_described(failed)) if failed is not None and comm.rank == first else "", first)
    if failed is None or comm.rank != first:
        failed = _again(json.loads(told))
    if len(ranks) < comm.size and comm.size > 1:
        failed.add_note(f"It happened on rank {first} of {comm.size}.")
    raise failed


def from_first(comm: Communicator, work: Callable[[], str]) -> str:
    """What rank 0 finds out for all; where it fails, all do."""
    found = ""
    with together(comm):
        if comm.rank == 0:
            found = work()
    return tell(comm, found)


def _described(error: Exception) -> dict:
    known = next((name for name, kind in KINDS.items() if isinstance(error, kind)), None)
    what: list = [str(error)] if known else [f"{type(error).__name__}: {error}"]
    if isinstance(error, OSError) and error.errno is not None:
        what = [error.errno, error.strerror, error.filename and str(error.filename)]
    return {"kind": known, "what": what, "notes": getattr(error, "__notes__", [])}


def _again(told: dict) -> Exception:
    error = KINDS.get(told["kind"], RuntimeError)(*told["what"])
    for note in told["notes"]:
        error.add_note(note)
    return error
