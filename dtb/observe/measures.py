"""Measures of BOLD (functional connectivity, filtering) and of firing (irregularity, synchrony)."""

from collections.abc import Sequence

import numpy as np


def functional_connectivity(bold: np.ndarray) -> np.ndarray:
    """Pearson correlation of every pair of regions, (region, region).

    Parameters
    ----------
    bold : (scan, region) array

    Notes
    -----
    FC_ij = Σ_t x_i(t) x_j(t) / sqrt(Σ_t x_i(t)² Σ_t x_j(t)²), with x the signal less its mean over the scans.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.measures import functional_connectivity
    >>> bold = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 2.0], [3.0, 6.0, 1.0]])
    >>> functional_connectivity(bold).round(6)
    array([[ 1.,  1., -1.],
           [ 1.,  1., -1.],
           [-1., -1.,  1.]])
    """
    x = standardised(checked_bold(bold))
    fc = np.clip(x.T @ x, -1, 1)  # rounding can leave 1 + 2e-16
    np.fill_diagonal(fc, 1)
    return fc


def standardised(bold: np.ndarray) -> np.ndarray:
    """(scan, region): each signal less its mean, its squares summing to 1, so that xᵀx is their correlation."""
    if len(bold) < 2:
        raise ValueError(f"bold has {len(bold)} scans. A correlation needs at least 2.")
    flat = np.flatnonzero(bold.max(axis=0) == bold.min(axis=0))
    if flat.size:
        value = bold[0, flat[0]]
        raise ValueError(
            f"bold of region {flat[0]} is {value:g} in every scan ({flat.size} such regions). "
            "A constant correlates with nothing; leave the region out."
        )
    x = bold - bold.mean(axis=0)
    x /= np.abs(x).max(axis=0)  # so that the squares of a very small signal do not vanish
    x /= np.sqrt((x**2).sum(axis=0))
    return x


def fc_correlation(fc_a: np.ndarray, fc_b: np.ndarray) -> float:
    """Similarity of two functional connectivities: Pearson correlation over their upper triangles, diagonal left out.

    Parameters
    ----------
    fc_a, fc_b : (region, region) array

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.measures import fc_correlation
    >>> fc = np.array([[1.0, 0.2, 0.5], [0.2, 1.0, 0.8], [0.5, 0.8, 1.0]])
    >>> round(fc_correlation(fc, 0.5 * fc), 6)
    1.0
    """
    fc_a, fc_b = np.asarray(fc_a, dtype=np.float64), np.asarray(fc_b, dtype=np.float64)
    if fc_a.shape != fc_b.shape or fc_a.ndim != 2 or fc_a.shape[0] != fc_a.shape[1]:
        raise ValueError(
            f"fc_a has shape {fc_a.shape}, fc_b {fc_b.shape}. Both must be (region, region), of the same regions."
        )
    if len(fc_a) < 3:
        raise ValueError(
            f"fc_a has {len(fc_a)} regions, which is too few pairs to correlate. At least 3 regions are needed."
        )
    pairs = np.triu_indices(len(fc_a), k=1)
    a, b = fc_a[pairs], fc_b[pairs]
    for name, x in (("fc_a", a), ("fc_b", b)):
        if not np.isfinite(x).all():
            raise ValueError(f"{name} is not finite in {np.sum(~np.isfinite(x))} pairs. Leave those regions out.")
        if x.max() == x.min():
            raise ValueError(f"{name} is {x[0]:g} for every pair of regions. A constant correlates with nothing.")
    return float(np.corrcoef(a, b)[0, 1])


def fisher_mean(fcs: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Mean of correlations over subjects or runs, (region, region), taken where correlations are nearly Gaussian.

    Parameters
    ----------
    fcs : (run, region, region) array

    Notes
    -----
    r̄ = tanh(⟨artanh r⟩); the diagonal is 1.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.measures import fisher_mean
    >>> fisher_mean([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.8], [0.8, 1.0]]]).round(6)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    r = np.array(fcs, dtype=np.float64)
    if r.ndim != 3 or r.shape[1] != r.shape[2] or len(r) == 0:
        raise ValueError(f"fcs has shape {r.shape}. It must be (run, region, region), with at least one run.")
    diagonal = np.arange(r.shape[1])
    r[:, diagonal, diagonal] = 0
    bad = np.argwhere(~(np.abs(r) < 1))
    if len(bad):
        run, i, j = bad[0]
        raise ValueError(
            f"fcs[{run}] is {r[run, i, j]:g} between regions {i} and {j}. "
            "It must lie strictly between -1 and 1; two regions with the same signal have no place in a mean."
        )
    mean = np.tanh(np.arctanh(r).mean(axis=0))
    mean[diagonal, diagonal] = 1
    return mean


