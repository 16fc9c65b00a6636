"""Drives of all regions at all scans from BOLD, in one solution: a step of the iterated Kalman smoother.

| here | shape | what |
|---|---|---|
| z, mean | (scan, region) | drives, dimensionless, and their prior mean |
| time, space | (scan,), (region, region) | prior covariance of drives: Toeplitz over scans, times over regions |
| response | (scan,) | BOLD of a unit of rate held for one scan, scans later |
| gain | (scan, region) | rate of a region by a unit of its drive, where the drive is now |
| spread | (region, region) | M = (I − κ W)⁻¹: rates of all regions by what one fires by itself |
| y, b | (scan, region) | recorded BOLD, NaN where there is none, and BOLD that was simulated with z |
| r | (scan, region) or less | variance of the error of y |

BOLD is taken as linear in the drives around z, b(z + d) = b + A d with A d = response ∗ (M (gain · d)), and the prior
is Gaussian, so that the most likely drives solve one linear system,

    z ← mean + C Aᵀ (A C Aᵀ + R)⁻¹ (y − b + A (z − mean)),   C = time ⊗ space.

Bell & Cathey (1993), IEEE Trans. Autom. Control 38:294: an iterated Kalman smoother is Gauss-Newton. The network is
nonlinear and noisy, A is an approximation: so after each step BOLD is simulated again, and the best iterate is kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.sparse.linalg import LinearOperator, cg

TOLERANCE, ITERATIONS = 1e-3, 300  # of the conjugate gradients; tighter moves drives by less than their error


class Surrogate(NamedTuple):
    """A: how BOLD follows small changes of the drives; see the table above."""

    response: np.ndarray
    gain: np.ndarray
    spread: np.ndarray

    def forward(self, change: np.ndarray) -> np.ndarray:
        """(scan, region) A d."""
        return along_scans(self.response, (self.gain * change) @ self.spread.T)

    def adjoint(self, change: np.ndarray) -> np.ndarray:
        """(scan, region) Aᵀ d."""
        return self.gain * (along_scans(self.response, change[::-1])[::-1] @ self.spread)


class Prior(NamedTuple):
    """Drives before any BOLD is seen: N(mean, time ⊗ space); see the table above."""

    mean: np.ndarray
    time: np.ndarray
    space: np.ndarray

    def spread(self, change: np.ndarray) -> np.ndarray:
        """(scan, region) C d."""
        both = np.concatenate([self.time[:0:-1], self.time])  # the covariance of scans apart, before and after
        n = len(change)
        return along_scans(both, change @ self.space, n + len(self.time) - 1)[len(self.time) - 1 :]


def wandering(scans: int, tr_s: float, tau_s: float, sd: float = 1.0) -> np.ndarray:
    """(scan,) covariance of an AR(1) process with its value at scan 0, for `Prior.time`.

    Examples
    --------
    >>> wandering(3, tr_s=1.0, tau_s=1 / np.log(2)).round(12).tolist()
    [1.0, 0.5, 0.25]
    """
    return sd**2 * np.exp(-np.arange(scans) * (tr_s / tau_s))


def step(
    z: np.ndarray,
    y: np.ndarray,
    b: np.ndarray,
    prior: Prior,
    surrogate: Surrogate,
    r: np.ndarray | float,
    damping: float = 1.0,
) -> np.ndarray:
    """The next iterate of the drives, (scan, region).

    Parameters
    ----------
    z, y, b, prior, surrogate, r
        See the table above.
    damping : float
        Share of the step that is taken.

    Raises
    ------
    ValueError
        Where nothing was recorded, or an error's variance is not positive.

    Examples
    --------
    One region seen without delay: the posterior of a prior N(0, 1) and an observation 2 with variance 1.

    >>> one = np.ones((1, 1))
    >>> prior = Prior(0 * one, np.ones(1), one)
    >>> step(0 * one, 2 * one, 0 * one, prior, Surrogate(np.ones(1), one, one), 1.0).round(6).tolist()
    [[1.0]]
    """
    there = np.isfinite(y)
    variance = np.broadcast_to(np.asarray(r, float), y.shape)[there]
    if not there.any() or not (variance > 0).all():
        raise ValueError("at least one scan must have been recorded, with an error whose variance is above 0.")

    def fill(seen: np.ndarray) -> np.ndarray:
        out = np.zeros(y.shape)
        out[there] = seen
        return out

    def spread(seen: np.ndarray) -> np.ndarray:
        change = prior.spread(surrogate.adjoint(fill(np.ravel(seen))))
        return surrogate.forward(change)[there] + variance * np.ravel(seen)

    target = (np.where(there, y, 0.0) - b + surrogate.forward(z - prior.mean))[there]
    n = len(target)
    weight, failed = cg(LinearOperator((n, n), spread, dtype=float), target, rtol=TOLERANCE, maxiter=ITERATIONS)
    if failed < 0:
        raise ValueError("the covariances of the prior are not positive definite.")
    aim = prior.mean + prior.spread(surrogate.adjoint(fill(weight)))
    return z + damping * (aim - z)


def along_scans(kernel: np.ndarray, values: np.ndarray, length: int | None = None) -> np.ndarray:
    """Convolution of every column (scan, region) with a kernel, causal, cut to `length`."""
    length = length or len(values)
    size = next_fast_len(len(kernel) + len(values) - 1, real=True)
    both = rfft(values, size, axis=0) * rfft(kernel, size)[:, None]
    return irfft(both, size, axis=0)[:length]
