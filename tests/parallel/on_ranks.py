"""Run by mpiexec: simulations on all ranks; rank 0 prints one line of JSON with what came out of each.

Its only argument is JSON: a list of tasks {"network": [name, keywords], "steps": [n, ...], "cases": [{...}, ...]},
where a case holds keywords of MPIComm ("routing", "ranks_per_node"), "partition": "even", "shuffled", "balanced" or
"by region", "ahead": whether long delays deliver several blocks at once, "lesions": [[post, pre, fraction], ...], and
keywords of Simulation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

import dtb
from cluster.balance import usual
from cluster.mpi import MPIComm
from dtb.engine.backends import cpu_tables
from dtb.engine.partition import Partition
from dtb.engine.recording import Recording
from dtb.engine.simulation import Simulation
from dtb.network.lesion import lesion_tracts
from dtb.network.network import Network
from dtb.network.tiles import Tiles, tile
from tests import networks

SUM_NS = cpu_tables.SUM_NS


def make(name: str, keywords: dict) -> Network:
    if name == "brain":
        return dtb.build_network(dtb.default_brain(), **keywords)
    return getattr(networks, name)(**{k: tuple(v) if isinstance(v, list) else v for k, v in keywords.items()})


def divide(kind: str, network: Network, tiles: Tiles, ranks: int) -> Partition:
    if kind == "by region":
        region = network.population_region[tiles.population].astype(np.int64)
        return Partition((region * ranks // len(network.regions)).astype(np.int32))
    if kind == "balanced":
        return usual(network, tiles, ranks, dt=1.0)
    return getattr(Partition, kind)(tiles.n, ranks)


def outcome(network: Network, steps: list[int], comm, settings: dict) -> dict:
    """What the simulation of `run` in the contract of backends leaves: pieces, a stimulus, changing gains."""
    settings = {"threads": 1, **settings}
    ahead, kind, cut = (settings.pop(key, None) for key in ("ahead", "partition", "lesions"))
    if cut:
        settings["lesions"] = lesion_tracts(network, {(post, pre): f for post, pre, f in cut})
    if kind is not None and comm is not None:
        settings["partition"] = divide(kind, network, tile(network, settings.setdefault("tile_size", 32)), comm.size)
    cpu_tables.SUM_NS = 0.0 if ahead else SUM_NS
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


def run(tasks: list[dict], comm_of) -> list[dict]:
    told = []
    for task in tasks:
        network = make(*task["network"])
        for case in task["cases"]:
            ours = {key: case[key] for key in ("routing", "ranks_per_node") if key in case}
            theirs = {key: value for key, value in case.items() if key not in ours}
            told.append(outcome(network, task["steps"], comm_of(ours), theirs))
    return told


def main() -> None:
    comm = MPIComm()

    def use(settings: dict) -> MPIComm:
        comm.use(**settings)
        return comm

    told = run(json.loads(sys.argv[1]), use)
    if comm.rank == 0:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
