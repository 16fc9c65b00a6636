"""Checkpoints on disk: a folder for each, whole or not there at all, every byte of it under a checksum.

    checkpoints/step-000000012000/part-00000.bin     what one rank owns: sections, one after another, without gaps
    checkpoints/step-000000012000/manifest.json      what must be there, then the SHA-256 of that text

A checkpoint is written beside the earlier ones under a temporary name, synced, and renamed; then all but the last two
go. The layout is canonical, the same for every backend, storage, tile size and number of ranks: neurons in gid order,
in pieces, a structure of arrays each; spikes by step and gid. So whoever restores takes the gids that it owns.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from dtb.engine.agreement import from_first, together
from dtb.engine.comm import Communicator, LocalComm
from dtb.engine.store import fsync, write_file

FORMAT, VERSION = "dtb-checkpoint", 1
GENERATIONS = 2  # the last one may be the one that a dying disk wrote
PIECE = 2**17  # neurons, a multiple of every block of lanes: 3.4 MB, which a processor's cache holds
WAITING = 2  # sections gathered while the one before them is being written
NEURON_BYTES = 6 * 4 + 2
NAME = re.compile(r"step-[0-9]{12,}")


class Piece(NamedTuple):
    """State of consecutive neurons, from gid `first` on.

    fields (6, m) float32: V mV, S of four receptors, background pA; hold (m,) uint16 steps.
    """

    first: int
    fields: np.ndarray
    hold: np.ndarray


class Part:
    """The file of one rank, as it is written: gathering goes on while the disk is busy."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by close
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Future] = []
        self.sections: list[dict[str, Any]] = []
        self.bytes = 0

    def add(self, name: str, *arrays: np.ndarray, **about: Any) -> None:
        """Append a section of one or more arrays; they must not change any more."""
        arrays = tuple(np.ascontiguousarray(a) for a in arrays)
        size = sum(a.nbytes for a in arrays)
        section = {"name": name, "offset": self.bytes, "bytes": size, **about}
        self.sections.append(section)
        self.bytes += size
        self._waiting.append(self._pool.submit(self._write, section, arrays))
        while len(self._waiting) > WAITING:
            self._waiting.pop(0).result()

    def add_array(self, name: str, array: np.ndarray) -> None:
        self.add(name, array, dtype=array.dtype.str, shape=list(array.shape))

    def add_piece(self, piece: Piece) -> None:
        self.add("neurons", piece.fields, piece.hold, first=piece.first, n=len(piece.hold))

    def _write(self, section: dict, arrays: tuple[np.ndarray, ...]) -> None:
        checksum = 0
        for array in arrays:
            flat = array.reshape(-1).view(np.uint8)
            checksum, left = google_crc32c.extend(checksum, flat), flat.data
            while left:
                left = left[self._file.write(left) :]
        section["crc32c"] = checksum

    def close(self) -> dict[str, Any]:
        """Bring the file to the disk; return what the manifest says about it."""
        try:
            for waiting in self._waiting:
                waiting.result()
            os.fsync(self._file.fileno())
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._file.close()
        return {"file": self.path.name, "bytes": self.bytes, "sections": self.sections}


