"""Neuronal avalanches: spells of activity between quiet bins, their sizes, durations and how these go together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dtb.observe.blocks import Blocks, counts_of, whole_steps
from dtb.observe.power_law import PowerLaw, fit_power_law


class Avalanches(NamedTuple):
    """size (avalanche,) spikes above the threshold; duration (avalanche,) bins; both int64."""

    size: np.ndarray
    duration: np.ndarray


class Criticality(NamedTuple):
    """Exponents of avalanches, and whether they go together as at a critical point.

    size, duration: the power laws, P(s) ∝ s^−α, P(d) ∝ d^−α.  growth: γ of ⟨s⟩(d) ∝ d^γ.  predicted: what γ would be
    by the crackling-noise relation, (α_duration − 1) / (α_size − 1).  A critical branching process has 3/2, 2 and 2.
    """

    size: PowerLaw
    duration: PowerLaw
    growth: float
    predicted: float


def find_avalanches(counts: Blocks, dt: float, bin_ms: float, threshold: int = 0) -> Avalanches:
    """Avalanches of a population: runs of bins with more than `threshold` spikes.

    Parameters
    ----------
    counts : (time,) array of int, or an iterable of such arrays that follow each other
        Spikes of the population in each step.
    dt : float [ms]
        Length of a step.
    bin_ms : float [ms]
        Length of a bin. Beggs & Plenz take the mean interval between the spikes of what was recorded.
    threshold : int
        Spikes that a quiet bin may hold. 0 for a few dozen neurons; large populations are never quiet, and half the
        mean count is what Del Papa et al. take.

    Notes
    -----
    size = Σ (n − threshold) over the bins of the run. A run that is cut by the start or the end is left out. The state
    between blocks is one run, so blocks give what the whole gives. Exponents depend on bin and threshold: say both.

    References
    ----------
    Beggs & Plenz (2003), J. Neurosci. 23:11167. Del Papa, Priesemann & Triesch (2017), PLoS ONE 12:e0178683.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.avalanches import find_avalanches
    >>> found = find_avalanches(np.array([9, 0, 1, 2, 0, 0, 5, 0, 7]), dt=1.0, bin_ms=1.0)
    >>> found.size.tolist(), found.duration.tolist()
    ([3, 5], [2, 1])
    """
    width = whole_steps("bin_ms", bin_ms, dt)
    if threshold < 0 or threshold != int(threshold):
        raise ValueError(f"threshold is {threshold}. It must be a whole number of spikes, at least 0.")
    sizes, durations = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    open_size, open_duration, whole = 0, 0, False  # of the run that a block leaves behind; whole: its start was seen
    for counts_of_bins in counts_of(counts, "counts", width):
        above = counts_of_bins - int(threshold)
        quiet = np.flatnonzero(above <= 0)
        running = np.concatenate([[0], np.cumsum(np.maximum(above, 0))])
        if not quiet.size:
            open_size, open_duration = open_size + int(running[-1]), open_duration + len(above)
            continue
        edges = np.concatenate([[-1], quiet])
        duration, size = np.diff(edges) - 1, np.diff(running[np.concatenate([[0], quiet])])
        duration[0], size[0] = duration[0] + open_duration, size[0] + open_size
        keep = duration > 0
        keep[0] &= whole
        sizes.append(size[keep])
        durations.append(duration[keep])
        open_size, open_duration, whole = int(running[-1] - running[quiet[-1]]), len(above) - 1 - int(quiet[-1]), True
    return Avalanches(np.concatenate(sizes), np.concatenate(durations))


def criticality(
    avalanches: Avalanches,
    size_range: tuple[int | None, int | None] = (None, None),
    duration_range: tuple[int | None, int | None] = (None, None),
) -> Criticality:
    """Exponents of size and duration by maximum likelihood, and the crackling-noise relation between them.

    Parameters
    ----------
    avalanches : Avalanches
    size_range, duration_range : (smallest, largest) or None
        Over which each power law is fitted; a None smallest is chosen by the data, a None largest is none.

    Notes
    -----
    γ is the slope of log ⟨s⟩(d) on log d over the durations fitted, each weighted by its number of avalanches. That
    both γ agree is necessary at a critical point, not sufficient: thresholded noise can have it, too.

    References
    ----------
    Sethna, Dahmen & Myers (2001), Nature 410:242. Friedman et al. (2012), Phys. Rev. Lett. 108:208102.
    Destexhe & Touboul (2021), eNeuro 8:ENEURO.0551-20.2021, for the caution.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.avalanches import Avalanches, criticality
    >>> duration = np.repeat([1, 2, 4, 8, 16], [256, 64, 16, 4, 1])
    >>> found = criticality(Avalanches(duration**2, duration), (1, None), (1, None))
    >>> round(found.growth, 6)
    2.0
    """
    size = fit_power_law(avalanches.size, *size_range)
    duration = fit_power_law(avalanches.duration, *duration_range)
    high = np.inf if duration.x_max is None else duration.x_max
    lengths, index, weight = np.unique(avalanches.duration, return_inverse=True, return_counts=True)
    mean = np.bincount(index, avalanches.size) / weight
    used = (lengths >= duration.x_min) & (lengths <= high)
    if used.sum() < 2:
        raise ValueError("the avalanches fitted all last equally long, so there is no growth of size with duration.")
    growth = np.polyfit(np.log(lengths[used]), np.log(mean[used]), 1, w=np.sqrt(weight[used]))[0]
    return Criticality(size, duration, float(growth), (duration.alpha - 1) / (size.alpha - 1))
