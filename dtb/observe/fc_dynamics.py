"""How functional connectivity changes in time: in sliding windows, and from window to window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dtb.observe.measures import checked_bold, functional_connectivity, standardised

WINDOW_S, STEP_S = 60.0, 2.0  # s, of Hansen et al. (2015)
AT_ONCE = 1 << 22  # correlations held at once while windows are compared: 32 MB


def fc_windows(
    bold: np.ndarray, tr_s: float, window_s: float = WINDOW_S, step_s: float = STEP_S
) -> Iterator[tuple[float, np.ndarray]]:
    """Functional connectivity in sliding windows: (start [s], (region, region)), one after the other.

    Parameters
    ----------
    bold : (scan, region) array
    tr_s : float [s]
        Time between scans.
    window_s, step_s : float [s]
        Length of a window, and from the start of one to the start of the next; rounded to whole scans.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.fc_dynamics import fc_windows
    >>> bold = np.random.default_rng(1).normal(size=(100, 5))
    >>> [start for start, fc in fc_windows(bold, tr_s=1.0, window_s=60.0, step_s=20.0)]
    [0.0, 20.0, 40.0]
    """
    bold = checked_bold(bold)
    starts, width = _windows(len(bold), tr_s, window_s, step_s)
    return ((start * tr_s, functional_connectivity(bold[start : start + width])) for start in starts)


def fc_dynamics(
    bold: np.ndarray, tr_s: float, window_s: float = WINDOW_S, step_s: float = STEP_S, at_once: int = AT_ONCE
) -> np.ndarray:
    """The FCD matrix: Pearson correlation of the functional connectivities of every two windows, (window, window).

    Parameters
    ----------
    bold : (scan, region) array
    tr_s : float [s]
        Time between scans.
    window_s, step_s : float [s]
        As in `fc_windows`.
    at_once : int
        Correlations held in memory; a voxel brain has too many pairs for all windows. Changes nothing but memory.

    Notes
    -----
    FCD(a, b) = corr over pairs i < j of (FC_ij in window a, FC_ij in window b). Blocks away from the diagonal are
    times at which the same connectivity came back.

    References
    ----------
    Hansen, Battaglia, Spiegler, Deco & Jirsa (2015), NeuroImage 105:525.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.fc_dynamics import fc_dynamics
    >>> bold = np.random.default_rng(1).normal(size=(300, 10))
    >>> fc_dynamics(bold, tr_s=1.0, window_s=60.0, step_s=60.0).shape
    (5, 5)
    """
    bold = checked_bold(bold)
    starts, width = _windows(len(bold), tr_s, window_s, step_s)
    n = bold.shape[1]
    if n < 3:
        raise ValueError(f"bold has {n} regions, too few pairs to correlate. At least 3 are needed.")
    if len(starts) < 2:
        raise ValueError(f"only one window of {window_s:g} s fits. Lower window_s or step_s.")
    n_pairs, total, cross = n * (n - 1) // 2, np.zeros(len(starts)), np.zeros((len(starts), len(starts)))
    rows = max(1, at_once // (len(starts) * n))
    for first in range(0, n - 1, rows):
        here = np.arange(first, min(first + rows, n - 1))
        above = np.arange(n) > here[:, None]
        windows = (standardised(bold[s : s + width]) for s in starts)
        fc = np.stack([(x[:, here].T @ x)[above] for x in windows])
        total += fc.sum(axis=1)
        cross += fc @ fc.T
    covariance = cross - np.outer(total, total) / n_pairs
    sd = np.sqrt(np.diagonal(covariance))
    fcd = np.clip(covariance / np.outer(sd, sd), -1, 1)
    np.fill_diagonal(fcd, 1)
    return fcd


def fcd_distance(fcd_a: np.ndarray, fcd_b: np.ndarray, overlap: int = 0) -> float:
    """How unlike the dynamics of two recordings are: Kolmogorov–Smirnov distance of the entries of their FCD, 0 to 1.

    Parameters
    ----------
    fcd_a, fcd_b : (window, window) array
        From `fc_dynamics`, with the same window and step; the number of windows may differ.
    overlap : int
        Pairs of windows fewer than this many steps apart are left out: they share scans. ⌈window_s / step_s⌉ leaves
        out all of them, 0 only the diagonal.

    References
    ----------
    Deco et al. (2018), Curr. Biol. 28:3065, which fits a whole-brain model by it.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.fc_dynamics import fcd_distance
    >>> fcd_distance(np.full((4, 4), 0.2), np.full((5, 5), 0.4))
    1.0
    """
    from scipy.stats import ks_2samp  # here, because scipy.stats is heavy

    entries = []
    for name, given in (("fcd_a", fcd_a), ("fcd_b", fcd_b)):
        fcd = np.asarray(given, np.float64)
        if fcd.ndim != 2 or fcd.shape[0] != fcd.shape[1] or not np.isfinite(fcd).all():
            raise ValueError(f"{name} has shape {fcd.shape}. It must be (window, window) and finite.")
        entries.append(fcd[np.triu_indices(len(fcd), k=max(1, overlap))])
        if not entries[-1].size:
            raise ValueError(f"{name} has {len(fcd)} windows, none of which are {max(1, overlap)} steps apart.")
    return float(ks_2samp(*entries, method="asymp").statistic)


def _windows(n_scans: int, tr_s: float, window_s: float, step_s: float) -> tuple[list[int], int]:
    """First scan of each window, and scans in a window."""
    if not (tr_s > 0 and window_s > 0 and step_s > 0):
        raise ValueError(f"tr_s is {tr_s}, window_s {window_s} and step_s {step_s} s. All must be above 0.")
    width, step = round(window_s / tr_s), max(1, round(step_s / tr_s))
    if width < 3:
        raise ValueError(f"window_s is {window_s} s, {width} scans of {tr_s} s. A window needs at least 3.")
    if width > n_scans:
        raise ValueError(f"bold has {n_scans} scans, a window of {window_s:g} s needs {width}. Lower window_s.")
    return list(range(0, n_scans - width + 1, step)), width
