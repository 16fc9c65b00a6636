"""Ensemble Kalman filters, as plain linear algebra.

| here | usual | shape | what |
|---|---|---|---|
| N, n, p | N, n, p | | members, numbers of a state, observations at one time |
| x | E or x^(m) | (N, n) | the states of all members, one to a row |
| hx | h(x^(m)) | (N, p) | what each member would have been observed as |
| y, r | y, diag R | (p,) | the observations, NaN where one is missing, and the variances of their errors |
| X, Z | X', Y' | (N, n), (N, p) | x and hx less their means over members: anomalies |
| P, S, K | P H', H P H' + R, K | | covariances over N − 1, and the gain P S⁻¹ |

Every function takes states as they were forecast and returns them as analysed; none changes what it is given. A
smoother is the same analysis with earlier states among the numbers of x, see `lagged`.

Sources: Evensen (2003), Ocean Dynamics 53:343; Burgers et al. (1998), Mon. Weather Rev. 126:1719 (perturbed
observations); Whitaker & Hamill (2002), Mon. Weather Rev. 130:1913 (square-root gain); Hunt et al. (2007), Physica D
230:112 (symmetric square root, localisation); Evensen & van Leeuwen (2000), Mon. Weather Rev. 128:1852 (smoother).
"""

from __future__ import annotations

import numpy as np

MIN_MEMBERS = 2


