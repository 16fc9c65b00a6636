"""What a plan says: numbers that other programs read (plan.schema.json), and one table for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dtb.network.network import scaled

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = Path(__file__).with_name("plan.schema.json")

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Spread(Strict):
    """One quantity over ranks (or nodes)."""

    total: Amount
    min: Amount
    median: Amount
    max: Amount
    each: list[Amount] | None = Field(default=None, description="of every rank in order; only with --per-rank")

    @classmethod
    def of(cls, values: np.ndarray, each: bool = False) -> Spread:
        low, middle, high = (float(f(values)) for f in (np.min, np.median, np.max))
        kept = [float(v) for v in values] if each else None
        return cls(total=float(values.sum()), min=low, median=middle, max=high, each=kept)


class Route(Strict):
    """One way of exchanging spikes."""

    messages: Amount = Field(description="between ranks or nodes, per rank and exchange; mean of the busiest node")
    bytes_per_node: Amount = Field(description="that leave the busiest node per biological second")
    bytes_total: Amount = Field(description="between nodes per biological second, all hops counted")
    bytes_per_link: Amount = Field(description="mean per biological second of the pairs of nodes that exchange")
    exchange_s: Amount = Field(description="wall s per biological s of the busiest node")
    slowdown: Amount = Field(description="wall s per biological s, compute and exchange one after the other")
    bound: str = Field(description="what takes most of it: update, events, visits, spikes, latency or bandwidth")


class Imbalance(Strict):
    """max/mean over ranks; 1 is even."""

    compute: Amount = Field(description="update and events, over the speed of each rank")
    visits: Amount = Field(description="spikes looked at")
    memory: Amount = Field(description="neurons and stored synapses")
    traffic: Amount = Field(description="bytes that leave nodes, or ranks where there is one node")
    allowed: Amount = Field(description="max(1.05, 1 + largest tile / mean load), for compute and memory")


class Compared(Strict):
    """The same with another method of balance."""

    method: str
    compute: Amount
    memory: Amount
    bytes_total: Amount = Field(description="between nodes per biological second, by the chosen routing")
    slowdown: Amount
    bound: str


class Beside(Strict):
    planned: Amount
    measured: Amount


class Rehearsed(Strict):
    """One rank, run alone on one core of this machine, with spikes of the others made up."""

    rank: Count
    biological_ms: Amount = Field(description="that were measured, after the rates had settled")
    core: str = Field(description="what time and memory are planned for here")
    neurons: Count
    rate_hz: Amount = Field(description="spikes/s of its neurons, measured")
    step_ms: Beside = Field(description="wall ms per step: compute, and handling what arrives")
    memory: Beside = Field(description="bytes of the process, without MPI")
    events: Beside = Field(description="synaptic events per biological second")
    spikes_in: Beside = Field(description="per biological second, from other ranks; made up at the rates of the plan")
    spikes_out: Beside = Field(description="per biological second, once for each rank they go to")


class DeviceUsed(Strict):
    name: str
    source: str
    measured: list[str] = Field(description="figures that were measured; all others are estimates")
    memory_bytes: Amount
    neuron_ns: Amount
    event_ns: Amount
    visit_ns: Amount
    spike_ns: Amount
    neuron_bytes: Amount
    base_bytes: Amount
    link_bytes_s: Amount = Field(description="between nodes, per rank, each way")
    latency_s: Amount = Field(description="of a message between nodes")
    local_latency_s: Amount = Field(description="of a message within a node")
    cores: Count | None = Field(
        description="of a machine that the ranks of a node share; null: each has its own device"
    )


class Plan(Strict):
    """What a run on many ranks will need and take; nothing of it was allocated."""

    use: Literal["Research use only; not a medical device."] = "Research use only; not a medical device."
    network_hash: str
    neurons: Count
    synapses: Amount
    populations: Count
    regions: Count
    tiles: Count
    ranks: Count
    ranks_per_node: Count
    nodes: Count
    dt_ms: Amount
    epoch_ms: Amount | None = Field(description="shortest delay between ranks; null where ranks need never meet")
    exchange_every_ms: Amount | None = Field(description="an epoch, or half of it where an exchange can be overlapped")
    method: str = Field(description="of balance")
    routing: Literal["flat", "two-level", "grid"]
    mean_rate_hz: Amount
    rates_from: str
    device: DeviceUsed
    neurons_rank: Spread
    synapses_rank: Spread
    memory_rank: Spread = Field(description="bytes; process, neurons, stored synapses and spikes of other ranks")
    events_rank: Spread = Field(description="synaptic events per biological second")
    visits_rank: Spread = Field(description="spikes looked at, per biological second and region on the rank")
    compute_rank: Spread = Field(description="wall s per biological s; update, events and visits")
    spikes_out_rank: Spread = Field(description="per biological second, once for each rank they go to")
    spikes_in_rank: Spread = Field(description="per biological second, from other ranks")
    peers_rank: Spread = Field(description="ranks that a rank sends to: its messages per epoch, flat")
    peers_node: Spread = Field(description="nodes that a node sends to: its messages per epoch, two-level")
    spikes_out_node: Spread = Field(description="per biological second, once for each node they go to")
    spikes_in_node: Spread = Field(description="per biological second, from other nodes")
    imbalance: Imbalance
    grid: list[Count] = Field(description="rows and columns of nodes in the third route")
    routes: dict[str, Route]
    by_spike_share: Amount | None = Field(
        description="bytes between nodes if each spike went only where its synapses end, over two-level; null without"
    )
    history: Literal["receiver", "sender"] = Field(description="who keeps a spike until it is due")
    arrivals_rank: Spread = Field(description="bytes of memory_rank that hold spikes of other ranks")
    slowdown: Amount = Field(description="wall s per biological s, by the chosen routing")
    bound: str
    fits: bool = Field(description="whether every rank's memory suffices")
    ranks_that_fit: Count | None = Field(description="a number of ranks that would do; null where it fits or none does")
    compared: list[Compared]
    rehearsed: Rehearsed | None = Field(default=None, description="with --dry-run")
    assumptions: list[str]

    def refusal(self, config: str) -> str:
        """Why this plan cannot be run, and what would do."""
        worst = scaled(self.memory_rank.max)
        text = f"a rank needs {worst}, its {self.device.name} has {scaled(self.device.memory_bytes)}."
        if self.ranks_that_fit is None:
            held = scaled(self.arrivals_rank.max)
            return (
                f"{text} {held} of that are spikes of other ranks, and more ranks would not need less. Lower n_neurons "
                "or take a device with more memory."
            )
        needed = self.ranks_that_fit
        nodes = f" --ranks-per-node {self.ranks_per_node}" if self.ranks_per_node > 1 else ""
        return f"{text} {needed:,} ranks would fit; see dtb plan {config} --ranks {needed}{nodes}."


def schema_text() -> str:
    """The published schema of `dtb plan --json`."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Plan.model_json_schema()
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_schema() -> None:
    """After a change of the model: python -c "import cluster.plan_report; cluster.plan_report.write_schema()"."""
    SCHEMA.write_text(schema_text(), encoding="utf-8")