def intervals(spike_time_ms: np.ndarray, spike_gid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inter-spike intervals of all neurons, (interval,) ms, and whose they are, (interval,) gid.

    Parameters
    ----------
    spike_time_ms : (spike,) array [ms]
        Times of all spikes, in any order.
    spike_gid : (spike,) array of int
        Who fired.

    Notes
    -----
    Ordered by gid, then time. A neuron with n spikes has n − 1 intervals, one with a single spike has none.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.measures import intervals
    >>> interval, gid = intervals(np.array([0.0, 5.0, 10.0, 40.0]), np.array([7, 3, 7, 7]))
    >>> interval.tolist(), gid.tolist()
    ([10.0, 30.0], [7, 7])
    """
    time, gid = np.asarray(spike_time_ms, dtype=np.float64), np.asarray(spike_gid)
    if time.ndim != 1 or time.shape != gid.shape:
        raise ValueError(f"spike_time_ms has shape {time.shape}, spike_gid {gid.shape}. Both must be (spike,).")
    if not np.isfinite(time).all():
        where = np.flatnonzero(~np.isfinite(time))[0]
        raise ValueError(f"spike_time_ms[{where}] is {time[where]}. Times must be finite.")
    order = np.lexsort((time, gid))
    time, gid = time[order], gid[order]
    same = gid[1:] == gid[:-1]  # an interval lies between two spikes of one neuron
    interval, owner = np.diff(time)[same], gid[1:][same]
    if (interval == 0).any():
        who = owner[np.argmin(interval)]
        raise ValueError(f"neuron {who} has two spikes at one time. Are these spikes of several runs or members?")
    return interval, owner


def isi_cv(spike_time_ms: np.ndarray, spike_gid: np.ndarray, min_spikes: int = 10) -> float:
    """Irregularity of firing: mean over neurons of the coefficient of variation of their inter-spike intervals.

    0 is a clock, 1 is Poisson. It is nan where no neuron has `min_spikes` spikes.

    Parameters
    ----------
    spike_time_ms : (spike,) array [ms]
        Times of all spikes, in any order.
    spike_gid : (spike,) array of int
        Who fired.
    min_spikes : int
        Neurons with fewer spikes are left out; at least 3. Their intervals are too few for a standard deviation.

    Notes
    -----
    CV = ⟨ sqrt(⟨ISI²⟩ − ⟨ISI⟩²) / ⟨ISI⟩ ⟩, inner means over the intervals of a neuron, outer one over neurons. With few
    intervals it is biased down: a Poisson neuron with 10 spikes has 0.87 on average, one with 100 has 0.99.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.measures import isi_cv
    >>> time = np.array([0.0, 10.0, 40.0, 50.0, 80.0, 5.0, 25.0])   # neuron 7: 10, 30, 10, 30; neuron 3: too few
    >>> isi_cv(time, np.array([7, 7, 7, 7, 7, 3, 3]), min_spikes=5)
    0.5
    """
    if min_spikes < 3:
        raise ValueError(f"min_spikes is {min_spikes}. It must be at least 3, which is two intervals.")
    interval, gid = intervals(spike_time_ms, spike_gid)
    neuron, count = np.unique(gid, return_inverse=True, return_counts=True)[1:]
    enough = count + 1 >= min_spikes
    if not enough.any():
        return float("nan")
    mean = np.bincount(neuron, interval) / count
    variance = np.bincount(neuron, (interval - mean[neuron]) ** 2) / count
    return float(np.mean(np.sqrt(variance[enough]) / mean[enough]))


def synchrony(counts_per_step: np.ndarray, dt: float, bin_ms: float = 5.0) -> float:
    """Synchrony of firing: variance over mean of the number of spikes of the population in bins of 5 ms.

    1 is independent Poisson firing, N is N neurons that fire together. It is nan where nothing fired.

    Parameters
    ----------
    counts_per_step : (time,) array
        Spikes of the whole population in each step.
    dt : float [ms]
        Length of a step.
    bin_ms : float [ms]
        Length of a bin, a whole number of steps. A rest at the end that fills no bin is left out.

    Notes
    -----
    F = (⟨n²⟩ − ⟨n⟩²) / ⟨n⟩, with n the count in a bin. A rate that changes slowly raises it, too.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.measures import synchrony
    >>> synchrony(np.tile([8, 0, 0, 0, 0, 0, 0, 0, 0, 0], 100), dt=1.0)     # bins of 8, 0, 8, 0, …
    4.0
    """
    counts = np.asarray(counts_per_step, dtype=np.float64)
    if counts.ndim != 1:
        raise ValueError(f"counts_per_step has shape {counts.shape}. It must be (time,); sum over populations first.")
    bad = np.flatnonzero(~((counts >= 0) & (counts < np.inf)))
    if bad.size:
        raise ValueError(f"counts_per_step[{bad[0]}] is {counts[bad[0]]}. Counts must be finite and at least 0.")
    if not (dt > 0 and bin_ms > 0):
        raise ValueError(f"dt is {dt} ms and bin_ms is {bin_ms} ms. Both must be above 0.")
    width = round(bin_ms / dt)
    if width < 1 or abs(width * dt - bin_ms) > 1e-9 * bin_ms:
        raise ValueError(f"bin_ms is {bin_ms} ms, which is not a whole number of steps of {dt} ms. Change bin_ms.")
    n_bins = len(counts) // width
    if n_bins < 2:
        raise ValueError(
            f"counts_per_step covers {len(counts) * dt:g} ms. At least two bins of {bin_ms} ms are needed."
        )
    binned = counts[: n_bins * width].reshape(n_bins, width).sum(axis=1)
    mean = binned.mean()
    return float(binned.var() / mean) if mean else float("nan")


def band_pass(bold: np.ndarray, tr_s: float, low: float, high: float) -> np.ndarray:
    """BOLD between two frequencies, (scan, region): a 2nd-order Butterworth filter run forwards and backwards.

    Parameters
    ----------
    bold : (scan, region) array
    tr_s : float [s]
        Time between scans.
    low, high : float [Hz]
        Edges of the band, below half a scan per `tr_s`. Resting-state studies take 0.01 and 0.1.

    Notes
    -----
    |H|² = 1 / (1 + x⁴),  x = (g² − g_low g_high) / (g (g_high − g_low)),  g = tan(π f tr_s), for both runs together.
    The phase is untouched and each edge passes a half. The filter swings in during about 1 / low at both ends.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.measures import band_pass
    >>> time_s = np.arange(1200) * 0.72
    >>> slow, drift = np.sin(2 * np.pi * 0.05 * time_s), np.sin(2 * np.pi * 0.001 * time_s)
    >>> filtered = band_pass((slow + drift)[:, None], tr_s=0.72, low=0.01, high=0.1)[:, 0]
    >>> bool(np.abs(filtered - slow)[200:-200].max() < 0.02)
    True
    """
    from scipy.signal import butter, filtfilt  # here, because scipy.signal is heavy

    bold = checked_bold(bold)
    if not tr_s > 0:
        raise ValueError(f"tr_s is {tr_s} s. It must be above 0.")
    if not 0 < low < high < 0.5 / tr_s:
        raise ValueError(
            f"the band is {low} to {high} Hz. It must rise from above 0 to below {0.5 / tr_s:g} Hz, half the scan rate."
        )
    b, a = butter(2, [low, high], btype="bandpass", fs=1 / tr_s)
    padding = 3 * max(len(a), len(b))  # scans that filtfilt mirrors at each end, its default
    if len(bold) <= padding:
        raise ValueError(f"bold has {len(bold)} scans. This filter needs more than {padding}.")
    return filtfilt(b, a, bold, axis=0, padlen=padding)


def checked_bold(bold: np.ndarray) -> np.ndarray:
    """BOLD as float64 (scan, region), without holes."""
    bold = np.asarray(bold, dtype=np.float64)
    if bold.ndim != 2:
        raise ValueError(f"bold has shape {bold.shape}. It must be (scan, region).")
    holes = np.argwhere(~np.isfinite(bold))
    if len(holes):
        scan, region = holes[0]
        raise ValueError(f"bold is {bold[scan, region]} in scan {scan}, region {region} ({len(holes)} such values).")
    return bold
