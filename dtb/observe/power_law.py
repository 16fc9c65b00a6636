"""Power laws of whole numbers, fitted by maximum likelihood and put to the test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MIN_TAIL = 50  # values that a fit needs: below it α is biased (Clauset et al. 2009, section 3.5)
ALPHA = (1.0001, 8.0)  # in which α is searched; without an upper limit a power law needs α > 1


class PowerLaw(NamedTuple):
    """P(x) ∝ x^−alpha for whole x from x_min to x_max (None: no upper end).

    error: standard error of alpha.  distance: Kolmogorov–Smirnov, of the data from the fit.  n: values fitted.
    over_exponential: log-likelihood less that of the best exponential, per value; above 0 the power law fits better.
    """

    alpha: float
    error: float
    x_min: int
    x_max: int | None
    distance: float
    n: int
    over_exponential: float


def fit_power_law(x: np.ndarray, x_min: int | None = None, x_max: int | None = None) -> PowerLaw:
    """Exponent of a discrete power law by maximum likelihood.

    Parameters
    ----------
    x : (value,) array of int, at least 1
    x_min : int or None
        From where on the law holds; None takes the one with the smallest distance between data and fit.
    x_max : int or None
        Up to where it holds, for data that a finite system cuts; None for no end.

    Notes
    -----
    ln L = −n ln Σ_{k=x_min}^{x_max} k^−α − α Σ ln x, maximised over α; without x_max the sum is the Hurwitz zeta
    function (Clauset et al., eq. 3.5). The error is 1/√(n Var[ln x]) under the fit, their eq. 3.6.

    References
    ----------
    Clauset, Shalizi & Newman (2009), SIAM Rev. 51:661.
    Marshall et al. (2016), Front. Physiol. 7:250, for an upper end.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.power_law import fit_power_law
    >>> fit = fit_power_law(np.random.default_rng(1).zipf(2.5, 10_000), x_min=1)
    >>> abs(fit.alpha - 2.5) < 3 * fit.error, fit.over_exponential > 0
    (True, True)
    """
    values, counts = _distinct(x)
    if x_max is not None:
        counts, values = counts[values <= x_max], values[values <= x_max]
    if x_min is not None:
        keep = values >= x_min
        values, counts = values[keep], counts[keep]
        starts = [int(x_min)]
    else:
        left = counts[::-1].cumsum()[::-1]  # values from each distinct one on
        starts = [int(v) for v in values[:-1][left[:-1] >= MIN_TAIL]]
    if counts.sum() < MIN_TAIL or len(values) < 2 or not starts:
        raise ValueError(
            f"{counts.sum()} values, {len(values)} of them distinct, lie in the range; at least {MIN_TAIL}, and 2 "
            "distinct ones, are needed. Record longer, or widen the range."
        )
    fits = [_fit(values[values >= start], counts[values >= start], start, x_max) for start in starts]
    return min(fits, key=lambda fit: fit.distance)


def goodness(fit: PowerLaw, n_samples: int = 100, seed: int = 1) -> float:
    """p-value of a power law: how often data drawn from the fit lie farther from their own fit than these do.

    Parameters
    ----------
    fit : PowerLaw
        From `fit_power_law`.
    n_samples : int
        Data sets drawn; the p-value is good to 1/(2 √n_samples).
    seed : int

    Notes
    -----
    Clauset et al., section 4.1: below 0.1 the power law is ruled out. Each set has as many values as the fit, and is
    fitted over the same range; they choose x_min anew for each, which matters where few values are below it.

    References
    ----------
    Clauset, Shalizi & Newman (2009), SIAM Rev. 51:661.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.power_law import fit_power_law, goodness
    >>> x = np.random.default_rng(1).zipf(2.5, 2_000)
    >>> goodness(fit_power_law(x, x_min=1)) > 0.1
    True
    """
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}. At least one is needed.")
    rng = np.random.default_rng(seed)
    drawn = (_distinct(_draw(rng, fit, fit.n)) for _ in range(n_samples))
    return sum(_fit(*values, fit.x_min, fit.x_max).distance >= fit.distance for values in drawn) / n_samples


def _fit(values: np.ndarray, counts: np.ndarray, x_min: int, x_max: int | None) -> PowerLaw:
    """The best α from x_min on, for distinct values and how often each occurs."""
    from scipy.optimize import minimize_scalar  # here, because scipy.optimize is heavy

    n, mean_log = int(counts.sum()), float(counts @ np.log(values)) / int(counts.sum())
    low, high = (0.0, ALPHA[1]) if x_max is not None else ALPHA
    found = minimize_scalar(
        lambda a: np.log(_tail(a, x_min, x_max)) + a * mean_log,
        bounds=(low, high), method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    alpha, h = float(found.x), 1e-3
    norm = [float(np.log(_tail(a, x_min, x_max))) for a in (alpha - h, alpha, alpha + h)]
    variance = (norm[0] - 2 * norm[1] + norm[2]) / h**2  # d² ln ζ / dα² = Var[ln x]
    distance = _distance(values, counts, alpha, x_min, x_max)
    gain = float(-found.fun) - _exponential(values, counts, x_min, x_max)
    return PowerLaw(alpha, float(1 / np.sqrt(n * max(variance, 1e-300))), x_min, x_max, distance, n, gain)


def _tail(alpha: float, start, x_max: int | None):
    """Σ of k^−α from start on, up to x_max."""
    if x_max is None:
        from scipy.special import zeta

        return zeta(max(alpha, 1 + 1e-9), start)
    powers = np.arange(1, x_max + 1, dtype=np.float64) ** -alpha
    sums = np.concatenate([np.cumsum(powers[::-1])[::-1], [0.0]])
    return sums[np.asarray(start, np.int64) - 1]


def _distance(values: np.ndarray, counts: np.ndarray, alpha: float, x_min: int, x_max: int | None) -> float:
    """Largest gap between both distributions; between two values that occur, it is largest before the later one."""
    below = np.concatenate([[0], counts.cumsum()]) / counts.sum()
    norm = _tail(alpha, x_min, x_max)
    at, before = 1 - _tail(alpha, values + 1, x_max) / norm, 1 - _tail(alpha, values, x_max) / norm
    return float(max(np.abs(below[1:] - at).max(), np.abs(below[:-1] - before).max()))


def _exponential(values: np.ndarray, counts: np.ndarray, x_min: int, x_max: int | None) -> float:
    """Largest log-likelihood, per value, of P(x) ∝ q^x from x_min on."""
    from scipy.optimize import minimize_scalar

    mean = float(counts @ (values - x_min)) / counts.sum()
    if x_max is None:
        q = mean / (1 + mean)
        return float(np.log1p(-q) + mean * np.log(q)) if mean > 0 else 0.0
    span = x_max - x_min + 1

    def cost(rate: float) -> float:  # −ln L of q = e^−rate; the sum is geometric
        return float(rate * mean + np.log(-np.expm1(-rate * span)) - np.log(-np.expm1(-rate)))

    return -float(minimize_scalar(cost, bounds=(1e-12, 50.0), method="bounded", options={"xatol": 1e-12}).fun)


def _draw(rng: np.random.Generator, fit: PowerLaw, n: int) -> np.ndarray:
    """n values of the fitted law, by inverting its distribution; a value past 2^53 would not be exact, and is cut."""
    u = rng.random(n)
    norm = _tail(fit.alpha, fit.x_min, fit.x_max)
    low = np.full(n, fit.x_min, np.int64)  # P(X ≥ low) ≥ 1 − u throughout
    high = np.full(n, fit.x_max + 1 if fit.x_max is not None else 2**53, np.int64)
    while (high - low > 1).any():
        middle = low + (high - low) // 2
        beyond = _tail(fit.alpha, middle, fit.x_max) / norm >= 1 - u
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return low


def _distinct(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and how often each occurs."""
    x = np.asarray(x)
    if x.ndim != 1 or (x.size and not (np.isfinite(x).all() and (x == np.floor(x)).all() and x.min() >= 1)):
        raise ValueError(f"x has shape {x.shape}. It must be (value,), whole numbers from 1 on.")
    values, counts = np.unique(x.astype(np.int64), return_counts=True)
    return values, counts