def perturbed(x: np.ndarray, hx: np.ndarray, y: np.ndarray, r: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stochastic filter: every member meets the observations with an error of its own, drawn from `r`.

    Errors are shifted to a mean of zero over members, so that the mean of the analysis is free of them.

    Parameters
    ----------
    x : (N, n)
    hx : (N, p)
    y, r : (p,)
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        For fewer than two members, shapes that do not fit, or variances that are not positive.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(0, 1, (1000, 1))                       # prior N(0, 1), observed as 2 with variance 1: N(1, 1/2)
    >>> a = perturbed(x, x, np.array([2.0]), np.array([1.0]), rng)
    >>> abs(a.mean() - 1) < 0.1, abs(a.var() - 0.5) < 0.1
    (True, True)
    """
    hx, y, r = seen(x, hx, y, r)
    error = rng.standard_normal(hx.shape) * np.sqrt(r)
    innovation = y + (error - error.mean(axis=0)) - hx
    return x + innovation @ gain(x, hx, r).T


def transformed(x: np.ndarray, hx: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Deterministic filter (ETKF): anomalies are mixed by the symmetric square root, without any random number.

    Parameters
    ----------
    x : (N, n)
    hx : (N, p)
    y, r : (p,)

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(0, 1, (50, 1))
    >>> x = (x - x.mean()) / x.std(ddof=1)                     # a sample with the very moments of the prior
    >>> a = transformed(x, x, np.array([2.0]), np.array([1.0]))
    >>> round(float(a.mean()), 12), round(float(a.var(ddof=1)), 12)
    (1.0, 0.5)
    """
    hx, y, r = seen(x, hx, y, r)
    mean, mix = weights(hx, y, r)
    return x.mean(axis=0) + (mean + mix) @ (x - x.mean(axis=0))


def localised(x: np.ndarray, hx: np.ndarray, y: np.ndarray, r: np.ndarray, taper: np.ndarray) -> np.ndarray:
    """Deterministic filter, solved apart for every number of the state, with distant observations discounted (LETKF).

    Parameters
    ----------
    x : (N, n)
    hx : (N, p)
    y, r : (p,)
    taper : (n, p)
        Between 0 and 1: for number j of the state, the variance of observation k counts as r_k / taper_jk.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(0, 1, (50, 2))
    >>> y, r = np.array([2.0, -2.0]), np.ones(2)
    >>> apart = localised(x, x, y, r, np.eye(2))               # as two problems of one number each
    >>> np.allclose(apart[:, :1], transformed(x[:, :1], x[:, :1], y[:1], r[:1]))
    True
    """
    if taper.shape != (x.shape[-1], len(y)):
        raise ValueError(f"taper is {taper.shape}, expected ({x.shape[-1]}, {len(y)}): numbers, observations.")
    taper = taper[:, np.isfinite(y)]
    hx, y, r = seen(x, hx, y, r)
    mean, mix = weights(hx, y, r, taper)  # (n, N), (n, N, N)
    anomalies = x - x.mean(axis=0)
    return x.mean(axis=0) + np.einsum("jml,lj->mj", mean[:, None] + mix, anomalies)


def by_region(
    x: np.ndarray, hx: np.ndarray, y: np.ndarray, r: np.ndarray, rng: np.random.Generator | None = None
) -> np.ndarray:
    """All regions at once, each corrected by its own observation only.

    With one observation to a region nothing has to be inverted, and no spurious covariance between regions enters.
    Without `rng` the gain of anomalies is K / (1 + √(r/S)), the square root of Whitaker & Hamill (2002), which leaves
    exactly the variance of a Kalman filter; with it, observations are perturbed.

    Parameters
    ----------
    x : (N, region, n)
        The numbers of each region: parameters, their values at earlier scans, states of its haemodynamics.
    hx : (N, region)
    y, r : (region,)
        A region whose y is NaN keeps its states.
    rng : numpy.random.Generator or None

    Returns
    -------
    (N, region, n) array

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(0, 1, (50, 3, 1))
    >>> x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    >>> a = by_region(x, x[..., 0], np.array([2.0, np.nan, -2.0]), np.ones(3))
    >>> a.mean(axis=0)[:, 0].round(12).tolist()
    [1.0, 0.0, -1.0]
    >>> a.var(axis=0, ddof=1)[:, 0].round(12).tolist()
    [0.5, 1.0, 0.5]
    """
    members = len(x)
    if members < MIN_MEMBERS or hx.shape != x.shape[:2] or not y.shape == r.shape == hx.shape[1:]:
        raise ValueError(
            f"states {x.shape}, observed as {hx.shape}, observations {y.shape} and variances {r.shape} do not fit: "
            "expected (N, region, n), (N, region), (region,), (region,) with N of at least 2."
        )
    there = np.isfinite(y)
    anomaly = hx - hx.mean(axis=0)
    spread = (anomaly**2).sum(axis=0) / (members - 1)
    total = spread + r
    if not (total[there] > 0).all():
        raise ValueError("variances of observations must be above 0 where the members agree.")
    scale = np.where(there, 1 / np.where(total > 0, total, 1.0), 0.0)
    k = np.einsum("mri,mr->ri", x - x.mean(axis=0), anomaly) / (members - 1) * scale[:, None]
    y = np.where(there, y, 0.0)
    if rng is not None:
        error = rng.standard_normal(hx.shape) * np.sqrt(r)
        return x + k * (y + (error - error.mean(axis=0)) - hx)[..., None]
    alpha = 1 / (1 + np.sqrt(r * scale))
    moved = np.where(there, y - hx.mean(axis=0), 0.0) - alpha * anomaly
    return x + k * moved[..., None]


def diffused(
    x: np.ndarray, hx: np.ndarray, y: np.ndarray, r: np.ndarray, rate: float, rng: np.random.Generator
) -> np.ndarray:
    """The published diffusion filter: a share `rate` of each region's own correction, the rest the mean of all others'.

    w_i += rate K_ii (y_i + e_i − hx_i) + (1 − rate)/R Σ_j K_ij (y_j + e_j − hx_j), K_ij = cov(w_i, hx_j)/(var hx_j +
    r_j): each observation is taken as if it were the only one. Zhang et al. (2022), arXiv:2206.02986.

    Parameters
    ----------
    x : (N, region, n)
    hx : (N, region)
    y, r : (region,)
    rate : float
        Between 0 and 1; 1 is the stochastic `by_region` but for the mean of the errors.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}. It is a share, 0 to 1.")
    members = len(x)
    there = np.isfinite(y)
    anomaly, states = hx - hx.mean(axis=0), x - x.mean(axis=0)
    total = (anomaly**2).sum(axis=0) / (members - 1) + r
    error = rng.standard_normal(hx.shape) * np.sqrt(r)
    pull = np.where(there, (np.where(there, y, 0.0) + error - hx) / total, 0.0)
    own = np.einsum("mri,mr->ri", states, anomaly) / (members - 1)
    # Σ_j K_ij pull_j of every member, without a (region, region) matrix per number: through the members' weights
    mixing = pull @ anomaly.T / (members - 1) / there.sum()
    return x + rate * own * pull[..., None] + (1 - rate) * np.einsum("ml,lri->mri", mixing, states)


def inflated(x: np.ndarray, factor: float) -> np.ndarray:
    """Members moved away from their mean, to make up for the spread that small ensembles lose."""
    mean = x.mean(axis=0)
    return mean + factor * (x - mean)


def lagged(history: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, …, lag + n): earlier values (N, …, lag) beside the states of now, so that an analysis corrects both.

    This is the fixed-lag ensemble Kalman smoother: what is learned of now moves the past by its covariance with now.
    """
    return np.concatenate([history, x], axis=-1)


def gain(x: np.ndarray, hx: np.ndarray, r: np.ndarray) -> np.ndarray:
    """(n, p) K = P S⁻¹ from the members' covariances."""
    anomaly = hx - hx.mean(axis=0)
    covariance = (x - x.mean(axis=0)).T @ anomaly / (len(x) - 1)
    total = anomaly.T @ anomaly / (len(x) - 1) + np.diag(r)
    return np.linalg.solve(total, covariance.T).T


def weights(
    hx: np.ndarray, y: np.ndarray, r: np.ndarray, taper: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(…, N) by which anomalies add up to the mean's correction, (…, N, N) that mixes them.

    taper (n, p) gives one solution for each of its rows. Hunt et al. (2007), equations 20 to 24.
    """
    n = len(hx) - 1
    anomaly = hx - hx.mean(axis=0)
    scaled = anomaly / r if taper is None else anomaly * (taper / r)[:, None]
    value, vector = np.linalg.eigh(scaled @ anomaly.T + n * np.eye(n + 1))
    flipped = np.swapaxes(vector, -1, -2)
    inverse, root = (vector * f[..., None, :] @ flipped for f in (1 / value, np.sqrt(n / value)))
    mean = inverse @ (scaled @ (y - hx.mean(axis=0)))[..., None]
    return mean[..., 0], root


def seen(x: np.ndarray, hx: np.ndarray, y: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """hx, y, r of the observations that are there."""
    if x.ndim != 2 or len(x) < MIN_MEMBERS or hx.shape != (len(x), len(y)) or r.shape != y.shape:
        raise ValueError(
            f"states {x.shape}, observed as {hx.shape}, observations {y.shape} and variances {r.shape} do not fit: "
            "expected (N, n), (N, p), (p,), (p,) with N of at least 2."
        )
    there = np.isfinite(y)
    if not (r[there] > 0).all():
        raise ValueError("the variance of an observation must be above 0; one without error leaves nothing to weigh.")
    return hx[:, there], y[there], r[there]
