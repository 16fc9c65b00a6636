"""A zarr v3 store that grows, that xarray reads, and that a kill at any moment leaves readable and true.

zarr by itself would resize an array, then write into it: a process killed in between leaves a tail of fill values
that reads like data, and a chunk file that is lost reads as fill, too. So here the order is

    chunks  →  commit: fsync  →  length of the arrays  →  fsync  →  manifest (to a temporary name, fsync, rename)

Arrays never claim more than is there, every chunk ends in its CRC-32C, and the manifest says, under a checksum of its
own, how many rows of which arrays must exist. `verify` checks all of it. The manifest is an attribute of the group,
because zarr warns of every file in a group that is not its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore, MemoryStore

FORMAT = 1
CHUNK_BYTES = 4 * 2**20  # before compression: large enough for a parallel file system, small enough to hold back
MAX_ROWS = 2**16
COMPRESSORS = (
    BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
    Crc32cCodec(),
)  # a quarter of zstd's time, 2 % larger


class Column(NamedTuple):
    """An array of a stream: dtype, the shape of one row, the names of all dimensions, attributes."""

    dtype: str
    row: tuple[int, ...]
    dims: tuple[str, ...]
    attributes: dict


class Store:
    """A new zarr group at `path`, or in memory where `path` is None.

    kept: rows of each array of a group that is there already, with which it goes on; what is beyond them is dropped
    by the first `cut`. The arrays are then declared as those of a new one are.
    """

    def __init__(self, path: str | os.PathLike | None, attributes: dict, kept: dict[str, int] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.kept, self.attributes = kept, attributes
        if self.path is not None and kept is not None:
            check_kept(self.path, attributes, kept)
            self.root = zarr.open_group(self.path, mode="r+")
        else:
            if self.path is not None and self.path.exists():
                raise FileExistsError(f"'{self.path}' exists. Choose another name, or read it with Recording.open.")
            place = MemoryStore() if self.path is None else LocalStore(self.path)
            self.root = zarr.create_group(place, attributes=attributes)
        self.rows: dict[str, int] = {}
        self.committed: dict[str, int] = {}  # of these, what the manifest on the disk says
        self._new: set[Path] = set()  # files that the next commit has to see on the disk
        self._streams: list[Stream] = []

    def write(self, name: str, data: np.ndarray, dims: Sequence[str], attributes: dict | None = None) -> None:
        """An array that is known from the start."""
        if self.kept is not None:
            self.rows[name] = self._rows_kept(name)
            if not np.array_equal(np.asarray(existing(self.root, name)[:]), data):
                raise ValueError(f"recording '{self.path}' was made with another '{name}'. Ask for the same again.")
            return
        array = self._create(name, data.dtype if data.dtype.kind != "U" else "string", data.shape, dims, attributes)
        array[:] = data if data.dtype.kind != "U" else data.astype(object)
        self.rows[name] = len(data)
        self._note(name, array.chunks, 0, len(data), array.shape)

    def stream(self, columns: dict[str, Column]) -> Stream:
        """Arrays that grow together along their first dimension."""
        widest = max(np.dtype(c.dtype).itemsize * int(np.prod(c.row)) for c in columns.values())
        rows = int(np.clip(CHUNK_BYTES // max(widest, 1), 1, MAX_ROWS))
        arrays = {}
        for name, c in columns.items():
            self.rows[name] = self._rows_kept(name)
            if self.kept is None:
                arrays[name] = self._create(name, c.dtype, (0, *c.row), c.dims, c.attributes, (rows, *c.row))
            else:
                arrays[name] = existing(self.root, name)
        self._streams.append(Stream(self, arrays, rows))
        return self._streams[-1]

    def _rows_kept(self, name: str) -> int:
        if self.kept is not None and name not in self.kept:
            raise ValueError(f"recording '{self.path}' was made without '{name}'. Ask for what was asked for then.")
        return 0 if self.kept is None else self.kept[name]

    def cut(self) -> None:
        """Drop what a group that goes on has beyond the rows it goes on with: first from the manifest, so that a kill
        in between leaves arrays that are too long, which nobody minds.
        """
        assert self.path is not None and self.kept is not None
        for name in sorted(self.kept.keys() - self.rows.keys()):
            raise ValueError(f"recording '{self.path}' also holds '{name}'. Ask for what was asked for then.")
        for rest in self.path.glob("*/*.partial"):  # of chunks that were being written when the process was killed
            rest.unlink()
        self.commit()
        for stream in self._streams:
            for name, array in stream.arrays.items():
                if array.shape[0] > self.rows[name]:
                    array.resize((self.rows[name], *array.shape[1:]))
                    self._note(name)
        self.sync()

    def _create(self, name, dtype, shape, dims, attributes, chunks=None):
        fill = "" if dtype == "string" else np.nan if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
        chunks = tuple(max(1, n) for n in (chunks or shape))
        with warnings.catch_warnings():  # zarr's note that strings are an extension of the format
            warnings.simplefilter("ignore")
            array = self.root.create_array(
                name, shape=tuple(shape), chunks=chunks, dtype=dtype, fill_value=fill, dimension_names=tuple(dims),
                compressors=COMPRESSORS, attributes=attributes or {}, config={"write_empty_chunks": True},
                chunk_key_encoding={"name": "default", "separator": "."},  # one folder per array, so one to fsync
            )  # fmt: skip
        self._note(name)
        return array

    def _note(self, name: str, chunks: tuple[int, ...] = (), start=0, stop=0, shape: tuple[int, ...] = ()) -> None:
        """Remember the files of an array's rows start : stop, and its metadata, for the next fsync."""
        if self.path is None:
            return
        self._new.add(self.path / name / "zarr.json")
        if stop > start:
            first = start // chunks[0]
            keys = chunk_keys((stop - first * chunks[0], *shape[1:]), chunks, first)
            self._new.update(self.path / name / key for key in keys)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        for place in sorted(self._new | {file.parent for file in self._new} | ({self.path} if self.path else set())):
            fsync(place)
        self._new.clear()

    def commit(self, closed: bool = False) -> None:
        """Make what was written count: lengthen the arrays, and say in the manifest what is there."""
        self.sync()
        for stream in self._streams:
            stream.lengthen()
        if self.path is None:
            return
        self.sync()
        arrays = {
            name: {"rows": rows, "metadata": metadata_digest(self.path / name)} for name, rows in self.rows.items()
        }
        group = self.root.metadata.to_dict()
        group["attributes"] = self.attributes | {"manifest": {"format": FORMAT, "closed": closed, "arrays": arrays}}
        group["attributes"]["manifest"]["sha256"] = digest(group)
        write_file(self.path / "zarr.json", json.dumps(group, indent=1))
        self.committed = dict(self.rows)


