"""What a run on many ranks will need and take: memory, balance, traffic, time. Nothing is allocated for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cluster.balance import TileLoad, balance, check, shares, tile_load
from cluster.devices import Device, device_named
from cluster.expected import Expected, Pieces, expected, pieces, rates_of_run
from cluster.plan_report import Compared, DeviceUsed, Imbalance, Plan, Route, Spread
from cluster.traffic import SPIKE_BYTES, Traffic, traffic
from dtb.config import Config
from dtb.engine.constants import delay_steps
from dtb.engine.ranks import meet_every
from dtb.engine.simulation import CHUNK_STEPS, shared_size
from dtb.engine.storage import ROW_BYTES, SUM_BYTES, SYNAPSE_BYTES, choose_storage
from dtb.network.build import build_network
from dtb.network.network import Network
from dtb.network.tiles import MAX_TILE, Tiles, tile
from dtb.run import load_brain

ROUTINGS = ("two-level", "flat", "grid")
HISTORIES = ("receiver", "sender")
COMPARED = ("even", "published", "longest-processing-time")  # beside the method that is chosen
START_BYTES = 4  # of the history, of each tile and step; backends/cpu.py
CALL_STEPS = 128  # of one call, at least: the history is that much longer than the longest delay; backends/cpu.py
MPI_BYTES = 18e6  # of a process with MPI: mpi4py and MPICH, measured
MAX_BLOCK = 16  # steps; backends/cpu.py
GROWN = 1.5  # room for spikes of others over what must be kept, once it has grown: 1 to 2, measured
SPARE = 1.02  # what a number of ranks that would fit leaves free
TRIALS = 6
MOST_TILES = 4_000_000  # a gigabyte of tables, more or less; 131e9 neurons in the largest tiles


class Placed(NamedTuple):
    """A placement, and what it costs: arrays over ranks."""

    load: TileLoad
    owner: np.ndarray
    parts: Pieces
    traffic: Traffic
    time: np.ndarray  # wall s per biological s, update and events
    tiles_bytes: np.ndarray
    visits: np.ndarray
    speed: np.ndarray


def plan(
    network: Network,
    ranks: int,
    device: Device,
    ranks_per_node: int = 1,
    dt: float = 1.0,
    method: str = "regions",
    routing: str = "two-level",
    rates: np.ndarray | Mapping[str, float] | None = None,
    rates_from: str = "expected of the cells",
    speeds: np.ndarray | None = None,
    tile_size: int = MAX_TILE,
    synapses: str = "procedural",
    history: str = "receiver",
    compare: tuple[str, ...] = (),
    per_rank: bool = False,
) -> Plan:
    """Plan a run.

    Parameters
    ----------
    ranks, ranks_per_node : int
        Ranks fill nodes one after the other.
    device : Device
        Of every rank; see `device_named`.
    dt : float [ms]
    method : str
        Of balance; see `balance`.
    routing : "two-level", "flat" or "grid"
        Which one the slow-down is for; all are reported.
    rates : (populations,) float [spikes/s], {name of class: float}, or None
        None takes what the cells do at rest; `rates_of_run` reads an earlier run.
    rates_from : str
        Said in the plan.
    speeds : (ranks,) float or None
        Relative speed of ranks.
    synapses : "procedural" or "stored"
    history : "receiver" or "sender"
        Who keeps a spike until it is due: every rank that gets it, for the longest delay, as this version does; or the
        rank of its neuron, so that receivers hold two epochs of arrivals, in one window per node.
    compare : methods of balance
        Whose imbalance, traffic and slow-down are added.
    per_rank : bool
        Whether the numbers of every rank are kept, and not only the least, median and most.

    Examples
    --------
    >>> import dtb
    >>> from cluster.devices import device_named
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=1_000_000_000)
    >>> found = plan(network, 64, device_named("h200"), ranks_per_node=4)
    >>> found.nodes, found.fits, found.routes["flat"].messages
    (16, True, 63.0)
    """
    if routing not in ROUTINGS:
        raise ValueError(f"unknown routing '{routing}'. Known: {', '.join(ROUTINGS)}.")
    if history not in HISTORIES:
        raise ValueError(f"unknown history '{history}'. Known: {', '.join(HISTORIES)}.")
    if network.n_neurons > MOST_TILES * tile_size:
        raise ValueError(
            f"tile_size {tile_size} makes some {network.n_neurons / tile_size:,.0f} tiles; a plan holds at most "
            f"{MOST_TILES:,}. Raise tile_size in [Simulation]."
        )
    device = device.of_rank(min(ranks, ranks_per_node))
    tiles, known = tile(network, shared_size(network, tile_size, ranks)), expected(network, rates)
    options = (dt, speeds, synapses)
    found = place(network, tiles, known, ranks, ranks_per_node, device, method, *options)
    routes = all_routes(found, known, network, device, ranks_per_node, dt)
    memory, arrivals = memories(network, found, device, ranks_per_node, dt, history)
    fits = bool(memory.max() <= device.memory)
    compared = [described(method, found, routes[routing])] if compare else []
    for other in compare:
        if other != method:
            one = place(network, tiles, known, ranks, ranks_per_node, device, other, *options)
            route = all_routes(one, known, network, device, ranks_per_node, dt)[routing]
            compared.append(described(other, one, route))
    n = per(found.parts, np.ones(len(known.n)), ranks)
    compute = found.time + found.visits * device.visit_ns * 1e-9 / found.speed
    lines = found.traffic
    nodes = len(lines.node_out)
    return Plan(
        network_hash=network.digest,
        neurons=network.n_neurons,
        synapses=network.n_synapses,
        populations=network.n_populations,
        regions=len(network.regions),
        tiles=len(tiles.n),
        ranks=ranks,
        ranks_per_node=ranks_per_node,
        nodes=nodes,
        dt_ms=dt,
        epoch_ms=float(lines.epoch) if np.isfinite(lines.epoch) else None,
        exchange_every_ms=meetings(network, lines.epoch, dt),
        method=method,
        routing=routing,  # type: ignore[arg-type]
        mean_rate_hz=float(known.spikes.sum() / network.n_neurons),
        rates_from=rates_from,
        device=used(device),
        neurons_rank=Spread.of(n, per_rank),
        synapses_rank=Spread.of(per(found.parts, known.synapses, ranks), per_rank),
        memory_rank=Spread.of(memory, per_rank),
        events_rank=Spread.of(per(found.parts, known.events, ranks), per_rank),
        visits_rank=Spread.of(found.visits, per_rank),
        compute_rank=Spread.of(compute, per_rank),
        spikes_out_rank=Spread.of(lines.out, per_rank),
        spikes_in_rank=Spread.of(np.maximum(lines.into, 0), per_rank),
        peers_rank=Spread.of(lines.peers, per_rank),
        peers_node=Spread.of(lines.node_peers, per_rank),
        spikes_out_node=Spread.of(lines.node_out, per_rank),
        spikes_in_node=Spread.of(np.maximum(lines.node_in, 0), per_rank),
        imbalance=imbalance(found),
        grid=list(lines.grid),
        routes=routes,
        by_spike_share=lines.by_spike_node_out / lines.node_out.sum() if lines.node_out.any() else None,
        history=history,  # type: ignore[arg-type]
        arrivals_rank=Spread.of(arrivals, per_rank),
        slowdown=routes[routing].slowdown,
        bound=routes[routing].bound,
        fits=fits,
        ranks_that_fit=None
        if fits
        else enough(network, tiles, known, ranks_per_node, device, method, history, *options),
        compared=compared,
        assumptions=assumptions(
            device, min(ranks, ranks_per_node), routing, synapses, history, kept_steps(network, dt) * dt
        ),
    )


def plan_config(
    config: Config,
    ranks: int,
    ranks_per_node: int,
    device: str,
    balance: str = "regions",
    routing: str = "two-level",
    rates: str | os.PathLike[str] | None = None,
    speeds: str | None = None,
    compare: bool = False,
    per_rank: bool = False,
    history: str = "receiver",
    dry_run: int | None = None,
) -> Plan:
    """`dtb plan`: the network and step of a config; speeds as text, "1,0.5", repeated in turn; dry_run: a rank."""
    if dry_run is not None:
        for what, value, absent in (("history", history, "sender"), ("routing", routing, "grid")):
            if value == absent:
                raise ValueError(f"{what} '{absent}' is planned, not built, so it cannot be run. Leave out --dry-run.")
        if not 0 <= dry_run < ranks:
            raise ValueError(f"there is no rank {dry_run} of {ranks:,}. Allowed: 0 to {ranks - 1:,}.")
    network = build_network(load_brain(config), **config.build_network.keywords())
    simulation, profile = config.Simulation, device_named(device)
    alike: dict[str, Any] = {
        "rates": None if rates is None else rates_of_run(network, rates),
        "speeds": None if speeds is None else np.resize(numbers(speeds), ranks),
        "tile_size": simulation.tile_size,
        "synapses": choose_storage(network, simulation.dt, simulation.synapses),
    }
    arguments = (ranks, profile, ranks_per_node, simulation.dt, balance, routing)
    found = plan(
        network,
        *arguments,
        **alike,
        rates_from="expected of the cells" if rates is None else f"run {Path(rates).name}",
        history=history,
        compare=COMPARED if compare else (),
        per_rank=per_rank,
    )
    if dry_run is None:
        return found
    from cluster.rehearsal import rehearse_apart  # here, because it plans, too

    told = rehearse_apart(network, dry_run, *arguments, **alike, seed=simulation.seed)
    return found.model_copy(update={"rehearsed": told})


def numbers(text: str) -> list[float]:
    try:
        return [float(item) for item in text.split(",")]
    except ValueError:
        raise ValueError(
            f"speeds is '{text}'; it should be numbers with commas between them, such as 1,1,0.5."
        ) from None


def place(
    network: Network,
    tiles: Tiles,
    known: Expected,
    ranks: int,
    ranks_per_node: int,
    device: Device,
    method: str,
    dt: float,
    speeds: np.ndarray | None,
    synapses: str,
) -> Placed:
    """Balance, and count."""
    check(tiles, ranks, method, ranks_per_node)
    load = stored_load(network, tiles, known, device, dt, synapses)
    owner = balance(network, tiles, ranks, load, method, speeds, ranks_per_node).owner
    parts = pieces(network, tiles, owner)
    speed = shares(ranks, speeds) * ranks
    time = np.bincount(owner, load.time, ranks) / speed
    return Placed(
        load, owner, parts, traffic(network, known, parts, ranks, ranks_per_node, dt), time,
        np.bincount(owner, load.memory, ranks), visits(network, known, parts, ranks), speed,
    )  # fmt: skip


def stored_load(network: Network, tiles: Tiles, known: Expected, device: Device, dt: float, synapses: str) -> TileLoad:
    """Load of tiles, with what stored synapses take."""
    if synapses not in ("procedural", "stored"):
        raise ValueError(f"unknown storage of synapses '{synapses}'. Known: procedural, stored.")
    if synapses == "procedural":
        return tile_load(network, tiles, known, device, dt)
    load = tile_load(network, tiles, known, device, dt, SYNAPSE_BYTES)
    ahead = ROW_BYTES + SUM_BYTES * (network.max_delay / dt + 2)
    return load._replace(memory=load.memory + ahead * tiles.n)


def per(parts: Pieces, of_neuron: np.ndarray, ranks: int) -> np.ndarray:
    """(ranks,) sum over the neurons of each rank of what one neuron of each population has."""
    return np.bincount(parts.rank, parts.neurons * of_neuron[parts.population], ranks)


def visits(network: Network, known: Expected, parts: Pieces, ranks: int) -> np.ndarray:
    """(ranks,) spikes/s looked at: of all that project into a region, once for every region on the rank."""
    region = network.population_region[parts.population].astype(np.int64)
    key = np.unique(parts.rank * len(network.regions) + region)
    first = np.zeros(len(network.regions), np.int64)
    first[network.population_region[::-1]] = np.arange(network.n_populations)[::-1]
    heard = known.heard[first]
    return np.bincount(key // len(network.regions), heard[key % len(network.regions)], ranks)


def memories(
    network: Network, found: Placed, device: Device, ranks_per_node: int, dt: float, history: str, mpi: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(ranks,) bytes of each rank, and those of them that hold spikes of other ranks."""
    lines, ranks = found.traffic, len(found.time)
    if history == "receiver":
        steps, columns = kept_steps(network, dt), history_columns(network, dt)
        others = len(found.owner) - np.bincount(found.owner, minlength=ranks)  # tiles
        arrivals = SPIKE_BYTES * lines.into * steps * dt / 1000 + START_BYTES * columns * others * (ranks > 1)
    else:
        epoch = lines.epoch if np.isfinite(lines.epoch) else 0.0
        arrivals = np.repeat(lines.node_bytes_in / ranks_per_node, ranks_per_node)[:ranks] * 2 * epoch / 1000
    arrivals = np.maximum(arrivals, 0)
    process = device.base_bytes + network.description_bytes + MPI_BYTES * (mpi and ranks > 1)
    return process + found.tiles_bytes + arrivals, arrivals


