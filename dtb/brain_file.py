"""A Brain as one HDF5 file: written whole or not at all, checked to the last bit when it is read.

Layout (schema 1): labels, hemisphere, kind, centroid, volume, density, name and provenance (JSON) as datasets;
groups tracts/, receptors/, priors/, and bold/<name>/ with data, tr_s and task. Every dataset that is not empty carries
Fletcher checksums; the attribute sha256 covers names, types, shapes and bytes of all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from dtb.brain_faults import MAX_LABEL, MAX_PROVENANCE, MAX_REGIONS
from dtb.brain_parts import MAX_NAMED, shown

if TYPE_CHECKING:
    from dtb.brain import Brain

FORMAT = "dtb-brain"
SCHEMA_VERSION = 1

CHUNK = 1 << 20  # values; smaller arrays are one chunk, which compresses best
MAX_TEXT = 4 * MAX_LABEL  # bytes of a text in UTF-8
DEFLATE = 1_032  # bytes that one byte can stand for in deflate, at most

HEAD = 512  # bytes from which a format is known
HDF5 = b"\x89HDF\r\n\x1a\n"
MAGIC = {
    HDF5: "an HDF5 file",
    b"\x1f\x8b": "a gzip archive, such as a NIfTI image (.nii.gz)",
    b"PK\x03\x04": "a zip archive",
    b"MATLAB": "a MATLAB file",
    b"\x93NUMPY": "a NumPy array",
    b"<?xml": "an XML file, such as GIFTI",
}

# path: type, and shape in numbers or in what the file itself declares
LAYOUT: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "name": ("S", (1,)),
    "labels": ("S", ("region",)),
    "hemisphere": ("S", ("region",)),
    "kind": ("S", ("region",)),
    "centroid": ("<f8", ("region", 3)),
    "volume": ("<f8", ("region",)),
    "density": ("<f8", ("region",)),
    "tracts/post": ("<i4", ("tract",)),
    "tracts/pre": ("<i4", ("tract",)),
    "tracts/weight": ("<f8", ("tract",)),
    "tracts/length": ("<f4", ("tract",)),
    "receptors/*": ("<f8", ("region",)),
    "bold/*/data": ("<f4", ("scan", "region")),
    "bold/*/tr_s": ("<f8", (1,)),
    "bold/*/task": ("S", (1,)),
    "priors/*": ("<f4", ("region", "region")),
    "provenance": ("S", (1,)),
}
UNITS = {"centroid": "mm", "volume": "mm3", "tracts/length": "mm", "tr_s": "s"}


class _Refused(ValueError):
    """Says what is wrong with the file; anything else that HDF5 raises is damage."""


def content(brain: Brain) -> dict[str, np.ndarray]:
    """All that a Brain holds, as arrays by their path in the file."""
    tracts, provenance = brain.tracts, json.dumps(dict(brain.provenance), sort_keys=True)
    arrays: dict[str, Any] = {
        "name": [brain.name],
        "labels": brain.labels,
        "hemisphere": brain.hemisphere,
        "kind": brain.kind,
        "centroid": brain.centroid,
        "volume": brain.volume,
        "density": brain.density,
        "tracts/post": tracts.post,
        "tracts/pre": tracts.pre,
        "tracts/weight": tracts.weight,
        "tracts/length": tracts.length,
        "provenance": [provenance],
    }
    arrays |= {f"receptors/{name}": values for name, values in brain.receptors.items()}
    arrays |= {f"priors/{name}": matrix for name, matrix in brain.priors.items()}
    for name, bold in brain.bold.items():
        arrays |= {f"bold/{name}/data": bold.data, f"bold/{name}/tr_s": [bold.tr_s], f"bold/{name}/task": [bold.task]}
    return {path: _stored(path, arrays[path]) for path in sorted(arrays)}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over path, type, shape and bytes of every array, in the order of the paths."""
    total = hashlib.sha256(f"{FORMAT} {SCHEMA_VERSION}".encode())
    for path in sorted(arrays):
        array = arrays[path]
        total.update(f"\n{path} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data if array.size else b"")
    return total.hexdigest()


def write(brain: Brain, path: str | PathLike[str]) -> None:
    """Write under a temporary name in the same folder, sync, rename: a reader sees the old file or the new one."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {str(path.parent)!r} to write {path.name!r} into. Make it first.")
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:64]}.", suffix=".tmp", dir=path.parent)  # mode 600
    try:
        os.close(handle)
        _write(content(brain), temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """The keyword arguments of Brain in a file; ValueError that says what is wrong, where, and what to do."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no Brain file {str(path)!r}. Check the path; dtb.Brain(…).save(path) makes one.")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder, no Brain file. Give the path of the .h5 file.")
    remade = "Restore it from a copy, or make it again with dtb.Brain(…).save(path)."
    try:
        with open(path, "rb") as start:
            found = looks_like(start.read(HEAD))
        if found != MAGIC[HDF5]:
            what = found or "no HDF5 file"
            raise _Refused(f"this is {what}, so no Brain file. Give the .h5 file that dtb.Brain(…).save(path) wrote.")
        with h5py.File(path, "r", locking=False) as file:  # replaced as a whole, never written in place
            arrays = _checked(file)
        parts = _parts(arrays)
    except _Refused as problem:
        raise ValueError(f"{str(path)!r}: {problem}") from None
    except PermissionError:
        raise ValueError(f"{str(path)!r} cannot be read: no permission. Ask its owner, or try chmod u+r.") from None
    except Exception as problem:  # noqa: BLE001 answers damage with a dozen types
        raise ValueError(f"{str(path)!r} is damaged, or no Brain file: {_cause(problem)}. {remade}") from None
    return parts