class Stream:
    """Rows of a few arrays, held back until they fill a chunk.

    A tail that fills no chunk is written by `flush` and kept, so that the chunk is written whole when more comes.
    """

    def __init__(self, store: Store, arrays: dict[str, zarr.Array], rows_per_chunk: int) -> None:
        self.store, self.arrays, self.rows_per_chunk = store, arrays, rows_per_chunk
        self.written = store.rows[next(iter(arrays))]  # rows in chunks, of which only a commit tells
        self.n_held = self.n_flushed = self.written % rows_per_chunk
        self.begin = self.written - self.n_held  # row number of the first row held; a multiple of rows_per_chunk
        self.held: dict[str, list[np.ndarray]] = {
            name: [np.asarray(array[self.begin : self.written])] if self.n_held else []
            for name, array in arrays.items()
        }

    def append(self, rows: dict[str, np.ndarray]) -> bool:
        """Add equally many rows to every array; True if chunks were written, which `Store.commit` then makes count."""
        lengths = {len(part) for part in rows.values()}
        assert len(lengths) == 1 and rows.keys() == self.arrays.keys()
        n = lengths.pop()
        for name, part in rows.items():
            self.held[name].append(part)
        self.n_held += n
        if self.n_held < self.rows_per_chunk:
            return False
        whole = self.n_held - self.n_held % self.rows_per_chunk
        kept = self._write(whole)
        self.begin, self.n_held = self.begin + whole, self.n_held - whole
        self.held = {name: [part[whole:].copy()] for name, part in kept.items()}
        self.n_flushed = 0
        return True

    def flush(self) -> bool:
        """Write the rows that fill no chunk yet; True if there were new ones."""
        if self.n_held == self.n_flushed:
            return False
        self.held = {name: [part] for name, part in self._write(self.n_held).items()}
        self.n_flushed = self.n_held
        return True

    def _write(self, n: int) -> dict[str, np.ndarray]:
        joined = {name: np.concatenate(parts) for name, parts in self.held.items()}
        stop = self.begin + n
        for name, array in self.arrays.items():
            shape = (stop, *array.shape[1:])
            longer(array, shape)[self.begin : stop] = joined[name][:n]
            self.store._note(name, array.chunks, self.begin, stop, shape)
        self.written = stop
        return joined

    def lengthen(self) -> None:
        """Let the arrays have all rows that were written; after their chunks are on the disk."""
        for name, array in self.arrays.items():
            if self.store.rows[name] < self.written:
                array.resize((self.written, *array.shape[1:]))
                self.store._note(name)
                self.store.rows[name] = self.written