def history_columns(network: Network, dt: float) -> int:
    """Steps that the lists of spikes of a tile have room for."""
    return 1 << int(np.ceil(np.log2(max(1, round(network.max_delay / dt)) + CALL_STEPS + 2)))


def kept_steps(network: Network, dt: float) -> float:
    """For how many steps spikes of others take memory: those of a call, or of the longest delay, and room to grow."""
    longest = max(1, round(network.max_delay / dt))
    return GROWN * max(min(history_columns(network, dt) - longest - 2, CHUNK_STEPS), longest + 1)


def all_routes(
    found: Placed, known: Expected, network: Network, device: Device, ranks_per_node: int, dt: float
) -> dict[str, Route]:
    """Messages, bytes and time of the three ways to exchange spikes."""
    lines, ranks = found.traffic, len(found.time)
    nodes = len(lines.node_out)
    every = meetings(network, lines.epoch, dt)
    epochs = 1000 / every if every else 0.0
    held = np.minimum(ranks_per_node, ranks - np.arange(nodes) * ranks_per_node)  # ranks of each node
    node_peers = lines.node_peers.sum()
    per_node = {
        "flat": (lines.flat_node_bytes, float(lines.peers.max(initial=0)), node_peers),
        "two-level": (lines.node_bytes, float((lines.node_peers / held).max()), node_peers),
        "grid": (
            lines.grid_node_bytes,
            min(lines.grid_peers, float(lines.node_peers.max())) / ranks_per_node,
            nodes * lines.grid_peers,
        ),
    }
    update = per(found.parts, np.full(len(known.n), 1e-6 / dt * device.neuron_ns), ranks) / found.speed
    events = found.time - update
    looked = found.visits * device.visit_ns * 1e-9 / found.speed
    taken = np.maximum(lines.into, 0) * device.spike_ns * 1e-9 / found.speed
    slowest = int(np.argmax(update + events + looked + taken))
    near = min(ranks, ranks_per_node) - 1
    routes = {}
    for name, (sent, messages, pairs) in per_node.items():
        latency = (messages * device.latency * (nodes > 1) + near * device.local_latency + device.turn) * epochs
        bandwidth = float((sent / held).max()) / device.link
        cost = {"update": update[slowest], "events": events[slowest], "visits": looked[slowest]}
        cost |= {"spikes": taken[slowest], "latency": latency, "bandwidth": bandwidth}
        routes[name] = Route(
            messages=messages,
            bytes_per_node=float(sent.max()),
            bytes_total=float(sent.sum()),
            bytes_per_link=float(sent.sum() / pairs) if pairs else 0.0,
            exchange_s=float(taken[slowest]) + latency + bandwidth,
            slowdown=float(sum(cost.values())),
            bound=max(cost, key=lambda part: cost[part]),
        )
    return routes