def looks_like(head: bytes) -> str:
    """What a file is by its first bytes, in words; empty if they are none that are known here."""
    if not head:
        return "an empty file"
    if head[128:132] == b"DICM":
        return "a DICOM image"
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return "a NIfTI image"
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def _cause(problem: Exception) -> str:
    """Why HDF5 could not read on, in few words."""
    text = (str(problem).splitlines() or [type(problem).__name__])[0]
    if cut := re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", text):
        return f"it ends after {int(cut[1]):,} of {int(cut[2]):,} bytes"
    if "filter returned failure" in text or "checksum" in text:
        return "a checksum of its content does not match"
    return text[:120]


def _stored(path: str, value: Any) -> np.ndarray:
    """The array in the byte order and type of the file."""
    kind = next(kind for pattern, (kind, _) in LAYOUT.items() if _matches(pattern, path))
    if kind == "S":
        return np.array([text.encode() for text in value] or [b""], "S")[: len(value)]
    return np.asarray(value, kind)


def _matches(pattern: str, path: str) -> bool:
    parts = list(zip(pattern.split("/"), path.split("/"), strict=False))
    return pattern.count("/") == path.count("/") and all(mine in ("*", its) for mine, its in parts)


def _write(arrays: Mapping[str, np.ndarray], path: str) -> None:
    # From 1.10 on HDF5 has checksums in its own metadata; without times and order the bytes depend on content only.
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs["format"] = np.bytes_(FORMAT)
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["sha256"] = np.bytes_(digest(arrays))
        for name in ("tracts", "receptors", "bold", "priors"):
            file.create_group(name)
        for name, array in arrays.items():
            options: dict[str, Any] = {"compression": 6, "shuffle": True, "fletcher32": True}
            options = options | {"chunks": _chunks(array)} if array.size else {}  # HDF5 cannot chunk what is empty
            dataset = file.create_dataset(name, data=array, track_times=False, **options)
            unit = UNITS.get(name) or UNITS.get(name.split("/")[-1])
            if unit:
                dataset.attrs["unit"] = unit


