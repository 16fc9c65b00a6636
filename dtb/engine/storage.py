"""Whether synapses are read from memory or computed: what each costs, and which is faster."""

from __future__ import annotations

from dtb.network.network import Network

SYNAPSE_BYTES = 6  # stored: where it ends and when, uint32, and its weight, int16
ROW_BYTES = 20  # stored, per neuron: where its rows begin, by kind, and what was dropped of them
SUM_BYTES = 4  # stored, per neuron and step that the longest delay reaches ahead
STORED_BYTES = 1 << 27  # up to which reading is faster than computing, 100,000 neurons or so at 1 ms; see benchmarks


def stored_bytes(network: Network, dt: float) -> float:
    """Memory that stored synapses take."""
    ahead = network.max_delay / dt + 2
    return SYNAPSE_BYTES * network.n_synapses + (ROW_BYTES + SUM_BYTES * ahead) * network.n_neurons


def choose_storage(network: Network, dt: float, wanted: str = "auto") -> str:
    """ "stored" or "procedural"; "auto" takes what is faster."""
    if wanted != "auto":
        return wanted
    return "stored" if stored_bytes(network, dt) <= STORED_BYTES else "procedural"