def meetings(network: Network, epoch: float, dt: float) -> float | None:
    """ms from one exchange to the next, as the engine has it; None where there is none."""
    if not np.isfinite(epoch):
        return None
    shortest = min(int(delay_steps(network, p, dt).min(initial=MAX_BLOCK)) for p in network.projections)
    return meet_every(round(epoch / dt), min(MAX_BLOCK, shortest)) * dt


def imbalance(found: Placed) -> Imbalance:
    lines = found.traffic
    sent = lines.node_bytes if lines.node_bytes.any() else lines.bytes_out
    time, memory = found.load.time, found.load.memory
    ranks = len(found.time)
    fast = found.speed.max()
    largest = max(time.max() / (time.sum() / ranks), memory.max() / (memory.sum() / ranks)) * fast
    return Imbalance(
        compute=over_mean(found.time),
        visits=over_mean(found.visits),
        memory=over_mean(found.tiles_bytes),
        traffic=over_mean(sent),
        allowed=max(1.05, 1 + float(largest)),
    )


def over_mean(values: np.ndarray) -> float:
    return float(values.max() / values.mean()) if values.any() else 1.0


def described(method: str, found: Placed, route: Route) -> Compared:
    even = imbalance(found)
    return Compared(
        method=method, compute=even.compute, memory=even.memory, bytes_total=route.bytes_total,
        slowdown=route.slowdown, bound=route.bound,
    )  # fmt: skip


