"""How neurons of a population fire beside each other: the spread of their rates, the correlation of their trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

SpikeBlocks = Iterable[tuple[np.ndarray, np.ndarray]]  # of (times [ms], gids), one block after the other in time


class RateDistribution(NamedTuple):
    """Spread of rates over neurons, spikes/s.

    mean, sd; cv: sd / mean; p10, median, p90; silent: share of neurons without a spike; log10_sd: sd of log10 of the
    rates above zero, which says it all where they are lognormal, as they nearly are in cortex.
    """

    mean: float
    sd: float
    cv: float
    p10: float
    median: float
    p90: float
    silent: float
    log10_sd: float


def neuron_rates(spike_gid: np.ndarray | Iterable[np.ndarray], first: int, n: int, duration: float) -> np.ndarray:
    """Spikes/s of every neuron of a population, the silent ones too, (neuron,).

    Parameters
    ----------
    spike_gid : (spike,) array of int, or an iterable of such arrays
        Who fired. Spikes of other neurons are left out.
    first, n : int
        The neurons are first : first + n, as in `Network.population`.
    duration : float [ms]

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.firing import neuron_rates
    >>> neuron_rates(np.array([7, 9, 7, 100]), first=7, n=3, duration=500.0).tolist()
    [4.0, 0.0, 2.0]
    """
    if n < 1 or not 0 < duration < np.inf:
        raise ValueError(f"n is {n} and duration is {duration} ms. There must be neurons, and time.")
    count = np.zeros(n, np.int64)
    for gids in (spike_gid,) if isinstance(spike_gid, np.ndarray) else spike_gid:
        place = _places(gids, first, n)
        count += np.bincount(place[place >= 0], minlength=n)
    return count * (1000 / duration)


def rate_distribution(rates: np.ndarray) -> RateDistribution:
    """Mean, spread, quantiles and silent share of the rates of neurons.

    Parameters
    ----------
    rates : (neuron,) array [spikes/s]
        From `neuron_rates`.

    References
    ----------
    Buzsáki & Mizuseki (2014), Nat. Rev. Neurosci. 15:264.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.firing import rate_distribution
    >>> found = rate_distribution(np.array([0.0, 1.0, 10.0, 100.0]))
    >>> found.median, found.silent, round(found.log10_sd, 3)
    (5.5, 0.25, 0.816)
    """
    rates = np.asarray(rates, np.float64)
    if rates.ndim != 1 or not rates.size or not (np.isfinite(rates).all() and rates.min() >= 0):
        raise ValueError(f"rates has shape {rates.shape}. It must be (neuron,), finite and not negative.")
    mean, firing = float(rates.mean()), rates[rates > 0]
    low, median, high = (float(x) for x in np.quantile(rates, (0.1, 0.5, 0.9)))
    return RateDistribution(
        mean=mean,
        sd=float(rates.std()),
        cv=float(rates.std() / mean) if mean else float("nan"),
        p10=low,
        median=median,
        p90=high,
        silent=1 - len(firing) / len(rates),
        log10_sd=float(np.log10(firing).std()) if firing.size else float("nan"),
    )


def train_correlation(
    spikes: tuple[np.ndarray, np.ndarray] | SpikeBlocks, gids: np.ndarray, duration: float, bin_ms: float = 5.0
) -> np.ndarray:
    """Pearson correlation of the spike counts of every pair of neurons, (neuron, neuron).

    Parameters
    ----------
    spikes : (times [ms], gids), or an iterable of such pairs that follow each other in time
        Such as `zip(recording.read_blocks("spike_time"), recording.read_blocks("spike_gid"))`.
    gids : (neuron,) array of int
        Neurons to correlate, each one once. The result takes 8 bytes a pair.
    duration : float [ms]
        From time 0 on; spikes from `duration` on, and a rest that fills no bin, are left out.
    bin_ms : float [ms]
        Length of a bin. Correlations grow with it until it spans what makes the neurons fire together.

    Returns
    -------
    (neuron, neuron) array; nan in the rows and columns of neurons whose count never changes.

    Notes
    -----
    r_ij = (⟨n_i n_j⟩ − ⟨n_i⟩⟨n_j⟩) / (σ_i σ_j) over the bins. Sums are of integers, so blocks give the very numbers of
    the whole. In the asynchronous state the mean over pairs is near zero.

    References
    ----------
    Renart et al. (2010), Science 327:587. De la Rocha et al. (2007), Nature 448:802, for the part of the bin.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.firing import train_correlation
    >>> time, gid = np.array([1.0, 2.0, 11.0, 12.0, 16.0]), np.array([4, 5, 4, 5, 6])
    >>> train_correlation((time, gid), np.array([4, 5, 6]), duration=20.0).round(3).tolist()
    [[1.0, 1.0, -0.577], [1.0, 1.0, -0.577], [-0.577, -0.577, 1.0]]
    """
    gids = np.asarray(gids)
    order = np.argsort(gids, kind="stable")
    if gids.ndim != 1 or not gids.size or (np.diff(gids[order]) == 0).any():
        raise ValueError(f"gids has shape {gids.shape}. It must be (neuron,), with each neuron once.")
    if not 0 < bin_ms <= duration / 2:
        raise ValueError(f"bin_ms is {bin_ms} ms of {duration} ms. At least two bins are needed.")
    n_bins = int(duration / bin_ms * (1 + 1e-12))
    total, cross = np.zeros(len(gids)), np.zeros((len(gids), len(gids)))  # whole numbers below 2^53, so exact
    for counts in _binned(spikes, gids[order], n_bins, bin_ms):
        total += counts.sum(axis=0)
        cross += counts.T @ counts
    back = np.argsort(order)
    total, cross = total[back], cross[np.ix_(back, back)]
    covariance = n_bins * cross - np.outer(total, total)
    sd = np.sqrt(np.diagonal(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(covariance / np.outer(sd, sd), -1, 1)


def _binned(spikes, gids: np.ndarray, n_bins: int, bin_ms: float) -> Iterable[np.ndarray]:
    """(bins, neurons) counts of the bins that hold spikes; those that a later block may add to are held back."""
    pairs = (spikes,) if isinstance(spikes, tuple) and len(spikes) == 2 else spikes
    late_bin, late_place = np.zeros(0, np.int64), np.zeros(0, np.int64)
    done = 0
    for times, who in pairs:
        time = np.asarray(times, np.float64)
        if time.ndim != 1 or time.shape != np.shape(who):
            raise ValueError(f"times have shape {time.shape}, gids {np.shape(who)}. Both must be (spike,).")
        number = np.floor(time / bin_ms + 1e-9).astype(np.int64)  # a time on an edge opens a bin, whatever the rounding
        if number.min(initial=done) < done:
            early = time[np.argmin(number)]
            raise ValueError(f"a spike at {early:g} ms comes after later ones. Blocks follow each other in time.")
        place = np.searchsorted(gids, np.asarray(who))
        known = gids[np.minimum(place, len(gids) - 1)] == who
        keep = known & (number < n_bins)
        number = np.concatenate([late_bin, number[keep]])
        place = np.concatenate([late_place, place[keep]])
        last = int(number.max(initial=done))
        late = number == last
        yield from _dense(number[~late], place[~late], len(gids))
        late_bin, late_place, done = number[late], place[late], last
    yield from _dense(late_bin, late_place, len(gids))


def _dense(number: np.ndarray, place: np.ndarray, n: int, at_once: int = 1 << 22) -> Iterable[np.ndarray]:
    """Counts of spikes given by bin and neuron, in tables of at most `at_once` numbers, without the empty bins."""
    order = np.argsort(number, kind="stable")
    row = np.cumsum(np.diff(number[order], prepend=-1) > 0) - 1
    rows = max(1, at_once // n)
    for start in range(0, int(row[-1]) + 1 if len(row) else 0, rows):
        here = slice(*np.searchsorted(row, (start, start + rows)))
        size = min(rows, int(row[-1]) + 1 - start)
        flat = (row[here] - start) * n + place[order][here]
        yield np.bincount(flat, minlength=size * n).reshape(size, n).astype(np.float64)


def _places(gids: np.ndarray, first: int, n: int) -> np.ndarray:
    """Places in first : first + n, -1 for other neurons; unsigned gids do not wrap."""
    gids = np.asarray(gids)
    inside = (gids >= first) & (gids < first + n)
    return np.where(inside, gids.astype(np.int64) - first, -1)
