"""Law 3 on many ranks: what a rank keeps for each of its own neurons, and for the spikes that come from others."""

from __future__ import annotations

import json

import pytest

CODE = """
import json
import numpy as np, dtb
from cluster.mpi import MPIComm
comm = MPIComm()
network = dtb.build_network(dtb.default_brain(), n_neurons=200_000)
simulation = dtb.Simulation(network, comm=comm, threads=1, synapses="procedural")
simulation.run(250.0)
backend, state = simulation._backend, simulation._state
history, step, here = state.history[0], simulation.step, backend.here
wrap = history.start.shape[1] - 1
spike = 2 + (len(history.plane) > 0)  # bytes
recent = history.start[:, step & wrap] - history.start[:, (step - backend.longest) & wrap]
mine = [
    backend.tiles.n[here].sum(), backend.neuron_bytes(state), spike * history.room[~here].sum(),
    spike * recent[~here].sum(), (~here).sum(),
]
told = comm.all(np.array(mine, np.int64))
if comm.rank == 0:
    print(json.dumps(told.tolist()))
"""
SPARE = 2.0  # of what others' spikes take: a fourth is room to come, and a run begins with more of them than later
PADDED = 192  # bytes of each tile's room, which begins as one vector of 64 spikes


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_neuron_costs_no_more_on_many_ranks_and_others_spikes_only_until_they_are_due(on_ranks, ranks: int) -> None:
    done = on_ranks(ranks, "-c", CODE)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) == ranks
    for neurons, everything, others, due, tiles in told:
        assert (everything - others) / neurons <= 36
        assert (due > 0) == (ranks > 1)
        assert others <= SPARE * due + PADDED * tiles
