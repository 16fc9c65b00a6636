"""Save a simulation, with its recording, and restore it: on any backend, storage, tiles, threads, ranks, partition."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dtb.engine.agreement import together
from dtb.engine.backends.state import Counters
from dtb.engine.checkpoint_file import (
    PIECE,
    Checkpoint,
    Part,
    add_spikes,
    name_of,
    naming,
    partial_place,
    seal,
    writing,
)
from dtb.engine.constants import Constants, Control
from dtb.engine.statistics import Position
from dtb.network.network import Network
from dtb.network.synapses import weight_table

if TYPE_CHECKING:
    from dtb.engine.recording import Recording
    from dtb.engine.simulation import Simulation

SPIKES = 2**20  # of one section, or those of one step
ALIKE = 1e-5  # relative: what two machines' exponentials may differ by, and far more; two models differ by more


def identity(network: Network, dt: float, seed: int, integrator: str, lesions) -> dict[str, Any]:
    """What a checkpoint and the simulation that goes on from it must have in common."""
    cut = None if lesions is None else hashlib.sha256(b"".join(np.asarray(f).tobytes() for f in lesions)).hexdigest()
    return {
        "network": network.digest, "dt": dt, "seed": seed, "integrator": integrator, "lesions": cut,
    }  # fmt: skip


def weights_digest(network: Network) -> str:
    """Of the integer weights: they come from float64 functions that another machine may round otherwise."""
    tables = (weight_table(network, i).tobytes() for i in range(len(network.projections)))
    return hashlib.sha256(b"".join(tables)).hexdigest()[:16]


def save(simulation: Simulation, folder: str | os.PathLike, recording: Recording | None, notes: dict | None) -> Path:
    """See `Simulation.save`. Each rank writes a part; rank 0 makes their place, and in the end the manifest."""
    comm, folder, step = simulation.comm, Path(folder), simulation.step
    arrays, numbers = shared(simulation)
    about = {
        "step": step, "neurons": simulation.network.n_neurons, "identity": simulation.identity,
        "weights": weights_digest(simulation.network), **numbers, "notes": notes or {},
    }  # fmt: skip
    with ExitStack() as stack:
        with together(comm):
            if comm.rank == 0:
                if recording is not None:
                    position = recording.position()
                    arrays |= {f"recording.{name}": array for name, array in position.arrays.items()}
                    about["recording"] = position.numbers
                stack.enter_context(writing(folder, step))
        with together(comm), naming(folder / name_of(step)):
            entry = write_part(simulation, partial_place(folder, step), arrays if comm.rank == 0 else {})
        told = comm.gather(np.frombuffer(json.dumps(entry).encode(), np.uint8))
        with together(comm):
            if comm.rank == 0:
                seal(partial_place(folder, step), about, [json.loads(text.tobytes()) for text in told])
                stack.close()
    return folder / name_of(step)


def write_part(simulation: Simulation, place: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What one rank writes, for the manifest."""
    if not place.is_dir():
        raise OSError(f"there is no '{place}' where rank 0 made it. All nodes must share the run folder: set -o.")
    part = Part(place / f"part-{simulation.comm.rank:05d}.bin")
    try:
        write_neurons(simulation, part)
        write_spikes(simulation, part)
        for name, array in arrays.items():
            part.add_array(name, array)
    finally:
        entry = part.close()
    return entry


def owned(simulation: Simulation) -> np.ndarray:
    """(k, 2) runs of gids whose neurons are here."""
    ranks = simulation._ranks
    return np.array([[0, simulation.network.n_neurons]]) if ranks is None else ranks.owned


def write_neurons(simulation: Simulation, part: Part) -> None:
    """The neurons that this rank owns."""
    for begin, end in owned(simulation).tolist():
        for first in range(begin, end, PIECE):
            part.add_piece(simulation._backend.piece(simulation._state, first, min(first + PIECE, end)))


