"""a. The update: against the same kernel in C where the state fits a cache, and against a bare stream elsewhere."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit

import dtb
from benchmarks.alone import COLUMNS, UpdateAlone
from benchmarks.measure import interleaved, quotient, report, seconds

SOURCE = Path(__file__).with_suffix(".c")
COMPILE = ("gcc", "-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC")
STATE_BYTES = 2 * (6 * 4 + 2)  # read and written of a neuron: six float32 and a uint16; sums and spikes stay in cache
TRIAD_BYTES = 12  # as STREAM counts: two float32 read, one written


def run() -> None:
    small, large = (alone(n, steps) for n, steps in ((100_000, 100), (10_000_000, 5)))
    in_c = compiled()
    same = is_same(small, in_c)
    times = interleaved({"numba": small.run, "c": lambda: in_c(small)})
    steps = small.n_neurons * small.steps
    report(
        "a.update", [s / steps * 1e9 for s in times["numba"]], "ns per neuron and step", against="the same in C",
        ratios=quotient(times["numba"], times["c"]), bar=1.5, n=small.n_neurons, rate_hz=small.rate,
        c_ns=min(times["c"]) / steps * 1e9, bit_identical_after_100_steps=same,
    )  # fmt: skip
    elements = large.n_neurons * large.steps * STATE_BYTES // TRIAD_BYTES
    passes, arrays = large.steps, [np.ones(elements // large.steps, np.float32) for _ in range(3)]
    times = interleaved({"update": large.run, "triad": lambda: seconds(triad, *arrays, np.float32(3), passes)})
    steps = large.n_neurons * large.steps
    report(
        "a.update_stream", [s / steps * 1e9 for s in times["update"]], "ns per neuron and step",
        against=f"a triad of the same {STATE_BYTES} bytes per neuron",
        ratios=quotient(times["update"], times["triad"]), bar=1.5, n=large.n_neurons, rate_hz=large.rate,
        triad_gb_s=TRIAD_BYTES * elements / min(times["triad"]) / 1e9,
    )  # fmt: skip


def alone(n_neurons: int, steps: int) -> UpdateAlone:
    network = dtb.build_network(dtb.default_brain(), n_neurons=n_neurons)
    return UpdateAlone(dtb.Simulation(network, threads=1, synapses="procedural"), steps)


def is_same(neurons: UpdateAlone, in_c: Callable[[UpdateAlone], float]) -> bool:
    """Whether fields, refractoriness and spikes after a run, with synaptic input, are the same bits in C."""
    neurons.sums = np.random.default_rng(1).integers(0, 2**20, neurons.sums.shape, np.int32)
    before, after = (neurons.fields.copy(), neurons.hold.copy()), []
    for run in (neurons.run, lambda: in_c(neurons)):
        neurons.fields[:], neurons.hold[:] = before
        neurons.history.neuron[:] = neurons.clock = 0
        run()
        left = neurons.fields, neurons.hold, neurons.history.neuron, neurons.history.start
        after.append([array.tobytes() for array in left])
    neurons.fields[:], neurons.hold[:] = before
    neurons.sums = np.zeros_like(neurons.sums)
    return after[0] == after[1]


def compiled() -> Callable[[UpdateAlone], float]:
    """`UpdateAlone.run` in C."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "update.so"
        subprocess.run([*COMPILE, "-o", library, SOURCE], check=True)
        sweep = ctypes.CDLL(str(library)).sweep
    sweep.restype = ctypes.c_int64

    def in_c(neurons: UpdateAlone) -> float:
        home, history, dynamics = neurons.layout, neurons.history, neurons.dynamics
        key = dynamics.key[neurons.clock :]
        arrays = (
            home.first, home.n, home.block, home.population, dynamics.table, key, neurons.fields, neurons.hold,
            neurons.sums, neurons.sums, history.neuron, history.base, history.start,
        )  # fmt: skip
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        counts = [ctypes.c_int64(i) for i in (neurons.steps, len(home.n), COLUMNS)]
        return seconds(sweep, *counts[:2], *pointers, counts[2])

    return in_c


@njit(nogil=True)
def triad(a, b, c, s, passes):
    """a = b + s · c of STREAM (McCalpin 1995), again and again."""
    for _ in range(passes):
        for i in range(a.shape[0]):
            a[i] = b[i] + s * c[i]
