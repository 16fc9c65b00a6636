"""Filters and smoothers on problems whose answer is known: the first rungs of the ladder that ends at a brain.

| rung | known answer | expected of ours |
|---|---|---|
| linear, Gaussian | Kalman filter, Rauch-Tung-Striebel smoother | 0.06 posterior sd off at N = 1,000, as 1/√N |
| Lorenz-96 | root-mean-square errors of published tables | 0.22 perturbed, 0.18 transformed, 0.22 localised |

Sources: Kalman (1960), J. Basic Eng. 82:35; Rauch, Tung & Striebel (1965), AIAA J. 3:1445; Lorenz (1996), Proc. ECMWF
Seminar on Predictability 1:1; Sakov & Oke (2008), Tellus A 60:361, whose settings of Lorenz-96 are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dtb.assimilation import kalman

FORCING, SITES, STEP = 8.0, 40, 0.05  # Lorenz-96 in its chaotic regime; time between observations


class Linear(NamedTuple):
    """x_t+1 = A x_t + N(0, Q), y_t = H x_t + N(0, R), x_0 ~ N(0, P); n numbers, p observations."""

    a: np.ndarray
    q: np.ndarray
    h: np.ndarray
    r: np.ndarray
    p: np.ndarray


class Path(NamedTuple):
    """Means (t, n) and covariances (t, n, n) of the state at every time."""

    mean: np.ndarray
    covariance: np.ndarray


def haemodynamic_chain(step: float = 0.72, tau: float = 6.0, lag: float = 1.5, noise: float = 0.15) -> Linear:
    """A drive that wanders (AR(1), `tau` s, variance 1) and reaches the observation through two leaky integrators.

    The least that has what makes BOLD hard: what is observed now was caused some seconds ago.
    """
    rho, keep = np.exp(-step / tau), np.exp(-step / lag)
    a = np.array([[rho, 0, 0], [1 - keep, keep, 0], [0, 1 - keep, keep]])
    q = np.diag([1 - rho**2, 1e-6, 1e-6])
    return Linear(a, q, np.array([[0.0, 0.0, 1.0]]), np.array([[noise**2]]), stationary(a, q))


def stationary(a: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The covariance that x_t+1 = A x_t + N(0, Q) settles at."""
    from scipy.linalg import solve_discrete_lyapunov

    return solve_discrete_lyapunov(a, q)


