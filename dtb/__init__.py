"""Digital Twin Brain: from one person's scans to a spiking network of that person's whole brain.

Research use only; not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtb.brain import Brain, default_brain, load_brain
    from dtb.engine.recording import Recording
    from dtb.engine.simulation import Simulation
    from dtb.network.build import build_network
    from dtb.network.network import CellClass, Network
    from dtb.network.neuron import LIF, Background
    from dtb.network.projection import Pairs, Projection, Weights
    from dtb.network.synapses import synapses
    from dtb.observe.balloon import Balloon
    from dtb.observe.measures import functional_connectivity

__version__ = "0.1.0"

__all__ = [
    "LIF",
    "Background",
    "Balloon",
    "Brain",
    "CellClass",
    "Network",
    "Pairs",
    "Projection",
    "Recording",
    "Simulation",
    "Weights",
    "build_network",
    "default_brain",
    "functional_connectivity",
    "load_brain",
    "synapses",
]

_HOME = {  # where each name lives; imported when it is first used, so that importing dtb costs nothing
    "LIF": "dtb.network.neuron",
    "Background": "dtb.network.neuron",
    "Balloon": "dtb.observe.balloon",
    "Brain": "dtb.brain",
    "CellClass": "dtb.network.network",
    "Network": "dtb.network.network",
    "Pairs": "dtb.network.projection",
    "Projection": "dtb.network.projection",
    "Recording": "dtb.engine.recording",
    "Simulation": "dtb.engine.simulation",
    "Weights": "dtb.network.projection",
    "build_network": "dtb.network.build",
    "default_brain": "dtb.brain",
    "functional_connectivity": "dtb.observe.measures",
    "load_brain": "dtb.brain",
    "synapses": "dtb.network.synapses",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dtb' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
