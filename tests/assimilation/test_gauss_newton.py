"""The smoother over all scans: against dense algebra, and against the exact smoother of a linear problem."""

import numpy as np
import pytest
from scipy.linalg import toeplitz

from dtb.assimilation import gauss_newton as gn
from dtb.assimilation import verify
from dtb.assimilation.gauss_newton import Prior, Surrogate

SCANS, REGIONS = 30, 4


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def problem(rng, monkeypatch):
    """Random, with gains that change from scan to scan and a prior over regions."""
    monkeypatch.setattr(gn, "TOLERANCE", 1e-12)
    root = rng.normal(size=(REGIONS, REGIONS))
    prior = Prior(
        rng.normal(size=(SCANS, REGIONS)),
        gn.wandering(SCANS, 0.72, 6.0, 0.8),
        root @ root.T / REGIONS + np.eye(REGIONS),
    )
    surrogate = Surrogate(
        np.exp(-np.arange(SCANS) / 4), rng.uniform(0.5, 2, (SCANS, REGIONS)), np.eye(REGIONS) + 0.1 * root
    )
    return prior, surrogate


def dense(prior: Prior, surrogate: Surrogate) -> tuple[np.ndarray, np.ndarray]:
    """A and C as matrices over (scan · region): slow and obvious."""
    scans = len(surrogate.gain)
    delays = toeplitz(surrogate.response[:scans], np.zeros(scans))
    a = np.kron(delays, surrogate.spread) * surrogate.gain.ravel()
    return a, np.kron(toeplitz(prior.time[:scans]), prior.space)


def test_operators_are_their_matrices(problem, rng):
    prior, surrogate = problem
    a, c = dense(prior, surrogate)
    change = rng.normal(size=(SCANS, REGIONS))
    for operator, matrix in ((surrogate.forward, a), (surrogate.adjoint, a.T), (prior.spread, c)):
        np.testing.assert_allclose(operator(change).ravel(), matrix @ change.ravel(), atol=1e-10)


def test_a_step_solves_the_normal_equations_with_missing_scans_and_uneven_errors(problem, rng):
    prior, surrogate = problem
    a, c = dense(prior, surrogate)
    z, b, y = (rng.normal(size=(SCANS, REGIONS)) for _ in range(3))
    y[3:7], y[:, 1] = np.nan, np.nan  # censored scans, and a region that was never seen
    r = rng.uniform(0.1, 0.3, (SCANS, REGIONS))
    seen = np.isfinite(y).ravel()
    target = (y - b).ravel()[seen] + (a @ (z - prior.mean).ravel())[seen]
    system = (a @ c @ a.T)[np.ix_(seen, seen)] + np.diag(r.ravel()[seen])
    expected = prior.mean.ravel() + c @ a.T[:, seen] @ np.linalg.solve(system, target)
    found = gn.step(z, y, b, prior, surrogate, r)
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-8)
    half = gn.step(z, y, b, prior, surrogate, r, damping=0.5)
    np.testing.assert_allclose(half, z + (found - z) / 2, atol=1e-8)


def test_on_a_linear_problem_one_step_is_the_exact_smoother(rng, monkeypatch):
    """The drive of verify.haemodynamic_chain; its first 30 scans are left out, because the exact smoother also weighs
    what the drive may have done before the first scan."""
    monkeypatch.setattr(gn, "TOLERANCE", 1e-10)
    scans, model = 200, verify.haemodynamic_chain()
    _, y = verify.simulate(model, scans, rng)
    response, state = np.empty(scans), np.array([1.0, 0, 0])
    forget = model.a.copy()
    forget[0, 0] = 0  # a drive of one scan
    for t in range(scans):
        response[t] = state[2]
        state = forget @ state
    prior = Prior(np.zeros((scans, 1)), gn.wandering(scans, 0.72, 6.0), np.eye(1))
    surrogate = Surrogate(response, np.ones((scans, 1)), np.eye(1))
    found = gn.step(np.zeros((scans, 1)), y, np.zeros((scans, 1)), prior, surrogate, model.r[0, 0])
    smooth = verify.rts_smoother(model, y)
    difference = (found[:, 0] - smooth.mean[:, 0]) / np.sqrt(smooth.covariance[:, 0, 0])
    assert np.abs(difference[30:]).max() < 0.02


def test_a_hidden_region_follows_those_that_the_prior_ties_it_to(rng):
    """Two regions of correlation 0.9, one hidden: what is found of it is 0.9 of what is found of the other."""
    space = np.array([[1, 0.9], [0.9, 1]])
    prior = Prior(np.zeros((SCANS, 2)), gn.wandering(SCANS, 0.72, 6.0), space)
    surrogate = Surrogate(np.exp(-np.arange(SCANS) / 4), np.ones((SCANS, 2)), np.eye(2))
    y = np.stack([rng.normal(size=SCANS), np.full(SCANS, np.nan)], axis=1)
    found = gn.step(np.zeros((SCANS, 2)), y, np.zeros((SCANS, 2)), prior, surrogate, 0.1)
    np.testing.assert_allclose(found[:, 1], 0.9 * found[:, 0], atol=1e-10)


def test_nothing_recorded_or_no_error_is_refused(problem):
    prior, surrogate = problem
    z = np.zeros((SCANS, REGIONS))
    for y, r in ((np.full(z.shape, np.nan), 1.0), (z, 0.0)):
        with pytest.raises(ValueError, match="variance is above 0"):
            gn.step(z, y, z, prior, surrogate, r)
