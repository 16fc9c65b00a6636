"""The branching ratio: how many spikes one spike sets off; below 1 activity dies out, at 1 it is critical."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dtb.observe.blocks import Blocks, counts_of, whole_steps


class Branching(NamedTuple):
    """What `branching_ratio` finds.

    m: multistep regression, the same however few neurons were seen. naive: slope of one bin on the one before, which
    is m only if every neuron was seen.  tau [ms]: −bin / ln m, how long activity lingers; infinite at m = 1.
    amplitude: naive / m or so, how far from all neurons.  slopes (lag,): r_1, r_2, …
    """

    m: float
    naive: float
    tau: float
    amplitude: float
    slopes: np.ndarray


def lagged_slopes(counts: Blocks, n_lags: int, width: int = 1) -> np.ndarray:
    """Slope of the linear regression of the activity k bins later on that of now, for k = 1..n_lags, (lag,).

    Parameters
    ----------
    counts : (time,) array of int, or an iterable of such arrays that follow each other
        Spikes of a population in each step.
    n_lags : int
    width : int
        Steps that make a bin.

    Notes
    -----
    r_k = Cov(A_t, A_{t+k}) / Var(A_t), both means and the variance those of the very bins that take part. Sums are of
    integers: blocks give the very numbers of the whole, in memory that does not grow.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.branching import lagged_slopes
    >>> lagged_slopes(np.array([16, 8, 4, 2, 1]), n_lags=2).tolist()
    [0.5, 0.25]
    """
    if n_lags < 1:
        raise ValueError(f"n_lags is {n_lags}. At least one is needed.")
    products = [0] * (n_lags + 1)  # whole numbers of any size: Σ A_t A_{t+k}
    total = n = 0
    head, tail = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for block in counts_of(counts, "counts", width):
        head = np.concatenate([head, block[: n_lags - len(head)]]) if len(head) < n_lags else head
        joined, new = np.concatenate([tail, block]), len(block)
        _refuse_overflow(joined)
        for k in range(min(n_lags, len(joined) - 1) + 1 if new else 0):
            later = joined[max(k, len(joined) - new) :]
            products[k] += int(later @ joined[len(joined) - len(later) - k : len(joined) - k])
        total, n, tail = total + int(block.sum()), n + new, joined[-n_lags:]
    if n < n_lags + 3:
        raise ValueError(f"counts fill {n} bins, too few for {n_lags} lags. Record longer or lower n_lags.")
    slopes = np.full(n_lags, np.nan)
    for k in range(1, n_lags + 1):
        pairs, before, after = n - k, total - int(tail[-k:].sum()), total - int(head[:k].sum())
        squares = products[0] - int(tail[-k:] @ tail[-k:])
        variance = pairs * squares - before**2
        if variance:
            slopes[k - 1] = (pairs * products[k] - before * after) / variance
    return slopes


def branching_ratio(counts: Blocks, dt: float, bin_ms: float, max_lag_ms: float, offset: bool = False) -> Branching:
    """Branching ratio of the activity of a population, of whose neurons only some may have been seen.

    Parameters
    ----------
    counts : (time,) array of int, or an iterable of such arrays that follow each other
        Spikes of the population, or of any part of it, in each step.
    dt : float [ms]
        Length of a step.
    bin_ms : float [ms]
        Length of a generation: about the time from a spike to those that it sets off. `tau` does not depend on it.
    max_lag_ms : float [ms]
        Up to which slopes are used: a few times `tau`.
    offset : bool
        Fit a constant, too, where the rate drifts over the recording.

    Notes
    -----
    For a branching process seen in part, r_k = b m^k, whatever the part (Wilting & Priesemann): b, and with it
    the naive r_1, falls with the part, m does not. b and m are those of least squares. Take `offset` with care: it
    takes slow decay for drift.

    References
    ----------
    Wilting & Priesemann (2018), Nat. Commun. 9:2325. Spitzner et al. (2021), PLoS ONE 16:e0249447.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.branching import branching_ratio
    >>> rng = np.random.default_rng(1)
    >>> activity = [200]
    >>> for _ in range(20_000):
    ...     activity.append(rng.poisson(0.9 * activity[-1] + 20))
    >>> seen = rng.binomial(activity, 0.05)                               # one spike in 20
    >>> found = branching_ratio(seen, dt=1.0, bin_ms=1.0, max_lag_ms=40.0)
    >>> abs(found.m - 0.9) < 0.03, found.naive < 0.3
    (True, True)
    """
    width, n_lags = whole_steps("bin_ms", bin_ms, dt), int(max_lag_ms / bin_ms * (1 + 1e-12))
    if n_lags < 4:
        raise ValueError(f"max_lag_ms is {max_lag_ms} ms, {n_lags} bins. At least 4 are needed; raise it.")
    slopes = lagged_slopes(counts, n_lags, width)
    if not np.isfinite(slopes).all():
        return Branching(float("nan"), float("nan"), float("nan"), float("nan"), slopes)
    m, amplitude = _decay(slopes, offset)
    tau = -bin_ms / np.log(m) if 0 < m < 1 else float("inf") if m >= 1 else 0.0
    return Branching(m, float(slopes[0]), float(tau), amplitude, slopes)


def _decay(slopes: np.ndarray, offset: bool) -> tuple[float, float]:
    """m and b of the least-squares fit of b m^k (+ c): for each m the rest is linear, and m alone is searched."""
    from scipy.optimize import minimize_scalar  # here, because scipy.optimize is heavy

    lag = np.arange(1, len(slopes) + 1)

    def fit(m: float) -> tuple[float, float]:
        columns = [m**lag, np.ones(len(lag))] if offset else [m**lag]
        design = np.stack(columns, axis=1)
        solution = np.linalg.lstsq(design, slopes, rcond=None)[0]
        return float(((design @ solution - slopes) ** 2).sum()), float(solution[0])

    # m from lingering a fifth of a bin to growth by 5 % a bin; closer together where it decays slowly
    grid = np.concatenate([np.exp(-1 / np.geomspace(0.2, 1e4, 200)), np.linspace(1.0002, 1.05, 50)])
    best = int(np.argmin([fit(m)[0] for m in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    m = float(minimize_scalar(lambda m: fit(m)[0], bounds=bounds, method="bounded", options={"xatol": 1e-12}).x)
    return m, fit(m)[1]


def _refuse_overflow(counts: np.ndarray) -> None:
    largest = int(counts.max(initial=0))
    if largest**2 * max(len(counts), 1) >= 2**63:
        raise ValueError(
            f"a bin holds {largest:,} spikes; sums of squares would pass 64 bits. Hand over smaller blocks."
        )
