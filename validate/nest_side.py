"""NEST's side of the comparison: runs in NEST's environment and knows nothing of dtb.

python nest_side.py network|driven IN.npz OUT.npz

NEST adds a spike that it detects at the end of a step to the conductance `delay` later, also at the end of a step, and
a current that a generator sends reaches a neuron one step late. So time starts here LEAD steps after NEST's own zero:
what others call the end of step k is NEST's time (k + 1 + LEAD) dt.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import nest
import numpy as np

LEAD = 2  # steps that a current takes from its generator to the membrane
CHUNK = 5_000  # steps of current that generators hold at once
MODEL = "iaf_cond_exp"  # conductances that jump and decay, as ours; g_ex for weights above zero, g_in for those below
CELL = ("C_m", "g_L", "E_L", "V_th", "V_reset", "t_ref", "E_ex", "E_in", "tau_syn_ex", "tau_syn_in")


def reset(dt: float, seed: int) -> None:
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.resolution = dt
    nest.local_num_threads = 1
    nest.rng_seed = seed


def cell(given) -> dict[str, float]:
    return {name: float(given[name]) for name in CELL}


class Currents:
    """A step current into every neuron, piece by piece, because NEST keeps the whole list of every generator."""

    def __init__(self, neurons, dt: float) -> None:
        self.neurons, self.dt = neurons, dt
        self.generators = nest.Create("step_current_generator", len(neurons))
        nest.Connect(self.generators, neurons, "one_to_one", {"delay": dt})

    def run(self, v: np.ndarray, steps: int, piece: Callable[[int, int], np.ndarray]) -> None:
        """Simulate `steps` steps from membranes v under the currents `piece(first step, steps)`, (steps, neurons) pA.

        A generator sends a value one step before its time, so a piece is handed over LEAD steps before it acts.
        """
        for first in range(0, steps, CHUNK):
            ahead = min(CHUNK, steps - first)
            times = np.round((first + np.arange(ahead) + LEAD - 1) * self.dt, 6)  # NEST counts in 0.001 ms
            self.generators.set([{"amplitude_times": times, "amplitude_values": row} for row in piece(first, ahead).T])
            if first == 0:
                nest.Simulate(LEAD * self.dt)
                self.neurons.V_m = v
            nest.Simulate((ahead - LEAD * (first == 0)) * self.dt)
        nest.Simulate((LEAD + 1) * self.dt)  # to the end of the last step, and one more, in which meters tell of it


def network(given) -> dict[str, np.ndarray]:
    """Spikes (step, neuron) of a network given as an edge list."""
    dt, n = float(given["dt"]), len(given["v"])
    steps = round(float(given["duration"]) / dt)
    reset(dt, int(given["seed"]) + 1)
    begin = time.perf_counter()
    neurons = nest.Create(MODEL, n, cell(given) | {"V_m": float(given["E_L"])})
    ids = np.array(neurons.tolist())
    delay = np.round(np.rint(given["delay"] / dt) * dt, 6)
    edges = {"weight": given["weight"].astype(float), "delay": delay}
    nest.Connect(ids[given["pre"]], ids[given["post"]], "one_to_one", edges)
    currents, recorder = Currents(neurons, dt), nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    built = time.perf_counter() - begin
    current = Given(given["current"]) if "current" in given else OrnsteinUhlenbeck(given, n, dt)
    currents.run(given["v"].astype(float), steps, current.piece)
    step, sender = steps_of(recorder.events["times"], dt), recorder.events["senders"] - ids[0]
    kept, wall = step < steps, time.perf_counter() - begin
    return {"step": step[kept], "gid": sender[kept], "wall": np.array([built, wall])}


def steps_of(times: np.ndarray, dt: float) -> np.ndarray:
    """Numbers of the steps that end at these times of NEST."""
    return np.rint(times / dt).astype(np.int64) - 1 - LEAD


class Given:
    """Currents (steps, n) pA that were sent along."""

    def __init__(self, current: np.ndarray) -> None:
        self.current = current.astype(float)

    def piece(self, first: int, steps: int) -> np.ndarray:
        return self.current[first : first + steps]


class OrnsteinUhlenbeck:
    """Background of its own: true Gaussian noise from NumPy, the exact recursion of the process, no draw shared."""

    def __init__(self, given, n: int, dt: float) -> None:
        self.rng = np.random.default_rng([int(given["seed"]), 20_240])
        self.mean, self.sd = float(given["bg_mean"]), float(given["bg_sd"])
        self.decay = np.exp(-dt / float(given["bg_tau"]))
        self.now = self.sd * self.rng.standard_normal(n)

    def piece(self, first: int, steps: int) -> np.ndarray:
        """(steps, n) pA; pieces come in order."""
        kick = self.sd * np.sqrt(1 - self.decay**2) * self.rng.standard_normal((steps, len(self.now)))
        for row in kick:
            self.now = self.now * self.decay + row
            row[:] = self.now
        return self.mean + kick


def driven(given) -> dict[str, np.ndarray]:
    """Membrane and spikes of one neuron under given spikes and a given current.

    spike_time, spike_weight: when conductances jump [ms], and by how much [nS]; current (steps,) pA.
    """
    dt, current = float(given["dt"]), given["current"].astype(float)
    reset(dt, 1)
    neuron = nest.Create(MODEL, 1, cell(given) | {"V_m": float(given["E_L"])})
    currents = Currents(neuron, dt)
    arrival = np.rint(given["spike_time"] / dt).astype(np.int64) + LEAD  # steps; sent one step before it arrives
    for excitatory in (True, False):
        chosen = (given["spike_weight"] > 0) == excitatory
        at, inverse = np.unique(arrival[chosen], return_inverse=True)
        if len(at):
            summed = np.bincount(inverse, given["spike_weight"][chosen])
            times = np.round((at - 1) * dt, 6)
            source = nest.Create("spike_generator", 1, {"spike_times": times, "spike_weights": summed})
            nest.Connect(source, neuron, syn_spec={"delay": dt, "weight": 1.0})
    meter = nest.Create("multimeter", 1, {"record_from": ["V_m"], "interval": dt})
    recorder = nest.Create("spike_recorder")
    nest.Connect(meter, neuron, syn_spec={"delay": dt})
    nest.Connect(neuron, recorder)
    currents.run(float(given["v"]), len(current), Given(current[:, None]).piece)
    step, spikes = steps_of(meter.events["times"], dt), steps_of(recorder.events["times"], dt)
    v = meter.events["V_m"][(step >= 0) & (step < len(current))]
    return {"v": v, "spike_step": spikes[spikes < len(current)]}


def main() -> None:
    task, source, target = sys.argv[1:]
    with np.load(source) as given:
        result = {"network": network, "driven": driven}[task](dict(given))
    np.savez(target, **result, version=np.array(nest.__version__))


if __name__ == "__main__":
    main()
