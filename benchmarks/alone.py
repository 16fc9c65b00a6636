"""The update alone: a network's neurons with nothing delivered to them, by the kernel of the cpu backend, on one core.

What delivery costs is the rest, so these neurons fire as they do in the network, and as many steps run at once.
"""

from __future__ import annotations

import time

import numpy as np
from numba import njit

import dtb
from dtb.engine.backends import aligned
from dtb.engine.backends.cpu_drive import spare
from dtb.engine.backends.cpu_kernels import LANES, History, update_tile
from dtb.network import rng

BACKGROUND = 400.0  # pA; with it cells without synapses fire at 7 spikes/s, as those of the default network do
SETTLE = 100.0  # ms; five membrane time constants
COLUMNS = 256  # of the history; more than the steps of a run
KEYS = 2048  # steps after which the noise repeats


class UpdateAlone:
    """`run` takes `steps` steps of a state of its own and returns their wall time.

    Parameters
    ----------
    simulation : Simulation
        Whose neurons, tiles and constants; it is left as it is.
    steps : int
        Of one run, below COLUMNS.
    block : int
        Steps that a tile runs at once.
    background : float [pA]
        Mean of the background current; None switches it off, so that nobody fires.
    """

    def __init__(
        self, simulation: dtb.Simulation, steps: int, block: int = 1, background: float | None = BACKGROUND
    ) -> None:
        network, backend = simulation.network, simulation._backend
        mean = np.full(network.n_populations, background or 0.0, np.float32)
        sd = simulation.control.sd * np.float32(background is not None)
        control = simulation.control._replace(mean=mean, sd=sd)
        state = backend.start(simulation.seed)
        self.n_neurons, self.dt, self.steps, self.block = network.n_neurons, simulation.dt, steps, block
        self.fields, self.hold, self.layout = state.fields, state.hold, backend.layout
        keys = rng.key(simulation.seed, rng.Stream.NOISE, np.arange(KEYS))
        self.dynamics = backend._dynamics(control, np.zeros((1, network.n_populations)), keys)
        self.probes = backend._probes(np.zeros(0, np.int64), steps)
        self.clock = 0
        n = backend.tiles.n.astype(np.int64)
        room = n * -(-steps // (int(backend.constants.hold.min()) + 1))
        plane = np.zeros(int(room.sum()) if block > 1 else 0, np.uint8)
        start = np.zeros((len(n), COLUMNS), np.int32)
        self.history = History(np.zeros(room.sum(), np.uint16), plane, np.cumsum(room) - room, room, start)
        self.sums = aligned.zeros((block, -(-int(n.max()) // LANES) * LANES), np.int32)
        self.spare = spare(backend.way.plan._replace(block=block, burst=block))
        for _ in range(int(SETTLE / self.dt / steps) + 1):
            self.run()

    def run(self) -> float:
        begin = time.perf_counter()
        sweep(
            self.clock, self.steps, self.block, self.fields, self.hold, self.sums, self.sums, self.layout, self.history,
            self.dynamics, self.probes, self.spare,
        )  # fmt: skip
        wall = time.perf_counter() - begin
        self.clock = (self.clock + self.steps) % (KEYS - self.steps)
        return wall

    @property
    def rate(self) -> float:
        """Spikes/s of the last run."""
        return float(self.history.start[:, self.steps].sum()) / self.n_neurons / (self.steps * self.dt / 1000)


@njit(nogil=True, _nrt=False)
def sweep(clock, steps, block, fields, hold, excitation, inhibition, layout, history, dynamics, probes, scratch):
    """All tiles, block of steps after block, every tile with the same sums; spikes are listed anew from step 0 on."""
    for step in range(0, steps, block):
        for tile in range(layout.n.shape[0]):
            update_tile(
                tile, step, clock + step, min(block, steps - step), fields, hold, excitation, inhibition, 0, 0, 0,
                layout, history, dynamics, probes, scratch,
            )  # fmt: skip