def enough(
    network: Network, tiles: Tiles, known: Expected, ranks_per_node: int, device: Device, method: str, history: str,
    dt: float, speeds: np.ndarray | None, synapses: str,
) -> int | None:  # fmt: skip
    """A number of equal ranks whose memory suffices, None where none does; placed anew to be sure."""
    total = stored_load(network, tiles, known, device, dt, synapses).memory.sum()
    arriving = 0.0
    for _ in range(TRIALS):
        room = device.memory / SPARE - device.base_bytes - network.description_bytes - arriving
        if room <= 0:
            return None
        ranks = int(-(-total // room))
        ranks = -(-ranks // ranks_per_node) * ranks_per_node if ranks > 1 else 1
        if ranks > len(tiles.n):
            return None
        found = place(network, tiles, known, ranks, ranks_per_node, device, method, dt, None, synapses)
        memory, _ = memories(network, found, device, ranks_per_node, dt, history)
        if memory.max() <= device.memory:
            return ranks
        arriving = float((memory - total / ranks).max()) - device.base_bytes - network.description_bytes
    return None


def used(device: Device) -> DeviceUsed:
    return DeviceUsed(
        name=device.name,
        source=device.source,
        measured=list(device.measured),
        memory_bytes=device.memory,
        neuron_ns=device.neuron_ns,
        event_ns=device.event_ns,
        visit_ns=device.visit_ns,
        spike_ns=device.spike_ns,
        neuron_bytes=device.neuron_bytes,
        base_bytes=device.base_bytes,
        link_bytes_s=device.link,
        latency_s=device.latency,
        local_latency_s=device.local_latency,
        cores=device.cores,
    )


def assumptions(
    device: Device, ranks_per_node: int, routing: str, synapses: str, history: str, kept_ms: float
) -> list[str]:
    """All that the figures rest on and that was not measured in this plan; what is not built comes first."""
    kept = f"every rank keeps the spikes it gets for some {kept_ms:.3g} ms: the longest delay, and room to grow"
    known = f"measured: {', '.join(device.measured)}; all else is estimated" if device.measured else "all is estimated"
    absent = []
    if history == "sender":
        absent.append(
            "NOT BUILT: --history sender. Spikes are kept by their sender until due, once; receivers hold two epochs, "
            "in one window per node. This version keeps them at every receiver: see --history receiver"
        )
        kept = "memory of spikes is that of --history sender"
    if routing == "grid":
        absent.append("NOT BUILT: --routing grid. This version has flat and two-level")
    if device.cores is None:
        absent.append(f"NOT BUILT, or not yet timed: a backend for {device.name}")
    shared = "each rank has a device of its own"
    if device.cores is not None:
        cores = "one core" if device.cores == 1 else f"{device.cores} cores"
        shared = f"the {ranks_per_node} ranks of a node share {cores} and the memory of one machine"
        if ranks_per_node > device.cores:
            shared += (
                f": OVERSUBSCRIBED, all work takes {device.polling:g} times longer than its share of the cores, and an "
                f"exchange waits {device.turn * 1e3:g} ms for its turn"
            )
    return [
        *absent,
        f"device {device.name}: {known}; {shared}, one thread each",
        "every neuron of a population fires at its mean rate, and spikes are spread evenly in time",
        "a tile's spikes go to every rank or node that holds a population it projects to, 2 bytes each and 2 for each "
        "tile and step",
        kept,
        "memory is that of kernels that were compiled before, and of the simulation: the first run of a version takes "
        "some 400 MB more, the report of rank 0 some 200",
        "a rank looks once at each arriving spike for every region that it holds a part of",
        f"exchange is not overlapped with compute; a rank sends one message in {device.latency * 1e6:g} µs and "
        f"{device.link / 1e9:g} GB/s between nodes, in {device.local_latency * 1e6:g} µs within a node",
        f"synapses are {synapses}",
    ]