@contextmanager
def writing(folder: str | os.PathLike, step: int) -> Iterator[Path]:
    """A place for the checkpoint of a step: what was written and sealed there takes its name at the end, or is gone."""
    folder = Path(folder)
    place, partial = folder / name_of(step), partial_place(folder, step)
    try:
        with naming(place):
            folder.mkdir(parents=True, exist_ok=True)
            clear_partial(folder)
            partial.mkdir()
            yield partial
            if place.exists():  # a damaged one, or one that a run came by again: the same spikes
                os.replace(place, folder / f".partial-old-{name_of(step)}")
            os.replace(partial, place)
            fsync(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in generations(folder)[GENERATIONS:]:
        os.replace(old, folder / f".partial-{old.name}")
    clear_partial(folder)


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Errors of the system that name no file name the checkpoint."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(place)
        raise


def name_of(step: int) -> str:
    return f"step-{step:012d}"


def partial_place(folder: Path, step: int) -> Path:
    """Where a checkpoint grows, until it is whole."""
    return folder / f".partial-{name_of(step)}"


def clear_partial(folder: Path) -> None:
    """Remove what a killed process left half-written, or half-removed."""
    for rest in folder.glob(".partial-*"):
        shutil.rmtree(rest)


def seal(place: Path, about: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    """Write the manifest: with it a checkpoint is complete."""
    content = {"format": FORMAT, "version": VERSION, **about, "parts": parts}
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    write_file(place / "manifest.json", f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}\n")


def generations(folder: str | os.PathLike) -> list[Path]:
    """The checkpoints of a folder, newest first, good or not."""
    return sorted((p for p in Path(folder).glob("step-*") if NAME.fullmatch(p.name)), reverse=True)


class Checkpoint:
    """A checkpoint on disk, by its folder; `verify` reads all of it.

    Attributes
    ----------
    about : dict
        What the manifest says: identity, step, counters.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.about = self._read_manifest()
        self.step = int(self.about["step"])
        self.parts = self.about["parts"]

    def _read_manifest(self) -> dict[str, Any]:
        try:
            text, _, rest = (self.path / "manifest.json").read_bytes().partition(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"checkpoint '{self.path}' is damaged: it has no manifest.json.") from None
        if rest != hashlib.sha256(text).hexdigest().encode() + b"\n":
            raise self._damaged("its manifest.json does not match its checksum")
        about = json.loads(text)
        if (about.get("format"), about.get("version")) != (FORMAT, VERSION):
            raise ValueError(
                f"checkpoint '{self.path}' has version {about.get('version')}; this dtb reads {VERSION}. Go on with "
                "the version of dtb that wrote it."
            )
        return about

    def _damaged(self, what: str) -> ValueError:
        return ValueError(f"checkpoint '{self.path}' is damaged: {what}.")

    def verify(self, rank: int = 0, ranks: int = 1) -> None:
        """Read every byte, or a rank's share; a ValueError names the first thing that is not what was written."""
        for number, (part, section) in enumerate(self._sections()):
            if number % ranks == rank:
                self._bytes(part, section)

    def _sections(self, name: str | None = None) -> Iterator[tuple[dict, dict]]:
        for part in self.parts:
            path = self.path / part["file"]
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                raise self._damaged(f"{path.name} is missing") from None
            if size != part["bytes"]:
                raise self._damaged(f"{path.name} has {size:,} bytes where its manifest says {part['bytes']:,}")
            yield from ((part, section) for section in part["sections"] if name in (None, section["name"]))

    def _bytes(self, part: dict, section: dict) -> bytes:
        with open(self.path / part["file"], "rb") as file:
            file.seek(section["offset"])
            data = file.read(section["bytes"])
        if len(data) != section["bytes"] or google_crc32c.value(data) != section["crc32c"]:
            raise self._damaged(f"section '{section['name']}' of {part['file']} fails its checksum")
        return data

    # what it holds ----------------------------------------------------------------------------------------------

    def array(self, name: str) -> np.ndarray:
        """An array that one rank keeps for all."""
        for part, section in self._sections(name):
            return np.frombuffer(self._bytes(part, section), section["dtype"]).reshape(section["shape"]).copy()
        raise self._damaged(f"it holds no '{name}'")

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """All arrays whose names begin with `prefix`, without it."""
        names = [section["name"] for _, section in self._sections() if section["name"].startswith(prefix)]
        return {name.removeprefix(prefix): self.array(name) for name in names}

    def pieces(self, runs: np.ndarray) -> Iterator[Piece]:
        """State of runs (k, 2) of neurons: first gid and the one after the last, rising. A piece may hold others."""
        for part, section in self._sections("neurons"):
            begin, n = section["first"], section["n"]
            first, stop = runs[min(np.searchsorted(runs[:, 1], begin, side="right"), len(runs) - 1)]
            if begin + n > first and begin < stop:
                data = self._bytes(part, section)
                fields = np.frombuffer(data, np.float32, 6 * n).reshape(6, n)
                yield Piece(begin, fields, np.frombuffer(data, np.uint16, n, 24 * n))

    def spikes(self, wanted: Callable[[np.ndarray], np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Steps and gids, ordered so, of the spikes that may still be on their way: of all gids, or those wanted."""
        found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for part, section in self._sections("spikes"):
            data = self._bytes(part, section)
            counts = np.frombuffer(data, np.int64, section["steps"])
            gid = np.frombuffer(data, section["dtype"], offset=8 * section["steps"]).astype(np.int64)
            step = section["first_step"] + np.repeat(np.arange(section["steps"]), counts)
            keep = slice(None) if wanted is None else wanted(gid)
            found.append((step[keep], gid[keep]))
        step, gid = (np.concatenate(x) for x in zip(*found, strict=True))
        order = np.lexsort((gid, step)) if len(self.parts) > 1 else slice(None)
        return step[order], gid[order]


def add_spikes(part: Part, step: np.ndarray, gid: np.ndarray, begin: int, end: int, n_neurons: int) -> None:
    """A section of the spikes of steps begin..end-1, ordered by step."""
    kind = np.dtype(np.uint32 if n_neurons <= 2**32 else np.uint64)
    counts = np.bincount(step - begin, minlength=end - begin).astype(np.int64)
    part.add("spikes", counts, gid.astype(kind), first_step=begin, steps=end - begin, dtype=kind.str)


def newest(folder: str | os.PathLike, comm: Communicator | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and what is wrong with the newer ones; None where there is none at all.

    Raises a ValueError where there are some, but all are damaged. Of many ranks each reads a share, so all must call.
    """
    comm, faults = comm or LocalComm(), []
    for name in json.loads(from_first(comm, lambda: json.dumps([path.name for path in generations(folder)]))):
        try:
            with together(comm):
                checkpoint = Checkpoint(Path(folder) / name)
                checkpoint.verify(comm.rank, comm.size)
        except ValueError as error:
            faults.append(str(error))
            continue
        return checkpoint, faults
    if faults:
        raise ValueError(f"{' '.join(faults)} No other is left: run again with --force.")
    return None, []


def standing(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """What the manifests of a folder's checkpoints say, newest first; those that cannot be read are left out."""
    found = []
    for path in generations(folder):
        with suppress(ValueError):
            found.append(Checkpoint(path).about)
    return found