def existing(root: zarr.Group, name: str) -> zarr.Array:
    array = root[name]
    assert isinstance(array, zarr.Array)
    return array


def check_kept(path: Path, attributes: dict, kept: dict[str, int]) -> None:
    """Refuse to go on with a group that is not the one meant, or that lacks rows."""
    rows = verify(path)
    found = dict(zarr.open_group(path, mode="r").attrs)
    for name, value in attributes.items():
        if found.get(name) != value:
            raise ValueError(f"recording '{path}' has {name} = {found.get(name)}, not {value}: it is of another run.")
    for name in sorted(rows.keys() ^ kept.keys()):
        raise ValueError(f"recording '{path}' and its checkpoint do not hold the same: one of them lacks '{name}'.")
    for name, n in kept.items():
        if rows[name] < n:
            raise damaged(path, f"'{name}' has {rows[name]:,} rows, and had {n:,} when the checkpoint was made")


def longer(array: zarr.Array, shape: tuple[int, ...]) -> zarr.Array:
    """The array as it will be: its chunks can be written while its length on disk is still the old one."""
    now = array.async_array
    return zarr.Array(zarr.AsyncArray(now.metadata.update_shape(shape), now.store_path, now.config))


def chunk_keys(shape: Sequence[int], chunks: Sequence[int], first: int = 0) -> Iterator[str]:
    """Names of the chunk files of an array, from the row of chunks `first` on."""
    counts = [range(-(-n // c)) for n, c in zip(shape, chunks, strict=True)]
    return (".".join(["c", str(index[0] + first), *map(str, index[1:])]) for index in product(*counts))


def verify(path: str | os.PathLike) -> dict[str, int]:
    """Check a store against its manifest, every chunk included; return the rows of each array that count.

    Raises a ValueError that names the first thing missing or damaged.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for name, entry in manifest["arrays"].items():
        meta = check_metadata(path, name, entry["metadata"])
        shape, rows = meta["shape"], entry["rows"]
        if shape[0] < rows or (manifest["closed"] and shape[0] != rows):
            raise damaged(path, f"'{name}' has {shape[0]} rows where the manifest says {rows}")
        chunks = meta["chunk_grid"]["configuration"]["chunk_shape"]
        for key in chunk_keys((rows, *shape[1:]), chunks):
            check_chunk(path, name, key)
    return {name: entry["rows"] for name, entry in manifest["arrays"].items()}


def read_manifest(path: Path) -> dict:
    try:
        group = json.loads((path / "zarr.json").read_bytes())
        manifest = group["attributes"]["manifest"]
        stated = manifest.pop("sha256")
    except FileNotFoundError:
        raise ValueError(f"'{path}' is not a recording: it has no zarr.json.") from None
    except KeyError:
        raise ValueError(f"'{path}' has no manifest: it is not a recording, or was killed as it began.") from None
    except (ValueError, AttributeError, TypeError):
        raise damaged(path, "its zarr.json cannot be read") from None
    if stated != digest(group):
        raise damaged(path, "its zarr.json does not match its checksum")
    if manifest["format"] != FORMAT:
        raise ValueError(f"'{path}' has format {manifest['format']}; this version of dtb reads {FORMAT}.")
    return manifest


def check_metadata(path: Path, name: str, expected: str) -> dict:
    try:
        if metadata_digest(path / name) == expected:
            return json.loads((path / name / "zarr.json").read_bytes())
    except FileNotFoundError:
        raise damaged(path, f"the metadata of '{name}', {name}/zarr.json, is missing") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    raise damaged(path, f"the metadata of '{name}', {name}/zarr.json, is not what was written")


def check_chunk(path: Path, name: str, key: str) -> None:
    try:
        data = (path / name / key).read_bytes()
    except FileNotFoundError:
        raise damaged(path, f"chunk {key} of '{name}' is missing") from None
    if len(data) < 4 or google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise damaged(path, f"chunk {key} of '{name}' fails its checksum")


def damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"recording '{path}' is damaged: {what}. Take it from a copy, or run again.")


def metadata_digest(folder: Path) -> str:
    """Of what an array's zarr.json says, but for the number of rows, which grows."""
    meta = json.loads((folder / "zarr.json").read_bytes())
    meta["shape"] = meta["shape"][1:]
    return digest(meta)


def digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_file(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, whenever the process or the machine dies."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def blocks(n_rows: int, rows_per_block: int) -> Iterable[slice]:
    """Slices that cover n_rows."""
    return (slice(start, min(start + rows_per_block, n_rows)) for start in range(0, n_rows, rows_per_block))
