"""Run by mpiexec: simulations on all ranks; rank 0 prints one line of JSON with what came out of each.

Its only argument is JSON: {"network": [name, keywords], "steps": [n, ...], "cases": [{...}, ...]}, where a case holds
keywords of MPIComm ("routing", "ranks_per_node"), "shuffled": seed, and keywords of Simulation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

import dtb
from cluster.mpi import MPIComm
from dtb.engine.partition import Partition
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.lesion import lesion_tracts
from dtb.network.network import Network
from dtb.network.tiles import tile
from tests import networks


def make(name: str, keywords: dict) -> Network:
    if name == "brain":
        return dtb.build_network(dtb.default_brain(), **keywords)
    return getattr(networks, name)(**{k: tuple(v) if isinstance(v, list) else v for k, v in keywords.items()})


def outcome(network: Network, steps: list[int], comm, settings: dict) -> dict:
    """What the simulation of `run` in the contract of backends leaves: pieces, a stimulus, changing gains."""
    shuffled = settings.pop("shuffled", None)
    cut = settings.pop("lesions", None)
    if cut:
        settings["lesions"] = lesion_tracts(network, {(post, pre): f for post, pre, f in cut})
    if shuffled is not None and comm is not None and comm.size > 1:
        tiles = tile(network, settings["tile_size"])
        settings["partition"] = Partition.shuffled(tiles.n, comm.size, shuffled)
    simulation = Simulation(network, seed=7, comm=comm, **settings)
    simulation.control.mean[:] *= np.linspace(0.9, 1.3, network.n_populations, dtype=np.float32)
    recording = Recording(rates="population", spikes=[network.regions[0]], membrane=[network.regions[-1]], raster=500)
    for number, n in enumerate(steps):
        stimulus, gain = np.zeros((n, network.n_populations)), None
        stimulus[1 : n // 3, ::2] = 120.0  # pA
        if number:
            gain = np.ones((n, network.n_populations, 4))
            gain[n // 2 :, :, 0] = 1.4
        simulation.run(n * simulation.dt, recording=recording, stimulus=stimulus, gain=gain)
    ranks = simulation._ranks
    snapshot = simulation.snapshot()
    out = {
        "digests": [simulation.spike_digest, simulation.state_digest],
        "counts": [simulation.spikes, simulation.synaptic_events, simulation.autapses, simulation.lesioned],
        "snapshot": [int(snapshot.fields.view(np.uint32).sum(dtype=np.uint64)), int(snapshot.hold.sum())],
        "epoch": None if ranks is None else ranks.epoch,
    }
    if comm is None or comm.rank == 0:
        recording.close()
        names = ("population_rate", "spike_time", "spike_gid", "V", "I_background", "raster_gid")
        out["recorded"] = [recording[name].tobytes().hex()[:400_000:97] for name in names]
        out["statistics"] = [recording.statistics.isi_cv, recording.statistics.mean_rate_hz]
    return out


def main() -> None:
    task = json.loads(sys.argv[1])
    network, told = make(*task["network"]), []
    for case in task["cases"]:
        comm = MPIComm(**{key: case.pop(key) for key in ("routing", "ranks_per_node") if key in case})
        told.append(outcome(network, task["steps"], comm, {"threads": 1, **case}))
    if comm.rank == 0:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