def tables(plan: Plan) -> RenderableType:
    """For a terminal."""
    from rich.console import Group
    from rich.table import Table

    head = (
        f"Plan for {plan.neurons:,} neurons and {plan.synapses:.3g} synapses on {plan.ranks:,} ranks, {plan.nodes:,} "
        f"nodes: research use only\n"
        f"network {plan.network_hash}, {plan.tiles:,} tiles, dt {plan.dt_ms:g} ms, "
        + (f"exchange every {plan.exchange_every_ms:g} ms" if plan.exchange_every_ms else "no exchange")
        + f", {plan.mean_rate_hz:.3g} spikes/s ({plan.rates_from}), balance '{plan.method}'\n"
        f"device {plan.device.name}: {plan.device.source}"
    )
    ranks = Table("", "in total", "least", "median", "most", title="per rank, and per biological second", box=None)
    rows: list[tuple[str, Spread, bool]] = [
        ("neurons", plan.neurons_rank, False),
        ("synapses", plan.synapses_rank, False),
        ("memory", plan.memory_rank, True),
        ("  spikes of others", plan.arrivals_rank, True),
        ("events", plan.events_rank, False),
        ("spikes looked at", plan.visits_rank, False),
        ("compute, wall s", plan.compute_rank, False),
        ("spikes out, by rank", plan.spikes_out_rank, False),
        ("spikes in, by rank", plan.spikes_in_rank, False),
        ("peers of a rank", plan.peers_rank, False),
        ("peers of a node", plan.peers_node, False),
        ("spikes out, by node", plan.spikes_out_node, False),
        ("spikes in, by node", plan.spikes_in_node, False),
    ]
    for name, spread, is_bytes in rows:
        say = scaled if is_bytes else short
        ranks.add_row(name, *(say(v) for v in (spread.total, spread.min, spread.median, spread.max)))
    routes = Table(
        "routing", "messages per rank and exchange", "from a node, per s", "per link, per s", "exchange s", "slow-down",
        "bound by", title="exchange", box=None,
    )  # fmt: skip
    for name, route in plan.routes.items():
        mark = " *" if name == plan.routing else ""
        routes.add_row(
            name + mark, short(route.messages), scaled(route.bytes_per_node), scaled(route.bytes_per_link),
            short(route.exchange_s), f"{short(route.slowdown)} ×", route.bound,
        )  # fmt: skip
    even = plan.imbalance
    tail = (
        f"imbalance, max/mean: compute {even.compute:.3f}, memory {even.memory:.3f} (allowed {even.allowed:.3f}), "
        f"spikes looked at {even.visits:.3f}, traffic {even.traffic:.3f}\n"
        f"expected slow-down {short(plan.slowdown)} × by {plan.routing} routing, bound by {plan.bound}"
    )
    parts: list[RenderableType] = [head, ranks, routes, tail]
    if plan.compared:
        other = Table("balance", "compute", "memory", "between nodes, per s", "slow-down", "bound by", box=None)
        for row in plan.compared:
            other.add_row(
                row.method, f"{row.compute:.3f}", f"{row.memory:.3f}", scaled(row.bytes_total),
                f"{short(row.slowdown)} ×", row.bound,
            )  # fmt: skip
        parts.append(other)
    if plan.rehearsed is not None:
        parts += rehearsal(plan.rehearsed)
    parts.append("assumed:\n" + "\n".join(f"  {line}" for line in plan.assumptions))
    return Group(*parts)


def rehearsal(told: Rehearsed) -> list[RenderableType]:
    from rich.table import Table

    head = (
        f"dry run of rank {told.rank:,}: {told.neurons:,} neurons at {told.rate_hz:.3g} spikes/s, "
        f"{told.biological_ms:g} ms on one core of this machine, alone"
    )
    table = Table("", "planned", "measured", "planned / measured", title=head, box=None, title_justify="left")
    rows: list[tuple[str, Beside, Callable[[float], str]]] = [
        ("wall ms per step", told.step_ms, short),
        ("memory, without MPI", told.memory, scaled),
        ("events per s", told.events, short),
        ("spikes in per s", told.spikes_in, short),
        ("spikes out per s", told.spikes_out, short),
    ]
    for name, both, say in rows:
        ratio = f"{both.planned / both.measured:.3f}" if both.measured else "–"
        table.add_row(name, say(both.planned), say(both.measured), ratio)
    return [table]


def short(value: float) -> str:
    """Three digits, whole where that is no longer."""
    if value == 0 or 0.01 <= value < 1e6:
        return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{value:.3g}"