def _chunks(array: np.ndarray) -> tuple[int, ...]:
    rows = max(1, CHUNK * array.shape[0] // array.size)
    return (min(rows, array.shape[0]), *array.shape[1:])


def _sync(path: str | PathLike[str]) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checked(file: h5py.File) -> dict[str, np.ndarray]:
    """All arrays of a file whose layout, sizes and checksum are right; sizes are checked before anything is read."""
    known = {"format": np.bytes_(FORMAT), "schema_version": SCHEMA_VERSION}
    advice = {
        "format": "It is some other HDF5 file: give one that dtb.Brain(…).save(path) made.",
        "schema_version": "Read it with the dtb that wrote it, or with a newer one, and save it again.",
    }
    for name, value in known.items():
        found = file.attrs.get(name)
        if np.shape(found) or found != value:
            there = "missing" if found is None else shown(found.tolist() if isinstance(found, np.generic) else found)
            allowed = value.decode() if isinstance(value, bytes) else value
            raise _Refused(f"attribute {name} is {there}, this dtb reads {allowed!r}. {advice[name]}")
    datasets = dict(_datasets(file))
    for pattern in LAYOUT:
        if "*" not in pattern and pattern not in datasets:
            raise _Refused(f"dataset {pattern!r} is missing, and missing data is never made up. Make the file again.")
    regions, tracts = datasets["labels"].shape[:1], datasets["tracts/post"].shape[:1]
    if not regions or not 1 <= regions[0] <= MAX_REGIONS:
        raise _Refused(f"labels has shape {datasets['labels'].shape}, allowed are 1 to {MAX_REGIONS:,} regions.")
    declared: dict[str, int] = {"region": regions[0], "tract": tracts[0] if tracts else -1}
    for path, dataset in datasets.items():
        _check_size(path, dataset, declared, file.id.get_filesize())
    arrays = {path: dataset[...] for path, dataset in datasets.items()}
    if file.attrs.get("sha256") != digest(arrays).encode():
        raise _Refused("its content does not have the SHA-256 it carries: it was changed or damaged. Make it again.")
    return arrays


def _datasets(group: h5py.Group, inside: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """All datasets below a group by path; anything that a Brain file does not have is refused."""
    if len(group) > MAX_NAMED:
        raise _Refused(f"{inside or '/'} has {len(group):,} entries, allowed are {MAX_NAMED:,}.")
    for name in group:
        path = inside + name
        stems = {pattern.split("/")[0] for pattern in LAYOUT if "/" in pattern}
        is_group = path in stems or (path.count("/") == 1 and path.startswith("bold/"))
        if type(group.get(name, getlink=True)) is not h5py.HardLink:
            raise _Refused(f"{path!r} is a link out of the data, which a Brain file does not have.")
        item = group[name]
        if is_group and isinstance(item, h5py.Group):
            yield from _datasets(item, path + "/")
        elif isinstance(item, h5py.Dataset) and any(_matches(pattern, path) for pattern in LAYOUT):
            yield path, item
        else:
            raise _Refused(f"{path[:80]!r} is not a part of a Brain file of schema {SCHEMA_VERSION}. Leave it out.")


def _check_size(path: str, dataset: h5py.Dataset, declared: Mapping[str, int], file_size: int) -> None:
    """Refuse a dataset of the wrong type or shape, or one that claims more than its bytes can hold."""
    kind, form = next(layout for pattern, layout in LAYOUT.items() if _matches(pattern, path))
    longest = MAX_PROVENANCE if path == "provenance" else MAX_TEXT
    if kind == "S":
        right_type = dataset.dtype.kind == "S" and dataset.dtype.itemsize <= longest
    else:
        right_type = dataset.dtype == np.dtype(kind)
    if not right_type:
        allowed = f"text of at most {longest:,} bytes" if kind == "S" else np.dtype(kind).name
        raise _Refused(f"{path!r} has type {dataset.dtype}, allowed is {allowed}. Make the file again.")
    scans = dataset.shape[0] if dataset.shape else 0
    shape = tuple(scans if size == "scan" else declared[size] if isinstance(size, str) else size for size in form)
    if dataset.shape != shape:
        need = "tracts/post has" if "tract" in form else f"{declared['region']:,} labels need"
        turned = "scan" in form and dataset.shape[:1] == (declared["region"],)
        fix = "The order is (time, region): transpose it, and make" if turned else "Make"
        raise _Refused(f"{path!r} has shape {dataset.shape}, not {shape} as {need} it. {fix} the file again.")
    held = min(dataset.id.get_storage_size(), file_size) * (DEFLATE if dataset.chunks else 1)
    chunk = int(np.prod(dataset.chunks or (0,), dtype=float)) * dataset.dtype.itemsize
    plain = dataset.external is None and not dataset.is_virtual and dataset.compression in (None, "gzip")
    if dataset.nbytes > held + DEFLATE or chunk > dataset.nbytes or not plain:
        raise _Refused(f"{path!r} claims {dataset.nbytes:,} bytes that this file cannot hold. Do not trust it.")


def _parts(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Keyword arguments of Brain from the arrays of a file."""
    parts: dict[str, Any] = {"tracts": {}, "receptors": {}, "bold": {}, "priors": {}}
    for path, array in arrays.items():
        *groups, name = path.split("/")
        value: Any = tuple(text.decode() for text in array.tolist()) if array.dtype.kind == "S" else array
        into = parts
        for group in groups:
            into = into.setdefault(group, {})
        single = path in ("name", "provenance") or _matches("bold/*/tr_s", path) or _matches("bold/*/task", path)
        into[name] = value[0] if single else value
    parts["provenance"] = json.loads(parts["provenance"])
    return parts
