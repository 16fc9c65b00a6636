"""Recorded spikes as a SONATA file, which libsonata, BMTK, NEST and NWB tools read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from dtb.engine.recording import Recording
from dtb.engine.store import fsync

MAGIC, VERSION = 0x0A7A, (0, 1)  # of SONATA files
SORTING = {"none": 0, "by_id": 1, "by_time": 2}
CHUNK = 2**16  # spikes; of a population with fewer, all
BATCH = 2**20  # spikes held at a time


def write_sonata(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Write every recorded spike; the file is there whole or not at all.

    Parameters
    ----------
    recording : Recording
        With spikes, and on its way, closed, or opened again with `Recording.open`, as after a run that was killed.
    path : path
        An earlier file of that name is replaced.

    Notes
    -----
    /spikes/POPULATION/timestamps (spike,) float64 [ms] and node_ids (spike,) uint64, sorted by time, then by id. Node
    ids count from 0 in each population, as SONATA has them; the gid is first_gid, an attribute of the population,
    plus the node id. Populations without a spike are there and empty. Chunks carry Fletcher checksums and are not
    compressed, because the wheel of libsonata has no deflate.

    References
    ----------
    Dai et al. (2020), PLoS Comput. Biol. 16:e1007696, and its developers' guide, "Spike file".

    Examples
    --------
    >>> write_sonata(Recording.open("runs/toy/recording.zarr"), "runs/toy/spikes.h5")          # doctest: +SKIP
    """
    if "spike_gid" not in recording:
        raise ValueError('no spikes were recorded. Name populations, such as spikes = ["*.E"] in [Recording].')
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with h5py.File(partial, "w") as file:
            file.attrs["magic"], file.attrs["version"] = np.uint32(MAGIC), np.array(VERSION, np.uint32)
            _write(file, recording)
        fsync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def _write(file: h5py.File, recording: Recording) -> None:
    names = [str(name) for name in recording["spike_population"]]
    first = recording["spike_population_first_gid"].astype(np.int64)
    count = np.zeros(len(names), np.int64)
    for _, gid in _batches(recording):
        count += np.bincount(_owner(first, gid), minlength=len(names))
    groups = [_group(file, name, int(first[p]), int(count[p])) for p, name in enumerate(names)]
    filled = np.zeros(len(names), np.int64)
    for time, gid in _batches(recording):
        owner = _owner(first, gid)
        order = np.argsort(owner, kind="stable")  # spikes of one population stay in the order of time
        edges = np.searchsorted(owner[order], np.arange(len(names) + 1))
        for p in np.flatnonzero(np.diff(edges)):
            mine = order[edges[p] : edges[p + 1]]
            there = slice(filled[p], filled[p] + len(mine))
            groups[p]["timestamps"][there] = time[mine]
            groups[p]["node_ids"][there] = (gid[mine] - first[p]).astype(np.uint64)
            filled[p] = there.stop


def _group(file: h5py.File, name: str, first_gid: int, n: int) -> h5py.Group:
    group = file.create_group(f"spikes/{name}")
    group.attrs.create("sorting", SORTING["by_time"], dtype=h5py.enum_dtype(SORTING, basetype="i1"))
    group.attrs["first_gid"] = np.uint64(first_gid)
    options: dict = {"chunks": (min(n, CHUNK),), "fletcher32": True} if n else {}
    group.create_dataset("timestamps", (n,), np.float64, track_times=False, **options).attrs["units"] = "ms"
    group.create_dataset("node_ids", (n,), np.uint64, track_times=False, **options)
    return group


def _batches(recording: Recording) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Times [ms] and gids, int64, of some `BATCH` spikes at a time."""
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for part in zip(recording.read_blocks("spike_time"), recording.read_blocks("spike_gid"), strict=True):
        held.append(part)
        if sum(len(time) for time, _ in held) >= BATCH:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(held: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    times, gids = zip(*held, strict=True)
    return np.concatenate(times), np.concatenate(gids).astype(np.int64)


def _owner(first: np.ndarray, gid: np.ndarray) -> np.ndarray:
    """Which of the recorded populations, whose first gids rise, each spike belongs to."""
    return np.searchsorted(first, gid, side="right") - 1
