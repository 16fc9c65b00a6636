"""The one loop of `statistics` that NumPy cannot make quick; apart, because numba takes long to import."""

from __future__ import annotations

from numba import njit


@njit("(i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1])", nogil=True, cache=True)  # ready before a run begins
def add_intervals(step, neuron, last, n, total, squares):
    """Add the intervals between spikes of a neuron, and from its last one before; spikes come in the order of steps.

    step, neuron (s,).  last: step of the last spike of each neuron, or -1.  n, total, squares: spikes of each neuron,
    sum of its intervals and of their squares.
    """
    for s in range(step.shape[0]):
        k = neuron[s]
        if last[k] >= 0:
            interval = step[s] - last[k]
            total[k] += interval
            squares[k] += interval * interval
        last[k] = step[s]
        n[k] += 1
