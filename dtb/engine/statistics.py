"""What the summary of every run says about its firing, gathered as it runs in memory that does not grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dtb.network.network import Network

if TYPE_CHECKING:
    from dtb.engine.streams import Activity

SETTLE = 2000.0  # ms; the start, all membranes below threshold and no inhibition, is left out of CV and synchrony
BIN = 5.0  # ms, of the population count
MIN_SPIKES = 10  # of a neuron whose intervals are used
MAX_SAMPLE = 20_000  # neurons whose intervals are followed
NUMBERS = ("steps", "_bins", "_bin_sum", "_bin_squares", "_part", "_in_part")
ARRAYS = ("population_spikes", "_last", "_n", "_sum", "_squares")


class Position(NamedTuple):
    """Where something stands that gathers as a run goes on: arrays by name, and whole numbers that JSON can hold."""

    arrays: dict[str, np.ndarray]
    numbers: dict[str, Any]


def sample_stride(network: Network) -> int:
    """Intervals are followed of neurons with gid % stride == 0: the same ones in every run of a network."""
    return -(-network.n_neurons // MAX_SAMPLE)


class Statistics:
    """Spikes per class, synchrony, irregularity; hand it every chunk of a run, in order.

    Parameters
    ----------
    network : Network
    dt : float [ms]

    Notes
    -----
    The same as `isi_cv` and `synchrony` of dtb.observe.measures, without keeping the spikes: the mean over neurons with
    at least 10 spikes of sd/mean of their intervals, and variance/mean of the population's spikes in bins of 5 ms
    (rounded to steps). Both leave out the first 2 s and are None where nothing is left.
    """

    def __init__(self, network: Network, dt: float) -> None:
        from dtb.engine.statistics_kernel import add_intervals

        self._add_intervals = add_intervals
        self.network, self.dt = network, dt
        self.steps = 0
        self.population_spikes = np.zeros(network.n_populations, np.int64)
        self.stride = sample_stride(network)
        n_sample = -(-network.n_neurons // self.stride)
        self._settle = round(SETTLE / dt)
        self._width = max(1, round(BIN / dt))
        self._bins = self._bin_sum = self._bin_squares = 0  # whole numbers of any size
        self._part = self._in_part = 0
        self._last = np.full(n_sample, -1, np.int64)
        self._n, self._sum, self._squares = (np.zeros(n_sample, np.int64) for _ in range(3))

    def append(self, activity: Activity) -> None:
        """Add a chunk. Its spikes must hold all those of the sample, and may hold others."""
        self.population_spikes += activity.counts.sum(axis=0, dtype=np.int64)
        self._add_counts(activity.counts.sum(axis=1, dtype=np.int64), activity.start)
        neuron = activity.spike_gid // self.stride  # NumPy divides quickly, but takes long over a remainder
        keep = neuron * self.stride == activity.spike_gid
        if activity.start < self._settle:
            keep &= activity.spike_step >= self._settle
        self._add_intervals(activity.spike_step[keep], neuron[keep], self._last, self._n, self._sum, self._squares)
        self.steps += len(activity.counts)

    def _add_counts(self, total: np.ndarray, start: int) -> None:
        total = total[max(0, self._settle - start) :]
        ends = np.arange(self._width - self._in_part, len(total) + 1, self._width)
        running = np.concatenate([[0], np.cumsum(total)])
        sums = np.diff(running[ends], prepend=0)
        if len(sums):
            sums[0] += self._part
            self._part = 0
        self._bins += len(sums)
        self._bin_sum += int(sums.sum())
        self._bin_squares += sum(n * n for n in sums.tolist())
        self._part += int(running[-1] - (running[ends[-1]] if len(ends) else 0))
        self._in_part = (self._in_part + len(total)) % self._width

    # checkpoints -----------------------------------------------------------------------------------------------

    def position(self) -> Position:
        """All that `resume` needs to go on from here."""
        numbers = {name: getattr(self, name) for name in NUMBERS}
        return Position({name: getattr(self, name) for name in ARRAYS}, numbers)

    def resume(self, position: Position) -> None:
        for name in NUMBERS:
            setattr(self, name, position.numbers[name])
        for name in ARRAYS:
            setattr(self, name, position.arrays[name])

    # results ---------------------------------------------------------------------------------------------------

    @property
    def duration(self) -> float:
        """ms seen so far."""
        return self.steps * self.dt

    @property
    def mean_rate_hz(self) -> float | None:
        """Spikes/s of a neuron; None before the first step."""
        return self._rate(self.population_spikes.sum(), self.network.n_neurons)

    @property
    def rate_hz(self) -> dict[str, float | None]:
        """Spikes/s of a neuron of each class."""
        classes = self.network.population_class
        spikes = np.bincount(classes, self.population_spikes, minlength=len(self.network.classes))
        neurons = self.network.size.sum(axis=0)
        return {c.name: self._rate(spikes[k], neurons[k]) for k, c in enumerate(self.network.classes)}

    def _rate(self, spikes: float, neurons: int) -> float | None:
        return float(spikes / neurons / self.duration * 1000) if self.steps and neurons else None

    @property
    def isi_cv(self) -> float | None:
        enough = self._n >= MIN_SPIKES
        if not enough.any():
            return None
        n = self._n[enough] - 1.0
        mean = self._sum[enough] / n
        variance = self._squares[enough] / n - mean**2
        return float(np.mean(np.sqrt(np.maximum(variance, 0)) / mean))

    @property
    def synchrony(self) -> float | None:
        if self._bins < 2 or not self._bin_sum:
            return None
        mean = self._bin_sum / self._bins
        return (self._bins * self._bin_squares - self._bin_sum**2) / self._bins**2 / mean