def write_spikes(simulation: Simulation, part: Part) -> None:
    """Spikes of the last d_max steps: none emitted before can still be on its way."""
    backend, state, network = simulation._backend, simulation._state, simulation.network
    everyone = np.ones(network.n_populations, bool)
    begin = at = max(0, simulation.step - backend.longest)
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for step in range(begin, simulation.step):
        held.append(backend.spikes(state, step, step + 1, 1, everyone))
        if sum(len(gid) for _, gid in held) >= SPIKES or step + 1 == simulation.step:
            steps, gids = (np.concatenate(x) for x in zip(*held, strict=True))
            add_spikes(part, steps, gids, at, step + 1, network.n_neurons)
            held, at = [], step + 1


def shared(simulation: Simulation) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What is kept once for all ranks: constants, control, and the counters of synapses on their way."""
    backend, comm = simulation._backend, simulation.comm
    arrays: dict[str, np.ndarray] = {}
    for group, found in (("constants", backend.constants), ("control", simulation.control)):
        arrays |= {f"{group}.{name}": array for name, array in zip(found._fields, found, strict=True)}
    arrived = backend.arrived(simulation._state, simulation.step - len(simulation._open), simulation.step)
    total = comm.sum(np.stack([simulation._open, *arrived]).astype(np.int64))
    arrays |= {f"synapses.{name}": row for name, row in zip(("emitted", *arrived._fields), total, strict=True)}
    steps, arrays["recent"] = simulation.recent()
    return arrays, {
        "recent_steps": steps,
        "counters": {
            "spikes": simulation.spikes, "digest": simulation._digest, "synaptic_events": simulation.synaptic_events,
            "autapses": simulation.autapses, "lesioned": simulation.lesioned,
        },
    }  # fmt: skip


def restore(simulation: Simulation, path: str | os.PathLike, recording: Recording | None) -> None:
    """See `Simulation.restore`. The simulation is changed only when all of the checkpoint has been read."""
    backend, ranks, first = simulation._backend, simulation._ranks, simulation.comm.rank == 0
    with together(simulation.comm):
        saved = Checkpoint(path)
        check_identity(simulation, saved)
        constants = check_constants(simulation, saved)
        control = Control(**saved.arrays("control."))
        counters = saved.arrays("synapses.")
        if not first:  # what is counted over all ranks goes on in one of them
            counters = {name: np.zeros_like(array) for name, array in counters.items()}
        emitted = counters.pop("emitted")
        recent = saved.array("recent")
        spikes = saved.spikes(None if ranks is None else ranks.knows)
        pieces = saved.pieces(owned(simulation))
        state = backend.restore(simulation.seed, saved.step, pieces, *spikes, Counters(**counters))
        if recording is not None and first:
            if "recording" not in saved.about:
                raise ValueError(f"checkpoint '{saved.path}' was made without a recording. Begin a new recording.")
            position = Position(saved.arrays("recording."), saved.about["recording"])
            recording.resume(simulation.network, simulation.dt, position)
    backend.constants = constants
    simulation.go_on(state, control, emitted, (saved.about["recent_steps"], recent), saved.about["counters"])


def check_identity(simulation: Simulation, saved: Checkpoint) -> None:
    theirs, mine = saved.about["identity"], simulation.identity
    for name, value in mine.items():
        if theirs.get(name) != value:
            what = f"made with {name} = {theirs.get(name)}, here it is {value}"
            if name == "network":
                what = f"of another network ({theirs.get(name)}, here {value})"
            raise ValueError(
                f"checkpoint '{saved.path}' is {what}. Go on with the description that it was made with, or run anew "
                "into another folder."
            )


def check_constants(simulation: Simulation, saved: Checkpoint) -> Constants:
    """Those of the checkpoint, which may differ from the ones compiled here in a last bit."""
    constants = Constants(**saved.arrays("constants."))
    same = all(
        a.dtype == b.dtype and a.shape == b.shape and np.allclose(a, b, rtol=ALIKE, atol=0)
        for a, b in zip(constants, simulation._backend.constants, strict=True)
    )
    if not same or saved.about["weights"] != weights_digest(simulation.network):
        raise ValueError(
            f"checkpoint '{saved.path}' was made with other constants than dtb computes here: by another version, or "
            "with a mathematics library that rounds otherwise. Go on where it was made, or run anew."
        )
    return constants
