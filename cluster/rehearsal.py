"""`dtb plan --dry-run RANK`: one rank of many is really run, and what it took stands beside what was planned."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from cluster.devices import HERE, Device, device_named
from cluster.expected import expected
from cluster.plan import Placed, meetings, memories, per, place
from cluster.plan_report import Beside, Rehearsed
from dtb.engine.partition import Partition
from dtb.engine.simulation import Simulation, shared_size
from dtb.network.network import Network, scaled
from dtb.network.tiles import MAX_TILE, tile
from dtb.run import available_bytes
from dtb.summary import resident_bytes

SETTLE_MS, TIMED_MS = 300.0, 200.0  # rates are steady at 300 ms


def rehearse_apart(network: Network, rank: int, ranks: int, device: Device, *arguments, **keywords) -> Rehearsed:
    """`rehearse` in a process of its own, whose memory is its own."""
    keywords["core"] = device if device.name == HERE else device_named(HERE)  # measured here, as that takes memory, too
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(rehearse, network, rank, ranks, device, *arguments, **keywords).result()


def rehearse(
    network: Network,
    rank: int,
    ranks: int,
    device: Device,
    ranks_per_node: int = 1,
    dt: float = 1.0,
    method: str = "regions",
    routing: str = "two-level",
    rates: np.ndarray | Mapping[str, float] | None = None,
    speeds: np.ndarray | None = None,
    tile_size: int = MAX_TILE,
    synapses: str = "procedural",
    seed: int = 1,
    core: Device | None = None,
) -> Rehearsed:
    """Run one rank alone, with spikes of the others made up, for half a second of biological time; see `DryRunComm`.

    Parameters
    ----------
    rank : int
    device : Device
        What the network is placed for.
    seed : int
        Of noise, of initial state, and of the spikes of others.
    core : Device or None
        What is planned beside the measurement: a core of this machine. None measures it.

    The others are as in `cluster.plan.plan`.

    Raises
    ------
    MemoryError
        If the rank would not fit the memory of this machine.
    """
    from cluster.dryrun import DryRunComm  # here, because it compiles

    comm = DryRunComm(rank, ranks, ranks_per_node, routing, rates, seed)
    core = (core or device_named(HERE)).of_rank(1)
    size = shared_size(network, tile_size, ranks)
    tiles, known = tile(network, size), expected(network, rates)
    options = (ranks, ranks_per_node, device.of_rank(min(ranks, ranks_per_node)), method, dt, speeds, synapses)
    found = place(network, tiles, known, *options)
    memory = float(memories(network, found, core, ranks_per_node, dt, "receiver", mpi=False)[0][rank])
    if memory > (free := available_bytes()):
        raise MemoryError(
            f"rank {rank:,} needs about {scaled(memory)} to be run; {scaled(free)} are free. Rehearse it on a larger "
            "machine, or with more ranks."
        )
    simulation = Simulation(
        network, dt, threads=1, synapses=synapses, seed=seed, tile_size=size, comm=comm,
        partition=Partition(found.owner),
    )  # fmt: skip
    simulation.run(SETTLE_MS)
    before = counted(simulation, comm.exchange)
    simulation.run(TIMED_MS)
    wall, events, spikes_in, spikes_out, spikes = (counted(simulation, comm.exchange) - before) * 1000 / TIMED_MS
    planned = step_s(network, found, known, core, min(ranks, ranks_per_node), dt)[rank]
    own = float(per(found.parts, np.ones(len(known.n)), ranks)[rank])
    return Rehearsed(
        rank=rank,
        biological_ms=TIMED_MS,
        core=core.source,
        neurons=round(own),
        rate_hz=float(spikes / own),
        step_ms=Beside(planned=float(planned * dt), measured=float(wall * dt)),
        memory=Beside(planned=memory, measured=float(resident_bytes())),
        events=Beside(planned=float(per(found.parts, known.events, ranks)[rank]), measured=float(events)),
        spikes_in=Beside(planned=max(float(found.traffic.into[rank]), 0.0), measured=float(spikes_in)),
        spikes_out=Beside(planned=float(found.traffic.out[rank]), measured=float(spikes_out)),
    )


def counted(simulation: Simulation, exchange) -> np.ndarray:
    """Wall s so far but for making up spikes, events, spikes in and out, and spikes of this rank."""
    made, out = (0.0, 0) if exchange is None else (exchange.made_s, exchange.spikes_out)
    wall = sum(simulation.phases.values()) - made
    return np.array([wall, simulation.events_here, simulation.spikes_in, out, simulation.spikes], float)


def step_s(network: Network, found: Placed, known, core: Device, near: int, dt: float) -> np.ndarray:
    """(ranks,) wall s per biological s on a core of this machine: compute, and handling what arrives."""
    ranks = len(found.time)
    update = per(found.parts, np.full(len(known.n), 1e-6 / dt * core.neuron_ns), ranks)
    events = per(found.parts, known.events, ranks) * core.event_ns * 1e-9
    taken = np.maximum(found.traffic.into, 0) * core.spike_ns * 1e-9
    every = meetings(network, found.traffic.epoch, dt)
    messages = 1000 / every * (near - 1) * core.local_latency if every else 0.0
    return update + events + found.visits * core.visit_ns * 1e-9 + taken + messages
