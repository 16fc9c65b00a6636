"""Run by mpiexec: legs of runs, each from a checkpoint or the start up to some step, where it is saved.

Its only argument is JSON: a list of {"network": [name, keywords], "store": path, "from": path or null, "stop": step,
"folder": of checkpoints, or null, "way": {keywords of Simulation, and "routing", "partition"}}, and perhaps "ahead":
whether long delays deliver several blocks at once. Rank 0 prints one line of JSON: of each leg where it was saved, what
the simulation told, and what was recorded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from cluster.mpi import MPIComm
from dtb.engine.backends import cpu_tables
from dtb.network.tiles import tile
from tests.parallel.on_ranks import SUM_NS, divide, make
from tests.protocol import Protocol, told


def run_leg(leg: dict, comm: MPIComm | None) -> dict:
    network, way = make(*leg["network"]), {"threads": 1, **leg["way"]}
    cpu_tables.SUM_NS = 0.0 if leg.get("ahead") else SUM_NS
    kind, routing = (way.pop(key, None) for key in ("partition", "routing"))
    if comm is not None and routing is not None:
        comm.use(routing)
    if comm is not None and kind is not None:
        way["partition"] = divide(kind, network, tile(network, way.setdefault("tile_size", 32)), comm.size)
    protocol = Protocol(network)
    simulation, recording = protocol.begin(Path(leg["store"]), comm=comm, **way)
    if leg["from"] is not None:
        simulation.restore(leg["from"], recording)
    protocol.run(simulation, recording, leg["stop"])
    path = None if leg["folder"] is None else str(simulation.save(leg["folder"], recording, {"leg": leg["stop"]}))
    out = {"path": path, "told": told(simulation), "mean": float(simulation.control.mean[0])}
    if path is None and (comm is None or comm.rank == 0):
        out["result"] = protocol.result(recording)
        recording.close()
    return out


def main() -> None:
    comm = MPIComm()
    done = [run_leg(leg, comm) for leg in json.loads(sys.argv[1])]
    if comm.rank == 0:
        print(json.dumps(done))


if __name__ == "__main__":
    main()