def simulate(model: Linear, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """States (t, n) and observations (t, p) of one path."""
    x = rng.multivariate_normal(np.zeros(len(model.p)), model.p)
    states, seen = [], []
    for _ in range(steps):
        states.append(x)
        seen.append(model.h @ x + rng.multivariate_normal(np.zeros(len(model.r)), model.r))
        x = model.a @ x + rng.multivariate_normal(np.zeros(len(model.q)), model.q)
    return np.array(states), np.array(seen)


def kalman_filter(model: Linear, y: np.ndarray) -> tuple[Path, Path]:
    """The exact forecast and analysis of every time."""
    mean, covariance = np.zeros(len(model.p)), model.p
    forecasts, analyses = [], []
    for now in y:
        forecasts.append((mean, covariance))
        k = covariance @ model.h.T @ np.linalg.inv(model.h @ covariance @ model.h.T + model.r)
        mean = mean + k @ (now - model.h @ mean)
        covariance = covariance - k @ model.h @ covariance
        analyses.append((mean, covariance))
        mean, covariance = model.a @ mean, model.a @ covariance @ model.a.T + model.q
    forecast, analysis = (Path(*map(np.array, zip(*path, strict=True))) for path in (forecasts, analyses))
    return forecast, analysis


def rts_smoother(model: Linear, y: np.ndarray) -> Path:
    """The exact state of every time given all observations."""
    forecast, analysis = kalman_filter(model, y)
    mean, covariance = analysis.mean.copy(), analysis.covariance.copy()
    for t in range(len(y) - 2, -1, -1):
        back = analysis.covariance[t] @ model.a.T @ np.linalg.inv(forecast.covariance[t + 1])
        mean[t] += back @ (mean[t + 1] - forecast.mean[t + 1])
        covariance[t] += back @ (covariance[t + 1] - forecast.covariance[t + 1]) @ back.T
    return Path(mean, covariance)


class Errors(NamedTuple):
    """Of an ensemble against the exact answer, of the first number of the state, in its posterior sd: root mean square
    over time of the means' difference, by filter and smoother; and mean of (ensemble spread / exact sd)."""

    filtered: float
    smoothed: float
    spread: float


def linear_gaussian(members: int, lag: int = 15, steps: int = 200, seed: int = 1) -> Errors:
    """The filter of regions and its fixed-lag smoother on `haemodynamic_chain`.

    Examples
    --------
    >>> linear_gaussian(1000).filtered < 0.06
    True
    """
    rng, model = np.random.default_rng(seed), haemodynamic_chain()
    _, y = simulate(model, steps, rng)
    _, exact = kalman_filter(model, y)
    smooth = rts_smoother(model, y)
    x = rng.multivariate_normal(np.zeros(3), model.p, members)[:, None]  # (N, one region, 3)
    history = np.repeat(x[..., :1], lag, axis=2)
    root = np.linalg.cholesky(model.q)
    filtered, spread, smoothed = np.empty(steps), np.empty(steps), np.full(steps, np.nan)
    for t in range(steps):
        if t:
            history = np.concatenate([x[..., :1], history[..., :-1]], axis=2)
            x = x @ model.a.T + rng.standard_normal(x.shape) @ root.T
        now = kalman.by_region(kalman.lagged(history, x), x[..., 2], y[t], np.diag(model.r))
        history, x = now[..., :lag], now[..., lag:]
        filtered[t], spread[t] = x[..., 0].mean(), x[..., 0].std(ddof=1)
        if t >= lag:
            smoothed[t - lag] = history[..., lag - 1].mean()
    sd, late = np.sqrt(exact.covariance[:, 0, 0]), slice(20, steps - lag)
    return Errors(
        rms((filtered - exact.mean[:, 0])[late] / sd[late]),
        rms((smoothed - smooth.mean[:, 0])[late] / np.sqrt(smooth.covariance[late, 0, 0])),
        float((spread / sd)[late].mean()),
    )


# Lorenz-96 -----------------------------------------------------------------------------------------------------


def lorenz96(x: np.ndarray) -> np.ndarray:
    """(…, site) a step of 0.05 on: dx_i/dt = (x_i+1 − x_i−2) x_i−1 − x_i + F, by Runge-Kutta of fourth order."""

    def slope(x: np.ndarray) -> np.ndarray:
        return (np.roll(x, -1, -1) - np.roll(x, 2, -1)) * np.roll(x, 1, -1) - x + FORCING

    k1 = slope(x)
    k2 = slope(x + STEP / 2 * k1)
    k3 = slope(x + STEP / 2 * k2)
    k4 = slope(x + STEP * k3)
    return x + STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def tapers(radius: float) -> np.ndarray:
    """(site, site) the fifth-order function of Gaspari & Cohn (1999), Q. J. R. Meteorol. Soc. 125:723, eq. 4.10.

    radius: the distance in sites at which a Gaussian of the same width falls to exp(−1/2).
    """
    apart = np.abs(np.arange(SITES)[:, None] - np.arange(SITES))
    d = np.minimum(apart, SITES - apart) / (radius * 1.82)  # 1.82: half-widths that make the two curves alike
    near = -(d**5) / 4 + d**4 / 2 + d**3 * 5 / 8 - d**2 * 5 / 3 + 1
    far = d**5 / 12 - d**4 / 2 + d**3 * 5 / 8 + d**2 * 5 / 3 - 5 * d + 4 - 2 / (3 * np.maximum(d, 1))
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def chaos(
    analyse: Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray],
    members: int,
    inflation: float,
    cycles: int = 2000,
    seed: int = 1,
) -> float:
    """Root-mean-square error of the analysis on Lorenz-96, all 40 sites observed with variance 1 at every step.

    Parameters
    ----------
    analyse : function of (x, y, rng)
        Such as `kalman.transformed`, with variances of 1.
    inflation : float
        Of the anomalies, after each analysis.
    """
    rng = np.random.default_rng(seed)
    truth = lorenz96_start(rng)
    x = truth + rng.standard_normal((members, SITES))
    errors = []
    for cycle in range(cycles):
        truth, x = lorenz96(truth), lorenz96(x)
        x = kalman.inflated(analyse(x, truth + rng.standard_normal(SITES), rng), inflation)
        if cycle >= cycles // 5:
            errors.append(rms(x.mean(axis=0) - truth))
    return float(np.mean(errors))


def lorenz96_start(rng: np.random.Generator) -> np.ndarray:
    x = FORCING + rng.standard_normal(SITES)
    for _ in range(500):
        x = lorenz96(x)
    return x


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
